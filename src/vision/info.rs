//! What can be said of a network for images without loading it: from its configuration, the
//! headers of its weights, and a plan that is made without a device.

use super::network::{FileSettings, NetworkFiles};
use super::{Architecture, PreprocessChanges, Task};
use crate::Result;
use crate::graph::{Plan, count_parameters, lower, optimise};
use crate::kernel::Caps;
use crate::session::PlannedMemory;
use crate::tensor::DType;
use crate::weights::StoredDtype;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How the network would be loaded.
#[derive(Debug, Clone, Default)]
pub struct NetworkInfoOptions {
    /// The family; without it what config.json says, or the only one that the tensors fit.
    pub architecture: Option<Architecture>,
    /// Changes of the model's own preprocessing.
    pub changes: PreprocessChanges,
    /// A file of labels in place of the model's own.
    pub labels: Option<PathBuf>,
    /// Dtype of the weights on the device; without it the files' own.
    pub dtype: Option<DType>,
    /// Photos that are computed together; 1 without it.
    pub batch: Option<usize>,
}

/// Bytes that a network needs on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NetworkMemory {
    /// Weights and constants.
    pub weights: u64,
    /// Values between the steps, inputs and outputs.
    pub buffers: u64,
    /// All of them.
    pub total: u64,
}

/// What is known of a network for images before it is loaded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetworkInfo {
    /// Its folder.
    pub folder: PathBuf,
    /// Family, as `--arch` takes it.
    pub family: &'static str,
    /// What it does: "classify", "detect" or "segment".
    pub task: &'static str,
    /// Number of classes.
    pub classes: usize,
    /// Number of labels, where there are any.
    pub labels: Option<usize>,
    /// Elements of all tensors that the network uses.
    pub parameters: u64,
    /// The dtypes in the files.
    pub stored: Vec<StoredDtype>,
    /// The preprocessing in use, in words.
    pub preprocessing: String,
    /// Photos, channels, height and width that the figures below are for.
    pub input: [usize; 4],
    /// Bytes on the device.
    pub memory: NetworkMemory,
    /// Dispatches of one run.
    pub dispatches: usize,
    /// Missing, extra and misshapen tensors, where there are any.
    pub problem: Option<String>,
}

impl NetworkInfo {
    /// Reads the small files and headers of a folder or of a file of weights, and plans the
    /// network for a device with these `caps`.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming what is wrong with a file,
    /// [`Error::Unsupported`](crate::Error::Unsupported) for what is no network for images.
    /// Tensors that do not fit are no error here but a [`problem`](Self::problem).
    pub fn read(path: &Path, options: &NetworkInfoOptions, caps: &Caps) -> Result<Self> {
        let settings = FileSettings {
            architecture: options.architecture,
            changes: options.changes.clone(),
            labels: options.labels.clone(),
        };
        let files = NetworkFiles::open(path, &settings)?;
        let checkpoint = files.checkpoint(options.dtype);
        let (n, size) = (options.batch.unwrap_or(1).max(1), files.first_size());
        let mut graph = files.graph(&checkpoint, n, size)?;
        let check = checkpoint.check([&graph], "", "");
        let parameters = count_parameters([&graph]);
        optimise(&mut graph)?;
        lower(&mut graph, caps)?;
        let plan = Plan::new(&graph, caps)?;
        let dispatches = plan.steps.len();
        let planned = PlannedMemory::of(&[plan], caps);
        Ok(Self {
            family: files.model.architecture().name(),
            task: task_name(files.model.task()),
            classes: files.model.task().classes(),
            labels: files.labels.as_ref().map(|labels| labels.names().len()),
            parameters,
            stored: files.weights.stored_dtypes(),
            preprocessing: files.preprocess.to_string(),
            input: [n, files.preprocess.channels.count(), size[0], size[1]],
            memory: NetworkMemory {
                weights: planned.weights,
                buffers: planned.buffers,
                total: planned.total(),
            },
            dispatches,
            problem: check.err().map(|error| error.to_string()),
            folder: files.folder,
        })
    }
}

/// What a network does, in a word.
pub(super) fn task_name(task: Task) -> &'static str {
    match task {
        Task::Classify { .. } => "classify",
        Task::Detect { .. } => "detect",
        Task::Segment { .. } => "segment",
    }
}
