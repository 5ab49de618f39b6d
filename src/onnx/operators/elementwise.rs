//! Functions of one or more values, element by element.

use super::Table;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{BinaryFn, UnaryFn};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[
    ("Abs", abs),
    ("Acos", |importer, node| unary(importer, node, UnaryFn::Acos)),
    ("Acosh", |importer, node| unary(importer, node, UnaryFn::Acosh)),
    ("Add", |importer, node| binary(importer, node, BinaryFn::Add)),
    ("Asin", |importer, node| unary(importer, node, UnaryFn::Asin)),
    ("Asinh", |importer, node| unary(importer, node, UnaryFn::Asinh)),
    ("Atan", |importer, node| unary(importer, node, UnaryFn::Atan)),
    ("Atanh", |importer, node| unary(importer, node, UnaryFn::Atanh)),
    ("Ceil", |importer, node| unary(importer, node, UnaryFn::Ceil)),
    ("Celu", |importer, node| unary(importer, node, UnaryFn::Celu(node.float("alpha", 1.0)?))),
    ("Clip", clip),
    ("Cos", |importer, node| unary(importer, node, UnaryFn::Cos)),
    ("Cosh", |importer, node| unary(importer, node, UnaryFn::Cosh)),
    ("Div", |importer, node| binary(importer, node, BinaryFn::Div)),
    ("Elu", |importer, node| unary(importer, node, UnaryFn::Elu(node.float("alpha", 1.0)?))),
    ("Erf", |importer, node| unary(importer, node, UnaryFn::Erf)),
    ("Exp", |importer, node| unary(importer, node, UnaryFn::Exp)),
    ("Floor", |importer, node| unary(importer, node, UnaryFn::Floor)),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", |importer, node| unary(importer, node, UnaryFn::HardSwish)),
    ("LeakyRelu", |importer, node| unary(importer, node, UnaryFn::LeakyRelu(node.float("alpha", 0.01)?))),
    ("Log", |importer, node| unary(importer, node, UnaryFn::Log)),
    ("Max", |importer, node| variadic(importer, node, BinaryFn::Max)),
    ("Mean", mean),
    ("Min", |importer, node| variadic(importer, node, BinaryFn::Min)),
    ("Mish", |importer, node| unary(importer, node, UnaryFn::Mish)),
    ("Mod", modulo),
    ("Mul", |importer, node| binary(importer, node, BinaryFn::Mul)),
    ("Neg", neg),
    ("PRelu", prelu),
    ("Pow", pow),
    ("Reciprocal", |importer, node| unary(importer, node, UnaryFn::Reciprocal)),
    ("Relu", relu),
    ("Round", |importer, node| unary(importer, node, UnaryFn::Round)),
    ("Selu", selu),
    ("Sigmoid", |importer, node| unary(importer, node, UnaryFn::Sigmoid)),
    ("Shrink", shrink),
    ("Sign", sign),
    ("Sin", |importer, node| unary(importer, node, UnaryFn::Sin)),
    ("Sinh", |importer, node| unary(importer, node, UnaryFn::Sinh)),
    ("Softplus", |importer, node| unary(importer, node, UnaryFn::Softplus)),
    ("Softsign", |importer, node| unary(importer, node, UnaryFn::Softsign)),
    ("Sqrt", |importer, node| unary(importer, node, UnaryFn::Sqrt)),
    ("Sub", |importer, node| binary(importer, node, BinaryFn::Sub)),
    ("Sum", |importer, node| variadic(importer, node, BinaryFn::Add)),
    ("Swish", swish),
    ("Tan", |importer, node| unary(importer, node, UnaryFn::Tan)),
    ("Tanh", |importer, node| unary(importer, node, UnaryFn::Tanh)),
    ("ThresholdedRelu", |importer, node| {
        unary(importer, node, UnaryFn::ThresholdedRelu(node.float("alpha", 1.0)?))
    }),
];

fn unary(importer: &mut Importer<'_>, node: &Node<'_>, function: UnaryFn) -> Result<Vec<Value>> {
    Ok(vec![importer.unary(&node.input(0)?, function)?])
}

fn binary(importer: &mut Importer<'_>, node: &Node<'_>, function: BinaryFn) -> Result<Vec<Value>> {
    Ok(vec![importer.binary(function, &node.input(0)?, &node.input(1)?)?])
}

fn variadic(importer: &mut Importer<'_>, node: &Node<'_>, function: BinaryFn) -> Result<Vec<Value>> {
    let mut result = node.input(0)?;
    for index in 1..node.inputs.len() {
        result = importer.binary(function, &result, &node.input(index)?)?;
    }
    Ok(vec![result])
}

fn mean(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let sum = variadic(importer, node, BinaryFn::Add)?.remove(0);
    Ok(vec![importer.with_number(BinaryFn::Div, &sum, node.inputs.len() as f64)?])
}

fn abs(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    if value.element.is_float() {
        return unary(importer, node, UnaryFn::Abs);
    }
    let negative = negated(importer, &value)?;
    Ok(vec![importer.binary(BinaryFn::Max, &value, &negative)?])
}

fn neg(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    if value.element.is_float() {
        return unary(importer, node, UnaryFn::Neg);
    }
    Ok(vec![negated(importer, &value)?])
}

