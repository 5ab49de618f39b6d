//! ConvNeXt (Liu et al. 2022), with the names of torchvision or transformers.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::Preprocess;
use crate::nn::{self, Conv2d, Norm, NormKind, Scope};
use crate::ops::{ResampleFilter, UnaryFn};

const EPS: f32 = 1e-6;

/// ConvNeXt: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvNext {
    /// The tensors have the names of transformers, else those of torchvision.
    transformers: bool,
    /// Side of the patches that the first convolution takes.
    pub patch: usize,
    /// Number of blocks and channels of each stage.
    pub stages: Vec<[usize; 2]>,
    /// Whether blocks scale their channels before they add them (`layer_scale`).
    pub layer_scale: bool,
    /// Number of classes.
    pub classes: usize,
    /// Epsilon of the norm before the classifier.
    pub last_eps: f32,
    /// Activation within blocks.
    pub activation: UnaryFn,
}

/// Names of a block's parts.
struct Parts {
    depthwise: &'static str,
    norm: &'static str,
    up: &'static str,
    down: &'static str,
    scale: &'static str,
}

const TORCHVISION: Parts =
    Parts { depthwise: "block.0", norm: "block.2", up: "block.3", down: "block.5", scale: "layer_scale" };
const TRANSFORMERS: Parts = Parts {
    depthwise: "dwconv",
    norm: "layernorm",
    up: "pwconv1",
    down: "pwconv2",
    scale: "layer_scale_parameter",
};

fn parts(transformers: bool) -> &'static Parts {
    if transformers { &TRANSFORMERS } else { &TORCHVISION }
}

fn block_path(transformers: bool, stage: usize, block: usize) -> String {
    match transformers {
        true => format!("convnext.encoder.stages.{stage}.layers.{block}"),
        false => format!("features.{}.{block}", 2 * stage + 1),
    }
}

fn norm(eps: f32) -> Norm {
    Norm { kind: NormKind::Layer, eps, offset: 0.0 }
}

impl Family for ConvNext {
    const ARCHITECTURE: Architecture = Architecture::ConvNext;
    const NAME: &'static str = "convnext";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("convnext.embeddings.patch_embeddings.weight") || tensors.has("features.1.0.layer_scale")
    }

    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self> {
        let transformers = tensors.has_prefix("convnext.");
        let parts = parts(transformers);
        let depthwise = |stage: usize, block: usize| {
            format!("{}.{}.weight", block_path(transformers, stage, block), parts.depthwise)
        };
        let stage = |stage: usize| {
            let blocks = tensors.count(|block| depthwise(stage, block))?;
            let [channels, ..] = tensors.dims::<4>(&depthwise(stage, 0))?;
            Ok([blocks, channels])
        };
        let stages = tensors.count(|stage| depthwise(stage, 0))?;
        let (stem, classifier) = match transformers {
            true => ("convnext.embeddings.patch_embeddings", "classifier"),
            false => ("features.0.0", "classifier.2"),
        };
        let [_, _, patch, _] = tensors.dims(&format!("{stem}.weight"))?;
        let [classes, _] = tensors.dims(&format!("{classifier}.weight"))?;
        let scale = format!("{}.{}", block_path(transformers, 0, 0), parts.scale);
        let last_eps = if transformers { 1e-12 } else { EPS };
        Ok(Self {
            transformers,
            patch,
            stages: (0..stages).map(stage).collect::<Result<_>>()?,
            layer_scale: tensors.has(&scale),
            classes,
            last_eps: settings.positive("layer_norm_eps", last_eps)?,
            activation: settings.activation("hidden_act", UnaryFn::Gelu)?,
        })
    }
}

impl ConvNext {
    fn block(&self, graph: &mut Graph, scope: &Scope<'_>, x: ValueId) -> Result<ValueId> {
        let parts = parts(self.transformers);
        let channels = nn::channels(graph, x);
        let depthwise = Conv2d::depthwise(graph, x, 7).padding(3).bias(true);
        let y = nn::conv2d(graph, scope, parts.depthwise, x, &depthwise)?;
        let y = nn::channels_last(graph, y)?;
        let y = norm(EPS).apply(graph, scope, parts.norm, y)?;
        let y = nn::dense(graph, scope, parts.up, y, 4 * channels, self.activation)?;
        let mut y = nn::dense(graph, scope, parts.down, y, channels, UnaryFn::Identity)?;
        if self.layer_scale {
            let dims: &[usize] = if self.transformers { &[channels] } else { &[channels, 1, 1] };
            let scale = scope.values(graph, parts.scale, dims, &[channels]);
            y = nn::mul(graph, y, scale)?;
        }
        let y = nn::channels_first(graph, y)?;
        nn::add(graph, y, x)
    }

    /// Norm and convolution that halve the image before a stage.
    fn downsample(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        stage: usize,
        x: ValueId,
        channels: usize,
    ) -> Result<ValueId> {
        let path = match self.transformers {
            true => format!("convnext.encoder.stages.{stage}.downsampling_layer"),
            false => format!("features.{}", 2 * stage),
        };
        scope.at(graph, &path, |graph, scope| {
            let x = nn::norm_channels(graph, scope, &norm(EPS), "0", x)?;
            nn::conv2d(graph, scope, "1", x, &Conv2d::new(channels, 2).stride(2).bias(true))
        })
    }
}

impl Network for ConvNext {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        if self.transformers {
            return Preprocess::imagenet(256, 224, ResampleFilter::Bicubic);
        }
        let resized = match self.stages[..] {
            // Tiny, small; base and large.
            [[_, 96], _, [9, _], _] => 236,
            [[_, 96], ..] => 230,
            _ => 232,
        };
        Preprocess::imagenet(resized, 224, ResampleFilter::Bilinear)
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let (stem, stem_norm, last_norm, classifier) = match self.transformers {
            true => (
                "convnext.embeddings.patch_embeddings",
                "convnext.embeddings.layernorm",
                "convnext.layernorm",
                "classifier",
            ),
            false => ("features.0.0", "features.0.1", "classifier.0", "classifier.2"),
        };
        let width = self.stages.first().map_or(0, |[_, channels]| *channels);
        let patches = Conv2d::new(width, self.patch).stride(self.patch).bias(true);
        let x = nn::conv2d(graph, scope, stem, pixels, &patches)?;
        let mut x = nn::norm_channels(graph, scope, &norm(EPS), stem_norm, x)?;
        for (stage, &[blocks, channels]) in self.stages.iter().enumerate() {
            if stage > 0 {
                x = self.downsample(graph, scope, stage, x, channels)?;
            }
            for block in 0..blocks {
                let path = block_path(self.transformers, stage, block);
                x = scope.at(graph, &path, |graph, scope| self.block(graph, scope, x))?;
            }
        }
        let x = nn::global_avg_pool(graph, x)?;
        let x = norm(self.last_eps).apply(graph, scope, last_norm, x)?;
        nn::dense(graph, scope, classifier, x, self.classes, UnaryFn::Identity)
    }
}
