//! Nodes that do nothing, or that do with one dispatch, or none, what takes several.

use super::rewrite::{Fused, Nodes, Pattern, Rewrite, as_op, inputs};
use crate::graph::{Node, ValueId};
use crate::ops::{Binary, BinaryFn, Cast, Concat, Expand, Op, Pad, Reshape, Slice, SliceRange, Transpose};
use crate::ops::{Unary, UnaryFn};
use crate::tensor::DType;

pub(super) const PATTERNS: &[Pattern] = &[
    same_elements,
    neutral_number,
    reshapes,
    transposes,
    transposed_units,
    casts,
    slices,
    slice_of_concat,
    broadcast,
];

/// A reshape, expansion, cast, slice, pad or join that leaves its input as it is.
fn same_elements(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let does_nothing = if let Some(Transpose { permutation }) = as_op(node) {
        permutation.is_sorted()
    } else if let Some(Pad { pads, .. }) = as_op(node) {
        pads.iter().all(|&pads| pads == (0, 0))
    } else if let Some(Slice { ranges }) = as_op(node) {
        ranges.iter().zip(nodes.dims(node.inputs[0])).all(|(range, &size)| *range == SliceRange::full(size))
    } else {
        let is = |op: &dyn std::any::Any| {
            op.is::<Reshape>() || op.is::<Expand>() || op.is::<Cast>() || op.is::<Concat>()
        };
        let same = nodes.spec(node.inputs[0]) == nodes.spec(node.outputs[0]);
        (is(node.op.as_ref()) && node.inputs.len() == 1 && same) || is_identity(node)
    };
    does_nothing.then_some(Rewrite::Value(node.inputs[0]))
}

fn is_identity(node: &Node) -> bool {
    as_op(node).is_some_and(|&Unary(function)| function == UnaryFn::Identity)
}

/// x + 0, x - 0, x * 1, x / 1.
fn neutral_number(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let &Binary(function) = as_op(node)?;
    let neutral = match function {
        BinaryFn::Add | BinaryFn::Sub => 0.0,
        BinaryFn::Mul | BinaryFn::Div => 1.0,
        _ => return None,
    };
    let [left, right] = [node.inputs[0], node.inputs[1]];
    if nodes.number(right) == Some(neutral) {
        return Some(Rewrite::Value(left));
    }
    let commutes = matches!(function, BinaryFn::Add | BinaryFn::Mul);
    (commutes && nodes.number(left) == Some(neutral)).then_some(Rewrite::Value(right))
}

/// Two reshapes.
fn reshapes(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let op: &Reshape = as_op(node)?;
    let (_, first) = nodes.made_by::<Reshape>(node.inputs[0])?;
    let source = first.inputs[0];
    if nodes.spec(source) == nodes.spec(node.outputs[0]) {
        return Some(Rewrite::Value(source));
    }
    Fused::new(op.clone(), vec![source.into()]).shared().rewrite()
}

/// Two transpositions.
fn transposes(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let second: &Transpose = as_op(node)?;
    let (first, maker) = nodes.made_by::<Transpose>(node.inputs[0])?;
    let permutation: Vec<usize> = second.permutation.iter().map(|&axis| first.permutation[axis]).collect();
    if permutation.is_sorted() {
        return Some(Rewrite::Value(maker.inputs[0]));
    }
    Fused::new(Transpose { permutation }, vec![maker.inputs[0].into()]).shared().rewrite()
}

/// A transposition that moves nothing but axes of size 1.
fn transposed_units(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Transpose { permutation } = as_op(node)?;
    let dims = nodes.dims(node.inputs[0]);
    let moved = permutation.iter().filter(|&&axis| dims[axis] != 1);
    let dims = nodes.dims(node.outputs[0]).to_vec();
    moved.is_sorted().then(|| Fused::new(Reshape { dims }, vec![node.inputs[0].into()]))?.rewrite()
}

