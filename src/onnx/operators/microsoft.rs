//! The operators of ONNX Runtime's own domain that exports use.

use super::Table;
use super::linear::expect_floats;
use super::logic::expect_integers;
use super::norm;
use crate::onnx::dequantize::{Dequantized, Packed, ZeroPoint};
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{BinaryFn, Concat, Gather, Linear, MatMul, UnaryFn};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[
    ("BiasGelu", |importer, node| biased(importer, node, UnaryFn::Gelu)),
    ("FastGelu", |importer, node| biased(importer, node, UnaryFn::GeluTanh)),
    ("FusedMatMul", fused_matmul),
    ("Gelu", |importer, node| biased(importer, node, UnaryFn::Gelu)),
    ("MatMulNBits", matmul_n_bits),
    ("QuickGelu", |importer, node| biased(importer, node, UnaryFn::Swish(node.float("alpha", 1.702)?))),
    ("RotaryEmbedding", rotary_embedding),
    ("SimplifiedLayerNormalization", norm::simplified_layer_normalization),
    ("SkipLayerNormalization", |importer, node| skip_normalization(importer, node, true)),
    ("SkipSimplifiedLayerNormalization", |importer, node| skip_normalization(importer, node, false)),
];

/// A function of x, or of x plus a bias of its last axis.
fn biased(importer: &mut Importer<'_>, node: &Node<'_>, function: UnaryFn) -> Result<Vec<Value>> {
    let mut x = node.input(0)?;
    if let Some(bias) = node.optional(1) {
        x = importer.binary(BinaryFn::Add, &x, &bias)?;
    }
    Ok(vec![importer.unary(&x, function)?])
}

/// alpha A B, the last two axes of A or B swapped.
fn fused_matmul(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    expect_floats(node, &[&a, &b])?;
    if node.flag("transBatchA", false)? || node.flag("transBatchB", false)? {
        return Err(Error::Unsupported("FusedMatMul with transBatchA or transBatchB".into()));
    }
    let op = MatMul {
        transpose_a: node.flag("transA", false)?,
        transpose_b: node.flag("transB", false)?,
        alpha: node.float("alpha", 1.0)?,
    };
    Ok(vec![importer.apply_one(op, &[&a, &b], a.element)?])
}

/// The normalisation of the sum of x, another value and a bias; the last output is that sum. The
/// simplified one divides by the root mean square alone, and takes no bias after it.
fn skip_normalization(importer: &mut Importer<'_>, node: &Node<'_>, centred: bool) -> Result<Vec<Value>> {
    let (x, skip, weight) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let (after, before) =
        if centred { (node.optional(3), node.optional(4)) } else { (None, node.optional(3)) };
    if node.has_output(1) || node.has_output(2) {
        return Err(Error::Unsupported(format!("mean and deviation of {}", node.definition.operator)));
    }
    let mut sum = importer.binary(BinaryFn::Add, &x, &skip)?;
    if let Some(bias) = before {
        sum = importer.binary(BinaryFn::Add, &sum, &bias)?;
    }
    let axis = node.resolve_axis(-1, x.rank())?;
    let y = if centred {
        norm::layer(importer, &sum, (&weight, after.as_ref()), axis, node.float("epsilon", 1e-12)?)?
    } else {
        norm::root_mean_square(importer, &sum, &weight, axis, node.float("epsilon", 1e-6)?)?
    };
    // Outputs 1 and 2 are not read.
    Ok(vec![y, sum.clone(), sum.clone(), sum])
}

/// How the integers of W are stored.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    rows: usize,
    cols: usize,
    /// Elements that share a scale.
    size: usize,
    bits: usize,
}

/// Sizes by the node's attributes.
fn blocks(node: &Node<'_>) -> Result<Blocks> {
    let size = |name: &str| -> Result<usize> {
        let value = node.int(name, 0)?;
        let size = usize::try_from(value).ok().filter(|&size| size > 0);
        size.ok_or_else(|| node.fail(format!("attribute `{name}` must be positive, got {value}")))
    };
    let bits = usize::try_from(node.int("bits", 4)?).unwrap_or(0);
    if ![2, 4, 8].contains(&bits) {
        return Err(node.fail(format!("attribute `bits` must be 2, 4 or 8, got {bits}")));
    }
    Ok(Blocks { rows: size("N")?, cols: size("K")?, size: size("block_size")?, bits })
}

