//! One of two values for each element, by a condition (NumPy's and ONNX's Where).

use super::cases::{Case, Random};
use super::strided::{self, MAX_AXES, broadcast_strides, merged_axes};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, Spread, count, params};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

static SELECT: Kernel = Kernel::new("select", include_str!("../../shaders/select.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        elements: u32,
        condition_inner: u32,
        condition_count: u32,
        left_inner: u32,
        left_count: u32,
        right_inner: u32,
        right_count: u32,
    }
);

/// `left` where the condition is not 0, else `right`.
///
/// Inputs: condition u32; left and right of one dtype (f32, i32 or u32). Their shapes are
/// broadcast to that of the output by NumPy's rules; rank 8 at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Select;

/// How an operand is read: one element serves `inner` neighbours, `count` elements repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Access {
    inner: usize,
    count: usize,
}

impl Access {
    /// Of an operand; none when it must be repeated to the output's shape first.
    fn of(input: &Shape, output: &Shape) -> Option<Self> {
        let strides = broadcast_strides(input, output);
        let axes = merged_axes(output.dims(), [&strides]);
        let axes: Vec<(usize, isize)> = axes.iter().map(|axis| (axis.size, axis.strides[0])).collect();
        match axes.as_slice() {
            [] | [(_, 0)] => Some(Self { inner: 1, count: 1 }),
            &[(count, 1)] | &[(count, 1), (_, 0)] => Some(Self { inner: 1, count }),
            &[(inner, 0), (count, 1)] | &[(inner, 0), (count, 1), (_, 0)] => Some(Self { inner, count }),
            _ => None,
        }
    }
}

fn shape_of(op: &dyn Op, shapes: [&Shape; 3]) -> Result<Shape> {
    let [condition, left, right] = shapes;
    let shape = left.broadcast(right).and_then(|both| both.broadcast(condition));
    shape.filter(|shape| shape.rank() <= MAX_AXES).ok_or_else(|| {
        let shapes = format!("{condition}, {left} and {right}");
        Error::op(op.name(), format!("shapes do not broadcast to one of rank 8 at most: {shapes}"))
    })
}

fn launch(caps: &Caps, elements: usize, access: [Access; 3]) -> Launch {
    let spread = Spread::new(elements.div_ceil(4), caps);
    let [condition, left, right] = access;
    spread.launch(&SELECT).params(Params {
        items: spread.items,
        per_group: spread.per_group,
        elements: count(elements),
        condition_inner: count(condition.inner),
        condition_count: count(condition.count),
        left_inner: count(left.inner),
        left_count: count(left.count),
        right_inner: count(right.inner),
        right_count: count(right.count),
    })
}

impl Op for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [condition, left, right] = inputs.exactly(self)?;
        condition.expect_dtype(self, "the condition", &[DType::U32])?;
        left.expect_dtype(self, "the left input", &[DType::F32, DType::I32, DType::U32])?;
        right.expect_dtype(self, "the right input", &[left.dtype])?;
        let shape = shape_of(self, [&condition.shape, &left.shape, &right.shape])?;
        Ok(vec![Spec::new(left.dtype, shape)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let output = &outputs[0].shape;
        let mut launches = Launches::default();
        let mut access = [Access { inner: 1, count: output.elements() }; 3];
        let mut operands = [0, 1, 2].map(Operand::Input);
        for (i, input) in inputs.iter().enumerate() {
            if let Some(found) = Access::of(&input.shape, output) {
                access[i] = found;
                continue;
            }
            let repeated = Spec::new(input.dtype, output.clone());
            let strides = broadcast_strides(&input.shape, output);
            let scratch = Operand::Scratch(launches.scratch.len());
            let step = strided::launch(caps, &repeated, &strides, 0).bind([Operand::Input(i), scratch]);
            launches.steps.push(step);
            launches.scratch.push(repeated);
            operands[i] = scratch;
        }
        let [condition, left, right] = operands;
        let step = launch(caps, output.elements(), access);
        launches.steps.push(step.bind([condition, left, right, Operand::Output(0)]));
        Ok(launches)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let shapes = [0, 1, 2].map(|i| &inputs[i].spec().shape);
        let output = shape_of(self, shapes)?;
        let [condition, left, right] = [0, 1, 2].map(|i| {
            let strides = broadcast_strides(shapes[i], &output);
            strided::reference(&inputs[i], &output, &strides, 0)
        });
        let chosen = condition.to_u32().into_iter().enumerate().flat_map(|(i, condition)| {
            let from = if condition == 0 { &right } else { &left };
            from.bytes()[i * 4..][..4].to_vec()
        });
        let bytes = chosen.collect();
        Ok(vec![Tensor::from_bytes(Spec::new(left.dtype(), output), bytes)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(34);
    let shapes: [[&[usize]; 3]; 9] = [
        [&[1], &[1], &[1]],
        [&[], &[7], &[]],
        [&[33, 67], &[33, 67], &[33, 67]],
        [&[1_031], &[1], &[1_031]],
        [&[5, 1], &[1, 6], &[]],
        [&[1, 1, 5, 7], &[2, 3, 5, 7], &[1]],
        [&[2, 1, 1, 7], &[2, 3, 5, 7], &[1]],
        [&[3, 1, 1], &[2, 3, 4, 5], &[2, 1, 4, 1]],
        [&[4, 1, 3], &[2, 1, 1, 3], &[1, 5, 1]],
    ];
    let mut cases = Vec::new();
    for [condition, left, right] in shapes {
        for dtype in [DType::F32, DType::I32] {
            let inputs = vec![
                random.u32(condition, 2),
                random.tensor(dtype, left, 9.0),
                random.tensor(dtype, right, 9.0),
            ];
            let name = format!("{condition:?}, {left:?}, {right:?} {dtype}");
            cases.push(Case::new(name, Select, inputs));
        }
    }
    let special = Tensor::from_f32([3], &[f32::NEG_INFINITY, f32::INFINITY, -0.0]);
    let inputs = vec![Tensor::from_u32([3], &[1, 5, 0]), special.clone(), special];
    cases.push(Case::new("infinities, and conditions above 1", Select, inputs));
    cases
}
