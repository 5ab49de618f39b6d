//! Functions of one value, element by element.
//!
//! [`UnaryFn`] is also what fused epilogues name: one line in shaders/lib/activation.wgsl
//! and one in [`UnaryFn::apply`] make a new function.

use super::cases::{Case, Random};
use super::{ChannelsLast, Expect, Inputs, Op, image};
use crate::kernel::{Caps, Kernel, Launch, Launches, Spread, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static UNARY: Kernel = Kernel::new("unary", include_str!("../../shaders/unary.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        alpha: f32,
        beta: f32,
    }
);

const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// A function of every element: f32, f16 or bf16 of any shape to the same; computed in f32.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Unary(pub UnaryFn);

impl Op for Unary {
    fn name(&self) -> &'static str {
        "unary"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &FLOATS)?;
        self.0.check(self)?;
        Ok(vec![input.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let spread = Spread::new(inputs[0].elements().div_ceil(4), caps);
        let [alpha, beta] = self.0.arguments();
        let launch = spread
            .launch(&UNARY)
            .variant("dtype", inputs[0].dtype.name())
            .activation(self.0)
            .params(Params { items: spread.items, per_group: spread.per_group, alpha, beta });
        Ok(launch.bind_all(1, 1).into())
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        image::is_image(&inputs[0]).then(|| ChannelsLast::following(*self, [0]))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let values: Vec<f64> = inputs[0].to_f64().into_iter().map(|x| self.0.apply(x)).collect();
        Ok(vec![Tensor::from_f64(inputs[0].dtype(), inputs[0].dims(), &values)])
    }
}

impl Launch {
    /// Names the function that `activate` of lib/activate.wgsl is; the kernel's parameters take
    /// its [`arguments`](UnaryFn::arguments) as `alpha` and `beta`.
    #[must_use]
    pub(super) fn activation(self, function: UnaryFn) -> Self {
        let (name, arguments) = function.wgsl();
        self.variant("activation", name).variant("activation_arguments", arguments)
    }
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub enum UnaryFn {
    /// x.
    Identity,
    /// max(x, 0).
    Relu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// x sigmoid(x).
    Silu,
    /// x sigmoid(this times x) (Ramachandran et al. 2017, "Searching for Activation Functions").
    Swish(#[serde(with = "super::float")] f32),
    /// Hyperbolic tangent.
    Tanh,
    /// GELU approximated by the hyperbolic tangent (Hendrycks and Gimpel 2016).
    GeluTanh,
    /// GELU, x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// e^x.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// 1 / sqrt(x).
    InverseSqrt,
    /// -x.
    Neg,
    /// |x|.
    Abs,
    /// 1 / x.
    Reciprocal,
    /// x^2.
    Square,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Arcsine, of -1..1.
    Asin,
    /// Arccosine, of -1..1.
    Acos,
    /// Arctangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse of the hyperbolic sine.
    Asinh,
    /// Inverse of the hyperbolic cosine, of 1 and more.
    Acosh,
    /// Inverse of the hyperbolic tangent, of -1..1.
    Atanh,
    /// Largest integer that is not above x.
    Floor,
    /// Smallest integer that is not below x.
    Ceil,
    /// Nearest integer, ties to even.
    Round,
    /// -1, 0 or 1.
    Sign,
    /// Error function.
    Erf,
    /// log(1 + e^x).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// cap tanh(x / cap): keeps every value within -cap..cap, which must be positive (logits and
    /// attention scores of Gemma 2).
    Softcap(#[serde(with = "super::float")] f32),
    /// min(max(x, 0), 6).
    Relu6,
    /// min(max(x, min), max).
    Clip {
        /// Smallest result, may be minus infinity.
        #[serde(with = "super::float")]
        min: f32,
        /// Largest result, may be infinity.
        #[serde(with = "super::float")]
        max: f32,
    },
    /// x, or this times x where it is negative.
    LeakyRelu(#[serde(with = "super::float")] f32),
    /// x where it is above this, else 0 (Konda et al. 2015).
    ThresholdedRelu(#[serde(with = "super::float")] f32),
    /// x - bias above the threshold, x + bias below its negative, else 0.
    Shrink {
        /// Where it begins.
        #[serde(with = "super::float")]
        threshold: f32,
        /// What is taken away.
        #[serde(with = "super::float")]
        bias: f32,
    },
    /// x, or this times e^x - 1 where it is negative (Clevert et al. 2016).
    Elu(#[serde(with = "super::float")] f32),
    /// x, or this times e^(x / this) - 1 where it is negative (Barron 2017).
    Celu(#[serde(with = "super::float")] f32),
    /// ELU scaled so that activations keep mean 0 and variance 1 (Klambauer et al. 2017).
    Selu,
    /// alpha x + beta, kept within 0..1; PyTorch's has alpha 1/6 and beta 1/2.
    HardSigmoid {
        /// Slope.
        #[serde(with = "super::float")]
        alpha: f32,
        /// Value at 0.
        #[serde(with = "super::float")]
        beta: f32,
    },
    /// x times its hard sigmoid of alpha 1/6 and beta 1/2 (Howard et al. 2019, MobileNetV3).
    HardSwish,
    /// x tanh(softplus(x)) (Misra 2019).
    Mish,
    /// alpha x + beta.
    Affine {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// alpha tanh(beta x).
    ScaledTanh {
        /// Factor of the result.
        alpha: f32,
        /// Factor of x.
        beta: f32,
    },
}

/// Constants of Klambauer et al. 2017, as PyTorch and ONNX write them.
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

impl UnaryFn {
    /// All functions, those with arguments with some.
    pub const ALL: [Self; 48] = [
        Self::Identity,
        Self::Relu,
        Self::Sigmoid,
        Self::Silu,
        Self::Swish(1.702),
        Self::Tanh,
        Self::GeluTanh,
        Self::Gelu,
        Self::Exp,
        Self::Log,
        Self::Sqrt,
        Self::InverseSqrt,
        Self::Neg,
        Self::Abs,
        Self::Reciprocal,
        Self::Square,
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Asinh,
        Self::Acosh,
        Self::Atanh,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Sign,
        Self::Erf,
        Self::Softplus,
        Self::Softsign,
        Self::Softcap(2.5),
        Self::Relu6,
        Self::Clip { min: -1.25, max: 3.5 },
        Self::LeakyRelu(0.1),
        Self::ThresholdedRelu(1.5),
        Self::Shrink { threshold: 1.5, bias: 0.75 },
        Self::Elu(1.5),
        Self::Celu(0.75),
        Self::Selu,
        Self::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Self::HardSwish,
        Self::Mish,
        Self::Affine { alpha: 0.75, beta: -0.5 },
        Self::ScaledTanh { alpha: 1.5, beta: 0.75 },
    ];

    /// The WGSL function, in lib/activation.wgsl, lib/trigonometry.wgsl or WGSL's own: its name, and how many arguments
    /// it takes besides x.
    pub(super) const fn wgsl(self) -> (&'static str, u32) {
        match self {
            Self::Identity => ("identity", 0),
            Self::Relu => ("relu", 0),
            Self::Sigmoid => ("sigmoid", 0),
            Self::Silu => ("silu", 0),
            Self::Swish(_) => ("swish", 1),
            Self::Tanh => ("tanh_clamped", 0),
            Self::GeluTanh => ("gelu_tanh", 0),
            Self::Gelu => ("gelu", 0),
            Self::Exp => ("exp", 0),
            Self::Log => ("log", 0),
            Self::Sqrt => ("sqrt", 0),
            Self::InverseSqrt => ("inverseSqrt", 0),
            Self::Neg => ("negate", 0),
            Self::Abs => ("abs", 0),
            Self::Reciprocal => ("reciprocal", 0),
            Self::Square => ("square", 0),
            Self::Sin => ("sine", 0),
            Self::Cos => ("cosine", 0),
            Self::Tan => ("tangent", 0),
            Self::Asin => ("arcsine", 0),
            Self::Acos => ("arccosine", 0),
            Self::Atan => ("arctangent", 0),
            Self::Sinh => ("hyperbolic_sine", 0),
            Self::Cosh => ("hyperbolic_cosine", 0),
            Self::Asinh => ("area_sine", 0),
            Self::Acosh => ("area_cosine", 0),
            Self::Atanh => ("area_tangent", 0),
            Self::Floor => ("floor", 0),
            Self::Ceil => ("ceil", 0),
            Self::Round => ("round", 0),
            Self::Sign => ("sign", 0),
            Self::Erf => ("erf", 0),
            Self::Softplus => ("softplus", 0),
            Self::Softsign => ("softsign", 0),
            Self::Softcap(_) => ("softcap", 1),
            Self::Relu6 | Self::Clip { .. } => ("clip", 2),
            Self::LeakyRelu(_) => ("leaky_relu", 1),
            Self::ThresholdedRelu(_) => ("thresholded_relu", 1),
            Self::Shrink { .. } => ("shrink", 2),
            Self::Elu(_) => ("elu", 1),
            Self::Celu(_) => ("celu", 1),
            Self::Selu => ("selu", 0),
            Self::HardSigmoid { .. } => ("hard_sigmoid", 2),
            Self::HardSwish => ("hard_swish", 0),
            Self::Mish => ("mish", 0),
            Self::Affine { .. } => ("affine", 2),
            Self::ScaledTanh { .. } => ("scaled_tanh", 2),
        }
    }

    /// What its WGSL function takes besides x, zero where it takes less: a kernel's parameters
    /// `alpha` and `beta`, so that other values need no other shader.
    pub const fn arguments(self) -> [f32; 2] {
        match self {
            Self::Relu6 => [0.0, 6.0],
            Self::Clip { min, max } => [min, max],
            Self::HardSigmoid { alpha, beta }
            | Self::Affine { alpha, beta }
            | Self::ScaledTanh { alpha, beta } => [alpha, beta],
            Self::Shrink { threshold, bias } => [threshold, bias],
            Self::Softcap(alpha)
            | Self::LeakyRelu(alpha)
            | Self::ThresholdedRelu(alpha)
            | Self::Swish(alpha)
            | Self::Elu(alpha)
            | Self::Celu(alpha) => [alpha, 0.0],
            _ => [0.0, 0.0],
        }
    }

    /// Fails unless the arguments are in their ranges.
    ///
    /// # Errors
    /// [`Error::Op`] with the function.
    pub fn check(self, op: &dyn Op) -> Result<()> {
        let arguments = self.arguments();
        let allowed = match self {
            Self::Clip { .. } => arguments.iter().all(|argument| !argument.is_nan()),
            Self::Softcap(cap) => cap > 0.0 && cap.is_finite(),
            Self::Celu(alpha) => alpha != 0.0 && alpha.is_finite(),
            _ => arguments.iter().all(|argument| argument.is_finite()),
        };
        if allowed {
            return Ok(());
        }
        Err(Error::op(op.name(), format!("{self:?} is not defined: an argument is out of range")))
    }

    /// The function in f64.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Swish(alpha) => x / (1.0 + (-x * f64::from(alpha)).exp()),
            Self::Tanh => x.tanh(),
            Self::GeluTanh => gelu_tanh(x),
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Sqrt => x.sqrt(),
            Self::InverseSqrt => 1.0 / x.sqrt(),
            Self::Neg => -x,
            Self::Abs => x.abs(),
            Self::Reciprocal => 1.0 / x,
            Self::Square => x * x,
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Asin => x.asin(),
            Self::Acos => x.acos(),
            Self::Atan => x.atan(),
            Self::Sinh => x.sinh(),
            Self::Cosh => x.cosh(),
            Self::Asinh => x.asinh(),
            Self::Acosh => x.acosh(),
            Self::Atanh => x.atanh(),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Round => x.round_ties_even(),
            Self::Sign if x == 0.0 => 0.0,
            Self::Sign => x.signum(),
            Self::Erf => erf(x),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Clip { min, max } => x.max(min.into()).min(max.into()),
            Self::LeakyRelu(alpha) => x.max(0.0) + f64::from(alpha) * x.min(0.0),
            Self::ThresholdedRelu(threshold) if x > f64::from(threshold) => x,
            Self::Shrink { threshold, bias } if x > f64::from(threshold) => x - f64::from(bias),
            Self::Shrink { threshold, bias } if x < -f64::from(threshold) => x + f64::from(bias),
            Self::ThresholdedRelu(_) | Self::Shrink { .. } => 0.0,
            Self::Elu(alpha) => x.max(0.0) + f64::from(alpha) * x.min(0.0).exp_m1(),
            Self::Celu(alpha) => x.max(0.0) + (f64::from(alpha) * (x / f64::from(alpha)).exp_m1()).min(0.0),
            Self::Selu => SELU_SCALE * (x.max(0.0) + SELU_ALPHA * x.min(0.0).exp_m1()),
            Self::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Mish => x * softplus(x).tanh(),
            Self::Affine { alpha, beta } => f64::from(alpha) * x + f64::from(beta),
            Self::ScaledTanh { alpha, beta } => f64::from(alpha) * (f64::from(beta) * x).tanh(),
        }
    }
}

fn gelu_tanh(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Error function to about 1e-15: below 2 the series of Abramowitz and Stegun 7.1.6, whose
/// terms are all positive, above it the continued fraction 7.1.14 of the complement.
fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    if x.is_nan() || magnitude > 6.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    let square = x * x;
    if magnitude < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= 2.0 * square / f64::from(2 * n + 1);
            sum += term;
        }
        return std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * sum;
    }
    let mut fraction = magnitude;
    for n in (1..120).rev() {
        fraction = magnitude + f64::from(n) / 2.0 / fraction;
    }
    let complement = (-square).exp() / (std::f64::consts::PI.sqrt() * fraction);
    x.signum() * (1.0 - complement)
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(1);
    let mut cases = Vec::new();
    for function in UnaryFn::ALL {
        // Where the function is defined, and never near a pole or a step of floor and round.
        let value = |i: i32| match function {
            UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::InverseSqrt | UnaryFn::Reciprocal => {
                0.1 + 4.0 * random.unit().abs()
            }
            UnaryFn::Asin | UnaryFn::Acos | UnaryFn::Atanh => f64::from(i - 510) / 521.0,
            UnaryFn::Acosh => 1.0 + f64::from(i) / 64.0,
            _ => f64::from(i - 510) / 61.0 + 0.003,
        };
        let values: Vec<f64> = (0..1_021).map(value).collect();
        for dtype in FLOATS {
            let input = Tensor::from_f64(dtype, [1_021], &values);
            cases.push(Case::new(format!("{function:?} {dtype}"), Unary(function), vec![input]));
        }
    }
    for elements in [1, 2, 7, 33, 4_099] {
        cases.push(Case::new("sizes", Unary(UnaryFn::Neg), vec![random.f32([elements])]));
        let half = random.tensor(DType::F16, [elements], 3.0);
        cases.push(Case::new("sizes f16", Unary(UnaryFn::Relu), vec![half]));
    }
    let large = Tensor::from_f32([5], &[-1e4, -90.0, 0.0, 90.0, 1e4]);
    let functions = [
        UnaryFn::Sigmoid,
        UnaryFn::Tanh,
        UnaryFn::GeluTanh,
        UnaryFn::Gelu,
        UnaryFn::Softplus,
        UnaryFn::Softcap(30.0),
        UnaryFn::Elu(1.0),
        UnaryFn::Celu(-2.0),
        UnaryFn::Mish,
        UnaryFn::Clip { min: f32::NEG_INFINITY, max: 2.0 },
        UnaryFn::Clip { min: 2.0, max: -2.0 },
    ];
    for function in functions {
        cases.push(Case::new(format!("{function:?} of large values"), Unary(function), vec![large.clone()]));
    }
    cases.extend(trigonometric_cases());
    let ties = Tensor::from_f32([6], &[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]);
    cases.push(Case::new("ties to even", Unary(UnaryFn::Round), vec![ties]));
    cases
}

/// Small and large arguments, with a tolerance that is relative: ten units in the last place and
/// more of WGSL's own functions are not good enough.
fn trigonometric_cases() -> Vec<Case> {
    let mut random = Random::new(31);
    let mut of_size = |least: f64, most: f64| {
        let values: Vec<f64> = (0..509)
            .map(|_| random.unit().signum() * least * (most / least).powf(random.unit().abs()))
            .collect();
        Tensor::from_f64(DType::F32, [509], &values)
    };
    let mut cases = Vec::new();
    for function in [UnaryFn::Sin, UnaryFn::Cos, UnaryFn::Tan] {
        let inputs = vec![of_size(1e-6, 4e4)];
        // The angle itself is known to 1e-7 after turns are taken away; the tangent's poles enlarge it.
        let relative = if function == UnaryFn::Tan { 1e-4 } else { 1e-6 };
        cases.push(
            Case::new(format!("{function:?} of all sizes"), Unary(function), inputs)
                .tolerance(1e-6, relative),
        );
    }
    for (function, most) in [
        (UnaryFn::Asin, 1.0),
        (UnaryFn::Acos, 1.0),
        (UnaryFn::Atan, 1e6),
        (UnaryFn::Sinh, 9.0),
        (UnaryFn::Cosh, 9.0),
        (UnaryFn::Asinh, 1e30),
        (UnaryFn::Atanh, 0.99),
    ] {
        let inputs = vec![of_size(1e-6, most)];
        cases.push(
            Case::new(format!("{function:?} of all sizes"), Unary(function), inputs).tolerance(1e-12, 2e-6),
        );
    }
    let large = Tensor::from_f32([4], &[1.0, 1.0001, 2e3, 1e30]);
    cases.push(Case::new("Acosh of all sizes", Unary(UnaryFn::Acosh), vec![large]).tolerance(1e-9, 2e-6));
    let overflowing = Tensor::from_f32([4], &[-89.0, 88.9, 100.0, -100.0]);
    for function in [UnaryFn::Sinh, UnaryFn::Cosh] {
        // e^44 to 2 ULP times 44, twice.
        let case =
            Case::new(format!("{function:?} near overflow"), Unary(function), vec![overflowing.clone()]);
        cases.push(case.tolerance(0.0, 1e-5));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of torch.nn.functional at -2.5, -0.5 and 3.5.
    #[test]
    fn functions_of_image_models_follow_torch() {
        let table = [
            (UnaryFn::Softsign, [-0.714285714, -0.333333333, 0.777777778]),
            (UnaryFn::Relu6, [0.000000000, 0.000000000, 3.500000000]),
            (UnaryFn::LeakyRelu(0.5), [-1.250000000, -0.250000000, 3.500000000]),
            (UnaryFn::Elu(1.5), [-1.376872502, -0.590204010, 3.500000000]),
            (UnaryFn::Celu(0.75), [-0.723244505, -0.364937161, 3.500000000]),
            (UnaryFn::Selu, [-1.613785759, -0.691758188, 3.677453456]),
            (UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, [0.083333333, 0.416666667, 1.000000000]),
            (UnaryFn::HardSwish, [-0.208333333, -0.208333333, 3.500000000]),
            (UnaryFn::Mish, [-0.196816204, -0.220743775, 3.493990715]),
            (UnaryFn::Clip { min: -1.0, max: 2.0 }, [-1.000000000, -0.500000000, 2.000000000]),
        ];
        for (function, wants) in table {
            for (x, want) in [-2.5, -0.5, 3.5].into_iter().zip(wants) {
                let got = function.apply(x);
                assert!((got - want).abs() < 1e-7, "{function:?} of {x}: got {got}, want {want}");
            }
        }
    }

    #[test]
    fn arguments_out_of_range_are_refused() {
        let infer = |function| Unary(function).infer(&[Spec::f32([3])]);
        for function in [
            UnaryFn::Softcap(0.0),
            UnaryFn::Softcap(f32::INFINITY),
            UnaryFn::Celu(0.0),
            UnaryFn::Elu(f32::NAN),
            UnaryFn::Clip { min: f32::NAN, max: 1.0 },
        ] {
            assert!(infer(function).is_err(), "{function:?}");
        }
        assert!(infer(UnaryFn::Clip { min: 0.0, max: f32::INFINITY }).is_ok());
    }

    #[test]
    fn the_error_function_agrees_with_published_digits() {
        let table = [
            (0.1, 0.112_462_916_018_284_89),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (1.9, 0.992_790_429_235_257_5),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (5.0, 0.999_999_999_998_462_5),
        ];
        for (x, want) in table {
            assert!((erf(x) - want).abs() < 2e-15, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + want).abs() < 2e-15);
        }
    }
}