/// The floats of W `[rows, cols]`: integers less their block's zero point, times its scale.
fn dequantized(importer: &mut Importer<'_>, node: &Node<'_>, form: Blocks) -> Result<Value> {
    let Blocks { rows, cols, size, bits } = form;
    importer.check_dims(&[rows, cols])?;
    let blocks = cols.div_ceil(size);
    let (blob, zeros) = (size.saturating_mul(bits).div_ceil(8), (blocks * bits).div_ceil(8));
    let (weight, scales, zero) = (node.input(1)?, node.input(2)?, node.optional(3));
    let zero_elements = match &zero {
        Some(zero) if zero.element.is_float() => rows * blocks,
        _ => rows * zeros,
    };
    let fits = Some(weight.shape.elements()) == (rows * blocks).checked_mul(blob)
        && scales.shape.elements() == rows * blocks
        && zero.as_ref().is_none_or(|zero| zero.shape.elements() == zero_elements);
    if !fits || weight.element != ElementType::Uint8 {
        let message = format!("W {weight} with scales {scales} is not [{rows}, {cols}] in blocks of {size}");
        return Err(node.fail(message));
    }
    if size * bits % 8 != 0 {
        return Err(Error::Unsupported(format!("blocks of {size} integers of {bits} bits")));
    }
    let integers = |value: &Value, pitch: usize| Packed { value: value.clone(), bits, signed: false, pitch };
    let weight = integers(&importer.known(&weight)?, blocks * size);
    let zero = match zero {
        None => ZeroPoint::Number(f64::from(1 << (bits - 1))),
        Some(zero) => {
            let zero = importer.known(&zero)?;
            let floats = zero.element.is_float();
            if floats {
                ZeroPoint::Floats(zero)
            } else {
                ZeroPoint::Integers(integers(&zero, zeros * 8 / bits))
            }
        }
    };
    let rule = Dequantized { x: weight, scale: Some(importer.known(&scales)?), zero, shared: vec![1, size] };
    Ok(importer.dequantized(rule, ElementType::Float, [rows, cols]))
}

/// x Wᵀ plus a bias, W `[n, k]` of blocks of integers of 2, 4 or 8 bits that share a scale and a
/// zero point; W becomes floats when it is uploaded.
fn matmul_n_bits(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    expect_floats(node, &[&x])?;
    if node.optional(4).is_some_and(|order| order.shape.elements() > 0) {
        return Err(Error::Unsupported("MatMulNBits with g_idx".into()));
    }
    let weight = dequantized(importer, node, blocks(node)?)?;
    let bias = node.optional(5);
    if !x.is_known() {
        let op = Linear { bias: bias.is_some(), ..Linear::PLAIN };
        return Ok(vec![importer.apply_linear(op, &x, (&weight, false), bias.as_ref())?]);
    }
    let op = MatMul { transpose_b: true, ..MatMul::PLAIN };
    let product = importer.apply_one(op, &[&x, &weight], x.element)?;
    Ok(vec![match bias {
        Some(bias) => importer.binary(BinaryFn::Add, &product, &bias)?,
        None => product,
    }])
}

