//! The same elements under another shape.

use super::cases::{Case, Random};
use super::image::{is_image, to_last_order};
use super::{ChannelsLast, Expect, Inputs, Op, strided};
use crate::kernel::{Caps, Kernel, Launches, Spread, params};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

static RESHAPE: Kernel = Kernel::new("reshape", include_str!("../../shaders/reshape.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
    }
);

/// Gives a tensor the shape `dims`; copies only to an output of the graph or from a state. Any dtype of two or four bytes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// Sizes of the output's dimensions.
    pub dims: Vec<usize>,
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", strided::DTYPES)?;
        let shape = Shape::from(self.dims.as_slice());
        if shape.checked_elements() != Some(input.elements()) {
            let message = format!("{input} has {} elements, {shape} has not", input.elements());
            return Err(Error::op(self.name(), message));
        }
        Ok(vec![Spec::new(input.dtype, shape)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let input = &inputs[0];
        let spread = Spread::new((input.elements() * input.dtype.size()).div_ceil(16), caps);
        let params = Params { items: spread.items, per_group: spread.per_group };
        Ok(spread.launch(&RESHAPE).params(params).bind_all(1, 1).into())
    }

    fn is_view(&self) -> bool {
        true
    }

    /// Where no element moves with the channels last either.
    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let from = inputs[0].shape.dims();
        if !is_image(&inputs[0]) {
            return None;
        }
        // The same pixels in other spatial axes.
        if (3..=5).contains(&self.dims.len()) && self.dims[..2] == from[..2] {
            return Some(ChannelsLast::following(Self { dims: to_last_order(&self.dims) }, [0]));
        }
        let in_order = from[1] == 1 || from[2..].iter().all(|&size| size == 1);
        let form = || ChannelsLast { image_outputs: false, ..ChannelsLast::following(self.clone(), [0]) };
        in_order.then(form)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![inputs[0].clone().reshaped(self.dims.as_slice())])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(7);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[1], &[]),
        (&[3, 5], &[15, 1]),
        (&[64, 33], &[2, 32, 33]),
        (&[2, 5, 1, 1], &[2, 5]),
        (&[2, 1, 3, 5], &[6, 5]),
        (&[2, 6, 3, 5], &[2, 6, 15]),
        (&[2, 6, 15], &[2, 6, 1, 3, 5]),
        (&[2, 6, 3, 5], &[2, 90]),
        (&[2, 6, 3, 5], &[2, 2, 3, 15]),
    ];
    for (from, to) in shapes {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let input = random.tensor(dtype, from, 99.0);
            let op = Reshape { dims: to.to_vec() };
            cases.push(Case::new(format!("{from:?} to {to:?} {dtype}"), op, vec![input]));
        }
    }
    cases
}
