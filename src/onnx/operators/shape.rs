//! Shapes, parts and arrangement of elements, constants and casts.

use super::Table;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::kept::past_name;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{DepthMode, DepthToSpace, ImageOrder, Pad, PadMode, SliceRange, SpaceToDepth};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[
    ("Cast", cast),
    ("CastLike", |importer, node| Ok(vec![importer.cast(&node.input(0)?, node.input(1)?.element)?])),
    ("Concat", concat),
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("DepthToSpace", depth_to_space),
    ("Dropout", dropout),
    ("Expand", expand),
    ("Flatten", flatten),
    ("Identity", |_, node| Ok(vec![node.input(0)?])),
    ("Pad", pad),
    ("Range", range),
    ("Reshape", reshape),
    ("Shape", shape),
    ("Size", size),
    ("Slice", slice),
    ("SpaceToDepth", space_to_depth),
    ("Split", split),
    ("Squeeze", squeeze),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Unsqueeze", unsqueeze),
];

fn cast(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let to = ElementType::from_number(node.int("to", 0)?)?;
    Ok(vec![importer.cast(&node.input(0)?, to)?])
}

fn concat(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let all = node.all_inputs()?;
    let first = node.input(0)?;
    let axis = node.axis(0, first.rank())?;
    for value in &all {
        let same = value.rank() == first.rank()
            && (0..first.rank()).all(|i| i == axis || value.dims()[i] == first.dims()[i]);
        if !same || value.element != first.element {
            return Err(node.fail(format!("{value} does not join {first} along axis {axis}")));
        }
    }
    if let [past, new] = all.as_slice()
        && past_name(past).is_some()
    {
        return Ok(vec![importer.append(past, new, axis)?]);
    }
    let parts: Vec<&Value> = all.iter().filter(|value| value.dims()[axis] > 0).collect();
    Ok(match parts.as_slice() {
        [] => vec![first],
        [only] => vec![Value::clone(only)],
        parts => vec![importer.concat(axis, parts)?],
    })
}

fn constant(_: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    if let Some(tensor) = node.tensor("value")? {
        return Ok(vec![Value::stored(tensor)]);
    }
    if node.has("value_int") {
        return Ok(vec![Value::integers(ElementType::Int64, vec![], &[node.int("value_int", 0)?])]);
    }
    if let Some(values) = node.ints("value_ints")? {
        return Ok(vec![Value::integers(ElementType::Int64, [values.len()], &values)]);
    }
    if node.has("value_float") {
        return Ok(vec![Value::float(ElementType::Float, node.float("value_float", 0.0)?.into())]);
    }
    if let Some(values) = node.floats("value_floats")? {
        return Ok(vec![Value::host(ElementType::Float, Tensor::from_f32([values.len()], &values))]);
    }
    Err(Error::Unsupported("Constant without a tensor or number".into()))
}

fn constant_of_shape(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let dims = importer.host_dims(&node.input(0)?)?;
    let value = match node.tensor("value")? {
        Some(tensor) => Value::stored(tensor),
        None => Value::float(ElementType::Float, 0.0),
    };
    if value.shape.elements() != 1 {
        return Err(node.fail(format!("attribute `value` must be one number, got {value}")));
    }
    let tensor = importer.host(&value)?;
    let count: usize = dims.iter().product();
    let spec = Spec::new(tensor.dtype(), dims);
    Ok(vec![Value::host(value.element, Tensor::from_bytes(spec, tensor.bytes().repeat(count)))])
}

fn block(node: &Node<'_>) -> Result<usize> {
    let block = node.int("blocksize", 0)?;
    usize::try_from(block).map_err(|_| node.fail(format!("attribute `blocksize` is {block}")))
}

fn depth_mode(node: &Node<'_>) -> Result<DepthMode> {
    match node.string("mode", "DCR")? {
        "DCR" => Ok(DepthMode::Dcr),
        "CRD" => Ok(DepthMode::Crd),
        other => Err(node.fail(format!("attribute `mode` must be DCR or CRD, got {other}"))),
    }
}

fn depth_to_space(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let op = DepthToSpace { block: block(node)?, mode: depth_mode(node)?, order: ImageOrder::ChannelsFirst };
    Ok(vec![importer.apply_one(op, &[&x], x.element)?])
}

fn space_to_depth(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let op = SpaceToDepth { block: block(node)?, mode: depth_mode(node)?, order: ImageOrder::ChannelsFirst };
    Ok(vec![importer.apply_one(op, &[&x], x.element)?])
}

/// Inference: the values pass, the mask is all true, or all one of the values' type before version
/// 10.
fn dropout(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let training = match node.optional(2) {
        Some(training) => importer.host_number(&training)? != 0.0,
        None => false,
    };
    let ratio = match node.optional(1) {
        Some(ratio) => importer.host_number(&ratio)?,
        None => f64::from(node.float("ratio", 0.5)?),
    };
    if training && ratio != 0.0 {
        return Err(Error::Unsupported("Dropout in training mode, which is random".into()));
    }
    let mut outputs = vec![x.clone()];
    if node.has_output(1) {
        let mask = Value::integers(ElementType::Bool, x.shape.clone(), &vec![1; x.shape.elements()]);
        outputs.push(if node.opset < 10 { importer.cast(&mask, x.element)? } else { mask });
    }
    Ok(outputs)
}

