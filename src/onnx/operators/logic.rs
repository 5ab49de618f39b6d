//! Comparisons and logic.

use super::Table;
use crate::onnx::element::ElementType;
use crate::onnx::host;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::BinaryFn;
use crate::tensor::Tensor;
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[
    ("And", |importer, node| logic(importer, node, |a, b| a & b)),
    ("Equal", |importer, node| compare(importer, node, |a, b| a == b)),
    ("Greater", |importer, node| compare(importer, node, |a, b| a > b)),
    ("GreaterOrEqual", |importer, node| compare(importer, node, |a, b| a >= b)),
    ("Less", |importer, node| compare(importer, node, |a, b| a < b)),
    ("LessOrEqual", |importer, node| compare(importer, node, |a, b| a <= b)),
    ("Not", not),
    ("Or", |importer, node| logic(importer, node, |a, b| a | b)),
    ("Where", select),
    ("Xor", |importer, node| logic(importer, node, |a, b| a ^ b)),
];

/// Inputs that are known, for what only the host computes.
fn known(importer: &mut Importer<'_>, node: &Node<'_>, values: &[&Value]) -> Result<Vec<Tensor>> {
    if let Some(value) = values.iter().find(|value| !value.is_known()) {
        return Err(Error::Unsupported(format!("{} of {value} on the device", node.definition.operator)));
    }
    values.iter().map(|value| importer.host(value).map(|tensor| Tensor::clone(&tensor))).collect()
}

fn logic(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    function: impl Fn(i64, i64) -> i64,
) -> Result<Vec<Value>> {
    let inputs = known(importer, node, &[&node.input(0)?, &node.input(1)?])?;
    Ok(vec![host::integers(ElementType::Bool, [&inputs[0], &inputs[1]], importer.limit(), function)?])
}

fn compare(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    function: impl Fn(f64, f64) -> bool,
) -> Result<Vec<Value>> {
    let inputs = known(importer, node, &[&node.input(0)?, &node.input(1)?])?;
    let (shape, tensors) = host::broadcast(&[&inputs[0], &inputs[1]], importer.limit())?;
    let pairs = tensors[0].to_f64().into_iter().zip(tensors[1].to_f64());
    let values: Vec<i64> = pairs.map(|(a, b)| i64::from(function(a, b))).collect();
    Ok(vec![Value::integers(ElementType::Bool, shape, &values)])
}

fn not(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let value = node.input(0)?;
    if value.element != ElementType::Bool {
        return Err(node.fail(format!("takes bool, got {value}")));
    }
    let one = Value::integers(ElementType::Bool, vec![], &[1]);
    Ok(vec![importer.binary(BinaryFn::Sub, &one, &value)?])
}

fn select(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (condition, yes, no) = (node.input(0)?, node.input(1)?, node.input(2)?);
    if yes.element != no.element {
        return Err(node.fail(format!("takes inputs of one type, got {yes} and {no}")));
    }
    let inputs = known(importer, node, &[&condition, &yes, &no])?;
    let (shape, tensors) = host::broadcast(&[&inputs[0], &inputs[1], &inputs[2]], importer.limit())?;
    let size = tensors[1].dtype().size();
    let mut bytes = tensors[2].bytes().to_vec();
    for (index, &flag) in tensors[0].to_i64().iter().enumerate().filter(|(_, flag)| **flag != 0) {
        debug_assert_ne!(flag, 0);
        let place = index * size..(index + 1) * size;
        bytes[place.clone()].copy_from_slice(&tensors[1].bytes()[place]);
    }
    let spec = crate::tensor::Spec::new(tensors[1].dtype(), shape);
    Ok(vec![Value::host(yes.element, Tensor::from_bytes(spec, bytes))])
}
