//! The graph of a model, its checks, its rewrite passes, and the plan made of it.
//!
//! Pure: no device, no I/O. A [`Graph`] lists nodes in topological order; [`optimise`] rewrites
//! it for every device and [`lower`] for one, and [`Plan::new`] selects kernels there and places
//! values in buffers.

mod build;
mod check;
mod choices;
mod explain;
mod lower;
mod memory;
mod passes;
mod plan;

pub use build::Segment;
pub use choices::{PlannedGraphs, op_choices};
pub use explain::explain;
pub use lower::lower;
pub use passes::optimise;
pub(crate) use plan::buffer_bytes;
pub use plan::{BufferRef, Plan, PlannedWeight, Step, WeightData};

use crate::kernel::Selected;
use crate::ops::{Op, Preparation};
use crate::tensor::{Spec, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(usize);

/// Where a weight's rows come from: parts of tensors in the model's files, stacked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WeightSource {
    /// The rows in order.
    pub segments: Vec<Segment>,
    /// Whether the files hold the transpose: their columns are the rows wanted here.
    pub transposed: bool,
}

/// A weight that is computed from others, on the host.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// How.
    pub rule: Arc<dyn Preparation>,
    /// From what: weights, constants, and what is prepared of them.
    pub inputs: Vec<ValueId>,
}

/// What a value is.
#[derive(Debug, Clone)]
pub enum Source {
    /// Given at each run.
    Input,
    /// Read from the model's files once.
    Weight(WeightSource),
    /// Known when the graph is built.
    Constant(Arc<Tensor>),
    /// Computed once from weights and constants, when they are loaded.
    Prepared(Prepared),
    /// Lives between runs; this is its version at the start of a run.
    State,
    /// Made by a node.
    Node,
}

/// Name, spec and source of a value.
#[derive(Debug, Clone)]
pub struct Value {
    /// Name, unique among inputs, constants and states.
    pub name: String,
    /// Dtype and shape on the device.
    pub spec: Spec,
    /// What it is.
    pub source: Source,
}

impl Value {
    /// Whether its data is there before any run: a weight, a constant, or prepared of them.
    pub fn is_stored(&self) -> bool {
        matches!(self.source, Source::Weight(_) | Source::Constant(_) | Source::Prepared(_))
    }
}

/// An operator applied to values.
#[derive(Debug, Clone)]
pub struct Node {
    /// Scope and operator: "layers.3.mlp.linear".
    pub name: String,
    /// The operator.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<ValueId>,
    /// Its outputs.
    pub outputs: Vec<ValueId>,
    /// What [`lower`] picked where there was a choice.
    pub selected: Vec<Selected>,
}

/// A computation: nodes in topological order over values.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    outputs: Vec<(String, ValueId)>,
    scopes: Vec<String>,
}

impl Graph {
    /// The nodes in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Dtype and shape of a value.
    pub fn spec(&self, id: ValueId) -> &Spec {
        &self.values[id.0].spec
    }

    /// All values with their ids.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values.iter().enumerate().map(|(index, value)| (ValueId(index), value))
    }

    /// The named outputs.
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// How many nodes and outputs read each value.
    fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        for id in self.nodes.iter().flat_map(|node| &node.inputs) {
            counts[id.0] += 1;
        }
        for (_, id) in &self.outputs {
            counts[id.0] += 1;
        }
        counts
    }
}

/// Elements of all tensors of files that graphs read, each tensor once.
pub fn count_parameters<'g>(graphs: impl IntoIterator<Item = &'g Graph>) -> u64 {
    let mut tensors = BTreeMap::new();
    for graph in graphs {
        for (_, value) in graph.values() {
            if let Source::Weight(source) = &value.source {
                tensors.extend(
                    source.segments.iter().map(|part| (part.tensor.clone(), part.shape.elements() as u64)),
                );
            }
        }
    }
    tensors.values().sum()
}

impl std::fmt::Display for Graph {
    /// One line a node: outputs = operator(inputs).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |ids: &[ValueId]| {
            let texts: Vec<String> = ids.iter().map(|id| format!("%{} {}", id.0, self.spec(*id))).collect();
            texts.join(", ")
        };
        for node in &self.nodes {
            writeln!(f, "{} = {:?}({})  // {}", list(&node.outputs), node.op, list(&node.inputs), node.name)?;
        }
        for (name, id) in &self.outputs {
            writeln!(f, "output {name} = %{}", id.0)?;
        }
        Ok(())
    }
}
