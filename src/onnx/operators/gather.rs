//! Picking and replacing elements by indices, sorting, running sums.

use super::Table;
use crate::Result;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{ArgMax, CumSum, Gather, GatherElements, GatherNd, OneHot, ReverseSequence};
use crate::ops::{ScatterElements, ScatterFn, ScatterNd, TopK, Triangle};
use crate::tensor::Tensor;

pub(super) const OPERATORS: Table = &[
    ("CumSum", cumulative_sum),
    ("EyeLike", eye_like),
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("Hardmax", hardmax),
    ("NonZero", non_zero),
    ("OneHot", one_hot),
    ("ReverseSequence", reverse_sequence),
    ("Scatter", scatter_elements),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
    ("TopK", top_k),
    ("Trilu", triangle),
];

/// An input of integers.
fn indices(node: &Node<'_>, index: usize) -> Result<Value> {
    let indices = node.input(index)?;
    if indices.element.is_float() {
        return Err(node.fail(format!("indices must be integers, got {indices}")));
    }
    Ok(indices)
}

fn gather(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, indices) = (node.input(0)?, indices(node, 1)?);
    let axis = node.axis(0, x.rank())?;
    let table = x.rank() == 2 && axis == 0 && x.element.is_float() && x.is_known();
    if table && !indices.is_known() && x.shape.elements() > 0 {
        let rows = importer.reshape(&indices, &[indices.shape.elements()])?;
        let embedded = importer.apply_embedding(&x, &rows)?;
        return Ok(vec![importer.reshape(&embedded, &[indices.dims(), &x.dims()[1..]].concat())?]);
    }
    Ok(vec![importer.apply_one(Gather { axis }, &[&x, &indices], x.element)?])
}

fn gather_elements(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, indices) = (node.input(0)?, indices(node, 1)?);
    let axis = node.axis(0, x.rank())?;
    Ok(vec![importer.apply_one(GatherElements { axis }, &[&x, &indices], x.element)?])
}

fn gather_nd(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, indices) = (node.input(0)?, indices(node, 1)?);
    let batch = node.int("batch_dims", 0)?;
    let batch_dims = usize::try_from(batch).ok().filter(|&axes| axes < x.rank());
    let batch_dims =
        batch_dims.ok_or_else(|| node.fail(format!("attribute `batch_dims` is {batch}, x {x}")))?;
    Ok(vec![importer.apply_one(GatherNd { batch_dims }, &[&x, &indices], x.element)?])
}

fn scatter_function(node: &Node<'_>) -> Result<ScatterFn> {
    match node.string("reduction", "none")? {
        "none" => Ok(ScatterFn::Put),
        "add" => Ok(ScatterFn::Add),
        "mul" => Ok(ScatterFn::Mul),
        "max" => Ok(ScatterFn::Max),
        "min" => Ok(ScatterFn::Min),
        other => {
            Err(node.fail(format!("attribute `reduction` must be none, add, mul, max or min, got {other}")))
        }
    }
}

fn scatter_elements(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (data, indices, updates) = (node.input(0)?, indices(node, 1)?, node.input(2)?);
    let op = ScatterElements { axis: node.axis(0, data.rank())?, function: scatter_function(node)? };
    if updates.shape.elements() == 0 {
        return Ok(vec![data]);
    }
    let result = importer.apply_one(op, &[&data, &indices, &updates], data.element)?;
    Ok(vec![importer.wrapped(&result)?])
}

fn scatter_nd(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (data, indices, updates) = (node.input(0)?, indices(node, 1)?, node.input(2)?);
    let op = ScatterNd { function: scatter_function(node)? };
    if updates.shape.elements() == 0 {
        return Ok(vec![data]);
    }
    let result = importer.apply_one(op, &[&data, &indices, &updates], data.element)?;
    Ok(vec![importer.wrapped(&result)?])
}

fn triangle(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let diagonal = match node.optional(1) {
        Some(k) => importer.host_number(&k)? as i64,
        None => 0,
    };
    let op = Triangle { upper: node.flag("upper", true)?, diagonal };
    if x.shape.elements() == 0 {
        return Ok(vec![x]);
    }
    Ok(vec![importer.apply_one(op, &[&x], x.element)?])
}

