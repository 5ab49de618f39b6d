//! Vision transformer (Dosovitskiy et al. 2020) and DeiT (Touvron et al. 2020), with the names of
//! transformers.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, Preprocess, Resize};
use crate::nn::{self, Conv2d, Norm, NormKind, Projection, Scope, SelfAttention};
use crate::ops::{ResampleFilter, UnaryFn};

/// Elements of a head in all published sizes.
const HEAD_DIM: usize = 64;

/// Which tokens the logits are computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// The class token.
    Class,
    /// The mean of the heads of the class and the distillation token.
    ClassAndDistillation,
}

/// Vision transformer: f32 `[n, 3, side, side]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Vit {
    /// "vit" or "deit": where the tensors lie.
    root: &'static str,
    /// Channels of the image.
    pub channels: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Patches along a side of the image.
    pub grid: usize,
    /// There is a distillation token behind the class token.
    pub distillation: bool,
    /// Width of the tokens.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width within the feed-forward part.
    pub intermediate: usize,
    /// Queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Which tokens the logits are computed from.
    pub outputs: Heads,
    /// Number of classes.
    pub classes: usize,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Activation of the feed-forward part.
    pub activation: UnaryFn,
}

impl Family for Vit {
    const ARCHITECTURE: Architecture = Architecture::Vit;
    const NAME: &'static str = "vit";
    const MODEL_TYPES: &'static [&'static str] = &["vit", "deit"];

    fn matches(tensors: &TensorShapes) -> bool {
        ["vit", "deit"].iter().any(|root| tensors.has(&format!("{root}.embeddings.cls_token")))
    }

    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self> {
        let root = if tensors.has_prefix("deit.") { "deit" } else { "vit" };
        let layer = |index: usize, part: &str| format!("{root}.encoder.layer.{index}.{part}");
        let query = "attention.attention.query";
        let embeddings = format!("{root}.embeddings");
        let [hidden, channels, patch, _] =
            tensors.dims(&format!("{embeddings}.patch_embeddings.projection.weight"))?;
        let [_, positions, _] = tensors.dims(&format!("{embeddings}.position_embeddings"))?;
        let distillation = tensors.has(&format!("{embeddings}.distillation_token"));
        let patches = positions - positions.min(1 + usize::from(distillation));
        let grid = patches.isqrt();
        if grid * grid != patches {
            return Err(tensors.error(format!("{patches} patches (of {positions} positions) are no square")));
        }
        let outputs = match tensors.has("distillation_classifier.weight") {
            true => Heads::ClassAndDistillation,
            false => Heads::Class,
        };
        let classifier = if outputs == Heads::Class { "classifier" } else { "cls_classifier" };
        let [classes, _] = tensors.dims(&format!("{classifier}.weight"))?;
        let [intermediate, _] = tensors.dims(&layer(0, "intermediate.dense.weight"))?;
        let heads = settings.size("num_attention_heads")?.unwrap_or(hidden / HEAD_DIM);
        if heads == 0 || hidden % heads != 0 {
            let expected = format!("a number that divides {hidden}");
            return Err(settings.error("num_attention_heads", &expected, heads));
        }
        Ok(Self {
            root,
            channels,
            patch,
            grid,
            distillation,
            hidden,
            layers: tensors.count(|index| layer(index, &format!("{query}.weight")))?,
            heads,
            intermediate,
            qkv_bias: tensors.has(&layer(0, &format!("{query}.bias"))),
            outputs,
            classes,
            eps: settings.positive("layer_norm_eps", 1e-12)?,
            activation: settings.activation("hidden_act", UnaryFn::Gelu)?,
        })
    }
}

impl Vit {
    fn norm(&self) -> Norm {
        Norm { kind: NormKind::Layer, eps: self.eps, offset: 0.0 }
    }

