//! Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3).

use super::cases::{Case, Random};
use super::conv::not_lowered;
use super::{ChannelsLast, Expect, ImageOrder, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static LRN: Kernel = Kernel::new("lrn", include_str!("../../shaders/lrn.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        channels: u32,
        before: u32,
        after: u32,
        alpha: f32,
        exponent: f32,
        bias: f32,
    }
);

/// Most channels of a window: a loop of an invocation walks over them.
const MOST_CHANNELS: usize = 32_768;

/// x / (bias + alpha / size * sum of squares)^beta, with the sum over the `size` channels around
/// each channel that are there (LRN of ONNX, LocalResponseNorm of torch).
///
/// Input: x f32 `[n, c, spatial..]` with one to three spatial axes. Output: f32 of x's shape.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lrn {
    /// Channels of a window.
    pub size: usize,
    /// Channels of a window before its own. They matter where `size` is even: (size - 1) / 2 in
    /// ONNX, size / 2 in torch.
    pub before: usize,
    /// Factor of the mean square.
    #[serde(with = "super::float")]
    pub alpha: f32,
    /// Exponent.
    #[serde(with = "super::float")]
    pub beta: f32,
    /// Added to the mean square; above 0.
    #[serde(with = "super::float")]
    pub bias: f32,
    /// Order of x's axes.
    pub order: ImageOrder,
}

impl Lrn {
    /// A local response norm of `[n, c, spatial..]` with ONNX's windows.
    pub const fn new(size: usize, alpha: f32, beta: f32, bias: f32) -> Self {
        let before = size.saturating_sub(1) / 2;
        Self { size, before, alpha, beta, bias, order: ImageOrder::ChannelsFirst }
    }
}

impl Op for Lrn {
    fn name(&self) -> &'static str {
        "lrn"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", &[DType::F32])?;
        self.order.dims(self, x)?;
        let finite = self.alpha.is_finite() && self.beta.is_finite() && self.bias.is_finite();
        let has_power = self.alpha >= 0.0 && self.bias > 0.0;
        if !(1..=MOST_CHANNELS).contains(&self.size) || self.before >= self.size || !finite || !has_power {
            let message = format!(
                "takes a size of 1 to {MOST_CHANNELS}, before < size, alpha >= 0 and bias > 0, got {self:?}"
            );
            return Err(Error::op(self.name(), message));
        }
        Ok(vec![x.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        if self.order == ImageOrder::ChannelsFirst {
            return Err(not_lowered(self));
        }
        let elements = outputs[0].elements();
        let spread = Spread::of_loops(elements, self.size, caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            channels: count(self.order.dims(self, &inputs[0])?.channels),
            before: count(self.before),
            after: count(self.size - 1 - self.before),
            alpha: self.alpha / self.size as f32,
            exponent: -self.beta,
            bias: self.bias,
        };
        Ok(spread.launch(&LRN).params(params).bind_all(1, 1).work((elements * self.size) as u64).into())
    }

    fn channels_last(&self, _: &Caps, _: &[Spec]) -> Option<ChannelsLast> {
        let op = Self { order: ImageOrder::ChannelsLast, ..*self };
        let form = || ChannelsLast { required: true, ..ChannelsLast::following(op, [0]) };
        (self.order == ImageOrder::ChannelsFirst).then(form)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let image = self.order.dims(self, inputs[0].spec())?;
        let (_, stride, _) = self.order.strides(&image);
        let x = inputs[0].to_f64();
        let norm = |index: usize| {
            let channel = index / stride % image.channels;
            let first = channel.saturating_sub(self.before);
            let end = (channel + self.size - self.before).min(image.channels);
            let square = |other: usize| x[index - channel * stride + other * stride].powi(2);
            let sum: f64 = (first..end).map(square).sum();
            let scale = f64::from(self.bias) + f64::from(self.alpha) / self.size as f64 * sum;
            x[index] * scale.powf(-f64::from(self.beta))
        };
        let values: Vec<f64> = (0..x.len()).map(norm).collect();
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(74);
    let mut cases = Vec::new();
    let mut case = |op: Lrn, dims: &[usize]| {
        let x = random.tensor(DType::F32, dims, 3.0);
        cases.push(Case::new(format!("{dims:?} by {} {:?}", op.size, op.order), op, vec![x]));
    };
    case(Lrn::new(5, 1e-4, 0.75, 1.0), &[1, 64, 5, 7]);
    case(Lrn::new(5, 1e-4, 0.75, 2.0), &[2, 3, 4]);
    for size in [1, 2, 3, 4, 9] {
        case(Lrn::new(size, 0.5, 0.75, 1.0), &[2, 7, 3, 5]);
        case(Lrn { before: size / 2, ..Lrn::new(size, 0.3, 0.5, 2.0) }, &[1, 12, 33]);
    }
    case(Lrn::new(3, 1.0, 1.0, 0.5), &[1, 5, 2, 3, 4]);
    case(Lrn { order: ImageOrder::ChannelsLast, ..Lrn::new(5, 0.1, 0.75, 1.0) }, &[2, 5, 7, 9]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of torch.nn.functional.local_response_norm for 1 to 8 with alpha 0.5, beta 0.75, k 2.
    #[test]
    fn windows_follow_torch() {
        let values: Vec<f32> = (1_u8..=8).map(f32::from).collect();
        let x = [Tensor::from_f32([1, 8, 1], &values)];
        let norm = |size: usize| {
            let op = Lrn { before: size / 2, ..Lrn::new(size, 0.5, 0.75, 2.0) };
            op.reference(&x).unwrap()[0].to_f64()
        };
        let three = [0.457906455, 0.665906847, 0.709817648, 0.694032311];
        let four = [0.484900951, 0.742175400, 0.807923734, 0.786237836];
        for (got, want) in norm(3).into_iter().zip(three).chain(norm(4).into_iter().zip(four)) {
            assert!((got - want).abs() < 1e-6, "got {got}, want {want}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let infer = |op: Lrn| op.infer(&[Spec::f32([1, 3, 2, 2])]);
        assert!(infer(Lrn::new(5, 1e-4, 0.75, 1.0)).is_ok());
        assert!(infer(Lrn::new(0, 1e-4, 0.75, 1.0)).is_err());
        assert!(infer(Lrn::new(5, -1.0, 0.75, 1.0)).is_err());
        assert!(infer(Lrn::new(5, 1e-4, f32::NAN, 1.0)).is_err());
        assert!(infer(Lrn { before: 5, ..Lrn::new(5, 1e-4, 0.75, 1.0) }).is_err());
    }
}
