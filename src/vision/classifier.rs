//! Photos to classes.

use super::builder::ModelBuilder;
use super::network::{Network, Output};
use super::{Labels, Photo, Preprocess};
use crate::gpu::Gpu;
use crate::models::vision::Architecture;
use crate::{CancelToken, Result};
use std::path::Path;
use std::sync::Arc;

/// A class with its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassEntry {
    /// Number of the class.
    pub index: usize,
    /// Its label, where the model has labels.
    pub label: Option<String>,
    /// Its probability, by softmax over all classes.
    pub probability: f32,
    /// The network's output.
    pub logit: f32,
}

/// What a photo shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// The most probable classes, the best first.
    pub top: Vec<ClassEntry>,
    /// The network's outputs, of all classes in order.
    pub logits: Vec<f32>,
    /// Height and width of the photo.
    pub photo: [u32; 2],
}

/// How photos are classified.
#[derive(Debug, Clone)]
pub struct ClassifyOptions {
    /// How many of the most probable classes are named.
    pub top: usize,
    /// Stops the work.
    pub cancel: CancelToken,
}

impl Default for ClassifyOptions {
    /// The best five.
    fn default() -> Self {
        Self { top: 5, cancel: CancelToken::new() }
    }
}

/// A network that says what photos show. Cheap to clone; clones share all, and may be used from
/// several threads.
#[derive(Debug, Clone)]
pub struct Classifier(Arc<Network>);

impl Classifier {
    pub(super) fn new(network: Network) -> Self {
        Self(Arc::new(network))
    }

    /// Settings of loading.
    pub fn builder() -> ModelBuilder {
        ModelBuilder::default()
    }

    /// Loads a model with default settings; see [`ModelBuilder::classifier`].
    ///
    /// # Errors
    /// As there.
    pub fn load(model: &str) -> Result<Self> {
        Self::builder().classifier(model)
    }

    /// Classifies photos, each with a result of its own: one that cannot be read does not stop
    /// the others.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), or what the device says.
    pub fn classify(
        &self,
        photos: &[Photo],
        options: &ClassifyOptions,
    ) -> Result<Vec<Result<Classification>>> {
        let outputs = self.0.run(photos, &options.cancel)?;
        Ok(outputs.into_iter().map(|output| output.map(|output| self.read(output, options.top))).collect())
    }

    /// Classifies one photo.
    ///
    /// # Errors
    /// Those of reading it, or what the device says.
    pub fn classify_one(&self, photo: impl Into<Photo>) -> Result<Classification> {
        self.classify(&[photo.into()], &ClassifyOptions::default())?.remove(0)
    }

    fn read(&self, output: Output, top: usize) -> Classification {
        let logits = output.values;
        let label = |index: usize| Some(self.labels()?.names()[index].clone());
        let entry = |(index, probability): (usize, f32)| ClassEntry {
            index,
            label: label(index),
            probability,
            logit: logits[index],
        };
        let top = most_probable(&logits, top).into_iter().map(entry).collect();
        Classification { top, photo: output.photo, logits }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.0.files.model.task().classes()
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

/// The `top` classes of largest logits with their probabilities. NaN comes last.
fn most_probable(logits: &[f32], top: usize) -> Vec<(usize, f32)> {
    let rank = |index: usize| if logits[index].is_nan() { f32::NEG_INFINITY } else { logits[index] };
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)).then(a.cmp(&b)));
    let Some(&best) = order.first() else { return Vec::new() };
    let weight = |index: usize| f64::from(logits[index] - logits[best]).exp();
    let sum: f64 = (0..logits.len()).map(weight).sum();
    order.truncate(top);
    order.into_iter().map(|index| (index, (weight(index) / sum) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_a_softmax() {
        let found = most_probable(&[1.0, 3.0, 1.0, -1e30], 3);
        let indices: Vec<usize> = found.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [1, 0, 2]);
        let e = f64::exp(2.0);
        assert!((f64::from(found[0].1) - e / (e + 2.0)).abs() < 1e-7);
        assert_eq!(most_probable(&[80.0, 5_000.0], 1), [(1, 1.0)]);
        assert_eq!(most_probable(&[], 5), []);
        assert_eq!(most_probable(&[0.0, f32::NAN], 1)[0].0, 0);
    }
}
