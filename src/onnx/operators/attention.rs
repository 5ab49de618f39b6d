//! Attention and rotary embeddings.

use super::Table;
use super::linear::expect_floats;
use super::logic::expect_integers;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::{Attention, Binary, BinaryFn, Concat, HeadLayout, MatMul, Rope, Select, Softmax, UnaryFn};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[("Attention", attention), ("RotaryEmbedding", rotary_embedding)];

/// Queries, keys and values, in the layout that `layout` says.
#[derive(Debug)]
pub(super) struct Heads {
    pub(super) q: Value,
    pub(super) k: Value,
    pub(super) v: Value,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) layout: HeadLayout,
}

/// Which keys a token sees: token i, at place p = i + offset, sees the keys p - left to p + right,
/// all on a side where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) left: Option<i64>,
    pub(super) right: Option<i64>,
}

/// What is done with the scores.
#[derive(Debug)]
pub(super) struct Scores {
    pub(super) scale: f32,
    pub(super) softcap: Option<f32>,
    /// Added to them; minus infinity hides a key.
    pub(super) bias: Option<Value>,
    pub(super) reach: Reach,
    /// Place of the first token.
    pub(super) offset: usize,
}

impl Heads {
    /// Batches, tokens, keys, and sizes of a head's queries and values.
    fn sizes(&self) -> [usize; 5] {
        let (q, k, v) = (self.q.dims(), self.k.dims(), self.v.dims());
        match self.layout {
            HeadLayout::HeadsFirst => [q[0], q[2], k[2], q[3], v[3]],
            _ => [q[0], q[1], k[1], q[2] / self.heads, v[2] / self.kv_heads],
        }
    }

    /// Tokens and keys.
    pub(super) fn lengths(&self) -> [usize; 2] {
        let [_, tokens, keys, ..] = self.sizes();
        [tokens, keys]
    }

    /// Puts the keys and values of earlier tokens in front; all have their heads first.
    pub(super) fn extend(&mut self, importer: &mut Importer<'_>, past: &[Value; 2]) -> Result<()> {
        for (value, past) in [&mut self.k, &mut self.v].into_iter().zip(past) {
            *value = importer.append(past, value, 2)?;
        }
        Ok(())
    }

    /// The outputs of the heads, in their layout. A token that sees no key gives zeros.
    pub(super) fn attend(&self, importer: &mut Importer<'_>, scores: &Scores) -> Result<Value> {
        let [batches, tokens, keys, _, size] = self.sizes();
        let element = self.q.element;
        if [&self.q, &self.k, &self.v].iter().any(|value| value.shape.elements() == 0) {
            let dims = match self.layout {
                HeadLayout::HeadsFirst => vec![batches, self.heads, tokens, size],
                _ => vec![batches, tokens, self.heads * size],
            };
            importer.check_dims(&dims)?;
            return Ok(Value::host(element, Tensor::zeros(Spec::new(element.host_dtype(), dims))));
        }
        // A window ends where its last key is, so one without an end has it after all keys.
        let Reach { left, right } = scores.reach;
        let right = right.or(left.map(|_| integer(keys)));
        let ahead = right.map(|right| integer(scores.offset).saturating_add(right));
        let width = |left: i64| left.saturating_add(1).saturating_add(right.unwrap_or(0));
        let op = Attention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            scale: scores.scale,
            softcap: scores.softcap,
            causal: ahead.map(|ahead| i32::try_from(ahead).unwrap_or(i32::MAX)),
            window: left.map(|left| u32::try_from(width(left)).unwrap_or(u32::MAX)),
            mask: scores.bias.is_some(),
            layout: self.layout,
        };
        let inputs: Vec<&Value> = [&self.q, &self.k, &self.v].into_iter().chain(&scores.bias).collect();
        importer.apply_one(op, &inputs, element)
    }

    /// The scores `[n, heads, tokens, keys]` of heads first, as they are (mode 0), after the cap
    /// (1), with the bias (2), or as shares that sum to 1 (3); the bias holds the reach.
    fn scores(&self, importer: &mut Importer<'_>, scores: &Scores, mode: i64) -> Result<Value> {
        let [batches, tokens, keys, size, _] = self.sizes();
        let element = self.q.element;
        let dims = [batches, self.heads, tokens, keys];
        importer.check_dims(&dims)?;
        let rows = self.heads / self.kv_heads.max(1) * tokens;
        let q = importer.reshape(&self.q, &[batches, self.kv_heads, rows, size])?;
        let product = MatMul { transpose_a: false, transpose_b: true, alpha: scores.scale };
        let all = importer.apply_one(product, &[&q, &self.k], element)?;
        let mut all = importer.reshape(&all, &dims)?;
        if let (Some(cap), 1..) = (scores.softcap, mode) {
            all = importer.unary(&all, UnaryFn::Softcap(cap))?;
        }
        let Some(bias) = scores.bias.as_ref().filter(|_| mode >= 2) else {
            return if mode == 3 {
                importer.apply_one(Softmax { logarithm: false }, &[&all], element)
            } else {
                Ok(all)
            };
        };
        if mode == 2 {
            return importer.binary(BinaryFn::Add, &all, bias);
        }
        // Softmax of a row that sees nothing would be of minus infinities.
        let lowest = lowest(element);
        let finite = importer.with_number(BinaryFn::Max, bias, lowest)?;
        let all = importer.binary(BinaryFn::Add, &all, &finite)?;
        let shares = importer.apply_one(Softmax { logarithm: false }, &[&all], element)?;
        let lowest = Value::float(element, lowest);
        let seen =
            importer.apply_one(Binary(BinaryFn::GreaterOrEqual), &[bias, &lowest], ElementType::Bool)?;
        importer.apply_one(Select, &[&seen, &shares, &Value::float(element, 0.0)], element)
    }
}

