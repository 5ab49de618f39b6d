//! Dead code: nodes whose outputs nothing reads.

use crate::Result;
use crate::graph::{Graph, Node, ValueId};
use std::collections::HashSet;

/// Removes nodes whose outputs nothing reads; a node that makes a state's next version stays.
pub(super) fn remove_dead_code(graph: &mut Graph) -> Result<()> {
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
