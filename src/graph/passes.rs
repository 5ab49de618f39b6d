//! Rewrite passes: constant folding, dead code. Each keeps the graph's outputs the same.

use super::{Graph, Node, Source, ValueId};
use crate::Result;
use crate::tensor::Tensor;
use std::collections::HashSet;
use std::sync::Arc;

/// Applies all passes, and checks the graph after each in debug builds.
///
/// # Errors
/// When a folded node's reference fails, or the graph is not well formed.
pub fn optimise(graph: &mut Graph) -> Result<()> {
    for pass in [fold_constants, remove_dead_code] {
        pass(graph)?;
        if cfg!(debug_assertions) {
            graph.check()?;
        }
    }
    Ok(())
}

/// Largest constant that folding may make, in elements.
const FOLD_LIMIT: usize = 1 << 20;

/// Computes nodes that read constants only, through their references.
fn fold_constants(graph: &mut Graph) -> Result<()> {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        let inputs: Option<Vec<Tensor>> = node.inputs.iter().map(|id| constant(graph, *id)).collect();
        let small = node.outputs.iter().all(|id| graph.spec(*id).elements() <= FOLD_LIMIT);
        match inputs {
            Some(inputs) if !inputs.is_empty() && small && node.op.aliases().is_empty() => {
                let outputs = node.op.reference(&inputs).map_err(|error| error.at_node(&node.name))?;
                for (id, tensor) in node.outputs.iter().zip(outputs) {
                    graph.values[id.0].source = Source::Constant(Arc::new(tensor));
                }
            }
            _ => graph.nodes.push(node),
        }
    }
    Ok(())
}

fn constant(graph: &Graph, id: ValueId) -> Option<Tensor> {
    match &graph.value(id).source {
        Source::Constant(tensor) => Some(Tensor::clone(tensor)),
        _ => None,
    }
}

/// Removes nodes whose outputs nothing reads; a node that makes a state's next version stays.
fn remove_dead_code(graph: &mut Graph) -> Result<()> {
    let mut needed: HashSet<ValueId> = graph.outputs.iter().map(|(_, id)| *id).collect();
    let mut kept: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if !node.op.aliases().is_empty() || node.outputs.iter().any(|id| needed.contains(id)) {
            needed.extend(&node.inputs);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
    Ok(())
}