/// Floats to f32 and back.
fn casts(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Cast { to } = as_op(node)?;
    let (_, first) = nodes.made_by::<Cast>(node.inputs[0])?;
    let (source, between) = (first.inputs[0], nodes.spec(node.inputs[0]).dtype);
    let exact = between == DType::F32 && matches!(to, DType::F16 | DType::BF16);
    (exact && nodes.spec(source).dtype == *to).then_some(Rewrite::Value(source))
}

/// Two slices.
fn slices(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let second: &Slice = as_op(node)?;
    let (first, maker) = nodes.made_by::<Slice>(node.inputs[0])?;
    let of = |(outer, inner): (&SliceRange, &SliceRange)| {
        let start = outer.start as isize + inner.start as isize * outer.step;
        Some(SliceRange {
            start: usize::try_from(start).ok()?,
            count: inner.count,
            step: outer.step * inner.step,
        })
    };
    let ranges = first.ranges.iter().zip(&second.ranges).map(of).collect::<Option<_>>()?;
    Fused::new(Slice { ranges }, vec![maker.inputs[0].into()]).shared().rewrite()
}

/// A slice that is one of the values that were joined.
fn slice_of_concat(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Slice { ranges } = as_op(node)?;
    let (Concat { axis }, maker) = nodes.made_by(node.inputs[0])?;
    let dims = nodes.dims(node.inputs[0]);
    let mut others = ranges.iter().zip(dims).enumerate().filter(|(place, _)| place != axis);
    if !others.all(|(_, (range, &size))| *range == SliceRange::full(size)) {
        return None;
    }
    let mut start = 0;
    maker.inputs.iter().find_map(|&part| {
        let count = nodes.dims(part)[*axis];
        let range = SliceRange { start, count, step: 1 };
        start += count;
        (ranges[*axis] == range).then_some(Rewrite::Value(part))
    })
}

