//! Lowering: operators on images take the form that has kernels on a device.
//!
//! Graphs hold images as `[n, channels, spatial..]`, the order of published models; kernels want
//! `[n, spatial.., channels]`. Whole stretches of a graph run in the kernels' order, and only at
//! their borders values are transposed. Weights take the form that the kernels want when they
//! are loaded.

use super::{Graph, Node, Source, ValueId};
use crate::Result;
use crate::kernel::Caps;
use crate::ops::{ChannelsLast, Op, Reshape, Transpose};
use crate::tensor::{Shape, Spec};
use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Rewrites operators on images for a device. Outputs of the graph stay the same.
///
/// # Errors
/// When a weight in a form of the kernels' own is no weight, or what the operators say.
pub fn lower(graph: &mut Graph, caps: &Caps) -> Result<()> {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut lowering = Lowering::new(graph);
    for node in nodes {
        lowering.node(node, caps).map_err(|(name, error)| error.at_node(&name))?;
    }
    let outputs: Vec<ValueId> = lowering.graph.outputs.iter().map(|(_, id)| *id).collect();
    for id in outputs {
        lowering.channels_first(id);
    }
    let borders = lowering.borders;
    remove_unused(graph, &borders);
    if cfg!(debug_assertions) {
        graph.check()?;
    }
    Ok(())
}

/// Dimensions `[n, c, spatial..]` as `[n, spatial.., c]`.
fn to_last(rank: usize) -> Vec<usize> {
    [0].into_iter().chain(2..rank).chain([1]).collect()
}

/// Dimensions `[n, spatial.., c]` as `[n, c, spatial..]`.
fn to_first(rank: usize) -> Vec<usize> {
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}

fn permuted(shape: &Shape, permutation: &[usize]) -> Shape {
    permutation.iter().map(|&axis| shape.dims()[axis]).collect::<Vec<_>>().into()
}

/// Removes nodes whose one output is among `values` and not read by anything.
fn remove_unused(graph: &mut Graph, values: &HashSet<ValueId>) {
    let uses = graph.use_counts();
    graph.nodes.retain(|node| !values.contains(&node.outputs[0]) || uses[node.outputs[0].0] > 0);
}

struct Lowering<'a> {
    graph: &'a mut Graph,
    /// Values with their channels last, by the same with their channels first, and back.
    last: HashMap<ValueId, ValueId>,
    first: HashMap<ValueId, ValueId>,
    /// Values that only exist with their channels last so far.
    unmade: HashSet<ValueId>,
    /// Outputs of the graph's own nodes that transpose between the orders.
    borders: HashSet<ValueId>,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a mut Graph) -> Self {
        let (last, first) = (HashMap::new(), HashMap::new());
        Self { graph, last, first, unmade: HashSet::new(), borders: HashSet::new() }
    }

    fn node(&mut self, node: Node, caps: &Caps) -> std::result::Result<(), (String, crate::Error)> {
        let specs: Vec<Spec> = node.inputs.iter().map(|id| self.graph.spec(*id).clone()).collect();
        let form = node.op.channels_last(&caps.of_op(node.op.name()), &specs);
        let comes_last = |form: &ChannelsLast| form.images.iter().any(|&i| self.comes_last(node.inputs[i]));
        match form {
            Some(form) if form.required || comes_last(&form) => {
                let name = node.name.clone();
                self.replace(node, form).map_err(|error| (name, error))
            }
            _ => {
                for id in &node.inputs {
                    self.channels_first(*id);
                }
                self.note_border(&node);
                self.graph.nodes.push(node);
                Ok(())
            }
        }
    }

    /// Whether a value lies with its channels last. Of three axes, the two orders differ by a
    /// transposition that also stands elsewhere: behind it, only what must work on images does.
    fn comes_last(&self, id: ValueId) -> bool {
        let elsewhere = self.borders.contains(&id) && self.graph.spec(id).shape.rank() == 3;
        self.last.contains_key(&id) && !elsewhere
    }

    /// Adds the form of a node that works with channels last.
    fn replace(&mut self, node: Node, form: ChannelsLast) -> Result<()> {
        let mut inputs = node.inputs.clone();
        for (position, id) in node.inputs.iter().enumerate() {
            if form.images.contains(&position) {
                inputs[position] = self.channels_last(*id);
            } else {
                self.channels_first(*id);
            }
        }
        for (position, rule) in form.prepared {
            inputs[position] = self.graph.prepared(rule, &[inputs[position]])?;
        }
        let mut outputs = node.outputs.clone();
        if form.image_outputs {
            for (output, original) in outputs.iter_mut().zip(&node.outputs) {
                let spec = self.graph.spec(*original);
                let shape = permuted(&spec.shape, &to_last(spec.shape.rank()));
                let spec = Spec::new(spec.dtype, shape);
                *output = self.graph.push(node.name.clone(), spec, Source::Node);
                self.pair(*original, *output);
                self.unmade.insert(*original);
            }
        }
        let (name, op, selected) = (node.name, form.op, form.selected);
        self.graph.nodes.push(Node { name, op, inputs, outputs, selected });
        Ok(())
    }

    /// Notes that a node transposes between the two orders, so that nothing does it again.
    fn note_border(&mut self, node: &Node) {
        let op: &dyn Any = node.op.as_ref();
        let Some(Transpose { permutation }) = op.downcast_ref() else { return };
        let (input, output, rank) = (node.inputs[0], node.outputs[0], permutation.len());
        if rank < 3 {
            return;
        }
        if *permutation == to_first(rank) {
            self.pair(output, input);
        } else if *permutation == to_last(rank) {
            self.pair(input, output);
        } else {
            return;
        }
        self.borders.insert(output);
    }

    fn pair(&mut self, first: ValueId, last: ValueId) {
        self.last.insert(first, last);
        self.first.insert(last, first);
    }

    /// The value with its channels last.
    fn channels_last(&mut self, id: ValueId) -> ValueId {
        if let Some(last) = self.last.get(&id) {
            return *last;
        }
        self.channels_first(id);
        let spec = self.graph.spec(id).clone();
        let permutation = to_last(spec.shape.rank());
        let target = Spec::new(spec.dtype, permuted(&spec.shape, &permutation));
        let last = self.graph.push(self.graph.value(id).name.clone(), target, Source::Node);
        self.transpose(id, last, permutation);
        self.pair(id, last);
        last
    }

    /// Makes sure that the value exists with its channels first.
    fn channels_first(&mut self, id: ValueId) {
        if self.unmade.remove(&id) {
            let permutation = to_first(self.graph.spec(id).shape.rank());
            self.transpose(self.last[&id], id, permutation);
        }
    }

    /// Adds the node that transposes; where no element moves, it only changes the shape.
    fn transpose(&mut self, from: ValueId, to: ValueId, permutation: Vec<usize>) {
        let dims = self.graph.spec(from).shape.dims();
        let moved: Vec<usize> = permutation.iter().copied().filter(|&axis| dims[axis] != 1).collect();
        let op: Arc<dyn Op> = if moved.is_sorted() {
            Arc::new(Reshape { dims: self.graph.spec(to).shape.dims().to_vec() })
        } else {
            Arc::new(Transpose { permutation })
        };
        let name = format!("{}.{}", self.graph.value(from).name, op.name());
        self.graph.nodes.push(Node { name, op, inputs: vec![from], outputs: vec![to], selected: Vec::new() });
    }
}
