//! Repetition of a tensor to a larger shape.

use super::cases::{Case, Random};
use super::strided::{self, MAX_AXES, broadcast_strides};
use super::{ChannelsLast, Expect, Inputs, Op, image};
use crate::kernel::{Caps, Launches};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

/// Repeats a tensor to the shape `dims` by NumPy's broadcasting rules. Any dtype of two or four
/// bytes, rank 8 at most.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expand {
    /// Sizes of the output's dimensions.
    pub dims: Vec<usize>,
}

impl Op for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", strided::DTYPES)?;
        let shape = Shape::from(self.dims.as_slice());
        if shape.rank() > MAX_AXES || input.shape.broadcast(&shape).as_ref() != Some(&shape) {
            return Err(Error::op(self.name(), format!("{input} does not repeat to {shape}")));
        }
        Ok(vec![Spec::new(input.dtype, shape)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let strides = broadcast_strides(&inputs[0].shape, &outputs[0].shape);
        Ok(strided::launch(caps, &outputs[0], &strides, 0).into())
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let same_rank = inputs[0].shape.rank() == self.dims.len();
        let last = Self { dims: image::to_last_order(&self.dims) };
        (same_rank && image::is_image(&inputs[0])).then(|| ChannelsLast::following(last, [0]))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let shape = Shape::from(self.dims.as_slice());
        let strides = broadcast_strides(&inputs[0].spec().shape, &shape);
        Ok(vec![strided::reference(&inputs[0], &shape, &strides, 0)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(6);
    let shapes: [(&[usize], &[usize]); 5] = [
        (&[], &[1]),
        (&[1], &[1_031]),
        (&[3, 1], &[5, 3, 7]),
        (&[2, 4, 1, 8], &[2, 4, 3, 8]),
        (&[9, 7], &[9, 7]),
    ];
    let mut cases = Vec::new();
    for (from, to) in shapes {
        for dtype in [DType::F32, DType::F16] {
            let input = random.tensor(dtype, from, 9.0);
            cases.push(Case::new(
                format!("{from:?} to {to:?} {dtype}"),
                Expand { dims: to.to_vec() },
                vec![input],
            ));
        }
    }
    cases
}
