//! The attention operators of ONNX Runtime's own domain, on the engine's attention.

use super::Table;
use super::attention::{Reach, reach_bias, sum, visible};
use super::logic::expect_integers;
use super::microsoft::rotate;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::kept::past_name;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{Attention, Binary, BinaryFn, Gather, HeadLayout};
use crate::{Error, Result};

pub(super) const OPERATORS: Table =
    &[("GroupQueryAttention", group_query_attention), ("MultiHeadAttention", multi_head_attention)];

/// Queries, keys and values `[n, tokens, heads, size]`.
#[derive(Debug)]
struct Operands {
    q: Value,
    k: Value,
    v: Value,
}

/// Most heads, so that sums of them do not overflow.
const MOST_HEADS: i64 = 1 << 20;

/// A positive number of heads.
fn heads(node: &Node<'_>, name: &str) -> Result<usize> {
    let heads = node.int(name, 0)?;
    let valid = usize::try_from(heads).ok().filter(|_| (1..=MOST_HEADS).contains(&heads));
    valid.ok_or_else(|| node.fail(format!("attribute `{name}` must be 1 to {MOST_HEADS}, got {heads}")))
}

/// `[n, tokens, heads * size]` as `[n, tokens, heads, size]`.
fn split(importer: &mut Importer<'_>, node: &Node<'_>, value: &Value, heads: usize) -> Result<Value> {
    match *value.dims() {
        [n, tokens, width] if width % heads == 0 => {
            importer.reshape(value, &[n, tokens, heads, width / heads])
        }
        _ => Err(node.fail(format!("{value} is not [n, tokens, {heads} heads side by side]"))),
    }
}

/// Fails where an input is given that is not computed with.
fn refuse(node: &Node<'_>, inputs: &[(usize, &str)]) -> Result<()> {
    match inputs.iter().find(|(index, _)| node.optional(*index).is_some()) {
        Some((_, name)) => Err(Error::Unsupported(format!("{} with {name}", node.definition.operator))),
        None => Ok(()),
    }
}

/// Keys or values `[n, heads, tokens, size]`, those of the past before the new ones.
fn with_past(importer: &mut Importer<'_>, past: Option<&Value>, new: &Value) -> Result<Value> {
    let new = importer.transpose(new, &[0, 2, 1, 3])?;
    match past {
        Some(past) => importer.append(past, &new, 2),
        None => Ok(new),
    }
}

/// The attention's output `[n, tokens, heads * size]`, and all keys and values.
fn attend(
    importer: &mut Importer<'_>,
    op: Attention,
    operands: &Operands,
    past: [Option<Value>; 2],
    mask: Option<&Value>,
) -> Result<Vec<Value>> {
    let [past_k, past_v] = past;
    let q = importer.transpose(&operands.q, &[0, 2, 1, 3])?;
    let k = with_past(importer, past_k.as_ref(), &operands.k)?;
    let v = with_past(importer, past_v.as_ref(), &operands.v)?;
    let inputs: Vec<&Value> = [&q, &k, &v].into_iter().chain(mask).collect();
    let y = importer.apply_one(op, &inputs, q.element)?;
    let y = importer.transpose(&y, &[0, 2, 1, 3])?;
    let dims = y.dims().to_vec();
    let y = importer.reshape(&y, &[dims[0], dims[1], dims[2] * dims[3]])?;
    Ok(vec![y, k, v])
}

/// The factor of the scores.
fn scale(node: &Node<'_>, size: usize) -> Result<f32> {
    let given = node.float("scale", 0.0)?;
    Ok(if given == 0.0 { 1.0 / (size as f32).sqrt() } else { given })
}

/// Number of tokens of a past `[n, heads, tokens, size]`.
fn length(past: Option<&Value>) -> usize {
    past.and_then(|past| past.dims().get(2).copied()).unwrap_or(0)
}

/// The queries, keys and values of MultiHeadAttention as inputs of their own: they may be side by
/// side in the first `[n, tokens, heads, 3, size]`, or keys and values in the second
/// `[n, keys, heads, 2, size]`.
fn unpacked(importer: &mut Importer<'_>, node: &Node<'_>, heads: usize) -> Result<[Value; 3]> {
    let mut parts = Vec::with_capacity(3);
    for value in (0..3).map_while(|index| node.optional(index)) {
        let &[n, tokens, of, count, size] = value.dims() else {
            parts.push(value);
            continue;
        };
        if of != heads {
            return Err(node.fail(format!("{value} is not [n, tokens, {heads} heads, parts, size]")));
        }
        for part in 0..count {
            let part = importer.slice_axis(&value, 3, part, part + 1)?;
            parts.push(importer.reshape(&part, &[n, tokens, heads * size])?);
        }
    }
    let got = parts.len();
    parts.try_into().map_err(|_| node.fail(format!("takes queries, keys and values, got {got} of them")))
}

