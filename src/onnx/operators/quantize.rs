//! Quantised integers: conversions, and products of 8-bit integers with exact sums.
//!
//! Products are computed by the kernels for floats: those of 8-bit integers less their zero points
//! are at most 255 x 255, and an f32 sum of them is exact as long as it stays below 2^24. Longer
//! sums are computed in parts that do, which are added as 32-bit integers. Quotients by scales are
//! correctly rounded, as an error in the last place shows at ties.

use super::Table;
use super::conv::convolution;
use super::linear;
use crate::onnx::dequantize::{Dequantized, Packed, ZeroPoint};
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{Binary, BinaryFn, Cast, Conv, Gather, ReduceFn, UnaryFn};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[
    ("ConvInteger", conv_integer),
    ("DequantizeLinear", dequantize_linear),
    ("DynamicQuantizeLinear", dynamic_quantize_linear),
    ("MatMulInteger", matmul_integer),
    ("QLinearConv", q_linear_conv),
    ("QLinearMatMul", q_linear_matmul),
    ("QuantizeLinear", quantize_linear),
];

/// Sums of integers below this are exact in f32.
const EXACT: f64 = 16_777_216.0;

/// A scale or zero point as it broadcasts to x: one number, one for each index of the axis, or one
/// for each block of `block_size` along it.
fn factor(importer: &mut Importer<'_>, node: &Node<'_>, x: &Value, value: &Value) -> Result<Value> {
    let block = node.int("block_size", 0)?;
    if value.shape.elements() == 1 && block == 0 {
        return importer.reshape(value, &[]);
    }
    let axis = node.axis(1, x.rank())?;
    let size = x.dims()[axis];
    let fail = || Err(node.fail(format!("{value} does not fit axis {axis} of {x} in blocks of {block}")));
    if block == 0 {
        if value.dims() != [size] {
            return fail();
        }
        let mut dims = vec![1; x.rank()];
        dims[axis] = size;
        return importer.reshape(value, &dims);
    }
    let Some(block) = usize::try_from(block).ok() else { return fail() };
    let blocks = |of: usize| if of == axis { size.div_ceil(block) } else { x.dims()[of] };
    if !(0..x.rank()).map(blocks).eq(value.dims().iter().copied()) {
        return fail();
    }
    let places: Vec<i64> = (0..size).map(|index| (index / block) as i64).collect();
    let places = Value::integers(ElementType::Int64, [size], &places);
    importer.apply_one(Gather { axis }, &[value, &places], value.element)
}

/// Smallest and largest integer of a type.
fn range(element: ElementType) -> Result<(f32, f32)> {
    match (element.bits(), element.is_float() || element == ElementType::Bool) {
        (bits @ (4 | 8 | 16), false) => {
            let steps = (1_u32 << bits) as f32;
            Ok(if element.is_unsigned() { (0.0, steps - 1.0) } else { (-steps / 2.0, steps / 2.0 - 1.0) })
        }
        _ => Err(Error::Unsupported(format!("quantised values of type {element}"))),
    }
}

/// Floats rounded to the nearest integer, ties to even, plus a zero point, within the type's range.
fn saturated(
    importer: &mut Importer<'_>,
    floats: &Value,
    zero: Option<&Value>,
    element: ElementType,
) -> Result<Value> {
    let (min, max) = range(element)?;
    let mut value = importer.unary(floats, UnaryFn::Round)?;
    if let Some(zero) = nonzero(importer, zero)? {
        let zero = importer.cast(&zero, ElementType::Float)?;
        value = importer.binary(BinaryFn::Add, &value, &zero)?;
    }
    let value = importer.unary(&value, UnaryFn::Clip { min, max })?;
    importer.apply_one(Cast { to: element.device_dtype() }, &[&value], element)
}

/// A zero point, unless all of it is known to be 0.
fn nonzero(importer: &mut Importer<'_>, zero: Option<&Value>) -> Result<Option<Value>> {
    let Some(zero) = zero else { return Ok(None) };
    if zero.is_known() && importer.host_integers(zero)?.iter().all(|&zero| zero == 0) {
        return Ok(None);
    }
    Ok(Some(zero.clone()))
}

/// saturate(round(x / scale) + zero point).
fn quantize_linear(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, scale, zero) = (node.input(0)?, node.input(1)?, node.optional(2));
    let element = match (&zero, node.int("output_dtype", 0)?) {
        (Some(zero), _) => zero.element,
        (None, 0) => ElementType::Uint8,
        (None, number) => ElementType::from_number(number)?,
    };
    let scale = factor(importer, node, &x, &scale)?;
    let zero = zero.map(|zero| factor(importer, node, &x, &zero)).transpose()?;
    let x = importer.cast(&x, ElementType::Float)?;
    let scale = importer.cast(&scale, ElementType::Float)?;
    let quotient = importer.binary(BinaryFn::ExactDiv, &x, &scale)?;
    Ok(vec![saturated(importer, &quotient, zero.as_ref(), element)?])
}

