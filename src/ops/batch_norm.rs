//! Batch normalisation with stored statistics (Ioffe and Szegedy 2015).

use super::cases::{Case, Random};
use super::{ChannelsLast, Expect, ImageOrder, Inputs, Op, UnaryFn, image};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

static BATCH_NORM: Kernel = Kernel::new("batch_norm", include_str!("../../shaders/batch_norm.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        inner: u32,
        channels: u32,
        eps: f32,
        alpha: f32,
        beta: f32,
    }
);

/// activation((x - mean) / sqrt(variance + eps) * weight + bias), each channel with its own
/// numbers (inference of BatchNormalization of ONNX, BatchNormNd of torch).
///
/// Inputs: x f32 `[n, c, spatial..]` with up to three spatial axes, or `[n, c]`; weight, bias,
/// mean and variance f32 `[c]`. Output: f32 of x's shape.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Added to the variance.
    #[serde(with = "super::float")]
    pub eps: f32,
    /// The function of each output.
    pub activation: UnaryFn,
    /// Order of x's axes.
    pub order: ImageOrder,
}

impl BatchNorm {
    /// A batch norm of `[n, c, spatial..]` without activation.
    pub const fn new(eps: f32) -> Self {
        Self { eps, activation: UnaryFn::Identity, order: ImageOrder::ChannelsFirst }
    }

    /// Number of channels, and of neighbouring elements that belong to one channel.
    fn channels(&self, x: &Spec) -> (usize, usize) {
        let dims = x.shape.dims();
        let axis = self.order.channel_axis(dims.len());
        (dims[axis], dims[axis + 1..].iter().product())
    }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, statistics @ ..] = inputs.exactly::<5>(self)?;
        x.expect_dtype(self, "x", &[DType::F32])?;
        self.activation.check(self)?;
        if !(2..=5).contains(&x.shape.rank()) {
            let message = format!("takes x [n, c] with up to 3 spatial axes, got {x}");
            return Err(Error::op(self.name(), message));
        }
        let (channels, _) = self.channels(x);
        for (input, what) in statistics.iter().zip(["the weight", "the bias", "the mean", "the variance"]) {
            input.expect_dtype(self, what, &[DType::F32])?;
            input.expect_dims(self, what, &[channels])?;
        }
        Ok(vec![x.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (channels, inner) = self.channels(&inputs[0]);
        // Four neighbours are four channels, or of one channel.
        let (vectors, across) = (inner.is_multiple_of(4), inner == 1 && channels.is_multiple_of(4));
        let width = if vectors || across { 4 } else { 1 };
        let spread = Spread::new(outputs[0].elements() / width, caps);
        let [alpha, beta] = self.activation.arguments();
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            inner: count(if vectors { inner / 4 } else { inner }),
            channels: count(if across { channels / 4 } else { channels }),
            eps: self.eps,
            alpha,
            beta,
        };
        let launch = spread
            .launch(&BATCH_NORM)
            .variant("value", if width == 4 { "vec4<f32>" } else { "f32" })
            .variant("channel", if across { "vec4<f32>" } else { "f32" })
            .activation(self.activation)
            .params(params);
        Ok(launch.bind_all(5, 1).into())
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let first = self.order == ImageOrder::ChannelsFirst && image::is_image(&inputs[0]);
        first.then(|| ChannelsLast::following(Self { order: ImageOrder::ChannelsLast, ..*self }, [0]))
    }

    fn with_activation(&self, activation: UnaryFn) -> Option<Arc<dyn Op>> {
        let free = self.activation == UnaryFn::Identity;
        free.then(|| Arc::new(Self { activation, ..*self }) as Arc<dyn Op>)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (channels, inner) = self.channels(inputs[0].spec());
        let [weight, bias, mean, variance] = [1, 2, 3, 4].map(|input: usize| inputs[input].to_f64());
        let norm = |(index, x): (usize, f64)| {
            let channel = index / inner % channels;
            let normed = (x - mean[channel]) / (variance[channel] + f64::from(self.eps)).sqrt();
            self.activation.apply(normed * weight[channel] + bias[channel])
        };
        let values: Vec<f64> = inputs[0].to_f64().into_iter().enumerate().map(norm).collect();
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(70);
    let mut cases = Vec::new();
    let mut case = |op: BatchNorm, dims: &[usize]| {
        let channels = [dims[op.order.channel_axis(dims.len())]];
        let mut inputs = vec![random.f32(dims), random.f32(channels), random.f32(channels)];
        let variance: Vec<f64> = (0..channels[0]).map(|_| 0.6 + 0.5 * random.unit()).collect();
        inputs.extend([random.f32(channels), Tensor::from_f64(DType::F32, channels, &variance)]);
        cases.push(Case::new(format!("{dims:?} {:?}", op.order), op, inputs));
    };
    let shapes: [&[usize]; 11] = [
        &[1, 1],
        &[3, 5],
        &[5, 68],
        &[2, 3, 7],
        &[2, 8, 33],
        &[1, 3, 4, 5],
        &[2, 6, 1, 1],
        &[2, 12, 7, 9],
        &[3, 64, 8, 8],
        &[1, 5, 31, 33],
        &[2, 3, 2, 3, 5],
    ];
    for dims in shapes {
        case(BatchNorm::new(1e-5), dims);
        case(BatchNorm { order: ImageOrder::ChannelsLast, ..BatchNorm::new(1e-3) }, dims);
    }
    for activation in [UnaryFn::Relu, UnaryFn::Relu6, UnaryFn::LeakyRelu(0.1), UnaryFn::Silu] {
        case(BatchNorm { activation, ..BatchNorm::new(1e-5) }, &[2, 8, 5, 7]);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let op = BatchNorm::new(1e-5);
        let inputs = |x: &[usize], mean: usize| {
            let of = |channels| Spec::f32([channels]);
            [Spec::f32(x), of(3), of(3), of(mean), of(3)]
        };
        assert!(op.infer(&inputs(&[2, 3, 4, 4], 3)).is_ok());
        assert!(op.infer(&inputs(&[2, 3], 3)).is_ok());
        assert!(op.infer(&inputs(&[2, 3, 4, 4], 4)).is_err());
        assert!(op.infer(&inputs(&[2, 4, 4, 3], 3)).is_err());
        assert!(op.infer(&inputs(&[3], 3)).is_err());
        assert!(op.infer(&inputs(&[2, 3, 4, 4], 3)[..4]).is_err());
    }
}