/// Inputs: queries, keys, values, a bias of all three, a mask of keys, scores to be added, keys and
/// values of the past.
fn multi_head_attention(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    refuse(node, &[(8, "past_sequence_length"), (9, "cache_indirection")])?;
    node.expect_outputs(3)?;
    let heads = heads(node, "num_heads")?;
    let bias = node.optional(3);
    let mut start = 0;
    let mut operand = |importer: &mut Importer<'_>, mut value: Value| -> Result<Value> {
        if value.rank() == 4 {
            return importer.transpose(&value, &[0, 2, 1, 3]);
        }
        if let (Some(bias), Some(&width)) = (&bias, value.dims().last()) {
            if bias.rank() != 1 || bias.dims()[0] < start + width {
                return Err(node.fail(format!("the bias {bias} does not fit {value}")));
            }
            let part = importer.slice_axis(bias, 0, start, start + width)?;
            value = importer.binary(BinaryFn::Add, &value, &part)?;
            start += width;
        }
        split(importer, node, &value, heads)
    };
    let [q, k, v] = unpacked(importer, node, heads)?;
    let (q, k, v) = (operand(importer, q)?, operand(importer, k)?, operand(importer, v)?);
    let operands = Operands { q, k, v };
    let past = [node.optional(6), node.optional(7)];
    let (tokens, keys) = (operands.q.dims()[1], operands.k.dims()[1] + length(past[0].as_ref()));
    let mask = mask(importer, node, keys)?;
    let op = Attention {
        heads,
        kv_heads: heads,
        scale: scale(node, operands.q.dims()[3])?,
        softcap: None,
        causal: node.flag("unidirectional", false)?.then_some(keys as i32 - tokens as i32),
        window: None,
        mask: mask.is_some(),
        layout: HeadLayout::HeadsFirst,
    };
    attend(importer, op, &operands, past, mask.as_ref())
}

/// What is added to the scores: input 5, and a filter value where the mask of keys, input 4, is 0.
fn mask(importer: &mut Importer<'_>, node: &Node<'_>, keys: usize) -> Result<Option<Value>> {
    let Some(padding) = node.optional(4) else { return Ok(node.optional(5)) };
    let dims = match *padding.dims() {
        [n] => return of_lengths(importer, node, &padding, [n, keys]).map(Some),
        [n, length] if length == keys => [n, 1, 1, keys],
        [n, tokens, length] if length == keys => [n, 1, tokens, keys],
        _ => return Err(Error::Unsupported(format!("a key_padding_mask {padding} for {keys} keys"))),
    };
    let seen = importer.cast(&padding, ElementType::Bool)?;
    let seen = importer.reshape(&seen, &dims)?;
    filtered(importer, node, &seen).map(Some)
}

/// The scores to be added, input 5, with a filter value at the keys that are not seen.
fn filtered(importer: &mut Importer<'_>, node: &Node<'_>, seen: &Value) -> Result<Value> {
    let filter = f64::from(node.float("mask_filter_value", -10_000.0)?);
    let scores = node.optional(5);
    let element = scores.as_ref().map_or(ElementType::Float, |scores| scores.element);
    let filtered = visible(importer, seen, filter, element)?;
    match scores {
        Some(scores) => importer.binary(BinaryFn::Add, &scores, &filtered),
        None => Ok(filtered),
    }
}

/// The same for a mask that is the number of keys of each batch.
fn of_lengths(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    lengths: &Value,
    [n, keys]: [usize; 2],
) -> Result<Value> {
    expect_integers(node, lengths)?;
    let lengths = importer.reshape(lengths, &[n, 1, 1, 1])?;
    let places: Vec<i64> = (0..keys as i64).collect();
    let places = Value::integers(lengths.element, [1, 1, 1, keys], &places);
    let seen = importer.apply_one(Binary(BinaryFn::Less), &[&places, &lengths], ElementType::Bool)?;
    filtered(importer, node, &seen)
}

/// Queries, keys and values of their own inputs, or side by side in the first.
fn grouped(importer: &mut Importer<'_>, node: &Node<'_>, heads: usize, kv_heads: usize) -> Result<Operands> {
    let q = node.input(0)?;
    if let (Some(k), Some(v)) = (node.optional(1), node.optional(2)) {
        return Ok(Operands {
            q: split(importer, node, &q, heads)?,
            k: split(importer, node, &k, kv_heads)?,
            v: split(importer, node, &v, kv_heads)?,
        });
    }
    let all = split(importer, node, &q, heads + 2 * kv_heads)?;
    Ok(Operands {
        q: importer.slice_axis(&all, 2, 0, heads)?,
        k: importer.slice_axis(&all, 2, heads, heads + kv_heads)?,
        v: importer.slice_axis(&all, 2, heads + kv_heads, heads + 2 * kv_heads)?,
    })
}

