//! Constant folding: nodes that read constants only are computed by their references.

use crate::Result;
use crate::graph::{Graph, Source};
use crate::tensor::Tensor;
use std::sync::Arc;

/// Largest constant that folding may make, in elements.
const FOLD_LIMIT: usize = 1 << 20;

/// Computes nodes that read constants only, through their references.
pub(super) fn fold_constants(graph: &mut Graph) -> Result<()> {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        let inputs: Option<Vec<Tensor>> = node.inputs.iter().map(|id| graph.constant_of(*id)).collect();
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
