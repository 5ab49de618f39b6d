//! Attention that is written out as matrix products and a softmax.

use super::linear::stacked;
use super::rewrite::{Fused, Input, Nodes, Pattern, Rewrite, as_op, either};
use crate::graph::{Node, ValueId};
use crate::ops::{Attention, BinaryFn, Expand, HeadLayout, Linear, MatMul, Reshape, Slice, SliceRange};
use crate::ops::{Softmax, Transpose, UnaryFn};
use crate::tensor::DType;

pub(super) const PATTERNS: &[Pattern] = &[heads, repeated_heads, tokens, packed_layers, packed_slices];

/// Most tokens and keys: more may be too many for one dispatch of some devices.
const MOST_TOKENS: usize = 1 << 14;

/// softmax(scale q kᵀ + mask) v of heads `[n, heads, t, d]`. Rows whose mask hides every key give
/// zeros.
fn heads(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let product: &MatMul = as_op(node)?;
    let (softmax, shares) = nodes.made_by::<Softmax>(node.inputs[0])?;
    (*product == MatMul::PLAIN && !softmax.logarithm).then_some(())?;
    let (scores, mask) = masked(nodes, shares.inputs[0]);
    let (outer, scores) = scaled(nodes, scores);
    let (product, maker) = nodes.made_by::<MatMul>(scores)?;
    let (q_scale, q) = scaled(nodes, maker.inputs[0]);
    let (k_scale, k) = scaled(nodes, maker.inputs[1]);
    let &[_, heads, tokens, _] = nodes.dims(q) else { return None };
    let &[_, _, keys, _] = nodes.dims(node.inputs[1]) else { return None };
    let k = if product.transpose_b { k.into() } else { transposed_back(nodes, k)? };
    let fits = !product.transpose_a && tokens <= MOST_TOKENS && keys <= MOST_TOKENS;
    let scale = f64::from(product.alpha) * outer * q_scale * k_scale;
    let op = Attention {
        heads,
        kv_heads: heads,
        scale: scale as f32,
        softcap: None,
        causal: None,
        window: None,
        mask: mask.is_some(),
        layout: HeadLayout::HeadsFirst,
    };
    let inputs = [q.into(), k, node.inputs[1].into()].into_iter().chain(mask.map(Input::Value));
    fits.then(|| Fused::new(op, inputs.collect()))?.rewrite()
}

/// Scores, and the mask that is added to them if there is one.
fn masked(nodes: &Nodes<'_>, id: ValueId) -> (ValueId, Option<ValueId>) {
    let sum = nodes.binary(id, BinaryFn::Add).and_then(|operands| {
        either(operands, |scores, mask| {
            let is_product = nodes.made_by::<MatMul>(scaled(nodes, scores).1).is_some();
            let (spec, whole) = (nodes.spec(mask), &nodes.spec(id).shape);
            let fits = spec.dtype == DType::F32 && spec.shape.broadcast(whole).as_ref() == Some(whole);
            (is_product && fits && nodes.dims(scores) == nodes.dims(id)).then_some((scores, Some(mask)))
        })
    });
    sum.unwrap_or((id, None))
}

/// A factor and what it is a factor of: 1 and the value itself where there is none.
fn scaled(nodes: &Nodes<'_>, id: ValueId) -> (f64, ValueId) {
    let same = |x: ValueId| nodes.spec(x) == nodes.spec(id);
    let product = nodes.binary(id, BinaryFn::Mul).and_then(|operands| {
        either(operands, |x, number| Some((nodes.number(number).filter(|_| same(x))?, x)))
    });
    let quotient = || {
        let [x, number] = nodes.binary(id, BinaryFn::Div)?;
        Some((1.0 / nodes.number(number).filter(|_| same(x))?, x))
    };
    product.or_else(quotient).unwrap_or((1.0, id))
}

/// k of `[n, heads, keys, d]` whose last two axes are swapped.
fn transposed_back(nodes: &Nodes<'_>, id: ValueId) -> Option<Input> {
    let dims = nodes.dims(id);
    if let Some((Transpose { permutation }, maker)) = nodes.made_by(id) {
        let permutation: Vec<usize> =
            [0, 1, 3, 2].iter().map(|&axis| permutation.get(axis).copied()).collect::<Option<_>>()?;
        let source = maker.inputs[0].into();
        let whole = permutation.is_sorted();
        return Some(if whole { source } else { Input::applied(Transpose { permutation }, vec![source]) });
    }
    // Of one key, or keys of one element, the transposition became a reshape.
    let &[n, heads, size, keys] = dims else { return None };
    (size == 1 || keys == 1).then(|| nodes.reshaped(id, [n, heads, keys, size]))
}

