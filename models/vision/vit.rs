//! Vision transformer (Dosovitskiy et al. 2020) and DeiT (Touvron et al. 2020), with the names of
//! transformers and of torchvision.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, Preprocess, Resize};
use crate::nn::{self, Conv2d, Norm, NormKind, Projection, Scope, SelfAttention};
use crate::ops::{ResampleFilter, UnaryFn};

/// Elements of a head in the published sizes: those of ViT-H, and of all others.
const fn head_dim(hidden: usize) -> usize {
    if hidden == 1280 { 80 } else { 64 }
}

/// Where a library's checkpoints have their tensors.
#[derive(Debug, PartialEq)]
struct Names {
    /// Above special tokens and patches.
    embeddings: &'static str,
    /// The class token.
    token: &'static str,
    patches: &'static str,
    positions: &'static str,
    /// Before a layer's number.
    layer: &'static str,
    /// Norms before the attention, before the feed-forward part, and behind the last layer.
    norms: [&'static str; 3],
    /// Queries, keys and values, or all in one (with "_weight" and "_bias").
    qkv: &'static [&'static str],
    out: &'static str,
    up: &'static str,
    down: &'static str,
    classifier: &'static str,
    eps: f32,
}

const TRANSFORMERS: Names = Names {
    embeddings: "vit.embeddings",
    token: "cls_token",
    patches: "patch_embeddings.projection",
    positions: "vit.embeddings.position_embeddings",
    layer: "vit.encoder.layer.",
    norms: ["layernorm_before", "layernorm_after", "vit.layernorm"],
    qkv: &["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    out: "attention.output.dense",
    up: "intermediate.dense",
    down: "output.dense",
    classifier: "classifier",
    eps: 1e-12,
};

const DEIT: Names = Names {
    embeddings: "deit.embeddings",
    positions: "deit.embeddings.position_embeddings",
    layer: "deit.encoder.layer.",
    norms: ["layernorm_before", "layernorm_after", "deit.layernorm"],
    ..TRANSFORMERS
};

const TORCHVISION: Names = Names {
    embeddings: "",
    token: "class_token",
    patches: "conv_proj",
    positions: "encoder.pos_embedding",
    layer: "encoder.layers.encoder_layer_",
    norms: ["ln_1", "ln_2", "encoder.ln"],
    qkv: &["self_attention.in_proj"],
    out: "self_attention.out_proj",
    up: "mlp.0",
    down: "mlp.3",
    classifier: "heads.head",
    eps: 1e-6,
};

/// As in the published files; the library renames them when it loads.
const TORCHVISION_PUBLISHED: Names = Names { up: "mlp.linear_1", down: "mlp.linear_2", ..TORCHVISION };

impl Names {
    const ALL: [&Self; 4] = [&TRANSFORMERS, &DEIT, &TORCHVISION, &TORCHVISION_PUBLISHED];

    /// Those of a checkpoint.
    fn of(tensors: &TensorShapes) -> Option<&'static Self> {
        let has = |names: &Self| {
            tensors.has(names.positions) && tensors.has(&names.in_layer(0, &format!("{}.weight", names.up)))
        };
        Self::ALL.into_iter().find(|names| has(names))
    }

    fn in_layer(&self, index: usize, part: &str) -> String {
        format!("{}{index}.{part}", self.layer)
    }

    fn embedding(&self, part: &str) -> String {
        if self.embeddings.is_empty() { part.to_owned() } else { format!("{}.{part}", self.embeddings) }
    }

    /// The projection to queries, keys and values.
    fn projection(&self, hidden: usize) -> Projection {
        match *self.qkv {
            [joined] => Projection::new(joined, 3 * hidden, hidden).underscore(),
            _ => {
                let parts: Vec<(&str, usize)> = self.qkv.iter().map(|part| (*part, hidden)).collect();
                Projection::stacked(&parts, hidden)
            }
        }
    }

    fn norm(&self, eps: f32) -> Norm {
        Norm { kind: NormKind::Layer, eps, offset: 0.0 }
    }
}

