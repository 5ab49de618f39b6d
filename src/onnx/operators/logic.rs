//! Comparisons, logic, operations on bits.

use super::Table;
use crate::Result;
use crate::onnx::element::ElementType;
use crate::onnx::host;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{Binary, BinaryFn, Integer, IntegerFn, Select};
use crate::tensor::{Spec, Tensor};

pub(super) const OPERATORS: Table = &[
    ("And", |importer, node| logic(importer, node, BinaryFn::BitAnd)),
    ("BitShift", bit_shift),
    ("BitwiseAnd", |importer, node| bitwise(importer, node, BinaryFn::BitAnd)),
    ("BitwiseNot", bitwise_not),
    ("BitwiseOr", |importer, node| bitwise(importer, node, BinaryFn::BitOr)),
    ("BitwiseXor", |importer, node| bitwise(importer, node, BinaryFn::BitXor)),
    ("Equal", |importer, node| compare(importer, node, BinaryFn::Equal, |a, b| a == b)),
    ("Greater", |importer, node| compare(importer, node, BinaryFn::Greater, |a, b| a > b)),
    ("GreaterOrEqual", |importer, node| compare(importer, node, BinaryFn::GreaterOrEqual, |a, b| a >= b)),
    ("IsInf", is_infinite),
    ("IsNaN", |importer, node| classify(importer, node, IntegerFn::IsNan)),
    ("Less", |importer, node| compare(importer, node, BinaryFn::Less, |a, b| a < b)),
    ("LessOrEqual", |importer, node| compare(importer, node, BinaryFn::LessOrEqual, |a, b| a <= b)),
    ("Not", not),
    ("Or", |importer, node| logic(importer, node, BinaryFn::BitOr)),
    ("Where", select),
    ("Xor", |importer, node| logic(importer, node, BinaryFn::BitXor)),
];

fn expect_bool(node: &Node<'_>, value: &Value) -> Result<()> {
    match value.element {
        ElementType::Bool => Ok(()),
        _ => Err(node.fail(format!("takes bool, got {value}"))),
    }
}

pub(super) fn expect_integers(node: &Node<'_>, value: &Value) -> Result<()> {
    if value.element.is_float() || value.element == ElementType::Bool {
        return Err(node.fail(format!("takes integers, got {value}")));
    }
    Ok(())
}

fn logic(importer: &mut Importer<'_>, node: &Node<'_>, function: BinaryFn) -> Result<Vec<Value>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    expect_bool(node, &a)?;
    Ok(vec![importer.binary(function, &a, &b)?])
}

fn bitwise(importer: &mut Importer<'_>, node: &Node<'_>, function: BinaryFn) -> Result<Vec<Value>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    expect_integers(node, &a)?;
    Ok(vec![importer.binary(function, &a, &b)?])
}

fn bitwise_not(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    expect_integers(node, &value)?;
    let ones = Value::integers(value.element, vec![], &[value.element.wrap(-1)]);
    Ok(vec![importer.binary(BinaryFn::BitXor, &value, &ones)?])
}

fn bit_shift(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    match node.string("direction", "")? {
        "LEFT" => bitwise(importer, node, BinaryFn::ShiftLeft),
        "RIGHT" => bitwise(importer, node, BinaryFn::ShiftRight),
        other => Err(node.fail(format!("attribute `direction` must be LEFT or RIGHT, got {other:?}"))),
    }
}

fn compare(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    function: BinaryFn,
    of_floats: impl Fn(f64, f64) -> bool,
) -> Result<Vec<Value>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    if a.element != b.element {
        return Err(node.fail(format!("takes inputs of one type, got {a} and {b}")));
    }
    if !a.is_known() || !b.is_known() {
        return Ok(vec![importer.apply_one(Binary(function), &[&a, &b], ElementType::Bool)?]);
    }
    let (left, right) = (importer.host(&a)?, importer.host(&b)?);
    if !a.element.is_float() {
        let function = |a, b| host::integer_function(function, a, b);
        return Ok(vec![host::integers(ElementType::Bool, [&left, &right], importer.limit(), function)?]);
    }
    let (shape, tensors) = host::broadcast(&[&left, &right], importer.limit())?;
    let pairs = tensors[0].to_f64().into_iter().zip(tensors[1].to_f64());
    let values: Vec<i64> = pairs.map(|(a, b)| i64::from(of_floats(a, b))).collect();
    Ok(vec![Value::integers(ElementType::Bool, shape, &values)])
}

/// Of floats to bool.
fn classify(importer: &mut Importer<'_>, node: &Node<'_>, function: IntegerFn) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    if !value.element.is_float() {
        return Err(node.fail(format!("takes floats, got {value}")));
    }
    Ok(vec![importer.apply_one(Integer(function), &[&value], ElementType::Bool)?])
}

fn is_infinite(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    match (node.flag("detect_negative", true)?, node.flag("detect_positive", true)?) {
        (true, true) => classify(importer, node, IntegerFn::IsInfinite),
        (false, true) => classify(importer, node, IntegerFn::IsPlusInfinity),
        (true, false) => classify(importer, node, IntegerFn::IsMinusInfinity),
        (false, false) => {
            let value = node.input(0)?;
            let no = vec![0; value.shape.elements()];
            Ok(vec![Value::integers(ElementType::Bool, value.shape, &no)])
        }
    }
}

fn not(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    expect_bool(node, &value)?;
    let one = Value::integers(ElementType::Bool, vec![], &[1]);
    Ok(vec![importer.binary(BinaryFn::BitXor, &one, &value)?])
}

fn select(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (condition, yes, no) = (node.input(0)?, node.input(1)?, node.input(2)?);
    expect_bool(node, &condition)?;
    if yes.element != no.element {
        return Err(node.fail(format!("takes inputs of one type, got {yes} and {no}")));
    }
    if [&condition, &yes, &no].iter().any(|value| !value.is_known()) {
        return Ok(vec![importer.apply_one(Select, &[&condition, &yes, &no], yes.element)?]);
    }
    // The values keep all their bits.
    let [flags, left, right] = [importer.host(&condition)?, importer.host(&yes)?, importer.host(&no)?];
    let (shape, tensors) = host::broadcast(&[&flags, &left, &right], importer.limit())?;
    let size = tensors[1].dtype().size();
    let mut bytes = tensors[2].bytes().to_vec();
    for (index, _) in tensors[0].to_i64().iter().enumerate().filter(|(_, flag)| **flag != 0) {
        let place = index * size..(index + 1) * size;
        bytes[place.clone()].copy_from_slice(&tensors[1].bytes()[place]);
    }
    let spec = Spec::new(tensors[1].dtype(), shape);
    Ok(vec![Value::host(yes.element, Tensor::from_bytes(spec, bytes))])
}
