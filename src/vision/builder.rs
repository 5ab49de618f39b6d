//! Loading of networks for images.

use super::info::task_name;
use super::network::{FileSettings, Network, NetworkFiles};
use super::{Classifier, Detector, ImageLimits, PreprocessChanges};
use crate::gpu::Gpu;
use crate::models::vision::{Architecture, Task};
use crate::session::default_budget;
use crate::tensor::DType;
use crate::weights::hub::resolve_model;
use crate::{Error, Result};
use std::path::PathBuf;

/// Calls back while weights are uploaded: bytes done and in all.
pub type LoadProgress = Box<dyn FnMut(u64, u64) + Send>;

/// Settings of loading; [`classifier`](Self::classifier) and [`detector`](Self::detector) do it.
#[derive(Default)]
pub struct ModelBuilder {
    gpu: Option<Gpu>,
    dtype: Option<DType>,
    files: FileSettings,
    limits: ImageLimits,
    batch: Option<usize>,
    memory_budget: Option<u64>,
    progress: Option<LoadProgress>,
}

impl std::fmt::Debug for ModelBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelBuilder")
            .field("dtype", &self.dtype)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ModelBuilder {
    /// The device to use; without it the best adapter is opened.
    #[must_use]
    pub fn gpu(mut self, gpu: &Gpu) -> Self {
        self.gpu = Some(gpu.clone());
        self
    }

    /// Dtype of the weights of convolutions and matrices on the device (f32, f16 or bf16);
    /// without it the files' own.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The family; without it what config.json says, or the only one that the tensors fit.
    #[must_use]
    pub fn architecture(mut self, architecture: Architecture) -> Self {
        self.files.architecture = Some(architecture);
        self
    }

    /// Changes of the model's own preprocessing.
    #[must_use]
    pub fn preprocess(mut self, changes: PreprocessChanges) -> Self {
        self.files.changes = changes;
        self
    }

    /// A file of labels in place of the model's own; see [`Labels::open`](super::Labels::open).
    #[must_use]
    pub fn labels(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.labels = Some(path.into());
        self
    }

    /// How large photos may be.
    #[must_use]
    pub fn limits(mut self, limits: ImageLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Most photos that are computed together; 1 without it.
    #[must_use]
    pub fn batch(mut self, photos: usize) -> Self {
        self.batch = Some(photos);
        self
    }

    /// Bound of the bytes on the device. Without it physical memory on adapters that share it,
    /// none elsewhere.
    #[must_use]
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// Called while weights are uploaded.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(u64, u64) + Send + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Loads a classifier: a model folder, a .safetensors file, or a repository `ORG/NAME` from
    /// the local Hugging Face hub cache.
    ///
    /// # Errors
    /// [`Error::File`] naming what is wrong with a file, [`Error::Request`] when the tensors fit
    /// several families or the model is no classifier, [`Error::Budget`] before anything is
    /// uploaded, [`Error::NoAdapter`], or what the device says.
    pub fn classifier(self, model: &str) -> Result<Classifier> {
        let network = self.load(model, "classify", |task| matches!(task, Task::Classify { .. }))?;
        Ok(Classifier::new(network))
    }

    /// Loads a detector; see [`classifier`](Self::classifier).
    ///
    /// # Errors
    /// As there.
    pub fn detector(self, model: &str) -> Result<Detector> {
        let network = self.load(model, "detect", |task| matches!(task, Task::Detect { .. }))?;
        Ok(Detector::new(network))
    }

    fn load(mut self, model: &str, wanted: &str, fits: impl Fn(Task) -> bool) -> Result<Network> {
        let files = NetworkFiles::open(&resolve_model(model)?, &self.files)?;
        let task = files.model.task();
        if !fits(task) {
            let does = task_name(task);
            let name = files.model.architecture().name();
            return Err(Error::Request(format!(
                "{model}: a {name} that can {does}, expected one that can {wanted}"
            )));
        }
        let gpu = self.gpu.take().map_or_else(Gpu::new, Ok)?;
        let budget = self.memory_budget.or_else(|| default_budget(&gpu));
        let mut progress = self.progress.take().unwrap_or_else(|| Box::new(|_, _| {}));
        let settings = (self.limits, self.dtype, self.batch.unwrap_or(1));
        Network::new(files, &gpu, settings, budget, &mut *progress)
    }
}
