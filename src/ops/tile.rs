//! Repetition of a whole tensor along its axes (NumPy's and ONNX's Tile).

use super::cases::{Case, Random};
use super::strided::{self, MAX_AXES, merged_axes};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Launches};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

/// Repeats a tensor of any device dtype so many times along each axis: `[a, b]` twice is
/// `[a, b, a, b]`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// How often, for each axis.
    pub repeats: Vec<usize>,
}

impl Tile {
    /// The output with an axis for the repetitions before each of the input's, and the input's
    /// strides along these.
    fn interleaved(&self, input: &Shape) -> (Shape, Vec<isize>) {
        let axes = self.repeats.iter().zip(input.dims()).zip(input.strides());
        let (dims, strides): (Vec<[usize; 2]>, Vec<[isize; 2]>) =
            axes.map(|((&repeats, &dim), stride)| ([repeats, dim], [0, stride as isize])).unzip();
        (dims.concat().into(), strides.concat())
    }
}

impl Op for Tile {
    fn name(&self) -> &'static str {
        "tile"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", strided::DTYPES)?;
        let dims = input.shape.dims();
        if dims.len() != self.repeats.len() {
            let message =
                format!("takes a number of repeats for each axis, got {:?} for {input}", self.repeats);
            return Err(Error::op(self.name(), message));
        }
        let sizes = dims.iter().zip(&self.repeats).map(|(dim, repeats)| dim.saturating_mul(*repeats));
        let tiled = Shape::from(sizes.collect::<Vec<usize>>());
        if tiled.checked_elements().is_none() {
            return Err(Error::op(self.name(), format!("{tiled} has more elements than can be counted")));
        }
        let (shape, strides) = self.interleaved(&input.shape);
        if merged_axes(shape.dims(), [&strides]).len() > MAX_AXES {
            let message = format!("{input} {:?} times takes more than {MAX_AXES} axes", self.repeats);
            return Err(Error::op(self.name(), message));
        }
        Ok(vec![Spec::new(input.dtype, tiled)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let (shape, strides) = self.interleaved(&inputs[0].shape);
        Ok(strided::launch(caps, &Spec::new(inputs[0].dtype, shape), &strides, 0).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let output = self.infer(&[inputs[0].spec().clone()])?.remove(0);
        let (shape, strides) = self.interleaved(&inputs[0].spec().shape);
        Ok(vec![strided::reference(&inputs[0], &shape, &strides, 0).reshaped(output.shape)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(44);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize]); 7] = [
        (&[], &[]),
        (&[1], &[33]),
        (&[5], &[3]),
        (&[3, 4], &[2, 1]),
        (&[3, 4], &[1, 5]),
        (&[2, 3, 4, 5], &[3, 2, 2, 3]),
        (&[2, 1, 8, 1, 3], &[1, 4, 1, 2, 1]),
    ];
    for (dims, repeats) in shapes {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let op = Tile { repeats: repeats.to_vec() };
            let name = format!("{dtype} {dims:?} {repeats:?} times");
            cases.push(Case::new(name, op, vec![random.tensor(dtype, dims, 9.0)]));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_one_for_each_axis() {
        let infer = |dims: &[usize], repeats: &[usize]| {
            let specs = Tile { repeats: repeats.to_vec() }.infer(&[Spec::f32(dims)]).ok()?;
            Some(specs[0].shape.dims().to_vec())
        };
        assert_eq!(infer(&[2, 3], &[1, 4]), Some(vec![2, 12]));
        assert_eq!(infer(&[2, 3], &[0, 4]), Some(vec![0, 12]));
        assert_eq!(infer(&[2, 3], &[4]), None);
        assert_eq!(infer(&[2; 5], &[2; 5]), None);
    }
}
