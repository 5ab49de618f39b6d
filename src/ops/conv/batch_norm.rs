//! A batch norm after a convolution, folded into its weights when they are loaded.

use super::Conv;
use crate::ops::{BatchNorm, Preparation, UnaryFn};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

/// What a convolution becomes that also does the batch norm after it.
#[derive(Debug)]
pub struct FoldedNorm {
    /// The convolution, with a bias.
    pub conv: Conv,
    /// Makes its weight of the convolution's weight, gamma and the variance.
    pub weight: Arc<dyn Preparation>,
    /// Makes its bias of gamma, beta, mean, variance and the convolution's bias if it has one.
    pub bias: Arc<dyn Preparation>,
}

impl Conv {
    /// The convolution that also does a batch norm of its output, if nothing stands between them.
    pub fn with_batch_norm(&self, norm: &BatchNorm) -> Option<FoldedNorm> {
        let bare = self.activation == UnaryFn::Identity && !self.slope && self.residual.is_none();
        bare.then(|| FoldedNorm {
            conv: Self { bias: true, activation: norm.activation, ..self.clone() },
            weight: Arc::new(ScaledKernel { eps: norm.eps }),
            bias: Arc::new(ShiftedBias { eps: norm.eps }),
        })
    }
}

/// A kernel `[outputs, ..]` scaled by a batch norm over the outputs:
/// weight * gamma / sqrt(variance + eps).
///
/// Inputs: the weight in any float dtype, gamma and variance f32 `[outputs]`. The result has the
/// weight's dtype and shape.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ScaledKernel {
    /// Added to the variance.
    eps: f32,
}

/// The bias of a convolution with a batch norm over its outputs:
/// beta + (bias - mean) * gamma / sqrt(variance + eps).
///
/// Inputs: gamma, beta, mean, variance f32 `[outputs]`, and the convolution's bias if it has one.
/// The result is f32 `[outputs]`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ShiftedBias {
    /// Added to the variance.
    eps: f32,
}

fn scales(gamma: &Tensor, variance: &Tensor, eps: f32) -> Vec<f64> {
    let pairs = gamma.to_f64().into_iter().zip(variance.to_f64());
    pairs.map(|(gamma, variance)| gamma / (variance + f64::from(eps)).sqrt()).collect()
}

impl Preparation for ScaledKernel {
    fn infer(&self, inputs: &[Spec]) -> Result<Spec> {
        let [weight, gamma, variance] = inputs else {
            let message = format!("a folded batch norm takes 3 inputs, got {}", inputs.len());
            return Err(Error::op("batch_norm", message));
        };
        let outputs = weight.shape.dims().first().copied().unwrap_or(0);
        for vector in [gamma, variance] {
            if vector.shape.dims() != [outputs] {
                let message = format!("a batch norm after {weight} takes vectors [{outputs}], got {vector}");
                return Err(Error::op("batch_norm", message));
            }
        }
        Ok(weight.clone())
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let weight = &inputs[0];
        let spec = self.infer(&inputs.iter().map(|input| input.spec().clone()).collect::<Vec<_>>())?;
        let scales = scales(&inputs[1], &inputs[2], self.eps);
        let mut values = weight.to_f64();
        let each = values.len() / scales.len().max(1);
        for (kernel, scale) in values.chunks_exact_mut(each.max(1)).zip(scales) {
            kernel.iter_mut().for_each(|value| *value *= scale);
        }
        Ok(Tensor::from_f64(spec.dtype, spec.shape, &values))
    }
}

impl Preparation for ShiftedBias {
    fn infer(&self, inputs: &[Spec]) -> Result<Spec> {
        let fits = matches!(inputs.len(), 4 | 5) && inputs.iter().all(|input| *input == inputs[0]);
        if fits && inputs[0].shape.rank() == 1 {
            return Ok(inputs[0].clone());
        }
        let message = format!("a folded batch norm takes 4 or 5 vectors of one length, got {inputs:?}");
        Err(Error::op("batch_norm", message))
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let spec = self.infer(&inputs.iter().map(|input| input.spec().clone()).collect::<Vec<_>>())?;
        let scales = scales(&inputs[0], &inputs[3], self.eps);
        let (beta, mean) = (inputs[1].to_f64(), inputs[2].to_f64());
        let bias = inputs.get(4).map_or_else(|| vec![0.0; beta.len()], Tensor::to_f64);
        let values: Vec<f64> = (0..beta.len()).map(|i| beta[i] + (bias[i] - mean[i]) * scales[i]).collect();
        Ok(Tensor::from_f64(spec.dtype, spec.shape, &values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn scales_and_shifts() {
        let vector = |values: [f32; 2]| Tensor::from_f32([2], &values);
        let weight = Tensor::from_f64(DType::F16, [2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let (gamma, variance) = (vector([2.0, 1.0]), vector([3.0, 15.0]));
        let scaled =
            ScaledKernel { eps: 1.0 }.prepare(&[weight.clone(), gamma.clone(), variance.clone()]).unwrap();
        assert_eq!(scaled, Tensor::from_f64(DType::F16, [2, 1, 2], &[1.0, 2.0, 0.75, 1.0]));
        let (beta, mean) = (vector([0.5, -0.5]), vector([1.0, 2.0]));
        let mut inputs = vec![gamma.clone(), beta, mean, variance];
        let rule = ShiftedBias { eps: 1.0 };
        assert_eq!(rule.prepare(&inputs).unwrap(), vector([-0.5, -1.0]));
        inputs.push(vector([1.0, 6.0]));
        assert_eq!(rule.prepare(&inputs).unwrap(), vector([0.5, 0.5]));
        inputs[1] = Tensor::from_f32([3], &[0.0; 3]);
        assert!(rule.prepare(&inputs).is_err());
        assert!(ScaledKernel { eps: 1.0 }.prepare(&[weight, gamma, inputs[1].clone()]).is_err());
    }
}
