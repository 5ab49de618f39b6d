//! What `wginfer run` runs: ONNX models, and those converted from them.

use crate::failure::Failure;
use std::path::Path;
use wginfer::gpu::Gpu;
use wginfer::onnx::{DeclaredDim, NodeDifference, OnnxModel, OnnxOptions, OnnxTensor, OnnxValueInfo};
use wginfer::saved::{PortInfo, SavedFiles, SavedModel, SavedOptions};

/// A model on a device.
#[derive(Debug)]
pub(crate) enum Runnable {
    Onnx(OnnxModel),
    Saved(SavedModel),
}

impl Runnable {
    /// Loads a model by the name of its file.
    pub(crate) fn load(path: &Path, gpu: &Gpu, budget: Option<u64>) -> Result<Self, Failure> {
        if SavedFiles::are_at(path) {
            return Ok(Self::Saved(SavedModel::load_with(path, gpu, SavedOptions { budget })?));
        }
        let options = OnnxOptions { budget, ..OnnxOptions::default() };
        Ok(Self::Onnx(OnnxModel::load_with(path, gpu, &options)?))
    }

    /// The inputs that a run must give. Those of a converted model have sizes where all of its graphs
    /// have the same.
    pub(crate) fn inputs(&self) -> Vec<OnnxValueInfo> {
        let saved = match self {
            Self::Onnx(model) => return model.inputs(),
            Self::Saved(model) => model.inputs(),
        };
        let dims = |port: &PortInfo| -> Vec<DeclaredDim> {
            let same = |axis: usize| {
                let sizes = |graph: &&[PortInfo]| {
                    graph.iter().find(|other| other.name == port.name)?.dims.get(axis).copied()
                };
                saved.iter().all(|graph| sizes(graph) == Some(port.dims[axis]))
            };
            let dim = |axis| if same(axis) { DeclaredDim::Size(port.dims[axis]) } else { DeclaredDim::Any };
            (0..port.dims.len()).map(dim).collect()
        };
        let info = |port: &PortInfo| OnnxValueInfo {
            name: port.name.clone(),
            element: Some(port.element),
            dims: Some(dims(port)),
        };
        saved.first().copied().unwrap_or_default().iter().map(info).collect()
    }

    /// The inputs of each graph of a converted model.
    pub(crate) fn graphs(&self) -> Vec<&[PortInfo]> {
        match self {
            Self::Onnx(_) => Vec::new(),
            Self::Saved(model) => model.inputs(),
        }
    }

    pub(crate) fn run_until(
        &self,
        inputs: &[(&str, OnnxTensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<(String, OnnxTensor)>, Failure> {
        Ok(match self {
            Self::Onnx(model) => model.run_until(inputs, cancelled)?,
            Self::Saved(model) => model.run_until(inputs, cancelled)?,
        })
    }

    /// Differences of operators from their references.
    pub(crate) fn compare_nodes(
        &self,
        inputs: &[(&str, OnnxTensor)],
    ) -> Result<Vec<NodeDifference>, Failure> {
        match self {
            Self::Onnx(model) => Ok(model.compare_nodes(inputs)?),
            Self::Saved(_) => Err(Failure::Usage("--nodes takes an ONNX model, not a converted one".into())),
        }
    }
}