/// Both shapes are broadcast: a size of 1 keeps the input's.
fn expand(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let dims = importer.host_dims(&node.input(1)?)?;
    let shape = x.shape.broadcast(&dims.as_slice().into());
    let shape = shape.ok_or_else(|| node.fail(format!("{x} does not repeat to {dims:?}")))?;
    Ok(vec![importer.expand(&x, shape.dims())?])
}

fn flatten(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = match node.int("axis", 1)? {
        axis if axis == x.rank() as i64 => x.rank(),
        axis => node.resolve_axis(axis, x.rank())?,
    };
    let (outer, inner) = x.dims().split_at(axis);
    Ok(vec![importer.reshape(&x, &[outer.iter().product(), inner.iter().product()])?])
}

/// Pads are an input since version 11, attributes before.
fn pad(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let pads = match node.optional(1) {
        Some(pads) => importer.host_integers(&pads)?,
        None => node.ints("pads")?.ok_or_else(|| node.fail("pads are missing"))?,
    };
    let axes = match node.optional(3) {
        Some(axes) => {
            let axes = importer.host_integers(&axes)?;
            node.resolve_axes(&axes, x.rank())?
        }
        None => (0..x.rank()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(node.fail(format!("{} axes take twice as many pads, got {pads:?}", axes.len())));
    }
    let fill = match node.optional(2) {
        Some(fill) => importer.host_number(&fill)?,
        None => f64::from(node.float("value", 0.0)?),
    };
    let mode = match node.string("mode", "constant")? {
        "constant" => PadMode::Constant(fill as f32),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(node.fail(format!("attribute `mode` must not be {other}"))),
    };
    let mut all = vec![(0, 0); x.rank()];
    for (index, &axis) in axes.iter().enumerate() {
        all[axis] = (pads[index] as isize, pads[index + axes.len()] as isize);
    }
    Ok(vec![importer.apply_one(Pad { pads: all, mode }, &[&x], x.element)?])
}

fn range(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let element = node.input(0)?.element;
    let mut number = |index: usize| -> Result<f64> { importer.host_number(&node.input(index)?) };
    let (start, limit, delta) = (number(0)?, number(1)?, number(2)?);
    let count = ((limit - start) / delta).ceil().max(0.0);
    if delta == 0.0 || !count.is_finite() {
        return Err(node.fail(format!("{start} to {limit} by {delta} has no end")));
    }
    importer.check_dims(&[count as usize])?;
    if element.is_float() {
        let values: Vec<f64> = (0..count as usize).map(|i| start + i as f64 * delta).collect();
        return Ok(vec![Value::host(
            element,
            Tensor::from_f64(element.host_dtype(), [values.len()], &values),
        )]);
    }
    let values: Vec<i64> = (0..count as i64).map(|i| start as i64 + i * delta as i64).collect();
    Ok(vec![Value::integers(element, [values.len()], &values)])
}

/// 0 keeps the input's size unless `allowzero`, -1 takes what is left.
fn reshape(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let wanted = importer.host_integers(&node.input(1)?)?;
    let allow_zero = node.flag("allowzero", false)?;
    let fail = || node.fail(format!("{x} does not take the shape {wanted:?}"));
    let mut dims = Vec::with_capacity(wanted.len());
    let mut rest = None;
    for (axis, &size) in wanted.iter().enumerate() {
        dims.push(match size {
            0 if !allow_zero => *x.dims().get(axis).ok_or_else(fail)?,
            -1 if rest.replace(axis).is_none() => 1,
            _ => usize::try_from(size).map_err(|_| fail())?,
        });
    }
    importer.check_dims(&dims)?;
    let (have, others) = (x.shape.elements(), dims.iter().product::<usize>());
    if let Some(axis) = rest {
        if others == 0 || have % others != 0 {
            return Err(fail());
        }
        dims[axis] = have / others;
    } else if have != others {
        return Err(fail());
    }
    Ok(vec![importer.reshape(&x, &dims)?])
}

fn shape(_: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let rank = x.rank();
    let range = SliceRange::resolve(node.int("start", 0)?, node.int("end", i64::MAX)?, 1, rank);
    let dims: Vec<i64> =
        x.dims().iter().skip(range.start).take(range.count).map(|&size| size as i64).collect();
    Ok(vec![Value::integers(ElementType::Int64, [dims.len()], &dims)])
}

fn size(_: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let elements = node.input(0)?.shape.elements();
    Ok(vec![Value::integers(ElementType::Int64, vec![], &[elements as i64])])
}

/// Starts, ends, axes and steps are inputs since version 10, attributes before.
fn slice(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let mut list = |name: &str, index: usize| -> Result<Option<Vec<i64>>> {
        match node.optional(index) {
            Some(value) if node.opset >= 10 => importer.host_integers(&value).map(Some),
            _ => node.ints(name),
        }
    };
    let starts = list("starts", 1)?.ok_or_else(|| node.fail("starts are missing"))?;
    let ends = list("ends", 2)?.ok_or_else(|| node.fail("ends are missing"))?;
    let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&length| length != starts.len())
        || steps.contains(&0)
    {
        let message = format!("starts {starts:?}, ends {ends:?}, axes {axes:?}, steps {steps:?} do not fit");
        return Err(node.fail(message));
    }
    let mut ranges: Vec<SliceRange> = x.dims().iter().map(|&size| SliceRange::full(size)).collect();
    for (index, axis) in node.resolve_axes(&axes, x.rank())?.into_iter().enumerate() {
        ranges[axis] = SliceRange::resolve(starts[index], ends[index], steps[index], x.dims()[axis]);
    }
    Ok(vec![importer.slice(&x, ranges)?])
}

