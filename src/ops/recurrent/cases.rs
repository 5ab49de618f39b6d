//! Cases of [`Recurrent`]: all cells and directions, sequences of different lengths, hidden sizes
//! of odd numbers, other functions, clipping.

use super::super::UnaryFn;
use super::super::cases::{Case, Random};
use super::{Cell, Directions, Recurrent};
use crate::tensor::{DType, Tensor};

fn case(
    random: &mut Random,
    layer: Recurrent,
    [steps, batches, hidden]: [usize; 3],
    lengths: &[u32],
) -> Case {
    let (directions, cell) = (layer.directions.count(), layer.cell);
    let width = cell.gates() * hidden;
    let inputs = vec![
        random.f32([steps, batches, directions * width]),
        random.tensor(DType::F32, [directions, width, hidden], 1.5 / (hidden as f64).sqrt()),
        random.f32([directions, cell.vectors() * hidden]),
        random.f32([cell.states(), directions, batches, hidden]),
        Tensor::from_u32([batches], lengths),
    ];
    let Recurrent { directions, activations, clip, .. } = layer;
    let functions = if clip.is_some() { format!(", {activations:?} {clip:?}") } else { String::new() };
    let name =
        format!("{cell:?} {directions:?}, {steps} steps, lengths {lengths:?}, {hidden} units{functions}");
    Case::new(name, layer, inputs)
}

pub(in super::super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut random = Random::new(57);
    let cells = [
        Cell::Rnn,
        Cell::Gru { reset_after: false },
        Cell::Gru { reset_after: true },
        Cell::Lstm { peephole: false, coupled: false },
        Cell::Lstm { peephole: true, coupled: false },
        Cell::Lstm { peephole: true, coupled: true },
    ];
    for cell in cells {
        for directions in [Directions::Forward, Directions::Reverse, Directions::Both] {
            let layer = Recurrent::new(cell, directions);
            cases.push(case(&mut random, layer, [4, 3, 5], &[4, 2, 0]));
        }
        let layer = Recurrent::new(cell, Directions::Both);
        cases.push(case(&mut random, layer, [1, 1, 1], &[1]));
        cases.push(case(&mut random, layer, [3, 2, 36], &[3, 9]));
        cases.push(case(&mut random, layer, [0, 2, 4], &[0, 0]));
    }
    let long = Recurrent::new(Cell::Lstm { peephole: false, coupled: false }, Directions::Forward);
    cases.push(case(&mut random, long, [2, 1, 130], &[2]));
    for (cell, activations) in [
        (Cell::Rnn, [UnaryFn::LeakyRelu(0.25), UnaryFn::Tanh, UnaryFn::Tanh]),
        (
            Cell::Lstm { peephole: false, coupled: false },
            [UnaryFn::HardSigmoid { alpha: 0.2, beta: 0.5 }, UnaryFn::Softsign, UnaryFn::Elu(0.5)],
        ),
    ] {
        let layer = Recurrent { activations, clip: Some(0.8), ..Recurrent::new(cell, Directions::Both) };
        cases.push(case(&mut random, layer, [3, 2, 7], &[3, 1]));
    }
    cases
}
