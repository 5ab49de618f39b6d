//! Permutation of axes.

use super::cases::{Case, Random};
use super::image::{axis_to_last, is_image};
use super::strided::{self, MAX_AXES};
use super::{ChannelsLast, Expect, Inputs, Op, Reshape};
use crate::kernel::{Caps, Launches};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

/// Permutes axes: axis i of the output is axis `permutation[i]` of the input. Any dtype of two
/// or four bytes, rank 8 at most.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// For each axis of the output, that of the input.
    pub permutation: Vec<usize>,
}

impl Transpose {
    fn output(&self, input: &Shape) -> Shape {
        self.permutation.iter().map(|&axis| input.dims()[axis]).collect::<Vec<_>>().into()
    }

    fn strides(&self, input: &Shape) -> Vec<isize> {
        let strides = input.strides();
        self.permutation.iter().map(|&axis| strides[axis] as isize).collect()
    }
}

impl Op for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", strided::DTYPES)?;
        let rank = input.shape.rank();
        let mut sorted = self.permutation.clone();
        sorted.sort_unstable();
        if rank > MAX_AXES || !sorted.into_iter().eq(0..rank) {
            let message = format!("{:?} is no permutation of the axes of {input}", self.permutation);
            return Err(Error::op(self.name(), message));
        }
        Ok(vec![Spec::new(input.dtype, self.output(&input.shape))])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        Ok(strided::launch(caps, &outputs[0], &self.strides(&inputs[0].shape), 0).into())
    }

    /// Where the input has its channels last, often no element moves.
    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let shape = &inputs[0].shape;
        let permutation: Vec<usize> =
            self.permutation.iter().map(|&axis| axis_to_last(axis, shape.rank())).collect();
        let dims = self.output(shape).dims().to_vec();
        let moved = self.permutation.iter().zip(&permutation).filter(|&(&axis, _)| shape.dims()[axis] != 1);
        let form = if moved.map(|(_, axis)| axis).is_sorted() {
            ChannelsLast::following(Reshape { dims }, [0])
        } else {
            ChannelsLast::following(Self { permutation }, [0])
        };
        is_image(&inputs[0]).then_some(ChannelsLast { image_outputs: false, ..form })
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let shape = &inputs[0].spec().shape;
        Ok(vec![strided::reference(&inputs[0], &self.output(shape), &self.strides(shape), 0)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(4);
    let shapes: [(&[usize], &[usize]); 18] = [
        (&[1], &[0]),
        (&[5, 7], &[1, 0]),
        (&[64, 33], &[1, 0]),
        (&[2, 3, 5], &[2, 0, 1]),
        (&[2, 3, 5], &[0, 1, 2]),
        (&[2, 8, 3, 16], &[0, 2, 1, 3]),
        (&[2, 3, 8, 8], &[0, 2, 3, 1]),
        (&[2, 3, 2, 3, 2, 3], &[5, 3, 1, 4, 2, 0]),
        (&[97, 101], &[1, 0]),
        (&[2, 3, 5, 7], &[0, 3, 1, 2]),
        (&[2, 3, 5, 7], &[1, 0, 3, 2]),
        (&[2, 1, 5, 7], &[3, 0, 2, 1]),
        (&[2, 3, 5], &[0, 2, 1]),
        (&[36, 100], &[1, 0]),
        (&[2, 4, 68], &[0, 2, 1]),
        (&[3, 132, 4], &[0, 2, 1]),
        (&[8, 3, 12, 5], &[2, 1, 3, 0]),
        (&[2, 3, 4, 5, 8, 3], &[5, 3, 4, 0, 1, 2]),
    ];
    let mut cases = Vec::new();
    for (dims, permutation) in shapes {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let op = Transpose { permutation: permutation.to_vec() };
            let name = format!("{dims:?} by {permutation:?} {dtype}");
            cases.push(Case::new(name, op, vec![random.tensor(dtype, dims, 99.0)]));
        }
    }
    cases
}