fn negated(importer: &mut Importer<'_>, value: &Value) -> Result<Value> {
    let zero = Value::integers(value.element, vec![], &[0]);
    importer.binary(BinaryFn::Sub, &zero, value)
}

fn sign(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    if value.element.is_float() {
        return unary(importer, node, UnaryFn::Sign);
    }
    let small = importer.with_number(BinaryFn::Min, &value, 1.0)?;
    if value.element.is_unsigned() {
        return Ok(vec![small]);
    }
    Ok(vec![importer.with_number(BinaryFn::Max, &small, -1.0)?])
}

fn relu(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    if value.element.is_float() {
        return unary(importer, node, UnaryFn::Relu);
    }
    Ok(vec![importer.with_number(BinaryFn::Max, &value, 0.0)?])
}

fn shrink(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (threshold, bias) = (node.float("lambd", 0.5)?, node.float("bias", 0.0)?);
    importer
        .as_floats(&node.input(0)?, |importer, x| importer.unary(x, UnaryFn::Shrink { threshold, bias }))
        .map(|value| vec![value])
}

/// With the divisor's sign, or with the dividend's where `fmod` is set.
fn modulo(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let function = if node.flag("fmod", false)? { BinaryFn::Remainder } else { BinaryFn::Modulo };
    binary(importer, node, function)
}

fn gelu(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let function = match node.string("approximate", "none")? {
        "none" => UnaryFn::Gelu,
        "tanh" => UnaryFn::GeluTanh,
        other => return Err(node.fail(format!("attribute `approximate` must be none or tanh, got {other}"))),
    };
    unary(importer, node, function)
}

fn hard_sigmoid(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (alpha, beta) = (node.float("alpha", 0.2)?, node.float("beta", 0.5)?);
    unary(importer, node, UnaryFn::HardSigmoid { alpha, beta })
}

/// Defaults of Selu in ONNX, which are those of Klambauer et al. 2017 rounded to f32.
const SELU: [f32; 2] = [1.673_263_2, 1.050_701];

fn selu(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (alpha, gamma) = (node.float("alpha", SELU[0])?, node.float("gamma", SELU[1])?);
    if [alpha, gamma] == SELU {
        return unary(importer, node, UnaryFn::Selu);
    }
    let elu = importer.unary(&node.input(0)?, UnaryFn::Elu(alpha))?;
    Ok(vec![importer.with_number(BinaryFn::Mul, &elu, f64::from(gamma))?])
}

fn swish(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    let alpha = node.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return unary(importer, node, UnaryFn::Silu);
    }
    let scaled = importer.with_number(BinaryFn::Mul, &value, f64::from(alpha))?;
    let gate = importer.unary(&scaled, UnaryFn::Sigmoid)?;
    Ok(vec![importer.binary(BinaryFn::Mul, &value, &gate)?])
}

fn prelu(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (value, slope) = (node.input(0)?, node.input(1)?);
    if value.shape.broadcast(&slope.shape).as_ref() != Some(&value.shape) {
        return Err(node.fail(format!("the slope {slope} does not fit {value}")));
    }
    Ok(vec![importer.binary(BinaryFn::PRelu, &value, &slope)?])
}

/// The exponent may be of another type; the result has that of the base.
fn pow(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (base, exponent) = (node.input(0)?, node.input(1)?);
    if !base.element.is_float() && exponent.element.is_float() {
        let floats = importer.cast(&base, ElementType::Float)?;
        let exponent = importer.cast(&exponent, ElementType::Float)?;
        let power = importer.binary(BinaryFn::Pow, &floats, &exponent)?;
        return Ok(vec![importer.cast(&power, base.element)?]);
    }
    let exponent = importer.cast(&exponent, base.element)?;
    Ok(vec![importer.binary(BinaryFn::Pow, &base, &exponent)?])
}

/// Bounds are inputs since version 11, attributes before.
fn clip(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    let bound = |name: &str, index: usize| -> Result<Option<Value>> {
        match (node.opset < 11, node.has(name)) {
            (true, true) => Ok(Some(Value::float(value.element, node.float(name, 0.0)?.into()))),
            (true, false) => Ok(None),
            (false, _) => Ok(node.optional(index)),
        }
    };
    let (min, max) = (bound("min", 1)?, bound("max", 2)?);
    for bound in [&min, &max].into_iter().flatten() {
        if bound.shape.elements() != 1 {
            return Err(node.fail(format!("bounds must be one number, got {bound}")));
        }
    }
    let known = [&min, &max].into_iter().flatten().all(Value::is_known);
    if value.element.is_float() && known {
        let mut number = |bound: Option<Value>, default: f32| -> Result<f32> {
            bound.map_or(Ok(default), |bound| importer.host_number(&bound).map(|number| number as f32))
        };
        let (min, max) = (number(min, f32::NEG_INFINITY)?, number(max, f32::INFINITY)?);
        return Ok(vec![importer.unary(&value, UnaryFn::Clip { min, max })?]);
    }
    let mut result = value;
    for (bound, function) in [(min, BinaryFn::Max), (max, BinaryFn::Min)] {
        if let Some(bound) = bound {
            let scalar = importer.reshape(&bound, &[])?;
            result = importer.binary(function, &result, &scalar)?;
        }
    }
    if result.element == ElementType::Bool {
        return Err(Error::Unsupported("Clip of bool".into()));
    }
    Ok(vec![result])
}
