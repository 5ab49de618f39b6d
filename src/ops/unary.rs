//! Functions of one value, element by element.
//!
//! [`UnaryFn`] is also what fused epilogues name: one line in shaders/lib/activation.wgsl
//! and one in [`UnaryFn::apply`] make a new function.

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launch, Launches, Spread, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static UNARY: Kernel = Kernel::new("unary", include_str!("../../shaders/unary.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        cap: f32,
    }
);

const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// A function of every element: f32, f16 or bf16 of any shape to the same; computed in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unary(pub UnaryFn);

impl Op for Unary {
    fn name(&self) -> &'static str {
        "unary"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        same_float(self, inputs)
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        Ok(launch(caps, &inputs[0], self.0.wgsl(), 1.0).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![map(&inputs[0], |x| self.0.apply(x))])
    }
}

/// cap tanh(x / cap): keeps every value within -cap..cap (logits and attention scores of Gemma 2).
/// f32, f16 or bf16 of any shape to the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Softcap(pub f32);

impl Op for Softcap {
    fn name(&self) -> &'static str {
        "softcap"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        if !(self.0 > 0.0 && self.0.is_finite()) {
            return Err(Error::op(self.name(), format!("the cap must be positive, got {}", self.0)));
        }
        same_float(self, inputs)
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        Ok(launch(caps, &inputs[0], "softcap", self.0).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let cap = f64::from(self.0);
        Ok(vec![map(&inputs[0], |x| cap * (x / cap).tanh())])
    }
}

fn same_float(op: &dyn Op, inputs: &[Spec]) -> Result<Vec<Spec>> {
    let [input] = inputs.exactly(op)?;
    input.expect_dtype(op, "the input", &FLOATS)?;
    Ok(vec![input.clone()])
}

fn launch(caps: &Caps, input: &Spec, function: &'static str, cap: f32) -> Launch {
    let spread = Spread::new(input.elements().div_ceil(4), caps);
    spread
        .launch(&UNARY)
        .variant("dtype", input.dtype.name())
        .variant("function", function)
        .params(Params { items: spread.items, per_group: spread.per_group, cap })
        .bind_all(1, 1)
}

fn map(input: &Tensor, function: impl Fn(f64) -> f64) -> Tensor {
    let values: Vec<f64> = input.to_f64().into_iter().map(function).collect();
    Tensor::from_f64(input.dtype(), input.dims(), &values)
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryFn {
    /// x.
    Identity,
    /// max(x, 0).
    Relu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// x sigmoid(x).
    Silu,
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
    /// Largest integer that is not above x.
    Floor,
    /// Smallest integer that is not below x.
    Ceil,
    /// Nearest integer, ties to even.
    Round,
    /// Error function.
    Erf,
    /// log(1 + e^x).
    Softplus,
}

impl UnaryFn {
    /// All functions.
    pub const ALL: [Self; 22] = [
        Self::Identity,
        Self::Relu,
        Self::Sigmoid,
        Self::Silu,
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
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Erf,
        Self::Softplus,
    ];

    /// Name of the WGSL function of one f32: in lib/activation.wgsl, or WGSL's own.
    pub const fn wgsl(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::Sigmoid => "sigmoid",
            Self::Silu => "silu",
            Self::Tanh => "tanh_clamped",
            Self::GeluTanh => "gelu_tanh",
            Self::Gelu => "gelu",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::InverseSqrt => "inverseSqrt",
            Self::Neg => "negate",
            Self::Abs => "abs",
            Self::Reciprocal => "reciprocal",
            Self::Square => "square",
            Self::Sin => "sin",
            Self::Cos => "cos",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Round => "round",
            Self::Erf => "erf",
            Self::Softplus => "softplus",
        }
    }

    /// The function in f64.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
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
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Round => x.round_ties_even(),
            Self::Erf => erf(x),
            Self::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }
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
        // Positive where the function wants it, and never near a pole or a step of floor and round.
        let positive =
            matches!(function, UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::InverseSqrt | UnaryFn::Reciprocal);
        let values: Vec<f64> =
            (0..1_021)
                .map(|i| {
                    if positive { 0.1 + 4.0 * random.unit().abs() } else { f64::from(i - 510) / 61.0 + 0.003 }
                })
                .collect();
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
    for function in [UnaryFn::Sigmoid, UnaryFn::Tanh, UnaryFn::GeluTanh, UnaryFn::Gelu, UnaryFn::Softplus] {
        cases.push(Case::new(format!("{function:?} of large values"), Unary(function), vec![large.clone()]));
    }
    let ties = Tensor::from_f32([6], &[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]);
    cases.push(Case::new("ties to even", Unary(UnaryFn::Round), vec![ties]));
    cases.push(Case::new(
        "values beyond the cap",
        Softcap(30.0),
        vec![random.tensor(DType::F32, [3, 67], 90.0)],
    ));
    cases.push(Case::new("f16", Softcap(2.0), vec![random.tensor(DType::F16, [129], 4.0)]));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

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