/// By axis of x, how many neighbours share a scale; none where it does not fit.
fn groups(node: &Node<'_>, x: &Value, scale: &Value) -> Result<Option<Vec<usize>>> {
    let mut shared: Vec<usize> = x.dims().to_vec();
    let block = usize::try_from(node.int("block_size", 0)?).unwrap_or(0);
    if scale.shape.elements() == 1 && block == 0 {
        return Ok(Some(shared));
    }
    let axis = node.axis(1, x.rank())?;
    if block == 0 {
        shared[axis] = 1;
        return Ok((scale.dims() == [x.dims()[axis]]).then_some(shared));
    }
    shared = vec![1; x.rank()];
    shared[axis] = block;
    let sizes = x.dims().iter().zip(&shared).map(|(size, shared)| size.div_ceil(*shared));
    Ok(sizes.eq(scale.dims().iter().copied()).then_some(shared))
}

/// Stored integers as floats that are read when they are needed; none where that cannot be.
fn read_dequantized(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    (x, scale, zero): (&Value, &Value, Option<&Value>),
    element: ElementType,
) -> Result<Option<Value>> {
    let known = scale.is_known() && zero.is_none_or(Value::is_known);
    let fits = [scale.element, element].iter().all(|element| *element != ElementType::Double);
    let Some(packed) = importer.packed(x).filter(|_| known && fits && element.is_float()) else {
        return Ok(None);
    };
    let Some(shared) = groups(node, x, scale)? else { return Ok(None) };
    let cols = packed.pitch.div_ceil(shared.last().copied().unwrap_or(1).max(1));
    let zero = match nonzero(importer, zero)? {
        None => ZeroPoint::Number(0.0),
        Some(zero) if zero.shape != scale.shape => return Ok(None),
        Some(zero) => ZeroPoint::Integers(Packed { pitch: cols, ..Packed::of(&zero) }),
    };
    let rule = Dequantized { x: packed, scale: Some(scale.clone()), zero, shared };
    Ok(Some(importer.dequantized(rule, element, x.shape.clone())))
}

/// (x - zero point) scale.
fn dequantize_linear(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, scale, zero) = (node.input(0)?, node.input(1)?, node.optional(2));
    let element = match node.int("output_dtype", 0)? {
        0 => scale.element,
        number => ElementType::from_number(number)?,
    };
    if let Some(floats) = read_dequantized(importer, node, (&x, &scale, zero.as_ref()), element)? {
        return Ok(vec![floats]);
    }
    let scale = factor(importer, node, &x, &scale)?;
    let mut integers = importer.cast(&x, ElementType::Int32)?;
    if let Some(zero) = nonzero(importer, zero.as_ref())? {
        let zero = factor(importer, node, &x, &zero)?;
        let zero = importer.cast(&zero, ElementType::Int32)?;
        integers = importer.binary(BinaryFn::Sub, &integers, &zero)?;
    }
    let floats = importer.cast(&integers, ElementType::Float)?;
    let scale = importer.cast(&scale, ElementType::Float)?;
    let product = importer.binary(BinaryFn::Mul, &floats, &scale)?;
    Ok(vec![importer.cast(&product, element)?])
}

/// To uint8, with scale and zero point such that the range of x and 0 is covered.
fn dynamic_quantize_linear(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    linear::expect_floats(node, &[&x])?;
    let axes: Vec<usize> = (0..x.rank()).collect();
    let mut edge = |function: ReduceFn, with_zero: BinaryFn| -> Result<Value> {
        let edge = importer.reduce(&x, function, &axes, false)?;
        importer.with_number(with_zero, &edge, 0.0)
    };
    let (min, max) = (edge(ReduceFn::Min, BinaryFn::Min)?, edge(ReduceFn::Max, BinaryFn::Max)?);
    let width = importer.binary(BinaryFn::Sub, &max, &min)?;
    let scale = importer.with_number(BinaryFn::ExactDiv, &width, 255.0)?;
    // Of zeros alone, any scale will do but 0.
    let none = Value::float(scale.element, 0.0);
    let empty = importer.apply_one(Binary(BinaryFn::Equal), &[&scale, &none], ElementType::Bool)?;
    let one = importer.cast(&empty, scale.element)?;
    let scale = importer.binary(BinaryFn::Add, &scale, &one)?;
    let quotient = importer.binary(BinaryFn::ExactDiv, &min, &scale)?;
    let below = importer.unary(&quotient, UnaryFn::Neg)?;
    let zero = saturated(importer, &below, None, ElementType::Uint8)?;
    let quotient = importer.binary(BinaryFn::ExactDiv, &x, &scale)?;
    let y = saturated(importer, &quotient, Some(&zero), ElementType::Uint8)?;
    Ok(vec![y, scale, zero])
}

