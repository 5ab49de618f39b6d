//! Control flow: If, Loop, Scan. Conditions and numbers of iterations are looked at on the host;
//! bodies are written out once for each iteration.

use super::Table;
use crate::onnx::definition::{DeclaredDim, Subgraph};
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::Concat;
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[("If", choose), ("Loop", repeat), ("Scan", scan)];

fn choose(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let condition = importer.host_number(&node.input(0)?)? != 0.0;
    let branch = node.graph(if condition { "then_branch" } else { "else_branch" })?;
    importer.subgraph(&branch, Vec::new())
}

/// Fails unless the body takes and gives as many values as the node.
fn check_body(node: &Node<'_>, body: &Subgraph, inputs: usize, states: usize) -> Result<()> {
    if body.inputs.len() == inputs && body.outputs.len() >= states {
        return Ok(());
    }
    let got = [body.inputs.len(), body.outputs.len()];
    Err(node.fail(format!("its body takes and gives {got:?} values, expected {inputs} and {states} or more")))
}

/// Inputs: most iterations, first condition, states. The body takes the number of the iteration,
/// the condition and the states, and gives a condition, states, and elements of further outputs.
fn repeat(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let body = node.graph("body")?;
    let most = match node.optional(0) {
        Some(most) => importer.host_number(&most)?,
        None => f64::INFINITY,
    };
    let mut condition = match node.optional(1) {
        Some(condition) => condition,
        None => Value::integers(ElementType::Bool, vec![], &[1]),
    };
    let mut states: Vec<Value> =
        (2..node.inputs.len()).map(|index| node.input(index)).collect::<Result<_>>()?;
    check_body(node, &body, states.len() + 2, states.len() + 1)?;
    let mut collected: Vec<Vec<Value>> = vec![Vec::new(); body.outputs.len() - 1 - states.len()];
    let mut iteration: i64 = 0;
    while (iteration as f64) < most && importer.host_number(&condition)? != 0.0 {
        let mut inputs = vec![Value::integers(ElementType::Int64, vec![], &[iteration]), condition];
        let count = states.len();
        inputs.append(&mut states);
        let mut outputs = importer.subgraph(&body, inputs)?.into_iter();
        condition = outputs.next().ok_or_else(|| node.fail("its body gives no condition"))?;
        states = outputs.by_ref().take(count).collect();
        for (list, value) in collected.iter_mut().zip(outputs) {
            list.push(value);
        }
        iteration += 1;
    }
    let count = states.len();
    for (index, list) in collected.into_iter().enumerate() {
        states.push(stack(importer, node, &body, 1 + count + index, list, 0)?);
    }
    Ok(states)
}

/// Elements of all iterations along a new axis.
fn stack(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    body: &Subgraph,
    output: usize,
    values: Vec<Value>,
    axis: i64,
) -> Result<Value> {
    let Some(first) = values.first() else { return none_of(body, output) };
    let axis = node.resolve_axis(axis, first.rank() + 1)?;
    let mut dims = first.dims().to_vec();
    dims.insert(axis, 1);
    let mut parts = Vec::with_capacity(values.len());
    for value in &values {
        if value.dims() != first.dims() || value.element != first.element {
            return Err(node.fail(format!("output {output} of its body is {first}, then {value}")));
        }
        parts.push(importer.reshape(value, &dims)?);
    }
    let parts: Vec<&Value> = parts.iter().collect();
    if let [only] = parts.as_slice() {
        return Ok(Value::clone(only));
    }
    importer.apply_one(Concat { axis }, &parts, first.element)
}

/// No element of an output whose sizes the body declares.
fn none_of(body: &Subgraph, output: usize) -> Result<Value> {
    let declared = &body.outputs[output];
    let element = declared.element.ok_or_else(|| {
        Error::Unsupported(format!("a loop without iterations whose output `{}` has no type", declared.name))
    })?;
    let size = |dim: &DeclaredDim| if let DeclaredDim::Size(size) = dim { *size } else { 0 };
    let mut dims = vec![0];
    dims.extend(declared.dims.iter().flatten().map(size));
    Ok(Value::host(element, Tensor::zeros(Spec::new(element.host_dtype(), dims))))
}

/// One integer for each of some values, from an attribute.
fn per_value(node: &Node<'_>, name: &str, count: usize) -> Result<Vec<i64>> {
    match node.ints(name)? {
        None => Ok(vec![0; count]),
        Some(values) if values.len() == count => Ok(values),
        Some(values) => {
            Err(node.fail(format!("attribute `{name}` must have {count} numbers, got {values:?}")))
        }
    }
}

/// Inputs: states, then values that are walked along an axis. The body takes the states and one
/// element of each value, and gives states and elements of further outputs. Since version 9.
fn scan(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    if node.opset < 9 {
        return Err(Error::Unsupported("Scan before version 9".into()));
    }
    let body = node.graph("body")?;
    let all = node.all_inputs()?;
    let walked =
        usize::try_from(node.int("num_scan_inputs", 0)?).ok().filter(|&n| (1..=all.len()).contains(&n));
    let walked = walked.ok_or_else(|| node.fail("attribute `num_scan_inputs` does not fit its inputs"))?;
    let (states, values) = all.split_at(all.len() - walked);
    let mut states = states.to_vec();
    check_body(node, &body, all.len(), states.len())?;
    let further = body.outputs.len() - states.len();
    let (axes, backwards) =
        (per_value(node, "scan_input_axes", walked)?, per_value(node, "scan_input_directions", walked)?);
    let mut lengths = Vec::with_capacity(walked);
    let mut resolved = Vec::with_capacity(walked);
    for (value, axis) in values.iter().zip(axes) {
        let axis = node.resolve_axis(axis, value.rank())?;
        resolved.push(axis);
        lengths.push(value.dims()[axis]);
    }
    let length = lengths[0];
    if lengths.iter().any(|&other| other != length) {
        return Err(node.fail(format!("its inputs have {lengths:?} elements")));
    }
    let mut collected: Vec<Vec<Value>> = vec![Vec::new(); further];
    for step in 0..length {
        let count = states.len();
        let mut inputs = std::mem::take(&mut states);
        for (index, value) in values.iter().enumerate() {
            let (axis, at) = (resolved[index], if backwards[index] != 0 { length - 1 - step } else { step });
            let element = importer.slice_axis(value, axis, at, at + 1)?;
            let mut dims = value.dims().to_vec();
            dims.remove(axis);
            inputs.push(importer.reshape(&element, &dims)?);
        }
        let mut outputs = importer.subgraph(&body, inputs)?.into_iter();
        states = outputs.by_ref().take(count).collect();
        for (list, value) in collected.iter_mut().zip(outputs) {
            list.push(value);
        }
    }
    let (axes, backwards) =
        (per_value(node, "scan_output_axes", further)?, per_value(node, "scan_output_directions", further)?);
    let count = states.len();
    for (index, mut list) in collected.into_iter().enumerate() {
        if backwards[index] != 0 {
            list.reverse();
        }
        states.push(stack(importer, node, &body, count + index, list, axes[index])?);
    }
    Ok(states)
}