/// Heads of keys and values that were repeated for several heads of queries.
fn repeated_heads(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let op: &Attention = as_op(node)?;
    (op.layout == HeadLayout::HeadsFirst && op.heads == op.kv_heads).then_some(())?;
    let (k, v) = (repeated(nodes, node.inputs[1])?, repeated(nodes, node.inputs[2])?);
    let kv_heads = nodes.dims(k)[1];
    (nodes.dims(v)[1] == kv_heads).then_some(())?;
    let mut inputs: Vec<Input> = node.inputs.iter().map(|id| (*id).into()).collect();
    (inputs[1], inputs[2]) = (k.into(), v.into());
    Fused::new(Attention { kv_heads, ..*op }, inputs).rewrite()
}

/// `[n, kv_heads, s, d]`, if a value is that with each head several times.
fn repeated(nodes: &Nodes<'_>, id: ValueId) -> Option<ValueId> {
    let (_, joined) = nodes.made_by::<Reshape>(id)?;
    let (_, expanded) = nodes.made_by::<Expand>(joined.inputs[0])?;
    let (_, split) = nodes.made_by::<Reshape>(expanded.inputs[0])?;
    let source = split.inputs[0];
    let &[n, kv_heads, s, d] = nodes.dims(source) else { return None };
    let &[_, _, times, _, _] = nodes.dims(joined.inputs[0]) else { return None };
    let fits = nodes.dims(expanded.inputs[0]) == [n, kv_heads, 1, s, d]
        && nodes.dims(joined.inputs[0]) == [n, kv_heads, times, s, d]
        && nodes.dims(id) == [n, kv_heads * times, s, d];
    fits.then_some(source)
}

/// Heads taken out of tokens, and joined again: attention reads and writes them where they lie.
fn tokens(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Transpose { permutation } = as_op(node)?;
    let (op, maker) = nodes.made_by::<Attention>(node.inputs[0])?;
    (*permutation == [0, 2, 1, 3] && op.layout == HeadLayout::HeadsFirst).then_some(())?;
    let views = maker.inputs.iter().take(3).map(|id| tokens_first(nodes, *id));
    let mut inputs: Vec<Input> = views.collect::<Option<_>>()?;
    inputs.extend(maker.inputs.iter().skip(3).map(|id| Input::Value(*id)));
    let attention = Input::applied(Attention { layout: HeadLayout::TokensFirst, ..*op }, inputs);
    let dims = nodes.dims(node.outputs[0]).to_vec();
    Fused::new(Reshape { dims }, vec![attention]).rewrite()
}

/// Heads `[n, heads, t, d]` as `[n, t, heads * d]`, where they were made of that.
fn tokens_first(nodes: &Nodes<'_>, id: ValueId) -> Option<Input> {
    let &[n, heads, t, d] = nodes.dims(id) else { return None };
    let dims = [n, t, heads * d];
    if t == 1 || heads == 1 {
        return Some(nodes.reshaped(id, dims));
    }
    let (Transpose { permutation }, maker) = nodes.made_by(id)?;
    (*permutation == [0, 2, 1, 3]).then(|| nodes.reshaped(maker.inputs[0], dims))
}

/// Follows a value back through reshapes.
fn through_reshapes<'g>(nodes: &Nodes<'g>, mut id: ValueId) -> (ValueId, Option<&'g Node>) {
    while let Some((_, maker)) = nodes.made_by::<Reshape>(id) {
        id = maker.inputs[0];
    }
    (id, nodes.maker(id))
}

/// Attention over all that a token has, each of q, k and v given by `part`: what they are parts of.
fn pack<T>(
    nodes: &Nodes<'_>,
    node: &Node,
    part: impl Fn(ValueId, usize) -> Option<T>,
) -> Option<([T; 3], usize)> {
    let op: &Attention = as_op(node)?;
    let [q, k, v] = [*node.inputs.first()?, *node.inputs.get(1)?, *node.inputs.get(2)?];
    let (widths, kv) = ([q, k, v].map(|id| *nodes.dims(id).last().unwrap_or(&0)), op.kv_heads);
    let whole = widths[0] * kv == widths[1] * op.heads && widths[1] == widths[2];
    let same = nodes.dims(q).get(..2) == nodes.dims(k).get(..2);
    (op.layout == HeadLayout::TokensFirst && whole && same).then_some(())?;
    let parts = [part(q, 0)?, part(k, widths[0])?, part(v, widths[0] + widths[1])?];
    Some((parts, widths.iter().sum()))
}