/// 8-bit integers less their zero point, as floats.
fn centred(importer: &mut Importer<'_>, node: &Node<'_>, x: &Value, zero: Option<&Value>) -> Result<Value> {
    let small = x.element.bits() == 8 && !x.element.is_float() && x.element != ElementType::Bool;
    if !small || zero.is_some_and(|zero| zero.element != x.element) {
        let zero = zero.map_or_else(String::new, |zero| format!(" and the zero point {zero}"));
        return Err(node.fail(format!("takes integers of 8 bits, got {x}{zero}")));
    }
    let zero = nonzero(importer, zero)?;
    let one = zero.as_ref().filter(|zero| zero.is_known() && zero.shape.elements() == 1);
    if let (Some(packed), Some(zero)) = (importer.packed(x), one) {
        let zero = ZeroPoint::Number(importer.host(zero)?.to_f64()[0]);
        let rule = Dequantized { zero, ..Dequantized::of(packed, x.rank()) };
        return Ok(importer.dequantized(rule, ElementType::Float, x.shape.clone()));
    }
    let floats = importer.cast(x, ElementType::Float)?;
    let Some(zero) = zero else { return Ok(floats) };
    let zero = importer.cast(&zero, ElementType::Float)?;
    importer.binary(BinaryFn::Sub, &floats, &zero)
}

/// How many products of elements of two centred values have an exact sum.
fn exact_terms(importer: &mut Importer<'_>, values: [&Value; 2]) -> Result<usize> {
    let mut largest = 1.0;
    for value in values {
        largest *= if value.is_known() {
            let tensor = importer.host(value)?;
            let floats = tensor.bytes().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).abs());
            f64::from(floats.fold(1.0, f32::max))
        } else {
            255.0
        };
    }
    Ok(((EXACT - 1.0) / largest) as usize)
}

/// Adds a part, of exact integers as floats, to a sum of 32-bit integers.
fn add_part(importer: &mut Importer<'_>, sum: Option<Value>, part: &Value) -> Result<Value> {
    let part = importer.cast(part, ElementType::Int32)?;
    match sum {
        Some(sum) => importer.binary(BinaryFn::Add, &sum, &part),
        None => Ok(part),
    }
}

/// The product of centred values, int32.
fn integer_matmul(importer: &mut Importer<'_>, node: &Node<'_>, a: &Value, b: &Value) -> Result<Value> {
    let (Some(&depth), Some(last), false) = (a.dims().last(), a.rank().checked_sub(1), b.rank() == 0) else {
        return Err(node.fail(format!("takes matrices, got {a} and {b}")));
    };
    let rows = b.rank().saturating_sub(2);
    if b.dims()[rows] != depth {
        return Err(node.fail(format!("inner dimensions of {a} and {b} differ")));
    }
    let terms = exact_terms(importer, [a, b])?;
    let mut sum = None;
    for start in (0..depth.max(1)).step_by(terms) {
        let end = depth.min(start + terms);
        let left = importer.slice_axis(a, last, start, end)?;
        let right = importer.slice_axis(b, rows, start, end)?;
        let part = linear::product(importer, &left, &right)?;
        sum = Some(add_part(importer, sum, &part)?);
    }
    sum.ok_or_else(|| node.fail("has no terms"))
}

/// The convolution of centred values, int32: parts are channels of each group.
fn integer_conv(importer: &mut Importer<'_>, node: &Node<'_>, x: &Value, weight: &Value) -> Result<Value> {
    let op: Conv = convolution(node, x, weight)?;
    let terms = exact_terms(importer, [x, weight])?;
    let area = op.window.taps();
    let channels = weight.dims()[1];
    if area * channels <= terms {
        let sum = importer.apply_one(op, &[x, weight], ElementType::Float)?;
        return importer.cast(&sum, ElementType::Int32);
    }
    let per_part = terms / area.max(1);
    let groups = op.groups;
    if per_part == 0 || x.dims()[1] != groups * channels {
        return Err(node.fail(format!("cannot sum {x} by {weight} exactly, or they do not fit")));
    }
    let mut grouped = x.dims().to_vec();
    grouped.splice(1..2, [groups, channels]);
    let grouped = importer.reshape(x, &grouped)?;
    let mut sum = None;
    for start in (0..channels).step_by(per_part) {
        let end = channels.min(start + per_part);
        let part = importer.slice_axis(&grouped, 2, start, end)?;
        let mut dims = x.dims().to_vec();
        dims[1] = groups * (end - start);
        let part = importer.reshape(&part, &dims)?;
        let weights = importer.slice_axis(weight, 1, start, end)?;
        let part = importer.apply_one(op.clone(), &[&part, &weights], ElementType::Float)?;
        sum = Some(add_part(importer, sum, &part)?);
    }
    sum.ok_or_else(|| node.fail("has no terms"))
}

