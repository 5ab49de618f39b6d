//! Rules by which weights take the form that a fused operator wants, when they are loaded.

use crate::ops::Preparation;
use crate::tensor::{Shape, Spec, Tensor};
use crate::{Error, Result};

/// The same elements under another shape.
#[derive(Debug)]
pub(super) struct Reshaped {
    /// Sizes of the result's dimensions.
    pub(super) dims: Vec<usize>,
}

impl Preparation for Reshaped {
    fn infer(&self, inputs: &[Spec]) -> Result<Spec> {
        match inputs {
            [input] if Shape::from(self.dims.as_slice()).elements() == input.elements() => {
                Ok(Spec::new(input.dtype, self.dims.clone()))
            }
            _ => Err(Error::op("reshape", format!("{inputs:?} do not take the shape {:?}", self.dims))),
        }
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<Tensor> {
        self.infer(&[inputs[0].spec().clone()])?;
        Ok(inputs[0].clone().reshaped(self.dims.as_slice()))
    }
}

/// The rows of several weights one after another: of one dtype, alike but for their number.
#[derive(Debug)]
pub(super) struct Stacked;

impl Preparation for Stacked {
    fn infer(&self, inputs: &[Spec]) -> Result<Spec> {
        let rest = |spec: &Spec| spec.shape.dims().split_first().map(|(_, rest)| rest.to_vec());
        let alike = |spec: &Spec| spec.dtype == inputs[0].dtype && rest(spec) == rest(&inputs[0]);
        let Some(mut dims) = inputs.first().and_then(rest).filter(|_| inputs.iter().all(alike)) else {
            return Err(Error::op("stack", format!("weights do not fit each other: {inputs:?}")));
        };
        dims.insert(0, inputs.iter().map(|spec| spec.shape.dims()[0]).sum());
        Ok(Spec::new(inputs[0].dtype, dims))
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let parts: Vec<&[u8]> = inputs.iter().map(Tensor::bytes).collect();
        Ok(Tensor::from_bytes(self.infer(&specs)?, parts.concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_stacked_and_reshaped() {
        let [one, two] =
            [Tensor::from_f32([1, 2], &[1.0, 2.0]), Tensor::from_f32([2, 2], &[3.0, 4.0, 5.0, 6.0])];
        let stacked = Stacked.prepare(&[one.clone(), two.clone()]).unwrap();
        assert_eq!(stacked, Tensor::from_f32([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let flat = Reshaped { dims: vec![4] }.prepare(&[two]).unwrap();
        assert_eq!(flat, Tensor::from_f32([4], &[3.0, 4.0, 5.0, 6.0]));
        assert!(Reshaped { dims: vec![3] }.prepare(std::slice::from_ref(&one)).is_err());
        for other in [Spec::f32([2, 3]), Spec::u32([1, 2]), Spec::f32([])] {
            assert!(Stacked.infer(&[one.spec().clone(), other]).is_err());
        }
        assert!(Stacked.infer(&[]).is_err());
    }
}
