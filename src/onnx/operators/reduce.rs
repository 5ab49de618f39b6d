//! Reductions along axes.

use super::Table;
use crate::Result;
use crate::onnx::element::ElementType;
use crate::onnx::host;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{ArgExtreme, ArgMax, BinaryFn, ReduceFn, UnaryFn};

pub(super) const OPERATORS: Table = &[
    ("ArgMax", |importer, node| extreme_index(importer, node, false)),
    ("ArgMin", |importer, node| extreme_index(importer, node, true)),
    ("ReduceL1", |importer, node| composed(importer, node, Some(UnaryFn::Abs), ReduceFn::Sum, None)),
    ("ReduceL2", |importer, node| {
        composed(importer, node, Some(UnaryFn::Square), ReduceFn::Sum, Some(UnaryFn::Sqrt))
    }),
    ("ReduceLogSum", |importer, node| composed(importer, node, None, ReduceFn::Sum, Some(UnaryFn::Log))),
    ("ReduceLogSumExp", log_sum_exp),
    ("ReduceMax", |importer, node| composed(importer, node, None, ReduceFn::Max, None)),
    ("ReduceMean", |importer, node| composed(importer, node, None, ReduceFn::Mean, None)),
    ("ReduceMin", |importer, node| composed(importer, node, None, ReduceFn::Min, None)),
    ("ReduceProd", |importer, node| composed(importer, node, None, ReduceFn::Prod, None)),
    ("ReduceSum", |importer, node| composed(importer, node, None, ReduceFn::Sum, None)),
    ("ReduceSumSquare", |importer, node| {
        composed(importer, node, Some(UnaryFn::Square), ReduceFn::Sum, None)
    }),
];

/// The axes of a reduction: an input in newer versions, an attribute in older ones; none where
/// nothing is to be reduced.
fn axes(importer: &mut Importer<'_>, node: &Node<'_>, rank: usize) -> Result<Option<Vec<usize>>> {
    let given = match node.optional(1) {
        Some(axes) => Some(importer.host_integers(&axes)?),
        None => node.ints("axes")?,
    };
    match given.filter(|axes| !axes.is_empty()) {
        Some(axes) => node.resolve_axes(&axes, rank).map(Some),
        None if node.flag("noop_with_empty_axes", false)? => Ok(None),
        None => Ok(Some((0..rank).collect())),
    }
}

/// A function of each element, a reduction, and a function of each result.
fn composed(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    before: Option<UnaryFn>,
    function: ReduceFn,
    after: Option<UnaryFn>,
) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let keep_dims = node.flag("keepdims", true)?;
    let axes = axes(importer, node, x.rank())?;
    if !x.element.is_float() && x.is_known() && before.is_none() && after.is_none() {
        let tensor = importer.host(&x)?;
        let axes = axes.unwrap_or_default();
        let combine = |values: &[i64]| combine_integers(x.element, function, values);
        return Ok(vec![host::reduce_integers(x.element, &tensor, &axes, keep_dims, combine)?]);
    }
    let exact = matches!(function, ReduceFn::Sum | ReduceFn::Max | ReduceFn::Min | ReduceFn::Prod);
    if !x.element.is_float() && exact && before.is_none() && after.is_none() {
        let Some(axes) = axes.filter(|axes| !axes.is_empty()) else { return Ok(vec![x]) };
        let result = importer.reduce(&x, function, &axes, keep_dims)?;
        return Ok(vec![importer.wrapped(&result)?]);
    }
    let body = |importer: &mut Importer<'_>, x: &Value| {
        let mut value = before.map_or_else(|| Ok(x.clone()), |function| importer.unary(x, function))?;
        if let Some(axes) = axes.filter(|axes| !axes.is_empty()) {
            value = importer.reduce(&value, function, &axes, keep_dims)?;
        }
        after.map_or_else(|| Ok(value.clone()), |function| importer.unary(&value, function))
    };
    Ok(vec![importer.as_floats(&x, body)?])
}

fn combine_integers(element: ElementType, function: ReduceFn, values: &[i64]) -> i64 {
    let (lowest, highest) = match element {
        ElementType::Bool => (0, 1),
        _ if element.is_unsigned() => (0, i64::MAX),
        _ => (i64::MIN >> (64 - element.bits()), i64::MAX >> (64 - element.bits())),
    };
    let sum_of =
        |term: fn(i64) -> i64| values.iter().fold(0_i64, |sum, &value| sum.wrapping_add(term(value)));
    match function {
        ReduceFn::Sum => sum_of(|value| value),
        ReduceFn::L1 => sum_of(i64::wrapping_abs),
        ReduceFn::SumSquare => sum_of(|value| value.wrapping_mul(value)),
        ReduceFn::L2 => (sum_of(|value| value.wrapping_mul(value)) as f64).sqrt() as i64,
        ReduceFn::LogSum => (sum_of(|value| value) as f64).ln() as i64,
        ReduceFn::Mean => sum_of(|value| value) / values.len().max(1) as i64,
        ReduceFn::Max => values.iter().copied().max().unwrap_or(lowest),
        ReduceFn::Min => values.iter().copied().min().unwrap_or(highest),
        ReduceFn::Prod => values.iter().fold(1, |product, &value| product.wrapping_mul(value)),
    }
}

/// The largest is taken off first, so that nothing overflows.
fn log_sum_exp(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let keep_dims = node.flag("keepdims", true)?;
    let axes = axes(importer, node, x.rank())?.unwrap_or_default();
    if axes.is_empty() || x.shape.elements() == 0 {
        return composed(importer, node, Some(UnaryFn::Exp), ReduceFn::Sum, Some(UnaryFn::Log));
    }
    let largest = importer.reduce(&x, ReduceFn::Max, &axes, true)?;
    let shifted = importer.binary(BinaryFn::Sub, &x, &largest)?;
    let powers = importer.unary(&shifted, UnaryFn::Exp)?;
    let sum = importer.reduce(&powers, ReduceFn::Sum, &axes, true)?;
    let logarithm = importer.unary(&sum, UnaryFn::Log)?;
    let result = importer.binary(BinaryFn::Add, &logarithm, &largest)?;
    if keep_dims {
        return Ok(vec![result]);
    }
    let kept = (0..x.rank()).filter(|axis| !axes.contains(axis)).map(|axis| x.dims()[axis]);
    Ok(vec![importer.reshape(&result, &kept.collect::<Vec<_>>())?])
}

/// Index of the largest or smallest element along an axis, the first or the last among equals.
fn extreme_index(importer: &mut Importer<'_>, node: &Node<'_>, smallest: bool) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = node.axis(0, x.rank())?;
    let keep_dims = node.flag("keepdims", true)?;
    let last = node.flag("select_last_index", false)?;
    let index = if x.element.is_float() && !smallest && !last {
        importer.apply_one(ArgMax { axis, keep_dims }, &[&x], ElementType::Uint32)?
    } else {
        let op = ArgExtreme { axis, keep_dims, smallest, last };
        importer.apply_one(op, &[&x], ElementType::Uint32)?
    };
    Ok(vec![importer.cast(&index, ElementType::Int64)?])
}
