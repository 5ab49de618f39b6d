//! Photos to boxes.

use super::builder::ModelBuilder;
use super::detection::{Detection, read_candidates, suppress};
use super::network::{Network, Output};
use super::{Labels, Photo, Preprocess};
use crate::gpu::Gpu;
use crate::models::vision::Architecture;
use crate::{CancelToken, Error, Result};
use std::path::Path;
use std::sync::Arc;

/// How objects are found.
#[derive(Debug, Clone)]
pub struct DetectOptions {
    /// Least score of an object.
    pub score: f32,
    /// Most overlap, as intersection over union, of two objects of a class.
    pub overlap: f32,
    /// Most objects in a photo.
    pub limit: usize,
    /// Stops the work.
    pub cancel: CancelToken,
}

impl Default for DetectOptions {
    /// A score of 0.25, an overlap of 0.45, 300 objects.
    fn default() -> Self {
        Self { score: 0.25, overlap: 0.45, limit: 300, cancel: CancelToken::new() }
    }
}

/// A network that says where in photos objects are. Cheap to clone; clones share all, and may be
/// used from several threads.
#[derive(Debug, Clone)]
pub struct Detector(Arc<Network>);

impl Detector {
    pub(super) fn new(network: Network) -> Self {
        Self(Arc::new(network))
    }

    /// Settings of loading.
    pub fn builder() -> ModelBuilder {
        ModelBuilder::default()
    }

    /// Loads a model with default settings; see [`ModelBuilder::detector`].
    ///
    /// # Errors
    /// As there.
    pub fn load(model: &str) -> Result<Self> {
        Self::builder().detector(model)
    }

    /// Finds objects in photos, the surest first, in pixels of each photo. A photo that cannot be
    /// read does not stop the others.
    ///
    /// # Errors
    /// [`Error::Request`] for a score or overlap that is not from 0 to 1, [`Error::Cancelled`],
    /// or what the device says.
    pub fn detect(&self, photos: &[Photo], options: &DetectOptions) -> Result<Vec<Result<Vec<Detection>>>> {
        for (name, value) in [("score", options.score), ("overlap", options.overlap)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Request(format!("the {name} must be from 0 to 1, got {value}")));
            }
        }
        let outputs = self.0.run(photos, &options.cancel)?;
        Ok(outputs.into_iter().map(|output| output.and_then(|output| self.read(&output, options))).collect())
    }

    fn read(&self, output: &Output, options: &DetectOptions) -> Result<Vec<Detection>> {
        let classes = self.0.files.model.task().classes();
        let found = read_candidates(&output.values, classes, options.score);
        let [height, width] = output.photo;
        let axes = self.preprocess().axes([height as usize, width as usize])?;
        let in_photo = |mut detection: Detection| {
            detection.bounds = detection.bounds.to_photo(&axes, height, width);
            detection
        };
        Ok(suppress(found, options.overlap, options.limit).into_iter().map(in_photo).collect())
    }

    /// The label of a class, or its number.
    pub fn label(&self, class: usize) -> String {
        let label = self.labels().and_then(|labels| labels.names().get(class));
        label.cloned().unwrap_or_else(|| format!("class {class}"))
    }

    /// The labels, where the model has any.
    pub fn labels(&self) -> Option<&Labels> {
        self.0.files.labels.as_ref()
    }

    /// The preprocessing in use.
    pub fn preprocess(&self) -> &Preprocess {
        &self.0.files.preprocess
    }

    /// The family.
    pub fn architecture(&self) -> Architecture {
        self.0.files.model.architecture()
    }

    /// The model's folder.
    pub fn folder(&self) -> &Path {
        &self.0.files.folder
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }
}