/// Packed attention over a value, with the mask of what it takes the place of.
fn packed(node: &Node, all: Input) -> Option<Rewrite> {
    let op: &Attention = as_op(node)?;
    let mask = node.inputs.iter().skip(3).map(|id| Input::Value(*id));
    let inputs = [all].into_iter().chain(mask).collect();
    Fused::new(Attention { layout: HeadLayout::Packed, ..*op }, inputs).rewrite()
}

/// Three linear layers that make q, k and v of the same tokens: one.
fn packed_layers(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let linear = |id: ValueId, _| {
        let (made, maker) = through_reshapes(nodes, id);
        let maker = maker?;
        let linear: &Linear = as_op(maker)?;
        let bare = linear.residual.is_none() && !linear.gated && linear.activation == UnaryFn::Identity;
        (bare && nodes.dims(made).last() == nodes.dims(id).last()).then_some((linear, maker))
    };
    let ([q, k, v], _) = pack(nodes, node, linear)?;
    let alike = |other: &(&Linear, &Node)| other.0 == q.0 && other.1.inputs[0] == q.1.inputs[0];
    (alike(&k) && alike(&v)).then_some(())?;
    let x = q.1.inputs[0];
    let size = *nodes.dims(x).last()?;
    let outer = nodes.dims(node.inputs[0]).get(..2)?;
    let mut inputs = stacked(nodes, &[q.1, k.1, v.1])?;
    inputs[0] = nodes.reshaped(x, [outer, &[size]].concat());
    let all = Input::applied(*q.0, inputs);
    packed(node, all)
}

