//! What a converted model is and what it needs, without a device.

use super::read::read;
use super::{PortInfo, SavedFiles};
use crate::Result;
use crate::graph::count_parameters;
use crate::kernel::Caps;
use crate::session::{PlannedMemory, plan_graph};
use crate::weights::StoredDtype;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A converted model on a device with some capabilities.
#[derive(Debug, Clone, Serialize)]
pub struct SavedInfo {
    /// Its file of graphs.
    pub file: PathBuf,
    /// Program and version that converted it.
    pub producer: String,
    /// Versions of operator sets of the original by domain; "" is the standard's.
    pub opsets: BTreeMap<String, i64>,
    /// Elements of all weights.
    pub parameters: u64,
    /// Dtypes of the tensors in the file.
    pub stored: Vec<StoredDtype>,
    /// The graphs.
    pub graphs: Vec<SavedGraphInfo>,
}

/// A graph of a converted model.
#[derive(Debug, Clone, Serialize)]
pub struct SavedGraphInfo {
    /// Its inputs.
    pub inputs: Vec<PortInfo>,
    /// Its outputs.
    pub outputs: Vec<PortInfo>,
    /// Nodes in the file.
    pub nodes: usize,
    /// Dispatches of a run.
    pub dispatches: usize,
    /// Bytes of weights and constants on the device.
    pub memory_weights: u64,
    /// Bytes of values between the nodes, inputs and outputs.
    pub memory_buffers: u64,
}

impl SavedInfo {
    /// Reads and checks a model and plans its graphs. `path` is either of its two files.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) that says what is wrong with which file,
    /// [`Error::Io`](crate::Error::Io), or [`Error::Op`](crate::Error::Op) when an operator cannot run
    /// on such a device.
    pub fn read(path: &Path, caps: &Caps) -> Result<Self> {
        let files = SavedFiles::of(path)?;
        let loaded = read(&files)?;
        let parameters = count_parameters(loaded.graphs.iter().map(|graph| &graph.graph));
        let mut graphs = Vec::with_capacity(loaded.graphs.len());
        for graph in loaded.graphs {
            let nodes = graph.graph.nodes().len();
            let plan = plan_graph(graph.graph, caps)?;
            let dispatches = plan.steps.len();
            let memory = PlannedMemory::of(&[plan], caps);
            graphs.push(SavedGraphInfo {
                inputs: graph.inputs,
                outputs: graph.outputs.into_iter().map(|(port, _)| port).collect(),
                nodes,
                dispatches,
                memory_weights: memory.weights,
                memory_buffers: memory.buffers,
            });
        }
        Ok(Self {
            file: files.graph,
            producer: loaded.producer,
            opsets: loaded.opsets,
            parameters,
            stored: loaded.weights.0.stored_dtypes(),
            graphs,
        })
    }
}
