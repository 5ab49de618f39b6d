//! Cases of the operator.

use super::super::cases::{Case, Random};
use super::{ElementStep, Elementwise, StepSource};
use crate::ops::{BinaryFn, UnaryFn};
use crate::tensor::{DType, Tensor};

fn steps(list: &[ElementStep]) -> Elementwise {
    Elementwise { steps: list.to_vec() }
}

/// x scaled, shifted and through functions with and without arguments.
fn long() -> Elementwise {
    let [x, scale, shift] = [0, 1, 2].map(StepSource::Input);
    steps(&[
        ElementStep::Binary(BinaryFn::Mul, x, scale),
        ElementStep::Binary(BinaryFn::Add, StepSource::Step(0), shift),
        ElementStep::Unary(UnaryFn::Clip { min: -1.25, max: 0.75 }, StepSource::Step(1)),
        ElementStep::Unary(UnaryFn::Gelu, StepSource::Step(2)),
        ElementStep::Unary(UnaryFn::LeakyRelu(0.25), StepSource::Step(0)),
        ElementStep::Binary(BinaryFn::Max, StepSource::Step(3), StepSource::Step(4)),
        ElementStep::Unary(UnaryFn::Affine { alpha: 0.5, beta: 2.0 }, StepSource::Step(5)),
        ElementStep::Unary(UnaryFn::Cos, StepSource::Step(6)),
    ])
}

pub(crate) fn cases() -> Vec<Case> {
    let mut random = Random::new(93);
    let mut cases = Vec::new();
    // Shapes of x, scale, shift: all the same, numbers, rows, one for each row, channels of images,
    // and those that must be repeated first.
    let shapes: [[&[usize]; 3]; 14] = [
        [&[], &[], &[]],
        [&[1], &[1], &[1]],
        [&[7], &[7], &[7]],
        [&[1_031], &[1], &[1_031]],
        [&[33, 68], &[68], &[]],
        [&[33, 68], &[1, 68], &[33, 1]],
        [&[33, 68], &[33, 1], &[33, 68]],
        [&[5, 67], &[67], &[5, 1]],
        [&[2, 3, 8, 4], &[3, 1, 1], &[1]],
        [&[2, 8, 5, 7], &[8, 1, 1], &[2, 8, 1, 1]],
        [&[2, 8, 5, 7], &[1, 8, 1, 1], &[2, 8, 5, 7]],
        [&[4, 1, 3], &[1, 5, 1], &[3]],
        [&[1, 68], &[9, 1], &[9, 68]],
        [&[2, 3, 4, 8], &[2, 1, 4, 8], &[3, 1, 8]],
    ];
    for dims in shapes {
        let inputs = dims.map(|dims| random.f32(dims)).to_vec();
        cases.push(Case::new(format!("{dims:?}"), long(), inputs));
    }
    let [a, b, c] = [0, 1, 2].map(StepSource::Input);
    for &function in Elementwise::FUNCTIONS {
        let chain = steps(&[
            ElementStep::Unary(UnaryFn::Exp, a),
            ElementStep::Binary(function, StepSource::Step(0), b),
        ]);
        let inputs = [random.f32([3, 20]), random.tensor(DType::F32, [3, 20], 2.0)];
        // Divisors away from 0.
        let away = inputs[1].to_f64().into_iter().map(|x| if x < 0.0 { x - 0.5 } else { x + 0.5 });
        let away = Tensor::from_f64(DType::F32, [3, 20], &away.collect::<Vec<_>>());
        cases.push(Case::new(format!("{function:?}"), chain, vec![inputs[0].clone(), away]));
    }
    let chain =
        steps(&[ElementStep::Binary(BinaryFn::Mul, b, c), ElementStep::Select(a, StepSource::Step(0), b)]);
    for dims in [[3, 5], [17, 64]] {
        let inputs = vec![random.u32(dims, 3), random.f32(dims), random.f32([1])];
        cases.push(Case::new(format!("select {dims:?}"), chain.clone(), inputs));
    }
    cases
}