/// q, k and v cut out of one value.
fn packed_slices(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let slice = |id: ValueId, start: usize| {
        let (made, maker) = through_reshapes(nodes, id);
        let Slice { ranges } = as_op(maker?)?;
        let source = maker?.inputs[0];
        let (&size, outer) = nodes.dims(source).split_last()?;
        let (last, others) = ranges.split_last()?;
        let count = *nodes.dims(id).last()?;
        let whole = others.iter().zip(outer).all(|(range, &size)| *range == SliceRange::full(size));
        let fits =
            whole && *last == SliceRange { start, count, step: 1 } && nodes.dims(made).last() == Some(&count);
        fits.then_some((source, size))
    };
    let ([q, k, v], width) = pack(nodes, node, slice)?;
    (q == k && q == v && q.1 == width).then_some(())?;
    let outer = nodes.dims(node.inputs[0]).get(..2)?;
    packed(node, nodes.reshaped(q.0, [outer, &[width]].concat()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Builder, assert_becomes, optimised};
    use super::*;

    const TO_HEADS: [usize; 4] = [0, 2, 1, 3];

    fn transpose(b: &mut Builder, x: ValueId, permutation: [usize; 4]) -> ValueId {
        b.add(Transpose { permutation: permutation.to_vec() }, &[x])
    }

    /// What is varied in attention that is written out.
    #[derive(Clone, Copy)]
    struct Variant {
        tokens: usize,
        /// Whether the scores are divided, or q and kᵀ multiplied.
        outer_scale: bool,
        mask: Option<[usize; 4]>,
        /// Whether the shares are an output.
        shared: bool,
        logarithm: bool,
    }

    const PLAIN: Variant =
        Variant { tokens: 5, outer_scale: true, mask: Some([2, 1, 1, 5]), shared: false, logarithm: false };

    /// softmax(q kᵀ) v of heads, kᵀ already transposed.
    fn attend(b: &mut Builder, [q, k, v]: [ValueId; 3], variant: Variant) -> ValueId {
        let [q, k] =
            [q, k].map(|x| if variant.outer_scale { x } else { b.with_number(BinaryFn::Mul, x, 0.7) });
        let mut scores = b.add(MatMul::PLAIN, &[q, k]);
        if variant.outer_scale {
            scores = b.with_number(BinaryFn::Div, scores, 2.0);
        }
        if let Some(dims) = variant.mask {
            let mask = b.input(dims);
            scores = b.binary(BinaryFn::Add, mask, scores);
        }
        let shares = b.add(Softmax { logarithm: variant.logarithm }, &[scores]);
        if variant.shared {
            b.output(shares);
        }
        b.add(MatMul::PLAIN, &[shares, v])
    }

    /// Of tokens `[2, t, 3 * 4]`, q, k and v each by a linear layer of what `x` says.
    fn block(b: &mut Builder, x: [ValueId; 3], variant: Variant) {
        let mut heads = x.map(|x| {
            let (weight, bias) = (b.stored([12, 6]), b.stored([12]));
            let made = b.add(Linear::PLAIN, &[x, weight]);
            let made = b.binary(BinaryFn::Add, bias, made);
            b.add(Reshape { dims: vec![2, variant.tokens, 3, 4] }, &[made])
        });
        heads[0] = transpose(b, heads[0], TO_HEADS);
        heads[1] = transpose(b, heads[1], [0, 2, 3, 1]);
        heads[2] = transpose(b, heads[2], TO_HEADS);
        let joined = attend(b, heads, variant);
        let joined = transpose(b, joined, TO_HEADS);
        let y = b.add(Reshape { dims: vec![2, variant.tokens, 12] }, &[joined]);
        b.output(y);
    }

    #[test]
    fn layers_of_the_same_tokens_and_attention_are_two_dispatches() {
        for outer_scale in [false, true] {
            for (tokens, mask) in [(5, None), (5, Some([2, 1, 1, 5])), (5, Some([1, 3, 5, 5])), (1, None)] {
                let (graph, names) = optimised(|b| {
                    let x = b.input([2, tokens, 6]);
                    block(b, [x; 3], Variant { tokens, outer_scale, mask, ..PLAIN });
                });
                // Of one token, there is nothing to bring in order, and the parts stay.
                let wanted: &[&str] = if tokens == 1 { &["linear"; 3] } else { &["linear"] };
                assert_eq!(names, [wanted, &["attention"]].concat(), "{graph}");
            }
        }
    }

    #[test]
    fn tokens_of_different_values_keep_their_layers() {
        let (graph, names) = optimised(|b| {
            let x = [b.input([2, 5, 6]), b.input([2, 5, 6])];
            block(b, [x[0], x[1], x[1]], PLAIN);
        });
        assert_eq!(names, ["linear", "linear", "linear", "attention"], "{graph}");
        let attention = graph.nodes().iter().find_map(as_op::<Attention>).unwrap();
        assert_eq!(attention.layout, HeadLayout::TokensFirst);
    }

    #[test]
    fn attention_whose_shares_are_needed_stays() {
        for variant in [Variant { shared: true, ..PLAIN }, Variant { logarithm: true, ..PLAIN }] {
            let (_, names) = optimised(|b| {
                let x = b.input([2, 5, 6]);
                block(b, [x; 3], variant);
            });
            assert!(!names.contains(&"attention"), "{names:?}");
        }
    }

    /// Heads that come as such, with kᵀ from k or by the matrix product.
    #[test]
    fn heads_that_lie_first_stay_so() {
        for transpose_b in [false, true] {
            let (graph, names) = optimised(|b| {
                let [q, k, v] = [b.input([1, 4, 3, 8]), b.input([1, 2, 5, 8]), b.input([1, 2, 5, 6])];
                // Each head of k and v serves two of q.
                let [k, v] = [(k, 8), (v, 6)].map(|(x, size)| {
                    let x = b.add(Reshape { dims: vec![1, 2, 1, 5, size] }, &[x]);
                    let x = b.add(Expand { dims: vec![1, 2, 2, 5, size] }, &[x]);
                    b.add(Reshape { dims: vec![1, 4, 5, size] }, &[x])
                });
                let k = if transpose_b { k } else { transpose(b, k, [0, 1, 3, 2]) };
                let scores = b.add(MatMul { transpose_b, ..MatMul::PLAIN }, &[q, k]);
                let shares = b.add(Softmax { logarithm: false }, &[scores]);
                let y = b.add(MatMul::PLAIN, &[shares, v]);
                b.output(y);
            });
            assert_eq!(names, ["attention"], "{graph}");
            let attention: &Attention = graph.nodes().iter().find_map(as_op).unwrap();
            assert_eq!((attention.heads, attention.kv_heads, attention.scale), (4, 2, 1.0));
        }
    }

    #[test]
    fn parts_of_one_value_are_read_where_they_lie() {
        let build = |b: &mut Builder, order: [usize; 3]| {
            let whole = b.input([2, 5, 24]);
            let mut heads = order.map(|part| {
                let last = SliceRange { start: part * 8, count: 8, step: 1 };
                let ranges = vec![SliceRange::full(2), SliceRange::full(5), last];
                let part = b.add(Slice { ranges }, &[whole]);
                let part = b.add(Reshape { dims: vec![2, 5, 2, 4] }, &[part]);
                transpose(b, part, TO_HEADS)
            });
            heads[1] = transpose(b, heads[1], [0, 1, 3, 2]);
            let y = attend(b, heads, PLAIN);
            let y = transpose(b, y, TO_HEADS);
            b.output(y);
        };
        assert_becomes(&["attention"], |b| build(b, [0, 1, 2]));
        assert_becomes(&["slice", "slice", "slice", "attention"], |b| build(b, [1, 0, 2]));
    }
}
