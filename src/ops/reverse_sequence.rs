//! Sequences of different lengths, each in reverse order (ONNX ReverseSequence).

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static REVERSE_SEQUENCE: Kernel =
    Kernel::new("reverse_sequence", include_str!("../../shaders/reverse_sequence.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        times: u32,
        time_stride: u32,
        batches: u32,
        batch_stride: u32,
    }
);

/// Reverses the first elements of each sequence, as many as its length says; the rest stays.
///
/// Inputs: x of f32, i32 or u32, `[times, batches, ..]` or `[batches, times, ..]`; lengths i32 or
/// u32 `[batches]`. Output: x's spec. A length above the number of times counts as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReverseSequence {
    /// Whether the first axis is the batch, not the time.
    pub batch_first: bool,
}

impl Op for ReverseSequence {
    fn name(&self) -> &'static str {
        "reverse_sequence"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, lengths] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", &[DType::F32, DType::I32, DType::U32])?;
        lengths.expect_dtype(self, "lengths", &[DType::I32, DType::U32])?;
        let batch_axis = usize::from(!self.batch_first);
        if x.shape.rank() < 2 {
            return Err(Error::op(self.name(), format!("x must have a time and a batch axis, got {x}")));
        }
        lengths.expect_dims(self, "lengths", &[x.shape.dims()[batch_axis]])?;
        Ok(vec![x.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let (dims, strides) = (inputs[0].shape.dims(), inputs[0].shape.strides());
        let (time, batch) = if self.batch_first { (1, 0) } else { (0, 1) };
        let spread = Spread::new(inputs[0].elements(), caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            times: count(dims[time]),
            time_stride: count(strides[time]),
            batches: count(dims[batch]),
            batch_stride: count(strides[batch]),
        };
        Ok(spread.launch(&REVERSE_SEQUENCE).params(params).bind_all(2, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (dims, strides) = (inputs[0].dims(), inputs[0].spec().shape.strides());
        let (time, batch) = if self.batch_first { (1, 0) } else { (0, 1) };
        let (values, lengths) = (inputs[0].to_f64(), inputs[1].to_f64());
        let element = |i: usize| {
            let (at, batch) = (i / strides[time] % dims[time], i / strides[batch] % dims[batch]);
            let length = (lengths[batch] as usize).min(dims[time]);
            let from = if at < length { length - 1 - at } else { at };
            values[i - at * strides[time] + from * strides[time]]
        };
        let output: Vec<f64> = (0..values.len()).map(element).collect();
        Ok(vec![Tensor::from_f64(inputs[0].dtype(), dims, &output)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(45);
    let mut cases = Vec::new();
    let shapes: [&[usize]; 4] = [&[1, 1], &[4, 4], &[5, 3, 7], &[33, 2, 3, 5]];
    for dims in shapes {
        for batch_first in [false, true] {
            let (time, batch) = if batch_first { (1, 0) } else { (0, 1) };
            let most = u32::try_from(dims[time]).expect("small");
            let lengths: Vec<i32> = (0..dims[batch]).map(|_| random.below(most + 2).cast_signed()).collect();
            let inputs = vec![random.f32(dims), Tensor::from_i32([dims[batch]], &lengths)];
            let op = ReverseSequence { batch_first };
            cases.push(Case::new(format!("{dims:?}, batch first {batch_first}"), op, inputs));
        }
    }
    cases
}