/// Rotation of pairs of a head's elements by the angles of a position (Su et al. 2021). Inputs: x
/// `[n, length, heads * size]` or `[n, heads, length, size]`, positions `[n, length]` or the first
/// one, cosines and sines `[positions, pairs]`.
fn rotary_embedding(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, positions, cosines, sines) = (node.input(0)?, node.input(1)?, node.input(2)?, node.input(3)?);
    if node.flag("is_packed_batching", false)? || node.float("scale", 1.0)? != 1.0 {
        return Err(Error::Unsupported("RotaryEmbedding with is_packed_batching or scale".into()));
    }
    let &[_, pairs] = cosines.dims() else {
        return Err(node.fail(format!("takes cosines of rank 2, got {cosines}")));
    };
    let heads = usize::try_from(node.int("num_heads", 0)?).unwrap_or(0);
    // Heads side by side: [n, length, heads, size].
    let by_length = match *x.dims() {
        [_, _, _, _] => importer.transpose(&x, &[0, 2, 1, 3])?,
        [n, length, width] => {
            let rotary = usize::try_from(node.int("rotary_embedding_dim", 0)?).unwrap_or(0);
            let heads = if heads > 0 { heads } else { width / (2 * pairs.max(1)) };
            if heads == 0 || width % heads != 0 || (rotary > 0 && rotary != 2 * pairs) {
                return Err(node.fail(format!("{x} does not have {heads} heads of {pairs} pairs")));
            }
            importer.reshape(&x, &[n, length, heads, width / heads])?
        }
        _ => return Err(node.fail(format!("takes rank 3 or 4, got {x}"))),
    };
    let (n, length, size) = (by_length.dims()[0], by_length.dims()[1], by_length.dims()[3]);
    if 2 * pairs > size || pairs == 0 || sines.dims() != cosines.dims() {
        return Err(node.fail(format!("cosines {cosines} and sines {sines} do not fit heads of {size}")));
    }
    expect_integers(node, &positions)?;
    let mut rows = positions;
    if rows.dims() == [1] && [n, length] != [1, 1] {
        let steps: Vec<i64> = (0..length as i64).collect();
        let steps = Value::integers(rows.element, [1, length], &steps);
        let all = importer.binary(BinaryFn::Add, &rows, &steps)?;
        rows = importer.expand(&all, &[n, length])?;
    }
    let rows = importer.reshape(&rows, &[n, length])?;
    let mut angle = |table: &Value| -> Result<Value> {
        let table = importer.apply_one(Gather { axis: 0 }, &[table, &rows], table.element)?;
        importer.reshape(&table, &[n, length, 1, pairs])
    };
    let angles = [angle(&cosines)?, angle(&sines)?];
    let rotated = rotate(importer, &by_length, &angles, node.flag("interleaved", false)?)?;
    Ok(vec![match x.rank() {
        4 => importer.transpose(&rotated, &[0, 2, 1, 3])?,
        _ => importer.reshape(&rotated, x.dims())?,
    }])
}

/// The first pairs of `[n, length, heads, size]` by cosines and sines `[n, length, 1, pairs]`:
/// neighbours, or element i with i + pairs.
pub(super) fn rotate(
    importer: &mut Importer<'_>,
    x: &Value,
    angles: &[Value; 2],
    interleaved: bool,
) -> Result<Value> {
    let [cosines, sines] = angles;
    let (pairs, size) = (cosines.dims()[3], x.dims()[3]);
    let turned = importer.slice_axis(x, 3, 0, 2 * pairs)?;
    let (mut split, order) = (x.dims()[..3].to_vec(), if interleaved { [pairs, 2] } else { [2, pairs] });
    split.extend(order);
    let axis = if interleaved { 4 } else { 3 };
    let apart = importer.reshape(&turned, &split)?;
    let mut half = |index: usize| -> Result<Value> {
        let half = importer.slice_axis(&apart, axis, index, index + 1)?;
        importer.reshape(&half, &[&x.dims()[..3], &[pairs]].concat())
    };
    let (first, second) = (half(0)?, half(1)?);
    let mut mixed = |a: &Value, b: &Value, function: BinaryFn| -> Result<Value> {
        let (a, b) = (importer.binary(BinaryFn::Mul, a, cosines)?, importer.binary(BinaryFn::Mul, b, sines)?);
        importer.binary(function, &a, &b)
    };
    let (first, second) = (mixed(&first, &second, BinaryFn::Sub)?, mixed(&second, &first, BinaryFn::Add)?);
    let mut dims = x.dims()[..3].to_vec();
    dims.extend(if interleaved { [pairs, 1] } else { [1, pairs] });
    let (first, second) = (importer.reshape(&first, &dims)?, importer.reshape(&second, &dims)?);
    let both = importer.apply_one(Concat { axis }, &[&first, &second], x.element)?;
    let both = importer.reshape(&both, turned.dims())?;
    if 2 * pairs == size {
        return Ok(both);
    }
    let rest = importer.slice_axis(x, 3, 2 * pairs, size)?;
    importer.apply_one(Concat { axis: 3 }, &[&both, &rest], x.element)
}