/// Ones on a diagonal of a matrix, zeros elsewhere.
fn eye_like(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let &[rows, cols] = x.dims() else { return Err(node.fail(format!("takes a matrix, got {x}"))) };
    let element = match node.int("dtype", 0)? {
        0 => x.element,
        number => ElementType::from_number(number)?,
    };
    let diagonal = node.int("k", 0)?;
    let one = |index: usize| i64::from((index % cols) as i64 - (index / cols) as i64 == diagonal);
    let ones: Vec<i64> = (0..rows * cols).map(one).collect();
    let matrix = Value::integers(ElementType::Int64, [rows, cols], &ones);
    Ok(vec![importer.cast(&matrix, element)?])
}

/// Indices of the elements that are not zero, by axis; how many there are is only known when the
/// values are.
fn non_zero(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let values = importer.host(&x)?.to_f64();
    let found: Vec<usize> = (0..values.len()).filter(|&index| values[index] != 0.0).collect();
    let strides = x.shape.strides();
    let place = |axis: usize, index: usize| (index / strides[axis] % x.dims()[axis]) as i64;
    let places: Vec<i64> = (0..x.rank())
        .flat_map(|axis| found.iter().map(move |&index| (axis, index)))
        .map(|(axis, index)| place(axis, index))
        .collect();
    Ok(vec![Value::integers(ElementType::Int64, [x.rank(), found.len()], &places)])
}

/// Indices may be of any type of numbers; `values` are what stands elsewhere and at the index.
fn one_hot(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (indices, values) = (node.input(0)?, node.input(2)?);
    let depth = importer.host_number(&node.input(1)?)?;
    if !(depth >= 1.0 && depth <= f64::from(i32::MAX)) {
        return Err(node.fail(format!("the depth is {depth}")));
    }
    let indices =
        if indices.element.is_float() { importer.cast(&indices, ElementType::Int32)? } else { indices };
    let op = OneHot { depth: depth as usize, axis: node.axis(-1, indices.rank() + 1)? };
    Ok(vec![importer.apply_one(op, &[&indices, &values], values.element)?])
}

/// 1 at the first of the largest elements along an axis, 0 elsewhere; before version 13 along all
/// axes from it.
fn hardmax(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let given = node.axis(if node.opset < 13 { 1 } else { -1 }, x.rank())?;
    let (outer, inner) = x.dims().split_at(given);
    let flat = [outer.iter().product(), inner.iter().product()];
    let (rows, axis) = if node.opset < 13 { (importer.reshape(&x, &flat)?, 1) } else { (x.clone(), given) };
    let depth = rows.dims()[axis];
    let places = importer.apply_one(ArgMax { axis, keep_dims: false }, &[&rows], ElementType::Uint32)?;
    let values = Value::host(x.element, Tensor::from_f64(x.element.host_dtype(), [2], &[0.0, 1.0]));
    let result = importer.apply_one(OneHot { depth, axis }, &[&places, &values], x.element)?;
    Ok(vec![importer.reshape(&result, x.dims())?])
}

fn reverse_sequence(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, lengths) = (node.input(0)?, indices(node, 1)?);
    let batch_first = match (node.int("batch_axis", 1)?, node.int("time_axis", 0)?) {
        (1, 0) => false,
        (0, 1) => true,
        other => return Err(node.fail(format!("batch and time axes must be 0 and 1, got {other:?}"))),
    };
    Ok(vec![importer.apply_one(ReverseSequence { batch_first }, &[&x, &lengths], x.element)?])
}

fn cumulative_sum(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, axis) = (node.input(0)?, node.input(1)?);
    let axis = importer.host_number(&axis)?;
    let axis = node.resolve_axis(axis as i64, x.rank())?;
    let op =
        CumSum { axis, exclusive: node.flag("exclusive", false)?, reverse: node.flag("reverse", false)? };
    let sums = importer.apply_one(op, &[&x], x.element)?;
    Ok(vec![importer.wrapped(&sums)?])
}

/// Always sorted, whatever `sorted` says: any order is right where it is not set.
fn top_k(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = node.axis(-1, x.rank())?;
    let k = match node.optional(1) {
        Some(k) => importer.host_number(&k)? as i64,
        None => node.int("k", -1)?,
    };
    let fits = usize::try_from(k).ok().filter(|&k| k <= x.dims()[axis]);
    let k = fits.ok_or_else(|| node.fail(format!("k = {k} does not fit axis {axis} of {x}")))?;
    let op = TopK { k, axis, smallest: !node.flag("largest", true)? };
    let outputs = importer.apply(op, &[&x], &[x.element, ElementType::Uint32])?;
    Ok(vec![outputs[0].clone(), importer.cast(&outputs[1], ElementType::Int64)?])
}
