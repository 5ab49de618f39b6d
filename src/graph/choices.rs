//! What is chosen where a graph is planned: all ways in which an operator can be computed on a
//! device, and lists of graphs that were planned.

use super::{Graph, Plan, lower};
use crate::Result;
use crate::kernel::{Caps, all_choices};
use crate::ops::Op;
use crate::tensor::Tensor;
use std::sync::{Arc, Mutex, PoisonError};

impl Plan {
    /// The plan of one operator on these inputs.
    ///
    /// # Errors
    /// When the operator does not take them, or the device cannot run it.
    pub fn of_op(op: Arc<dyn Op>, inputs: &[Tensor], caps: &Caps) -> Result<Self> {
        let mut graph = Graph::of_op(op, inputs)?;
        lower(&mut graph, caps)?;
        Self::new(&graph, caps)
    }
}

/// The device with each combination of choices forced that it could take for an operator on these
/// inputs; the device as it is, where there is no choice.
///
/// # Errors
/// When the operator does not take them, or the device cannot run it.
pub fn op_choices(op: &Arc<dyn Op>, inputs: &[Tensor], caps: &Caps) -> Result<Vec<Caps>> {
    all_choices(caps, &mut |caps| Ok(Plan::of_op(op.clone(), inputs, caps)?.selected().cloned().collect()))
}

/// Graphs that sessions planned, optimised but not yet lowered for their device. Clones share the
/// list.
#[derive(Debug, Clone, Default)]
pub struct PlannedGraphs(Arc<Mutex<Vec<Graph>>>);

impl PlannedGraphs {
    /// Starts an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a graph.
    pub(crate) fn add(&self, graph: &Graph) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(graph.clone());
    }

    /// Takes the graphs out of the list.
    pub fn take(&self) -> Vec<Graph> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
