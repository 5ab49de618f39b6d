//! Fusion: batch norms, activations and additions go into the kernel of the operator before them.

use crate::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::{BatchNorm, Binary, BinaryFn, Conv, Op, Preparation, Unary};
use std::any::Any;
use std::sync::Arc;

fn as_op<T: Op>(node: &Node) -> Option<&T> {
    let op: &dyn Any = node.op.as_ref();
    op.downcast_ref()
}

/// A convolution, then a batch norm with stored statistics: it goes into weight and bias.
pub(super) fn fuse_batch_norms(graph: &mut Graph) -> Result<()> {
    fuse(graph, |graph, node, producer| {
        let norm: &BatchNorm = as_op(node)?;
        let maker = producer(node.inputs[0])?;
        let folded = as_op::<Conv>(maker)?.with_batch_norm(norm)?;
        let &[sums, gamma, beta, mean, variance] = node.inputs.as_slice() else { return None };
        let (x, weight, bias) = (maker.inputs[0], maker.inputs[1], maker.inputs.get(2).copied());
        let weight = vec![weight, gamma, variance];
        let bias: Vec<ValueId> = [gamma, beta, mean, variance].into_iter().chain(bias).collect();
        if !weight.iter().chain(&bias).all(|id| graph.value(*id).is_stored()) {
            return None;
        }
        let inputs =
            vec![Input::Made(x), Input::Prepared(folded.weight, weight), Input::Prepared(folded.bias, bias)];
        Some(Fused { value: sums, op: Arc::new(folded.conv), inputs })
    })
}

/// An operator, then an activation, where nothing else reads what is between them.
pub(super) fn fuse_activations(graph: &mut Graph) -> Result<()> {
    fuse(graph, |graph, node, producer| {
        let &Unary(activation) = as_op(node)?;
        let maker = producer(node.inputs[0])?;
        debug_assert_eq!(graph.spec(node.inputs[0]), graph.spec(node.outputs[0]));
        let op = maker.op.with_activation(activation)?;
        Some(Fused { value: node.inputs[0], op, inputs: made(&maker.inputs) })
    })
}

/// An operator on images, then a factor for the negative results of each channel.
pub(super) fn fuse_slopes(graph: &mut Graph) -> Result<()> {
    fuse(graph, |graph, node, producer| {
        let Binary(BinaryFn::PRelu) = as_op(node)? else { return None };
        let (sum, slope) = (node.inputs[0], node.inputs[1]);
        let (image, slopes) = (graph.spec(sum).shape.dims(), graph.spec(slope).shape.dims());
        let fits = slopes.len() + 1 == image.len()
            && slopes[0] == image[1]
            && slopes[1..].iter().all(|&size| size == 1);
        let maker = producer(sum).filter(|_| fits)?;
        let (op, position) = maker.op.with_slope()?;
        let mut inputs = maker.inputs.clone();
        inputs.insert(position, slope);
        Some(Fused { value: sum, op, inputs: made(&inputs) })
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
            let inputs = made(maker.inputs.iter().chain([&residual]));
            Some(Fused { value: sum, op, inputs })
        })
    })
}

/// What a node becomes.
struct Fused {
    /// The value whose maker goes into the node.
    value: ValueId,
    op: Arc<dyn Op>,
    inputs: Vec<Input>,
}

/// An input of a fused node.
enum Input {
    Made(ValueId),
    /// Prepared of weights when they are loaded.
    Prepared(Arc<dyn Preparation>, Vec<ValueId>),
}

