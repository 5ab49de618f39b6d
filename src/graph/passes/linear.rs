//! What belongs into the kernel of a linear layer: bias, gate, residual, and the norm of its input.

use super::prepare::Stacked;
use super::rewrite::{Fused, Input, Nodes, Pattern, Rewrite, as_op, either, inputs};
use crate::graph::{Node, ValueId};
use crate::ops::{Binary, BinaryFn, InputNorm, LayerNorm, Linear, Reshape, RmsNorm, Softmax, UnaryFn};
use std::sync::Arc;

pub(super) const PATTERNS: &[Pattern] = &[bias, gate, residual, reshaped_rows, norm];

/// A linear layer, then the addition of a number for each column.
fn bias(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::Add) = as_op(node)? else { return None };
    either([node.inputs[0], node.inputs[1]], |sum, bias| {
        let (linear, maker) = nodes.made_by::<Linear>(sum)?;
        let bare = !linear.bias && !linear.gated && linear.activation == UnaryFn::Identity;
        let bias = nodes.vector(bias, nodes.dims(maker.inputs[1])[0]).filter(|_| bare)?;
        let mut inputs = inputs(&maker.inputs);
        inputs.insert(2, bias);
        Some(Fused::new(Linear { bias: true, ..*linear }, inputs).named(maker))
    })?
    .rewrite()
}

/// activation(x Wᵀ) * (x Vᵀ): one layer with the rows of both weights.
fn gate(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::Mul) = as_op(node)? else { return None };
    either([node.inputs[0], node.inputs[1]], |gate, up| {
        let (linear, maker) = nodes.made_by::<Linear>(gate)?;
        let (other, up) = nodes.made_by::<Linear>(up)?;
        let alike = Linear { activation: UnaryFn::Identity, ..*linear } == *other;
        let bare = !linear.gated && linear.residual.is_none() && linear.norm.is_none();
        let fits = alike && bare && maker.inputs[0] == up.inputs[0];
        let inputs = stacked(nodes, &[maker, up]).filter(|_| fits)?;
        Some(Fused::new(Linear { gated: true, ..*linear }, inputs).named(maker))
    })?
    .rewrite()
}

/// Inputs of a linear layer with the rows of several, which read the same x: x, the weights, and
/// the biases if there are any. They must be stored, and the weights different ones.
pub(super) fn stacked(nodes: &Nodes<'_>, layers: &[&Node]) -> Option<Vec<Input>> {
    let first = layers.first()?;
    let stored = |input: usize| {
        let ids: Option<Vec<ValueId>> = layers.iter().map(|layer| layer.inputs.get(input).copied()).collect();
        let ids = ids?;
        let fits =
            ids.iter().all(|id| nodes.is_stored(*id) && nodes.spec(*id).dtype == nodes.spec(ids[0]).dtype);
        fits.then(|| Input::Prepared(Arc::new(Stacked), inputs(&ids)))
    };
    let mut all = vec![first.inputs[0].into(), stored(1)?];
    if first.inputs.len() > 2 {
        all.push(stored(2)?);
    }
    Some(all)
}

/// An operator, then the addition of a value of the same shape.
fn residual(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Binary(BinaryFn::Add) = as_op(node)? else { return None };
    let operands @ [left, right] = [node.inputs[0], node.inputs[1]];
    if nodes.spec(left) != nodes.spec(right) || left == right {
        return None;
    }
    either(operands, |sum, residual| {
        let maker = nodes.maker(sum).filter(|_| nodes.is_read_once(sum))?;
        let op = maker.op.with_residual()?;
        Some(Fused::of_shared(op, inputs(maker.inputs.iter().chain([&residual]))).named(maker))
    })?
    .rewrite()
}

