//! Rotary position embeddings that are written out.

use super::rewrite::{Fused, Input, Nodes, Pattern, Rewrite, as_op, either};
use crate::graph::{Node, ValueId};
use crate::ops::{Binary, BinaryFn, Concat, Reshape, Rope, Slice, SliceRange, Transpose, UnaryFn};
use crate::tensor::{DType, Tensor};

pub(super) const PATTERNS: &[Pattern] = &[rotated_halves];

/// x cos + (-second half of x, first half of x) sin of heads `[n, heads, t, d]`, with constant
/// cosines and sines `[1, 1, t, d]` whose halves are equal (Llama).
fn rotated_halves(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::Add) = as_op(node)? else { return None };
    let (x, cosines, sines) = either([node.inputs[0], node.inputs[1]], |straight, turned| {
        let sides = |product| nodes.binary(product, BinaryFn::Mul);
        either(sides(turned)?, |halves, sines| {
            let x = swapped_halves(nodes, halves)?;
            let cosines = either(sides(straight)?, |other, cosines| (other == x).then_some(cosines))?;
            Some((x, cosines, sines))
        })
    })?;
    let &[n, heads, t, d] = nodes.dims(x) else { return None };
    (d % 2 == 0).then_some(())?;
    let table = table(&[half(nodes, cosines, t, d)?, half(nodes, sines, t, d)?], t, d);
    // Where heads were taken out of tokens, they are turned before.
    let source = match nodes.made_by::<Transpose>(x) {
        Some((Transpose { permutation }, maker)) if *permutation == [0, 2, 1, 3] => Some(maker.inputs[0]),
        _ => None,
    };
    let rows = if source.is_some() { [n * t, heads] } else { [n * heads * t, 1] };
    let positions: Vec<u32> =
        (0..rows[0]).map(|row| u32::try_from(row % t)).collect::<Result<_, _>>().ok()?;
    let positions = Input::Constant(Tensor::from_u32([rows[0]], &positions));
    let heads_of_rows = nodes.reshaped(source.unwrap_or(x), [rows[0], rows[1], d]);
    let op = Rope { rotary_dim: d, interleaved: false };
    let turned = Input::applied(op, vec![heads_of_rows, table, positions]);
    if source.is_none() {
        return Fused::new(Reshape { dims: vec![n, heads, t, d] }, vec![turned]).rewrite();
    }
    let tokens = Input::applied(Reshape { dims: vec![n, t, heads, d] }, vec![turned]);
    Fused::new(Transpose { permutation: vec![0, 2, 1, 3] }, vec![tokens]).rewrite()
}

/// x of (-second half, first half) of its last axis.
fn swapped_halves(nodes: &Nodes<'_>, id: ValueId) -> Option<ValueId> {
    let (Concat { axis }, joined) = nodes.made_by(id)?;
    let dims = nodes.dims(id);
    let &[negated, first] = joined.inputs.as_slice() else { return None };
    let (_, second) = nodes.unary(negated).filter(|(function, _)| *function == UnaryFn::Neg)?;
    let part = |value: ValueId, start: usize| {
        let (Slice { ranges }, cut) = nodes.made_by(value)?;
        let (last, outer) = ranges.split_last()?;
        let (&size, sizes) = dims.split_last()?;
        let whole = outer.iter().zip(sizes).all(|(range, &size)| *range == SliceRange::full(size));
        let is_part = whole && *last == SliceRange { start: start * size / 2, count: size / 2, step: 1 };
        (is_part && axis + 1 == dims.len() && nodes.dims(cut.inputs[0]) == dims).then_some(cut.inputs[0])
    };
    let x = part(first, 0)?;
    (part(second, 1)? == x).then_some(x)
}

/// The first half of each row of a constant `[t, d]`, whose halves are equal.
fn half(nodes: &Nodes<'_>, id: ValueId, t: usize, d: usize) -> Option<Vec<f64>> {
    let dims = nodes.dims(id);
    let fits = dims.ends_with(&[t, d]) && nodes.spec(id).elements() == t * d;
    let values = nodes.constant(id).filter(|_| fits)?.to_f64();
    let mut first = Vec::with_capacity(values.len() / 2);
    for row in values.chunks_exact(d) {
        let (left, right) = row.split_at(d / 2);
        (left == right).then(|| first.extend_from_slice(left))?;
    }
    Some(first)
}

/// Of each position its cosines, then its sines, as an input of [`Rope`].
fn table([cosines, sines]: &[Vec<f64>; 2], t: usize, d: usize) -> Input {
    let rows = cosines.chunks_exact(d / 2).zip(sines.chunks_exact(d / 2));
    let values: Vec<f64> = rows.flat_map(|(cosines, sines)| cosines.iter().chain(sines).copied()).collect();
    Input::Constant(Tensor::from_f64(DType::F32, [t, d], &values))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Builder, optimised};
    use super::*;

    /// x cos + (-right, left) sin of heads `[2, 3, 5, 4]`, taken out of tokens if `turned`.
    fn rotated(b: &mut Builder, turned: bool, halves_equal: bool, order: [usize; 2]) {
        let mut x = b.input(if turned { [2, 5, 3, 4] } else { [2, 3, 5, 4] });
        if turned {
            x = b.add(Transpose { permutation: vec![0, 2, 1, 3] }, &[x]);
        }
        let table = |scale: f32| -> Vec<f32> {
            let angle = |row: u8, pair: u8| scale + f32::from(row) * if pair == 0 { 1.0 } else { 0.1 };
            let last = if halves_equal { 1 } else { 0 };
            (0..5).flat_map(|row| [0, 1, 0, last].map(|pair| angle(row, pair).sin())).collect()
        };
        let cosines = b.constant(Tensor::from_f32([1, 1, 5, 4], &table(1.5)));
        let sines = b.constant(Tensor::from_f32([5, 4], &table(0.0)));
        let mut ranges: Vec<SliceRange> = [2, 3, 5].map(SliceRange::full).to_vec();
        ranges.push(SliceRange { start: 2, count: 2, step: 1 });
        let right = b.add(Slice { ranges: ranges.clone() }, &[x]);
        ranges[3].start = 0;
        let left = b.add(Slice { ranges }, &[x]);
        let right = b.unary(UnaryFn::Neg, right);
        let halves = [right, left];
        let swapped = b.add(Concat { axis: 3 }, &order.map(|place| halves[place]));
        let straight = b.binary(BinaryFn::Mul, x, cosines);
        let swapped = b.binary(BinaryFn::Mul, swapped, sines);
        let y = b.binary(BinaryFn::Add, straight, swapped);
        b.output(y);
    }

    #[test]
    fn heads_are_turned_in_one_dispatch_and_before_they_are_transposed() {
        assert_eq!(optimised(|b| rotated(b, false, true, [0, 1])).1, ["rope"]);
        assert_eq!(optimised(|b| rotated(b, true, true, [0, 1])).1, ["rope", "transpose"]);
    }

    #[test]
    fn other_rotations_stay() {
        for (halves_equal, order) in [(false, [0, 1]), (true, [1, 0])] {
            let (graph, names) = optimised(|b| rotated(b, false, halves_equal, order));
            assert!(!names.contains(&"rope"), "{graph}");
        }
    }
}
