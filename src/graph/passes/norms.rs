//! Normalisations of rows that are written out.

use super::rewrite::{Fused, Input, Nodes, Pattern, Rewrite, as_op, either};
use crate::graph::{Node, ValueId};
use crate::ops::{Binary, BinaryFn, LayerNorm, Op, Reduce, ReduceFn, RmsNorm, UnaryFn};
use std::sync::Arc;

pub(super) const PATTERNS: &[Pattern] = &[layer_norm, rms_norm, norm_weight, norm_bias];

/// (x - mean(x)) / sqrt(mean((x - mean(x))²) + eps).
fn layer_norm(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let (centred, eps) = root_mean_square(nodes, node)?;
    let [x, mean] = nodes.binary(centred, BinaryFn::Sub)?;
    (mean_of_rows(nodes, mean)? == x).then_some(())?;
    unweighted(nodes, x, LayerNorm::new(eps, false))
}

/// x / sqrt(mean(x²) + eps).
fn rms_norm(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let (x, eps) = root_mean_square(nodes, node)?;
    unweighted(nodes, x, RmsNorm { eps, offset: 0.0, residual: false })
}

fn unweighted(nodes: &Nodes<'_>, x: ValueId, op: impl Op) -> Option<Rewrite> {
    let cols = *nodes.dims(x).last()?;
    Fused::new(op, vec![x.into(), Input::filled(1.0, cols)]).rewrite()
}

/// x and eps of x / sqrt(mean(x²) + eps).
fn root_mean_square(nodes: &Nodes<'_>, node: &Node) -> Option<(ValueId, f32)> {
    let operands = [node.inputs[0], *node.inputs.get(1)?];
    let (x, sum) = match as_op(node)? {
        Binary(BinaryFn::Div) => (operands[0], power(nodes, operands[1]).filter(|root| root.1 == 0.5)?.0),
        Binary(BinaryFn::Mul) => either(operands, |x, root| {
            let (sum, exponent) = power(nodes, root)?;
            (exponent == -0.5).then_some((x, sum))
        })?,
        _ => return None,
    };
    let (mean, eps) = nodes.plus_number(sum)?;
    let (base, exponent) = power(nodes, mean_of_rows(nodes, mean)?)?;
    (base == x && exponent == 2.0).then_some((x, eps as f32))
}

/// What is averaged over its last axis, which stays with size 1.
fn mean_of_rows(nodes: &Nodes<'_>, id: ValueId) -> Option<ValueId> {
    let (op, node) = nodes.made_by::<Reduce>(id)?;
    let last = nodes.dims(node.inputs[0]).len().checked_sub(1)?;
    let rows = op.function == ReduceFn::Mean && op.axes == [last] && op.keep_dims;
    rows.then_some(node.inputs[0])
}

/// Base and exponent of a square, a root, a reciprocal or another power.
fn power(nodes: &Nodes<'_>, id: ValueId) -> Option<(ValueId, f64)> {
    let of_root = |(base, exponent): (ValueId, f64)| (base, -exponent);
    if let Some((function, x)) = nodes.unary(id) {
        return match function {
            UnaryFn::Square => Some((x, 2.0)),
            UnaryFn::Sqrt => Some((x, 0.5)),
            UnaryFn::InverseSqrt => Some((x, -0.5)),
            UnaryFn::Reciprocal => power(nodes, x).map(of_root),
            _ => None,
        };
    }
    if let Some([x, exponent]) = nodes.binary(id, BinaryFn::Pow) {
        return Some((x, nodes.number(exponent)?));
    }
    if let Some([one, x]) = nodes.binary(id, BinaryFn::Div) {
        return power(nodes, x).filter(|_| nodes.number(one) == Some(1.0)).map(of_root);
    }
    let [left, right] = nodes.binary(id, BinaryFn::Mul)?;
    (left == right).then_some((left, 2.0))
}

/// A norm without weight, then a factor for each column.
fn norm_weight(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::Mul) = as_op(node)? else { return None };
    either([node.inputs[0], node.inputs[1]], |normed, weight| {
        let maker = nodes.maker(normed)?;
        let bare = as_op(maker).is_some_and(|norm: &LayerNorm| !norm.bias)
            || as_op(maker).is_some_and(|norm: &RmsNorm| !norm.residual && norm.offset == 0.0);
        let ones = nodes.constant(*maker.inputs.get(1).filter(|_| bare)?)?;
        ones.to_f64().iter().all(|&one| one == 1.0).then_some(())?;
        let weight = nodes.vector(weight, ones.spec().elements())?;
        Some(Fused::of_shared(Arc::clone(&maker.op), vec![maker.inputs[0].into(), weight]))
    })?
    .rewrite()
}