fn made<'a>(ids: impl IntoIterator<Item = &'a ValueId>) -> Vec<Input> {
    ids.into_iter().copied().map(Input::Made).collect()
}

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
        let Some(fused) = pattern(graph, &graph.nodes[index], &producer) else { continue };
        let maker = makers[fused.value.0].expect("the pattern found its maker");
        removed[maker] = true;
        let mut inputs = Vec::new();
        for input in fused.inputs {
            inputs.push(match input {
                Input::Made(id) => id,
                Input::Prepared(rule, of) => graph.prepared(rule, &of)?,
            });
        }
        let name = graph.nodes[maker].name.clone();
        let node = &mut graph.nodes[index];
        (node.op, node.inputs, node.name) = (fused.op, inputs, name);
    }
    let mut kept = removed.iter().map(|removed| !removed);
    graph.nodes.retain(|_| kept.next().expect("as many as nodes"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Linear, ResidualPlace, UnaryFn, Window};
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
        assert_eq!(*linears[1], Linear { residual: Some(ResidualPlace::AfterActivation), ..Linear::PLAIN });
    }

    /// x -> conv -> batch norm -> relu, and another batch norm with a mean that is an input.
    #[test]
    fn a_batch_norm_with_stored_statistics_goes_into_the_convolution() {
        let mut graph = Graph::new();
        let x = graph.input("x", Spec::f32([1, 3, 4, 4]));
        let kernel = graph.constant("kernel", Arc::new(Tensor::zeros(Spec::f32([2, 3, 3, 3]))));
        let vector = |values| Arc::new(Tensor::from_f32([2], values));
        let gamma = graph.constant("gamma", vector(&[3.0, 6.0]));
        let beta = graph.constant("beta", vector(&[1.0, 2.0]));
        let variance = graph.constant("variance", vector(&[8.0, 8.0]));
        let mean = graph.constant("mean", vector(&[0.5, 1.0]));
        let norm = BatchNorm::new(1.0);
        let sums = graph.add_one(Conv::new(Window::new([3, 3])), &[x, kernel]).unwrap();
        let normed = graph.add_one(norm, &[sums, gamma, beta, mean, variance]).unwrap();
        let active = graph.add_one(Unary(UnaryFn::Relu), &[normed]).unwrap();
        let given = graph.input("mean of x", Spec::f32([2]));
        let small = graph.constant("small", Arc::new(Tensor::zeros(Spec::f32([2, 2, 1, 1]))));
        let sums = graph.add_one(Conv::new(Window::new([1, 1])), &[active, small]).unwrap();
        let normed = graph.add_one(norm, &[sums, gamma, beta, given, variance]).unwrap();
        graph.output("y", normed);
        crate::graph::optimise(&mut graph).unwrap();
        graph.check().unwrap();
        assert_eq!(graph.nodes().len(), 3);
        let first: &Conv = as_op(&graph.nodes()[0]).unwrap();
        assert!(first.bias && first.activation == UnaryFn::Relu);
        let bias = graph.constant_of(graph.nodes()[0].inputs[2]).unwrap();
        assert_eq!(bias, Tensor::from_f32([2], &[0.5, 0.0]));
        assert!(!as_op::<Conv>(&graph.nodes()[1]).unwrap().bias);
    }

    /// x -> convolution, then a factor of this shape for what is negative.
    fn convolution_and_slope(slope: &[usize]) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Spec::f32([1, 8, 5, 5]));
        let weight = graph.constant("weight", Arc::new(Tensor::zeros(Spec::f32([5, 8, 3, 3]))));
        let slope = graph.input("slope", Spec::f32(slope));
        let sum = graph.add_one(Conv::new(Window::new([3, 3]).padding([1, 1])), &[x, weight]).unwrap();
        let sum = graph.add_one(Binary(BinaryFn::PRelu), &[sum, slope]).unwrap();
        graph.output("sum", sum);
        graph
    }

    #[test]
    fn a_slope_of_each_channel_goes_into_a_convolution() {
        let mut graph = convolution_and_slope(&[5, 1, 1]);
        crate::graph::optimise(&mut graph).unwrap();
        graph.check().unwrap();
        let convolutions: Vec<&Conv> = graph.nodes().iter().filter_map(as_op).collect();
        assert_eq!((graph.nodes().len(), convolutions[0].slope), (1, true));
        for other in [&[5][..], &[1, 1], &[5, 1], &[1, 1, 1], &[5, 5, 1], &[1, 5, 1, 1]] {
            let mut graph = convolution_and_slope(other);
            crate::graph::optimise(&mut graph).unwrap();
            assert_eq!(graph.nodes().len(), 2, "{other:?}");
        }
    }

    #[test]
    fn a_value_that_is_read_elsewhere_stays() {
        let mut graph = block(true);
        crate::graph::optimise(&mut graph).unwrap();
        graph.check().unwrap();
        assert_eq!(graph.nodes().len(), 3);
    }
}