/// A value of rows as a column beside them: `[m]` as `[m, 1]`; others as they are.
fn of_rows(importer: &mut Importer<'_>, value: Value) -> Result<Value> {
    match *value.dims() {
        [rows] if rows > 1 => importer.reshape(&value, &[rows, 1]),
        [1] => importer.reshape(&value, &[]),
        _ => Ok(value),
    }
}

/// A value of output channels as it broadcasts to a tensor whose axis `axis` they are.
fn of_channels(importer: &mut Importer<'_>, value: &Value, axis: usize, rank: usize) -> Result<Value> {
    if value.shape.elements() == 1 {
        return importer.reshape(value, &[]);
    }
    let mut dims = vec![1; rank];
    let Some(dim) = dims.get_mut(axis) else {
        return Err(Error::op("onnx", format!("the weight has {rank} dimensions, expected a kernel's")));
    };
    *dim = value.shape.elements();
    importer.reshape(value, &dims)
}

fn matmul_integer(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let a_zero = node.optional(2).map(|zero| of_rows(importer, zero)).transpose()?;
    let a = centred(importer, node, &a, a_zero.as_ref())?;
    let b = centred(importer, node, &b, node.optional(3).as_ref())?;
    Ok(vec![integer_matmul(importer, node, &a, &b)?])
}

fn conv_integer(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, weight) = (node.input(0)?, node.input(1)?);
    let rank = weight.rank();
    let zero = node.optional(3).map(|zero| of_channels(importer, &zero, 0, rank)).transpose()?;
    let x = centred(importer, node, &x, node.optional(2).as_ref())?;
    let weight = centred(importer, node, &weight, zero.as_ref())?;
    Ok(vec![integer_conv(importer, node, &x, &weight)?])
}

/// A sum of products in the scale of the output: saturate(round(sum left right / y) + zero point).
fn requantized(
    importer: &mut Importer<'_>,
    sum: &Value,
    [left, right, y]: [&Value; 3],
    zero: &Value,
) -> Result<Value> {
    let mut scales = Vec::with_capacity(3);
    for scale in [left, right, y] {
        scales.push(importer.cast(scale, ElementType::Float)?);
    }
    let product = importer.binary(BinaryFn::Mul, &scales[0], &scales[1])?;
    let factor = importer.binary(BinaryFn::ExactDiv, &product, &scales[2])?;
    let floats = importer.cast(sum, ElementType::Float)?;
    let floats = importer.binary(BinaryFn::Mul, &floats, &factor)?;
    saturated(importer, &floats, Some(zero), zero.element)
}

/// Inputs: A, its scale and zero point, B, its scale and zero point, those of the output.
fn q_linear_matmul(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let a_scale = of_rows(importer, node.input(1)?)?;
    let a_zero = of_rows(importer, node.input(2)?)?;
    let a = centred(importer, node, &node.input(0)?, Some(&a_zero))?;
    let b = centred(importer, node, &node.input(3)?, Some(&node.input(5)?))?;
    let sum = integer_matmul(importer, node, &a, &b)?;
    let (y_scale, y_zero) = (of_rows(importer, node.input(6)?)?, of_rows(importer, node.input(7)?)?);
    Ok(vec![requantized(importer, &sum, [&a_scale, &node.input(4)?, &y_scale], &y_zero)?])
}

/// Inputs: x, its scale and zero point, the weight, its scale and zero point, those of the output,
/// an int32 bias.
fn q_linear_conv(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, weight) = (node.input(0)?, node.input(3)?);
    let rank = weight.rank();
    let weight_zero = of_channels(importer, &node.input(5)?, 0, rank)?;
    let weight_scale = of_channels(importer, &node.input(4)?, 1, rank)?;
    let x_zero = importer.reshape(&node.input(2)?, &[])?;
    let x = centred(importer, node, &x, Some(&x_zero))?;
    let weight = centred(importer, node, &weight, Some(&weight_zero))?;
    let mut sum = integer_conv(importer, node, &x, &weight)?;
    if let Some(bias) = node.optional(8) {
        let bias = of_channels(importer, &bias, 1, rank)?;
        sum = importer.binary(BinaryFn::Add, &sum, &bias)?;
    }
    let (x_scale, y_scale) = (node.input(1)?, node.input(6)?);
    let (x_scale, y_scale) = (importer.reshape(&x_scale, &[])?, importer.reshape(&y_scale, &[])?);
    let y_zero = importer.reshape(&node.input(7)?, &[])?;
    Ok(vec![requantized(importer, &sum, [&x_scale, &weight_scale, &y_scale], &y_zero)?])
}