/// Rotates queries and keys by their positions: input 9, else those from `first` on, int64
/// `[1 or n, 1, 1, 1]`.
fn rotated(
    importer: &mut Importer<'_>,
    node: &Node<'_>,
    operands: &mut Operands,
    first: &Value,
) -> Result<()> {
    let &[n, tokens, ..] = operands.q.dims() else { return Err(node.fail("takes queries")) };
    let positions = match node.optional(9) {
        Some(positions) => importer.reshape(&positions, &[n, tokens])?,
        None => {
            let row: Vec<i64> = (0..tokens).map(|token| token as i64).collect();
            let row = Value::integers(ElementType::Int64, [1, tokens], &row);
            let first = importer.reshape(first, &[first.dims()[0], 1])?;
            let positions = importer.binary(BinaryFn::Add, &row, &first)?;
            importer.expand(&positions, &[n, tokens])?
        }
    };
    let mut angle = |index: usize| -> Result<Value> {
        let table = node.input(index)?;
        let &[_, pairs] = table.dims() else {
            return Err(node.fail(format!("takes cosines and sines of rank 2, got {table}")));
        };
        let rows = importer.apply_one(Gather { axis: 0 }, &[&table, &positions], table.element)?;
        importer.reshape(&rows, &[n, tokens, 1, pairs])
    };
    let angles = [angle(7)?, angle(8)?];
    if 2 * angles[0].dims()[3] > operands.q.dims()[3] || angles[0].dims() != angles[1].dims() {
        return Err(node.fail(format!("cosines {} do not fit {}", angles[0], operands.q)));
    }
    let interleaved = node.flag("rotary_interleaved", false)?;
    operands.q = rotate(importer, &operands.q, &angles, interleaved)?;
    operands.k = rotate(importer, &operands.k, &angles, interleaved)?;
    Ok(())
}

/// The places of the first tokens, int64 `[n, 1, 1, 1]`: input 5 has those of the last.
fn first_places(importer: &mut Importer<'_>, node: &Node<'_>, tokens: usize) -> Result<Value> {
    let ends = importer.cast(&node.input(5)?, ElementType::Int64)?;
    let ends = importer.reshape(&ends, &[ends.shape.elements(), 1, 1, 1])?;
    importer.with_number(BinaryFn::Sub, &ends, tokens as f64 - 1.0)
}

/// Causal attention of queries that share heads of keys and values, after a past of all batches
/// equally long, without room behind it: read from the lengths, input 5, on the host. Where rows are
/// appended to a cache in place, the lengths stay on the device and say which rows are seen.
fn group_query_attention(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    refuse(node, &[(11, "head_sink"), (12, "k_scale"), (13, "v_scale")])?;
    node.expect_outputs(3)?;
    let (heads, kv_heads) = (heads(node, "num_heads")?, heads(node, "kv_num_heads")?);
    let mut operands = grouped(importer, node, heads, kv_heads)?;
    let past = [node.optional(3), node.optional(4)];
    let before = length(past[0].as_ref());
    let (tokens, total) = (operands.q.dims()[1], operands.k.dims()[1] + before);
    let mut mask = node.optional(10);
    let mut causal = Some(total as i32 - tokens as i32);
    let mut window = u32::try_from(node.int("local_window_size", -1)?).ok();
    let first = if past[0].as_ref().is_some_and(|past| past_name(past).is_some()) {
        // Rows of a cache that is larger than what it holds: the lengths say which of them are seen.
        let first = first_places(importer, node, tokens)?;
        let reach = Reach { left: window.map(|window| i64::from(window) - 1), right: Some(0) };
        let bias = reach_bias(importer, reach, &first, None, [tokens, total], operands.q.element)?;
        mask = sum(importer, mask, bias)?;
        (causal, window) = (None, None);
        first
    } else {
        let ends = importer.host_integers(&node.input(5)?)?;
        if ends.iter().any(|&end| end != total as i64 - 1) {
            let message = format!(
                "GroupQueryAttention of a past of {before} and {tokens} tokens that ends at {ends:?}"
            );
            return Err(Error::Unsupported(message));
        }
        Value::integers(ElementType::Int64, [1, 1, 1, 1], &[before as i64])
    };
    if node.flag("do_rotary", false)? {
        rotated(importer, node, &mut operands, &first)?;
    }
    let softcap = node.float("softcap", 0.0)?;
    let op = Attention {
        heads,
        kv_heads,
        scale: scale(node, operands.q.dims()[3])?,
        softcap: (softcap > 0.0).then_some(softcap),
        causal,
        window,
        mask: mask.is_some(),
        layout: HeadLayout::HeadsFirst,
    };
    attend(importer, op, &operands, past, mask.as_ref())
}