    /// Patches and special tokens with their positions: `[n, tokens, hidden]`.
    fn embed(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let n = graph.spec(pixels).shape.dims()[0];
        let (hidden, patches) = (self.hidden, self.grid * self.grid);
        let conv = Conv2d::new(hidden, self.patch).stride(self.patch).bias(true);
        let x = nn::conv2d(graph, scope, "patch_embeddings.projection", pixels, &conv)?;
        let x = nn::channels_last(graph, x)?;
        let x = nn::reshape(graph, x, &[n, patches, hidden])?;
        let mut parts = Vec::new();
        for token in ["cls_token", "distillation_token"] {
            if token == "cls_token" || self.distillation {
                let token = scope.values(graph, token, &[1, 1, hidden], &[1, 1, hidden]);
                parts.push(nn::expand(graph, token, &[n, 1, hidden])?);
            }
        }
        let tokens = patches + parts.len();
        parts.push(x);
        let x = nn::concat(graph, &parts, 1)?;
        let dims = [1, tokens, hidden];
        let positions = scope.values(graph, "position_embeddings", &dims, &dims);
        nn::add(graph, x, positions)
    }

    fn layer(&self, graph: &mut Graph, scope: &Scope<'_>, x: ValueId) -> Result<ValueId> {
        let (hidden, norm) = (self.hidden, self.norm());
        let attention = SelfAttention {
            heads: self.heads,
            scale: 1.0 / ((hidden / self.heads) as f32).sqrt(),
            qkv: Projection::stacked(
                &[
                    ("attention.attention.query", hidden),
                    ("attention.attention.key", hidden),
                    ("attention.attention.value", hidden),
                ],
                hidden,
            )
            .bias(self.qkv_bias),
            out: Projection::new("attention.output.dense", hidden, hidden).bias(true),
        };
        let normed = norm.apply(graph, scope, "layernorm_before", x)?;
        let mixed = graph.scope("attention", |graph| attention.apply(graph, scope, normed))?;
        let x = nn::add(graph, mixed, x)?;
        let normed = norm.apply(graph, scope, "layernorm_after", x)?;
        let up = nn::dense(graph, scope, "intermediate.dense", normed, self.intermediate, self.activation)?;
        let down = nn::dense(graph, scope, "output.dense", up, hidden, UnaryFn::Identity)?;
        nn::add(graph, down, x)
    }

    fn logits(&self, graph: &mut Graph, scope: &Scope<'_>, x: ValueId) -> Result<ValueId> {
        let mut head = |name: &str, token: usize| {
            let token = nn::select(graph, x, 1, token)?;
            nn::dense(graph, scope, name, token, self.classes, UnaryFn::Identity)
        };
        if self.outputs == Heads::Class {
            return head("classifier", 0);
        }
        let (class, distilled) = (head("cls_classifier", 0)?, head("distillation_classifier", 1)?);
        let sum = nn::add(graph, class, distilled)?;
        nn::scale(graph, sum, 0.5)
    }
}

impl Network for Vit {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn fixed_side(&self) -> Option<usize> {
        Some(self.grid * self.patch)
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        let side = self.grid * self.patch;
        if self.root == "deit" {
            // Eight sevenths: 256 for 224.
            let resize = Resize::Exact([side * 8 / 7; 2]);
            return Preprocess { resize, ..Preprocess::imagenet(side, side, ResampleFilter::Bicubic) };
        }
        let square = Preprocess::square(side, Channels::Rgb, 1.0 / 255.0, [0.5; 3], [0.5; 3]);
        Preprocess { square: false, ..square }
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let x = scope.at(graph, self.root, |graph, scope| {
            let mut x = scope.at(graph, "embeddings", |graph, scope| self.embed(graph, scope, pixels))?;
            for layer in 0..self.layers {
                let path = format!("encoder.layer.{layer}");
                x = scope.at(graph, &path, |graph, scope| self.layer(graph, scope, x))?;
            }
            self.norm().apply(graph, scope, "layernorm", x)
        })?;
        self.logits(graph, scope, x)
    }
}