/// The lowest finite number of a type, of double that of the device.
fn lowest(element: ElementType) -> f64 {
    match element {
        ElementType::Float16 => -65_504.0,
        // The upper half of the bits of the lowest f32.
        ElementType::Bfloat16 => f64::from(f32::from_bits(f32::MIN.to_bits() & 0xffff_0000)),
        _ => f64::from(f32::MIN),
    }
}

fn integer(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// `[n, tokens, heads * size]` as `[n, heads, tokens, size]`.
pub(super) fn split_heads(importer: &mut Importer<'_>, value: &Value, heads: usize) -> Result<Value> {
    match *value.dims() {
        [batches, tokens, width] if heads > 0 && width % heads == 0 => {
            let apart = importer.reshape(value, &[batches, tokens, heads, width / heads])?;
            importer.transpose(&apart, &[0, 2, 1, 3])
        }
        _ => Err(Error::op("Attention", format!("{value} is not of {heads} heads side by side"))),
    }
}

/// `[n, heads, tokens, size]` as `[n, tokens, heads * size]`.
pub(super) fn join_heads(importer: &mut Importer<'_>, value: &Value) -> Result<Value> {
    let &[batches, heads, tokens, size] = value.dims() else {
        return Err(Error::op("Attention", format!("{value} must have 4 axes")));
    };
    let tokens_first = importer.transpose(value, &[0, 2, 1, 3])?;
    importer.reshape(&tokens_first, &[batches, tokens, heads * size])
}

/// A mask as what is added to scores: booleans say which keys are seen. Keys after its end are
/// hidden.
fn additive(importer: &mut Importer<'_>, mask: &Value, keys: usize, element: ElementType) -> Result<Value> {
    let mut bias = match mask.element {
        ElementType::Bool => visible(importer, mask, f64::NEG_INFINITY, element)?,
        _ => importer.cast(mask, element)?,
    };
    let missing = mask.dims().last().map_or(0, |&last| keys.saturating_sub(last));
    if missing > 0 {
        let mut dims = mask.dims().to_vec();
        dims[mask.rank() - 1] = missing;
        let hidden = importer.expand(&Value::float(element, f64::NEG_INFINITY), &dims)?;
        bias = match bias.shape.elements() {
            0 => hidden,
            _ => importer.apply_one(Concat { axis: mask.rank() - 1 }, &[&bias, &hidden], element)?,
        };
    }
    Ok(bias)
}

/// 0 where a key is seen, else `hidden`.
pub(super) fn visible(
    importer: &mut Importer<'_>,
    seen: &Value,
    hidden: f64,
    element: ElementType,
) -> Result<Value> {
    importer.apply_one(Select, &[seen, &Value::float(element, 0.0), &Value::float(element, hidden)], element)
}

/// The sum of two biases, of which there may be none.
pub(super) fn sum(
    importer: &mut Importer<'_>,
    left: Option<Value>,
    right: Option<Value>,
) -> Result<Option<Value>> {
    match (left, right) {
        (Some(left), Some(right)) => importer.binary(BinaryFn::Add, &left, &right).map(Some),
        (left, right) => Ok(left.or(right)),
    }
}

/// The reach as a bias `[1 or n, 1, tokens, keys]`: `offset` is the place of the first token, and
/// `valid` the number of keys that there are; both int64 `[1 or n, 1, 1, 1]`.
pub(super) fn reach_bias(
    importer: &mut Importer<'_>,
    reach: Reach,
    offset: &Value,
    valid: Option<&Value>,
    [tokens, keys]: [usize; 2],
    element: ElementType,
) -> Result<Option<Value>> {
    importer.check_dims(&[tokens, keys])?;
    let key = |key: usize| integer(key);
    let distances: Vec<i64> =
        (0..tokens).flat_map(|token| (0..keys).map(move |other| key(token) - key(other))).collect();
    let distances = Value::integers(offset.element, [1, 1, tokens, keys], &distances);
    let distances = importer.binary(BinaryFn::Add, &distances, offset)?;
    let mut seen: Option<Value> = None;
    let number = |value: i64| Value::integers(offset.element, vec![], &[value.clamp(-MOST, MOST)]);
    let all_keys =
        Value::integers(offset.element, [1, 1, 1, keys], &(0..keys).map(key).collect::<Vec<i64>>());
    let conditions = [
        reach.left.map(|left| (BinaryFn::LessOrEqual, distances.clone(), number(left))),
        reach.right.map(|right| (BinaryFn::GreaterOrEqual, distances.clone(), number(-right))),
        valid.map(|valid| (BinaryFn::Less, all_keys, valid.clone())),
    ];
    for (function, left, right) in conditions.into_iter().flatten() {
        let holds = importer.apply_one(Binary(function), &[&left, &right], ElementType::Bool)?;
        seen = Some(match seen {
            Some(seen) => importer.binary(BinaryFn::BitAnd, &seen, &holds)?,
            None => holds,
        });
    }
    seen.map(|seen| visible(importer, &seen, f64::NEG_INFINITY, element)).transpose()
}

/// Farther than any two tokens are from each other.
const MOST: i64 = 1 << 30;

/// Number of heads of queries, and of keys and values.
fn head_counts(node: &Node<'_>, q: &Value, k: &Value) -> Result<[usize; 2]> {
    let counts = match (q.rank(), k.rank()) {
        (4, 4) => [q.dims()[1], k.dims()[1]],
        (3, 3) => {
            let counts = [node.int("q_num_heads", 0)?, node.int("kv_num_heads", 0)?];
            counts.map(|count| usize::try_from(count).unwrap_or(0))
        }
        _ => return Err(node.fail(format!("Q and K must both have 3 or 4 axes, got {q} and {k}"))),
    };
    if counts[1] == 0 || counts[0] == 0 || counts[0] % counts[1] != 0 {
        return Err(node.fail(format!("{} heads are no multiple of {} key heads", counts[0], counts[1])));
    }
    Ok(counts)
}

/// Limits of the window and of causal attention.
fn reach(node: &Node<'_>) -> Result<Reach> {
    let side = |name| node.int(name, -1).map(|size| (size >= 0).then_some(size));
    let right = side("right_window_size")?;
    let right = if node.flag("is_causal", false)? { Some(0) } else { right };
    Ok(Reach { left: side("left_window_size")?, right })
}

/// Both or none of two inputs.
pub(super) fn pair(node: &Node<'_>, first: usize) -> Result<Option<[Value; 2]>> {
    match (node.optional(first), node.optional(first + 1)) {
        (Some(key), Some(value)) if key.rank() == 4 && value.rank() == 4 => Ok(Some([key, value])),
        (None, None) => Ok(None),
        _ => Err(node.fail("past keys and values must both be given, with 4 axes")),
    }
}

fn attention(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let [mut q, mut k, mut v] = [node.input(0)?, node.input(1)?, node.input(2)?];
    expect_floats(node, &[&q, &k, &v])?;
    let [heads, kv_heads] = head_counts(node, &q, &k)?;
    if v.rank() != q.rank() {
        return Err(node.fail(format!("V must have as many axes as Q, got {v} and {q}")));
    }
    let (rank, element) = (q.rank(), q.element);
    let past = pair(node, 4)?;
    let apart = rank == 4 || past.is_some() || (1..4).any(|output| node.has_output(output));
    if rank == 3 && apart {
        for (value, heads) in [(&mut q, heads), (&mut k, kv_heads), (&mut v, kv_heads)] {
            *value = split_heads(importer, value, heads)?;
        }
    }
    let v = importer.cast(&v, element)?;
    let layout = if apart { HeadLayout::HeadsFirst } else { HeadLayout::TokensFirst };
    let mut all = Heads { q, k, v, heads, kv_heads, layout };
    let mut offset = 0;
    if let Some(past) = &past {
        offset = past[0].dims()[2];
        all.extend(importer, past)?;
    }
    let [tokens, keys] = all.lengths();
    let mask = node.optional(3);
    let mut bias = mask.map(|mask| additive(importer, &mask, keys, element)).transpose()?;
    let mut reach = reach(node)?;
    if node.optional(6).is_some() || node.has_output(3) {
        if let Some(valid) = node.optional(6) {
            expect_integers(node, &valid)?;
        }
        let valid = node.optional(6).map(|valid| importer.reshape(&valid, &[all.q.dims()[0], 1, 1, 1]));
        let valid = valid.transpose()?;
        let first = match &valid {
            Some(valid) if past.is_none() => {
                let tokens = Value::integers(valid.element, vec![], &[integer(tokens)]);
                importer.binary(BinaryFn::Sub, valid, &tokens)?
            }
            _ => Value::integers(ElementType::Int64, [1, 1, 1, 1], &[integer(offset)]),
        };
        let limits = reach_bias(importer, reach, &first, valid.as_ref(), [tokens, keys], element)?;
        bias = sum(importer, bias, limits)?;
        reach = Reach::default();
    }
    let scale = node.float("scale", 1.0 / (all.sizes()[3] as f32).sqrt())?;
    let softcap = Some(node.float("softcap", 0.0)?).filter(|&cap| cap > 0.0);
    let scores = Scores { scale, softcap, bias, reach, offset };
    let y = all.attend(importer, &scores)?;
    let y = if rank == 3 && apart { join_heads(importer, &y)? } else { y };
    let mut outputs = vec![y, all.k.clone(), all.v.clone()];
    if node.has_output(3) {
        outputs.push(all.scores(importer, &scores, node.int("qk_matmul_output_mode", 0)?)?);
    }
    Ok(outputs)
}

/// Cosines and sines of the angles by which pairs of elements are turned, and what rows of them
/// the tokens take.
#[derive(Debug)]
pub(super) struct Rotation {
    /// `[positions, size / 2]`, or `[n, tokens, size / 2]` where there are no positions.
    pub(super) cosines: Value,
    pub(super) sines: Value,
    /// `[n, tokens]`.
    pub(super) positions: Option<Value>,
    pub(super) interleaved: bool,
    /// Elements of a head that are turned, all where it is 0.
    pub(super) size: usize,
}

impl Rotation {
    /// Turns heads `[n, heads, tokens, size]`, or `[n, tokens, heads * size]`.
    pub(super) fn apply(&self, importer: &mut Importer<'_>, x: &Value, heads: usize) -> Result<Value> {
        let (batches, tokens, rows, width) = match *x.dims() {
            [batches, heads, tokens, width] => (batches, tokens, [batches, heads, tokens], [1, width]),
            [batches, tokens, width] if heads > 0 && width % heads == 0 => {
                (batches, tokens, [batches, 1, tokens], [heads, width / heads])
            }
            _ => return Err(Error::op("RotaryEmbedding", format!("{x} is not of {heads} heads"))),
        };
        if x.shape.elements() == 0 {
            return Ok(x.clone());
        }
        let mut tables = [self.cosines.clone(), self.sines.clone()];
        for table in &mut tables {
            let (rows, cols) = table.shape.rows_and_cols();
            *table = importer.reshape(table, &[rows, cols])?;
            *table = importer.cast(table, x.element)?;
        }
        let table = importer.apply_one(Concat { axis: 1 }, &[&tables[0], &tables[1]], x.element)?;
        let positions = match &self.positions {
            Some(positions) => importer.cast(positions, ElementType::Uint32)?,
            None => {
                let all: Vec<i64> = (0..batches * tokens).map(integer).collect();
                Value::integers(ElementType::Uint32, [batches, tokens], &all)
            }
        };
        let positions = importer.reshape(&positions, &[batches, 1, tokens])?;
        let positions = importer.expand(&positions, &rows)?;
        let rows = rows.iter().product();
        let positions = importer.reshape(&positions, &[rows])?;
        let flat = importer.reshape(x, &[rows, width[0], width[1]])?;
        let rotary_dim = if self.size == 0 { width[1] } else { self.size };
        let op = Rope { rotary_dim, interleaved: self.interleaved };
        let turned = importer.apply_one(op, &[&flat, &table, &positions], x.element)?;
        importer.reshape(&turned, x.dims())
    }
}

fn rotary_embedding(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, cosines, sines) = (node.input(0)?, node.input(1)?, node.input(2)?);
    expect_floats(node, &[&x, &cosines, &sines])?;
    let positions = node.optional(3);
    let dims = if positions.is_some() { 2 } else { 3 };
    if cosines.rank() != dims || sines.dims() != cosines.dims() {
        return Err(node.fail(format!("cosines and sines must have {dims} axes, got {cosines} and {sines}")));
    }
    let number = |name| node.int(name, 0).map(|value| usize::try_from(value).unwrap_or(0));
    let (size, heads) = (number("rotary_embedding_dim")?, number("num_heads")?);
    let rotation =
        Rotation { cosines, sines, positions, interleaved: node.flag("interleaved", false)?, size };
    Ok(vec![rotation.apply(importer, &x, heads)?])
}
