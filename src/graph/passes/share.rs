//! Common subexpressions: of nodes that compute the same of the same values, one stays.

use super::changed_values;
use crate::Result;
use crate::graph::{Graph, Node, ValueId};
use std::collections::HashMap;

/// Lets the readers of equal nodes read the first of them.
pub(super) fn share_equal_nodes(graph: &mut Graph) -> Result<()> {
    let changed = changed_values(&graph.nodes);
    let mut forwards: HashMap<ValueId, ValueId> = HashMap::new();
    // By operator with its attributes, and inputs.
    let mut known: HashMap<(String, Vec<ValueId>), usize> = HashMap::new();
    let mut kept: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    for mut node in std::mem::take(&mut graph.nodes) {
        for id in &mut node.inputs {
            *id = forwards.get(id).copied().unwrap_or(*id);
        }
        // The output of a node without inputs may be another each time, and what is changed in
        // place must stay the reader's own.
        let is_free = node.op.aliases().is_empty() && !node.inputs.is_empty();
        if is_free && !node.outputs.iter().any(|id| changed.contains(id)) {
            let key = (format!("{} {:?}", node.op.name(), node.op), node.inputs.clone());
            let first = *known.entry(key).or_insert(kept.len());
            if first < kept.len() {
                forwards.extend(node.outputs.into_iter().zip(kept[first].outputs.iter().copied()));
                continue;
            }
        }
        kept.push(node);
    }
    graph.nodes = kept;
    for (_, id) in &mut graph.outputs {
        *id = forwards.get(id).copied().unwrap_or(*id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_becomes;
    use crate::ops::{BinaryFn, UnaryFn};

    #[test]
    fn equal_nodes_are_computed_once() {
        assert_becomes(&["unary", "unary", "binary"], |b| {
            let x = b.input([2, 3]);
            let left = b.unary(UnaryFn::Sin, x);
            let right = b.unary(UnaryFn::Sin, x);
            let [left, right] = [left, right].map(|y| b.unary(UnaryFn::Cos, y));
            let y = b.binary(BinaryFn::Add, left, right);
            b.output(y);
            b.output(left);
            b.output(right);
        });
        assert_becomes(&["unary", "unary", "binary"], |b| {
            let x = b.input([2, 3]);
            let left = b.unary(UnaryFn::Elu(1.0), x);
            let right = b.unary(UnaryFn::Elu(2.0), x);
            let y = b.binary(BinaryFn::Add, left, right);
            b.output(y);
        });
    }
}
