//! Verifies a graph: after building and after every pass, in tests and debug builds.

use super::{Graph, Source, ValueId};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};

impl Graph {
    /// Checks that every value is made before it is read, specs agree with `infer`, names of
    /// inputs and outputs are unique, and no old version of a state is read after the next one,
    /// nor is it an output.
    ///
    /// # Errors
    /// [`Error::Op`] naming the node.
    pub fn check(&self) -> Result<()> {
        let mut made: HashSet<ValueId> = self
            .values()
            .filter(|(_, value)| !matches!(value.source, Source::Node))
            .map(|(id, _)| id)
            .collect();
        let mut replaced: HashSet<ValueId> = HashSet::new();
        for node in &self.nodes {
            let fail = |message: String| Error::op(node.op.name(), message).at_node(&node.name);
            for id in &node.inputs {
                if !made.contains(id) {
                    return Err(fail(format!("reads %{} before it is made", id.0)));
                }
                if replaced.contains(id) {
                    return Err(fail(format!("reads %{} after its next version was made", id.0)));
                }
            }
            let specs: Vec<_> = node.inputs.iter().map(|id| self.spec(*id).clone()).collect();
            let wanted = node.op.infer(&specs).map_err(|error| error.at_node(&node.name))?;
            let got: Vec<_> = node.outputs.iter().map(|id| self.spec(*id).clone()).collect();
            if wanted != got {
                return Err(fail(format!("outputs are {got:?}, its operator makes {wanted:?}")));
            }
            for &(_, input) in node.op.aliases() {
                replaced.insert(node.inputs[input]);
            }
            made.extend(&node.outputs);
        }
        for (name, id) in &self.outputs {
            if !made.contains(id) {
                return Err(Error::op("graph", format!("output `{name}` is never made")));
            }
            if replaced.contains(id) {
                return Err(Error::op(
                    "graph",
                    format!("output `{name}` has a next version that replaces it"),
                ));
            }
        }
        self.check_names()
    }

    fn check_names(&self) -> Result<()> {
        let mut names = HashMap::new();
        for (_, value) in self.values() {
            let kind = match value.source {
                Source::Input => "input",
                Source::State => "state",
                _ => continue,
            };
            if names.insert((kind, value.name.as_str()), ()).is_some() {
                return Err(Error::op("graph", format!("two {kind}s are named `{}`", value.name)));
            }
        }
        Ok(())
    }
}