/// A layer norm without bias, then the addition of a number for each column.
fn norm_bias(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::Add) = as_op(node)? else { return None };
    either([node.inputs[0], node.inputs[1]], |normed, bias| {
        let (norm, maker) = nodes.made_by::<LayerNorm>(normed)?;
        let bias =
            nodes.vector(bias, *nodes.dims(normed).last()?).filter(|_| !norm.bias && !norm.residual)?;
        let [x, weight] = [maker.inputs[0], maker.inputs[1]];
        Some(Fused::new(LayerNorm { bias: true, ..*norm }, vec![x.into(), weight.into(), bias]))
    })?
    .rewrite()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Builder, assert_becomes, optimised};
    use super::*;
    use crate::ops::Unary;

    fn mean(b: &mut Builder, x: ValueId, axis: usize) -> ValueId {
        b.add(Reduce { function: ReduceFn::Mean, axes: vec![axis], keep_dims: true }, &[x])
    }

    /// How a sum is divided by.
    #[derive(Clone, Copy)]
    enum Root {
        Div,
        Reciprocal,
        Power,
        Inverse,
    }

    /// x / sqrt(mean of `squared`, + 1e-3).
    fn divided(b: &mut Builder, x: ValueId, squared: ValueId, axis: usize, root: Root) -> ValueId {
        let mean = mean(b, squared, axis);
        let sum = b.with_number(BinaryFn::Add, mean, 1e-3);
        match root {
            Root::Div => {
                let root = b.unary(UnaryFn::Sqrt, sum);
                b.binary(BinaryFn::Div, x, root)
            }
            Root::Reciprocal => {
                let root = b.unary(UnaryFn::Sqrt, sum);
                let inverse = b.unary(UnaryFn::Reciprocal, root);
                b.binary(BinaryFn::Mul, inverse, x)
            }
            Root::Power => {
                let inverse = b.with_number(BinaryFn::Pow, sum, -0.5);
                b.binary(BinaryFn::Mul, x, inverse)
            }
            Root::Inverse => {
                let inverse = b.unary(UnaryFn::InverseSqrt, sum);
                b.binary(BinaryFn::Mul, x, inverse)
            }
        }
    }

    fn normed(b: &mut Builder, x: ValueId, axis: usize) -> ValueId {
        let mean = mean(b, x, axis);
        let centred = b.binary(BinaryFn::Sub, x, mean);
        let squared = b.with_number(BinaryFn::Pow, centred, 2.0);
        divided(b, centred, squared, axis, Root::Div)
    }

    #[test]
    fn layer_norms_with_and_without_weight_and_bias() {
        for (weighted, biased) in [(false, false), (true, false), (true, true), (false, true)] {
            let (graph, names) = optimised(|b| {
                let x = b.input([2, 3, 8]);
                let mut y = normed(b, x, 2);
                if weighted {
                    let weight = b.stored([1, 8]);
                    y = b.binary(BinaryFn::Mul, weight, y);
                }
                if biased {
                    let bias = b.stored([8]);
                    y = b.binary(BinaryFn::Add, y, bias);
                }
                b.output(y);
            });
            assert_eq!(names, ["layer_norm"]);
            assert_eq!(as_op(&graph.nodes()[0]), Some(&LayerNorm::new(1e-3, biased)));
        }
    }

    /// Also a mean of squares where x - mean(x) is computed twice.
    #[test]
    fn equal_parts_are_shared() {
        assert_becomes(&["layer_norm"], |b| {
            let x = b.input([3, 8]);
            let mean = mean(b, x, 1);
            let [left, right] = [0, 1].map(|_| b.binary(BinaryFn::Sub, x, mean));
            let squared = b.binary(BinaryFn::Mul, left, left);
            let y = divided(b, right, squared, 1, Root::Inverse);
            b.output(y);
        });
    }

    #[test]
    fn root_mean_squares_in_all_their_forms() {
        for root in [Root::Div, Root::Reciprocal, Root::Power, Root::Inverse] {
            assert_becomes(&["rms_norm"], |b| {
                let (x, weight) = (b.input([3, 8]), b.stored([8]));
                let squared = b.unary(UnaryFn::Square, x);
                let normed = divided(b, x, squared, 1, root);
                let y = b.binary(BinaryFn::Mul, weight, normed);
                b.output(y);
            });
        }
    }

    #[test]
    fn norms_that_are_not_those_of_rows_stay() {
        let (_, names) = optimised(|b| {
            let x = b.input([2, 3, 8]);
            let y = normed(b, x, 1);
            b.output(y);
        });
        assert!(!names.contains(&"layer_norm") && !names.contains(&"rms_norm"), "another axis: {names:?}");
        let (_, names) = optimised(|b| {
            let (x, other) = (b.input([3, 8]), b.input([3, 8]));
            let squared = b.unary(UnaryFn::Square, other);
            let y = divided(b, x, squared, 1, Root::Div);
            b.output(y);
        });
        assert!(!names.contains(&"rms_norm"), "the mean of another value: {names:?}");
        let (_, names) = optimised(|b| {
            let x = b.input([3, 8]);
            let cubed = b.with_number(BinaryFn::Pow, x, 4.0);
            let y = divided(b, x, cubed, 1, Root::Div);
            b.output(y);
        });
        assert!(!names.contains(&"rms_norm"), "another power: {names:?}");
    }

    #[test]
    fn what_is_read_elsewhere_is_not_left_out() {
        let (_, names) = optimised(|b| {
            let x = b.input([3, 8]);
            let squared = b.add(Unary(UnaryFn::Square), &[x]);
            let y = divided(b, x, squared, 1, Root::Div);
            b.output(y);
            b.output(squared);
        });
        assert!(!names.contains(&"rms_norm"), "{names:?}");
        // The centred values are read elsewhere: what divides them is a norm of its own.
        assert_becomes(&["reduce", "binary", "rms_norm"], |b| {
            let x = b.input([3, 8]);
            let mean = mean(b, x, 1);
            let centred = b.binary(BinaryFn::Sub, x, mean);
            let squared = b.unary(UnaryFn::Square, centred);
            let y = divided(b, centred, squared, 1, Root::Div);
            b.output(centred);
            b.output(y);
        });
    }
}