/// Sizes are an input since version 13, an attribute before; else equal parts, the last may be
/// smaller.
fn split(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = node.axis(0, x.rank())?;
    let size = x.dims()[axis];
    let parts = match node.optional(1) {
        Some(sizes) => importer.host_dims(&sizes)?,
        None => match node.sizes("split")? {
            Some(sizes) => sizes,
            None => {
                let named = node.definition.outputs.len().max(1);
                let wanted = node.int("num_outputs", named as i64)?;
                let count = usize::try_from(wanted).unwrap_or(0).max(1);
                if count > size.max(named) {
                    let message = format!("attribute `num_outputs` is {wanted}, axis {axis} of {x} is split");
                    return Err(node.fail(message));
                }
                let part = size.div_ceil(count);
                (0..count).map(|index| part.min(size.saturating_sub(index * part))).collect()
            }
        },
    };
    let total = parts.iter().try_fold(0_usize, |sum, &part| sum.checked_add(part));
    if total != Some(size) || parts.len() < node.definition.outputs.len() {
        let outputs = node.definition.outputs.len();
        return Err(node.fail(format!("parts {parts:?} do not fit axis {axis} of {x} and {outputs} outputs")));
    }
    let mut start = 0;
    let mut outputs = Vec::with_capacity(parts.len());
    for part in parts {
        outputs.push(importer.slice_axis(&x, axis, start, start + part)?);
        start += part;
    }
    Ok(outputs)
}

/// The axes of Squeeze and Unsqueeze: an input since version 13, an attribute before.
fn given_axes(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Option<Vec<i64>>> {
    match node.optional(1) {
        Some(axes) => importer.host_integers(&axes).map(Some),
        None => node.ints("axes"),
    }
}

fn squeeze(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axes = match given_axes(importer, node)? {
        Some(axes) => node.resolve_axes(&axes, x.rank())?,
        None => (0..x.rank()).filter(|&axis| x.dims()[axis] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&axis| x.dims()[axis] != 1) {
        return Err(node.fail(format!("axis {axis} of {x} is not 1")));
    }
    let kept = (0..x.rank()).filter(|axis| !axes.contains(axis)).map(|axis| x.dims()[axis]);
    Ok(vec![importer.reshape(&x, &kept.collect::<Vec<_>>())?])
}

fn unsqueeze(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axes = given_axes(importer, node)?.ok_or_else(|| node.fail("axes are missing"))?;
    let rank = x.rank() + axes.len();
    let axes = node.resolve_axes(&axes, rank)?;
    let mut sizes = x.dims().iter().copied();
    let size = |axis: usize| if axes.contains(&axis) { 1 } else { sizes.next().unwrap_or(1) };
    let dims: Vec<usize> = (0..rank).map(size).collect();
    Ok(vec![importer.reshape(&x, &dims)?])
}

/// Repeats along each axis: [d] becomes [repeats, d], and both axes one.
fn tile(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let mut x = node.input(0)?;
    let repeats = importer.host_dims(&node.input(1)?)?;
    if repeats.len() != x.rank() {
        return Err(node.fail(format!("{repeats:?} repeats do not fit {x}")));
    }
    for (axis, &count) in repeats.iter().enumerate().filter(|(_, count)| **count != 1) {
        let mut dims = x.dims().to_vec();
        dims[axis] = dims[axis].saturating_mul(count);
        importer.check_dims(&dims)?;
        // One axis in front, this one, and one behind.
        let outer = x.dims()[..axis].iter().product();
        let inner = x.dims()[axis..].iter().product();
        let split = importer.reshape(&x, &[outer, 1, inner])?;
        let repeated = importer.expand(&split, &[outer, count, inner])?;
        x = importer.reshape(&repeated, &dims)?;
    }
    Ok(vec![x])
}

fn transpose(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let permutation = match node.ints("perm")? {
        Some(axes) => node.resolve_axes(&axes, x.rank())?,
        None => (0..x.rank()).rev().collect(),
    };
    if permutation.len() != x.rank() {
        return Err(node.fail(format!("{permutation:?} does not fit {x}")));
    }
    Ok(vec![importer.transpose(&x, &permutation)?])
}
