//! Fusion: activations and additions go into the kernel of the operator before them.

use crate::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Binary, BinaryFn, Op, Unary};
use std::any::Any;
use std::sync::Arc;

fn as_op<T: Op>(node: &Node) -> Option<&T> {
    let op: &dyn Any = node.op.as_ref();
    op.downcast_ref()
}

/// An operator, then an activation, where nothing else reads what is between them.
pub(super) fn fuse_activations(graph: &mut Graph) -> Result<()> {
    fuse(graph, |graph, node, producer| {
        let &Unary(activation) = as_op(node)?;
        let maker = producer(node.inputs[0])?;
        debug_assert_eq!(graph.spec(node.inputs[0]), graph.spec(node.outputs[0]));
        Some((node.inputs[0], maker.op.with_activation(activation)?, maker.inputs.clone()))
    })
}

/// An operator, then the addition of a value of the same shape.
pub(super) fn fuse_residuals(graph: &mut Graph) -> Result<()> {
    fuse(graph, |graph, node, producer| {
        let Binary(BinaryFn::Add) = as_op(node)? else { return None };
        let (left, right) = (node.inputs[0], node.inputs[1]);
        if graph.spec(left) != graph.spec(right) || left == right {
            return None;
        }
        [(left, right), (right, left)].into_iter().find_map(|(sum, residual)| {
            let maker = producer(sum)?;
            let op = maker.op.with_residual()?;
            Some((sum, op, maker.inputs.iter().copied().chain([residual]).collect()))
        })
    })
}

/// What a node becomes: the value whose maker goes into it, its new operator and inputs.
type Fused = (ValueId, Arc<dyn Op>, Vec<ValueId>);

/// Replaces nodes as `pattern` says. It gets the graph, the node, and a function from a value to
/// the node that makes it, if nothing but this node reads the value.
fn fuse(
    graph: &mut Graph,
    pattern: impl for<'g> Fn(&'g Graph, &'g Node, &dyn Fn(ValueId) -> Option<&'g Node>) -> Option<Fused>,
) -> Result<()> {
    let uses = graph.use_counts();
    let makers: Vec<Option<usize>> = {
        let mut makers = vec![None; uses.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            node.outputs.iter().for_each(|id| makers[id.0] = Some(index));
        }
        makers
    };
    let mut removed = vec![false; graph.nodes.len()];
    for index in 0..graph.nodes.len() {
        let nodes = &graph.nodes;
        let producer = |id: ValueId| makers[id.0].filter(|_| uses[id.0] == 1).map(|maker| &nodes[maker]);
        if let Some((value, op, inputs)) = pattern(graph, &graph.nodes[index], &producer) {
            let maker = makers[value.0].expect("the pattern found its maker");
            let name = graph.nodes[maker].name.clone();
            removed[maker] = true;
            let node = &mut graph.nodes[index];
            (node.op, node.inputs, node.name) = (op, inputs, name);
        }
    }
    let mut kept = removed.iter().map(|removed| !removed);
    graph.nodes.retain(|_| kept.next().expect("as many as nodes"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Linear, UnaryFn};
    use crate::tensor::{Spec, Tensor};

    /// x -> linear -> gelu -> linear -> + x, with the first linear layer also an output if `shared`.
    fn block(shared: bool) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Spec::f32([3, 8]));
        let weight = Arc::new(Tensor::zeros(Spec::f32([8, 8])));
        let up = graph.constant("up", weight.clone());
        let down = graph.constant("down", weight);
        let hidden = graph.add_one(Linear::PLAIN, &[x, up]).unwrap();
        let active = graph.add_one(Unary(UnaryFn::Gelu), &[hidden]).unwrap();
        let out = graph.add_one(Linear::PLAIN, &[active, down]).unwrap();
        let sum = graph.add_one(Binary(BinaryFn::Add), &[x, out]).unwrap();
        graph.output("sum", sum);
        if shared {
            graph.output("hidden", hidden);
        }
        graph
    }

    #[test]
    fn activation_and_residual_go_into_linear_layers() {
        let mut graph = block(false);
        crate::graph::optimise(&mut graph).unwrap();
        graph.check().unwrap();
        let linears: Vec<&Linear> = graph.nodes().iter().filter_map(as_op).collect();
        assert_eq!(graph.nodes().len(), 2);
        assert_eq!(*linears[0], Linear { activation: UnaryFn::Gelu, ..Linear::PLAIN });
        assert_eq!(*linears[1], Linear { residual: true, ..Linear::PLAIN });
    }

    #[test]
    fn a_value_that_is_read_elsewhere_stays() {
        let mut graph = block(true);
        crate::graph::optimise(&mut graph).unwrap();
        graph.check().unwrap();
        assert_eq!(graph.nodes().len(), 3);
    }
}
