//! Converted models: graphs for concrete input shapes with their weights, loaded without the
//! importer of the format that they come from.
//!
//! A model is two files beside each other. `NAME.safetensors` holds weights and constants, each
//! tensor once, in its own dtype. `NAME.graph.json` holds the graphs: nodes with operators, attributes
//! and the values that they read, as the importer built them, before anything is rewritten for a
//! device. What both files say is checked when they are loaded.

mod format;
mod info;
mod model;
mod read;
#[cfg(feature = "onnx")]
mod write;

pub use crate::element::{ElementType, OnnxTensor};
pub use format::PortInfo;
pub use info::{SavedGraphInfo, SavedInfo};
pub use model::{SavedModel, SavedOptions};
#[cfg(feature = "onnx")]
pub(crate) use write::{TensorBytes, Writer};

use crate::graph::Graph;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ending of the file of graphs.
const GRAPH_ENDING: &str = ".graph.json";

/// Ending of the file of tensors.
const TENSORS_ENDING: &str = ".safetensors";

/// The computation for some input shapes, and what its values are to the model's user. Inputs of the
/// graph have the names of the model's.
#[derive(Debug)]
pub(crate) struct ModelGraph {
    pub(crate) inputs: Vec<PortInfo>,
    pub(crate) outputs: Vec<(PortInfo, Output)>,
    pub(crate) graph: Graph,
}

/// What an output of a model is.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// The graph's output of this name.
    Graph(String),
    /// The input of this name as it is.
    Input(String),
    /// The same in every run; in the host's dtype of its element type.
    Known(Arc<Tensor>),
}

/// The two files of a converted model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFiles {
    /// Graphs.
    pub graph: PathBuf,
    /// Weights and constants.
    pub tensors: PathBuf,
}

impl SavedFiles {
    /// Both files, by the name of either.
    ///
    /// # Errors
    /// [`Error::Request`] when the name ends like neither.
    pub fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.strip_suffix(GRAPH_ENDING).or_else(|| name.strip_suffix(TENSORS_ENDING));
        let Some(stem) = stem.filter(|stem| !stem.is_empty()) else {
            let message = format!(
                "{}: expected the name of a converted model, NAME{TENSORS_ENDING} or NAME{GRAPH_ENDING}",
                path.display()
            );
            return Err(Error::Request(message));
        };
        let beside = |ending: &str| path.with_file_name(format!("{stem}{ending}"));
        Ok(Self { graph: beside(GRAPH_ENDING), tensors: beside(TENSORS_ENDING) })
    }

    /// Whether this is a file of a converted model: graphs, or tensors with graphs beside them.
    pub fn are_at(path: &Path) -> bool {
        let is_graph = path.to_str().is_some_and(|name| name.ends_with(GRAPH_ENDING));
        is_graph || Self::of(path).is_ok_and(|files| files.graph.is_file())
    }
}