/// An expansion in front of an operator that broadcasts.
fn broadcast(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let op: &Binary = as_op(node)?;
    let fits = |operands: &[ValueId; 2]| {
        let specs = operands.map(|id| nodes.spec(id).clone());
        op.infer(&specs).is_ok_and(|specs| specs == [nodes.spec(node.outputs[0]).clone()])
    };
    let operands = [node.inputs[0], node.inputs[1]];
    let found = (0..2).find_map(|place| {
        let (_, maker) = nodes.made_by::<Expand>(operands[place])?;
        let mut operands = operands;
        operands[place] = maker.inputs[0];
        fits(&operands).then_some(operands)
    })?;
    Fused::new(*op, inputs(&found)).shared().rewrite()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Builder, assert_becomes};
    use super::*;
    use crate::ops::PadMode;

    #[test]
    fn nodes_that_do_nothing_are_left_out() {
        assert_becomes(&["unary"], |b| {
            let x = b.input([2, 3]);
            let mut y = b.unary(UnaryFn::Sin, x);
            y = b.with_number(BinaryFn::Add, y, 0.0);
            y = b.with_number(BinaryFn::Div, y, 1.0);
            let one = b.number(1.0);
            y = b.binary(BinaryFn::Mul, one, y);
            y = b.add(Expand { dims: vec![2, 3] }, &[y]);
            y = b.add(Cast { to: DType::F32 }, &[y]);
            y = b.add(Concat { axis: 0 }, &[y]);
            y = b.add(Pad { pads: vec![(0, 0); 2], mode: PadMode::Reflect }, &[y]);
            y = b.add(Slice { ranges: vec![SliceRange::full(2), SliceRange::full(3)] }, &[y]);
            y = b.unary(UnaryFn::Identity, y);
            b.output(y);
        });
        assert_becomes(&["binary", "binary", "binary"], |b| {
            let x = b.input([2, 1]);
            // 1 / x is no x; the second sum has another shape.
            let one = b.number(1.0);
            let y = b.binary(BinaryFn::Div, one, x);
            let zeros = b.stored([1, 3]);
            let zeros = b.binary(BinaryFn::Sub, zeros, zeros);
            let y = b.binary(BinaryFn::Add, y, zeros);
            let y = b.with_number(BinaryFn::Sub, y, 1.0);
            b.output(y);
        });
    }

    /// An input that would be an output is copied.
    #[test]
    fn an_output_is_no_input() {
        assert_becomes(&["binary"], |b| {
            let x = b.input([2, 3]);
            let y = b.with_number(BinaryFn::Add, x, 0.0);
            b.output(y);
        });
    }

    fn transpose(b: &mut Builder, x: ValueId, permutation: &[usize]) -> ValueId {
        b.add(Transpose { permutation: permutation.to_vec() }, &[x])
    }

    #[test]
    fn transpositions_and_reshapes_cancel() {
        assert_becomes(&["unary"], |b| {
            let x = b.input([2, 3, 4]);
            let y = b.unary(UnaryFn::Sin, x);
            let y = transpose(b, y, &[1, 2, 0]);
            let y = transpose(b, y, &[2, 0, 1]);
            let y = b.add(Reshape { dims: vec![6, 4] }, &[y]);
            let y = b.add(Reshape { dims: vec![2, 3, 4] }, &[y]);
            b.output(y);
        });
        assert_becomes(&["transpose"], |b| {
            let x = b.input([2, 3, 4]);
            let y = transpose(b, x, &[1, 2, 0]);
            let y = transpose(b, y, &[1, 2, 0]);
            b.output(y);
        });
        // Axes of size 1 move without their elements.
        assert_becomes(&[], |b| {
            let x = b.input([2, 1, 4, 1]);
            let y = transpose(b, x, &[3, 0, 2, 1]);
            b.output(y);
        });
    }

    #[test]
    fn slices_of_slices_and_of_joins() {
        let of = |start, count, step| SliceRange { start, count, step };
        assert_becomes(&["slice"], |b| {
            let x = b.input([9, 8]);
            let y = b.add(Slice { ranges: vec![of(8, 4, -2), SliceRange::full(8)] }, &[x]);
            let y = b.add(Slice { ranges: vec![of(1, 3, 1), of(1, 3, 2)] }, &[y]);
            b.output(y);
        });
        let join = |b: &mut Builder, range| {
            let parts = [b.input([2, 3]), b.input([2, 5])];
            let parts = parts.map(|part| b.unary(UnaryFn::Sin, part));
            let whole = b.add(Concat { axis: 1 }, &parts);
            let y = b.add(Slice { ranges: vec![SliceRange::full(2), range] }, &[whole]);
            b.output(y);
        };
        assert_becomes(&["unary"], |b| join(b, of(3, 5, 1)));
        assert_becomes(&["unary", "unary", "concat", "slice"], |b| join(b, of(2, 5, 1)));
    }

    #[test]
    fn what_broadcasts_needs_no_expansion() {
        assert_becomes(&["binary"], |b| {
            let (x, y) = (b.input([2, 3]), b.input([2, 1]));
            let wide = b.add(Expand { dims: vec![2, 3] }, &[y]);
            let y = b.binary(BinaryFn::Div, x, wide);
            b.output(y);
        });
        assert_becomes(&["expand", "binary"], |b| {
            let x = b.input([1, 3]);
            let x = b.add(Expand { dims: vec![2, 3] }, &[x]);
            let y = b.binary(BinaryFn::Div, x, x);
            b.output(y);
        });
    }

    #[test]
    fn casts_to_f32_and_back_are_left_out_where_they_are_exact() {
        let cast = |b: &mut Builder, through: [DType; 3]| {
            let x = b.input([2, 3]);
            let y = through.into_iter().fold(x, |y, to| b.add(Cast { to }, &[y]));
            b.output(y);
        };
        assert_becomes(&["cast"], |b| cast(b, [DType::F16, DType::F32, DType::F16]));
        assert_becomes(&["cast"; 3], |b| cast(b, [DType::F16, DType::F32, DType::BF16]));
        assert_becomes(&["cast"; 3], |b| cast(b, [DType::I32, DType::F32, DType::I32]));
    }
}