const DISTILLATION: &str = "distillation_token";

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
    /// Where the tensors lie.
    names: &'static Names,
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
        Names::of(tensors).is_some_and(|names| tensors.has(&names.embedding(names.token)))
    }

    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self> {
        let names = Names::of(tensors).unwrap_or(&TRANSFORMERS);
        let [hidden, channels, patch, _] =
            tensors.dims(&names.embedding(&format!("{}.weight", names.patches)))?;
        let [_, positions, _] = tensors.dims(names.positions)?;
        let distillation = tensors.has(&names.embedding(DISTILLATION));
        let patches = positions - positions.min(1 + usize::from(distillation));
        let grid = patches.isqrt();
        if grid * grid != patches {
            return Err(tensors.error(format!("{patches} patches (of {positions} positions) are no square")));
        }
        let outputs = match tensors.has("distillation_classifier.weight") {
            true => Heads::ClassAndDistillation,
            false => Heads::Class,
        };
        let classifier = if outputs == Heads::Class { names.classifier } else { "cls_classifier" };
        let [classes, _] = tensors.dims(&format!("{classifier}.weight"))?;
        let [intermediate, _] = tensors.dims(&names.in_layer(0, &format!("{}.weight", names.up)))?;
        let heads = settings.size("num_attention_heads")?.unwrap_or(hidden / head_dim(hidden));
        if heads == 0 || hidden % heads != 0 {
            let expected = format!("a number that divides {hidden}");
            return Err(settings.error("num_attention_heads", &expected, heads));
        }
        let qkv_bias = match *names.qkv {
            [joined] => format!("{joined}_bias"),
            _ => format!("{}.bias", names.qkv[0]),
        };
        Ok(Self {
            names,
            channels,
            patch,
            grid,
            distillation,
            hidden,
            layers: tensors.count(|index| names.in_layer(index, &format!("{}.weight", names.up)))?,
            heads,
            intermediate,
            qkv_bias: tensors.has(&names.in_layer(0, &qkv_bias)),
            outputs,
            classes,
            eps: settings.positive("layer_norm_eps", names.eps)?,
            activation: settings.activation("hidden_act", UnaryFn::Gelu)?,
        })
    }
}

impl Vit {
    /// Patches and special tokens: `[n, tokens, hidden]`.
    fn embed(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let n = graph.spec(pixels).shape.dims()[0];
        let (hidden, patches) = (self.hidden, self.grid * self.grid);
        let conv = Conv2d::new(hidden, self.patch).stride(self.patch).bias(true);
        let x = nn::conv2d(graph, scope, self.names.patches, pixels, &conv)?;
        let x = nn::channels_last(graph, x)?;
        let x = nn::reshape(graph, x, &[n, patches, hidden])?;
        let mut parts = Vec::new();
        for token in [Some(self.names.token), self.distillation.then_some(DISTILLATION)].into_iter().flatten()
        {
            let token = scope.values(graph, token, &[1, 1, hidden], &[1, 1, hidden]);
            parts.push(nn::expand(graph, token, &[n, 1, hidden])?);
        }
        parts.push(x);
        nn::concat(graph, &parts, 1)
    }

    fn layer(&self, graph: &mut Graph, scope: &Scope<'_>, x: ValueId) -> Result<ValueId> {
        let (names, hidden, norm) = (self.names, self.hidden, self.names.norm(self.eps));
        let attention = SelfAttention {
            heads: self.heads,
            scale: 1.0 / ((hidden / self.heads) as f32).sqrt(),
            qkv: names.projection(hidden).bias(self.qkv_bias),
            out: Projection::new(names.out, hidden, hidden).bias(true),
        };
        let normed = norm.apply(graph, scope, names.norms[0], x)?;
        let mixed = graph.scope("attention", |graph| attention.apply(graph, scope, normed))?;
        let x = nn::add(graph, mixed, x)?;
        let normed = norm.apply(graph, scope, names.norms[1], x)?;
        let up = nn::dense(graph, scope, names.up, normed, self.intermediate, self.activation)?;
        let down = nn::dense(graph, scope, names.down, up, hidden, UnaryFn::Identity)?;
        nn::add(graph, down, x)
    }

    fn logits(&self, graph: &mut Graph, scope: &Scope<'_>, x: ValueId) -> Result<ValueId> {
        let mut head = |name: &str, token: usize| {
            let token = nn::select(graph, x, 1, token)?;
            nn::dense(graph, scope, name, token, self.classes, UnaryFn::Identity)
        };
        if self.outputs == Heads::Class {
            return head(self.names.classifier, 0);
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
        // Eight sevenths: 256 for 224.
        let larger = side * 8 / 7;
        if self.names.embeddings.is_empty() {
            return Preprocess::imagenet(larger, side, ResampleFilter::Bilinear);
        }
        if *self.names == DEIT {
            let resize = Resize::Exact([larger; 2]);
            return Preprocess { resize, ..Preprocess::imagenet(side, side, ResampleFilter::Bicubic) };
        }
        let square = Preprocess::square(side, Channels::Rgb, 1.0 / 255.0, [0.5; 3], [0.5; 3]);
        Preprocess { square: false, ..square }
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let names = self.names;
        let x = match names.embeddings {
            "" => self.embed(graph, scope, pixels)?,
            path => scope.at(graph, path, |graph, scope| self.embed(graph, scope, pixels))?,
        };
        let dims = [1, graph.spec(x).shape.dims()[1], self.hidden];
        let positions = scope.values(graph, names.positions, &dims, &dims);
        let mut x = graph.scope(names.positions, |graph| nn::add(graph, x, positions))?;
        for layer in 0..self.layers {
            let path = format!("{}{layer}", names.layer);
            x = scope.at(graph, &path, |graph, scope| self.layer(graph, scope, x))?;
        }
        let x = names.norm(self.eps).apply(graph, scope, names.norms[2], x)?;
        self.logits(graph, scope, x)
    }
}