/// An operator on rows, then a reshape that keeps the rows: the reshape goes to its input, where
/// it is no obstacle to what follows the operator.
fn reshaped_rows(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let Reshape { dims } = as_op(node)?;
    let maker = nodes.maker(node.inputs[0])?;
    let on_rows = as_op(maker).is_some_and(|linear: &Linear| linear.residual.is_none())
        || as_op(maker).is_some_and(|norm: &RmsNorm| !norm.residual)
        || as_op::<LayerNorm>(maker).is_some()
        || as_op::<Softmax>(maker).is_some();
    let x = maker.inputs[0];
    let (outer, keeps) = (dims.split_last()?.1, dims.last() == nodes.dims(node.inputs[0]).last());
    let row = *nodes.dims(x).last().filter(|_| on_rows && keeps)?;
    let mut all = inputs(&maker.inputs);
    all[0] = nodes.reshaped(x, [outer, &[row]].concat());
    Fused::of_shared(Arc::clone(&maker.op), all).named(maker).rewrite()
}

/// The norm of rows that nothing but a linear layer reads.
fn norm(nodes: &Nodes<'_>, node: &Node) -> Option<Rewrite> {
    let linear: &Linear = as_op(node)?;
    let (norm, maker) = nodes.made_by::<RmsNorm>(node.inputs[0])?;
    let free = linear.norm.is_none() && !norm.residual && nodes.is_read_once(node.inputs[0]);
    let norm = InputNorm { eps: norm.eps, offset: norm.offset };
    let mut all = inputs(&node.inputs);
    all[0] = maker.inputs[0].into();
    all.insert(if linear.bias { 3 } else { 2 }, maker.inputs[1].into());
    Fused::new(Linear { norm: Some(norm), ..*linear }, all).named(node).rewrite().filter(|_| free)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Builder, assert_becomes, optimised};
    use super::*;
    use crate::ops::ResidualPlace;

    /// x -> linear + bias -> gelu -> linear -> + x, and the first sum is also an output if `shared`.
    fn block(b: &mut Builder, shared: bool) {
        let (x, up, down, bias) = (b.input([3, 8]), b.stored([8, 8]), b.stored([8, 8]), b.stored([1, 1, 8]));
        let bias = b.add(Reshape { dims: vec![8] }, &[bias]);
        let sum = b.add(Linear::PLAIN, &[x, up]);
        let sum = b.binary(BinaryFn::Add, bias, sum);
        let active = b.unary(UnaryFn::Gelu, sum);
        let out = b.add(Linear::PLAIN, &[active, down]);
        let y = b.binary(BinaryFn::Add, x, out);
        b.output(y);
        if shared {
            b.output(sum);
        }
    }

    #[test]
    fn bias_activation_and_residual_go_into_linear_layers() {
        let (graph, names) = optimised(|b| block(b, false));
        assert_eq!(names, ["linear", "linear"]);
        let linears: Vec<&Linear> = graph.nodes().iter().filter_map(as_op).collect();
        assert_eq!(*linears[0], Linear { bias: true, activation: UnaryFn::Gelu, ..Linear::PLAIN });
        assert_eq!(*linears[1], Linear { residual: Some(ResidualPlace::AfterActivation), ..Linear::PLAIN });
        assert_becomes(&["linear", "unary", "linear"], |b| block(b, true));
    }

    #[test]
    fn what_is_no_bias_stays() {
        for dims in [&[3, 1][..], &[1], &[3, 8]] {
            let (graph, names) = optimised(|b| {
                let (x, weight, summand) = (b.input([3, 8]), b.stored([8, 8]), b.input(dims));
                let sum = b.add(Linear::PLAIN, &[x, weight]);
                let sum = b.unary(UnaryFn::Relu, sum);
                let y = b.binary(BinaryFn::Add, sum, summand);
                b.output(y);
            });
            // A value of the whole shape is a residual.
            assert_eq!(names.len(), if dims == [3, 8] { 1 } else { 2 }, "{dims:?} {graph}");
        }
    }

    fn gated(b: &mut Builder, same: bool, activation: UnaryFn) {
        let (x, other) = (b.input([3, 8]), b.input([3, 8]));
        let weights = [b.stored([5, 8]), b.stored([5, 8])];
        let gate = b.add(Linear::PLAIN, &[x, weights[0]]);
        let up = b.add(Linear::PLAIN, &[if same { x } else { other }, weights[1]]);
        let gate = b.unary(activation, gate);
        let y = b.binary(BinaryFn::Mul, up, gate);
        b.output(y);
    }

    #[test]
    fn two_layers_of_the_same_input_become_a_gated_one() {
        assert_becomes(&["linear"], |b| gated(b, true, UnaryFn::Silu));
        assert_becomes(&["linear"], |b| gated(b, true, UnaryFn::Identity));
        assert_becomes(&["linear", "linear", "binary"], |b| gated(b, false, UnaryFn::Silu));
    }

    /// Norm -> gated layer, and a second reader of the normed rows if `shared`.
    fn normed(b: &mut Builder, shared: bool) {
        let (x, gain, bias) = (b.input([3, 8]), b.stored([8]), b.stored([10]));
        let weights = [b.stored([5, 8]), b.stored([5, 8]), b.stored([10, 5])];
        let rows = b.add(RmsNorm { eps: 1e-5, offset: 1.0, residual: false }, &[x, gain]);
        let gate = b.add(Linear::PLAIN, &[rows, weights[0]]);
        let up = b.add(Linear::PLAIN, &[rows, weights[1]]);
        let gate = b.unary(UnaryFn::Silu, gate);
        let fed = b.binary(BinaryFn::Mul, gate, up);
        let sum = b.add(Linear::PLAIN, &[fed, weights[2]]);
        let y = b.binary(BinaryFn::Add, sum, bias);
        b.output(y);
        if shared {
            b.output(rows);
        }
    }

    #[test]
    fn norms_go_into_the_only_layer_that_reads_them() {
        let (graph, names) = optimised(|b| normed(b, false));
        assert_eq!(names, ["linear", "linear"]);
        let linears: Vec<&Linear> = graph.nodes().iter().filter_map(as_op).collect();
        let norm = Some(InputNorm { eps: 1e-5, offset: 1.0 });
        assert_eq!(*linears[0], Linear { gated: true, activation: UnaryFn::Silu, norm, ..Linear::PLAIN });
        assert_becomes(&["rms_norm", "linear", "linear"], |b| normed(b, true));
        // A bias and a residual around it.
        assert_becomes(&["linear"], |b| {
            let (x, gain, weight, bias) = (b.input([3, 8]), b.stored([8]), b.stored([8, 8]), b.stored([8]));
            let rows = b.add(RmsNorm { eps: 1e-5, offset: 0.0, residual: false }, &[x, gain]);
            let sum = b.add(Linear::PLAIN, &[rows, weight]);
            let sum = b.binary(BinaryFn::Add, sum, bias);
            let y = b.binary(BinaryFn::Add, sum, x);
            b.output(y);
        });
    }

    #[test]
    fn reshapes_between_rows_are_no_obstacle() {
        assert_becomes(&["linear"], |b| {
            let (x, weight, bias) = (b.input([2, 3, 8]), b.stored([8, 8]), b.stored([8]));
            let rows = b.add(Reshape { dims: vec![6, 8] }, &[x]);
            let sum = b.add(Linear { bias: true, ..Linear::PLAIN }, &[rows, weight, bias]);
            let sum = b.add(Reshape { dims: vec![2, 3, 8] }, &[sum]);
            let sum = b.binary(BinaryFn::Add, sum, x);
            let y = b.unary(UnaryFn::Relu, sum);
            b.output(y);
        });
        // Other rows: the last axis changes.
        assert_becomes(&["linear", "binary"], |b| {
            let (x, weight) = (b.input([6, 8]), b.stored([8, 8]));
            let sum = b.add(Linear::PLAIN, &[x, weight]);
            let sum = b.add(Reshape { dims: vec![12, 4] }, &[sum]);
            let bias = b.stored([4]);
            let y = b.binary(BinaryFn::Add, sum, bias);
            b.output(y);
        });
    }
}
