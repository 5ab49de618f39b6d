//! EfficientNet B0 to B7 (Tan and Le 2019), with the names of torchvision or transformers.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::Preprocess;
use crate::nn::{self, Conv2d, Scope, SqueezeExcite};
use crate::ops::{ResampleFilter, UnaryFn};

/// Stride of the first block of each stage.
const STRIDES: [usize; 7] = [1, 2, 2, 2, 1, 2, 1];

/// Channels of the last convolution and number of blocks of B0 to B7, with the side to which photos
/// are resized and the side of the crop.
const SIDES: [((usize, usize), usize, usize); 8] = [
    ((1280, 16), 256, 224),
    ((1280, 23), 256, 240),
    ((1408, 23), 288, 288),
    ((1536, 26), 320, 300),
    ((1792, 32), 384, 380),
    ((2048, 39), 456, 456),
    ((2304, 45), 528, 528),
    ((2560, 55), 600, 600),
];

/// EfficientNet: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct EfficientNet {
    /// The tensors have the names of transformers, else those of torchvision.
    transformers: bool,
    /// Channels of the first convolution.
    pub stem: usize,
    /// The blocks of all stages.
    pub blocks: Vec<EfficientBlock>,
    /// Channels of the last convolution.
    pub last: usize,
    /// Number of classes.
    pub classes: usize,
    /// Epsilon of the batch norms.
    pub eps: f32,
    /// Activation.
    pub activation: UnaryFn,
}

/// Sizes of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EfficientBlock {
    path: String,
    /// Channels within, where a convolution makes them.
    pub expanded: Option<usize>,
    /// Kernel of the depthwise convolution.
    pub kernel: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
    /// Elements added before and after each axis by the depthwise convolution.
    pub pads: (usize, usize),
    /// Channels of squeeze and excite.
    pub squeezed: usize,
    /// Channels of the output.
    pub width: usize,
    /// Whether the input is added to the output.
    pub residual: bool,
}

/// Names of a block's parts: convolution and norm, squeeze and excite.
struct Parts {
    expand: [String; 2],
    depthwise: [String; 2],
    excite: [String; 3],
    project: [String; 2],
}

impl Parts {
    fn of(transformers: bool, expands: bool) -> Self {
        let own = |names: [&str; 2]| names.map(str::to_owned);
        if transformers {
            return Self {
                expand: own(["expansion.expand_conv", "expansion.expand_bn"]),
                depthwise: own(["depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"]),
                excite: ["squeeze_excite", "reduce", "expand"].map(str::to_owned),
                project: own(["projection.project_conv", "projection.project_bn"]),
            };
        }
        let first = usize::from(expands);
        let unit = |index: usize| [format!("block.{index}.0"), format!("block.{index}.1")];
        Self {
            expand: unit(0),
            depthwise: unit(first),
            excite: [format!("block.{}", first + 1), "fc1".to_owned(), "fc2".to_owned()],
            project: unit(first + 2),
        }
    }
}

fn strs(names: &[String; 2]) -> [&str; 2] {
    [&names[0], &names[1]]
}

impl Family for EfficientNet {
    const ARCHITECTURE: Architecture = Architecture::EfficientNet;
    const NAME: &'static str = "efficientnet";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("efficientnet.embeddings.convolution.weight")
            || tensors.has("features.1.0.block.1.fc1.weight")
    }

    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self> {
        let transformers = tensors.has_prefix("efficientnet.");
        let stem = if transformers { "efficientnet.embeddings.convolution" } else { "features.0.0" };
        let [stem, ..] = tensors.dims::<4>(&format!("{stem}.weight"))?;
        let [last, ..] = tensors.dims::<4>(&format!("{}.weight", Self::last_names(transformers)[0]))?;
        let [classes, _] = tensors.dims(&format!("{}.weight", Self::classifier(transformers)))?;
        let blocks = if transformers {
            Self::transformers_blocks(tensors, settings)?
        } else {
            Self::torchvision_blocks(tensors, stem)?
        };
        // Torchvision's B5 to B7 (three and more blocks in the first stage) were trained with another epsilon.
        let large = tensors.has("features.1.2.block.0.0.weight");
        let eps = if transformers || large { 0.001 } else { 1e-5 };
        Ok(Self {
            transformers,
            stem,
            blocks,
            last,
            classes,
            eps: settings.positive("batch_norm_eps", eps)?,
            activation: settings.activation("hidden_act", UnaryFn::Silu)?,
        })
    }
}

impl EfficientNet {
    fn stem_names(&self) -> [&'static str; 2] {
        match self.transformers {
            true => ["efficientnet.embeddings.convolution", "efficientnet.embeddings.batchnorm"],
            false => ["features.0.0", "features.0.1"],
        }
    }

    fn last_names(transformers: bool) -> [&'static str; 2] {
        match transformers {
            true => ["efficientnet.encoder.top_conv", "efficientnet.encoder.top_bn"],
            false => ["features.8.0", "features.8.1"],
        }
    }

    fn classifier(transformers: bool) -> &'static str {
        if transformers { "classifier" } else { "classifier.1" }
    }

    fn torchvision_blocks(tensors: &TensorShapes, stem: usize) -> Result<Vec<EfficientBlock>> {
        let (mut blocks, mut inputs) = (Vec::new(), stem);
        for (stage, &first_stride) in STRIDES.iter().enumerate() {
            let path = |block: usize| format!("features.{}.{block}", stage + 1);
            let count = tensors.count(|block| format!("{}.block.0.0.weight", path(block)))?;
            for index in 0..count {
                let stride = if index == 0 { first_stride } else { 1 };
                // Without expansion the first convolution is the depthwise one: one channel per group.
                let expands = tensors.dims::<4>(&format!("{}.block.0.0.weight", path(index)))?[1] != 1;
                let mut block =
                    EfficientBlock::read(tensors, path(index), Parts::of(false, expands), expands)?;
                block.stride = stride;
                block.pads = (block.kernel / 2, block.kernel / 2);
                block.residual = stride == 1 && block.width == inputs;
                inputs = block.width;
                blocks.push(block);
            }
        }
        Ok(blocks)
    }

    fn transformers_blocks(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Vec<EfficientBlock>> {
        let path = |block: usize| format!("efficientnet.encoder.blocks.{block}");
        let count = tensors.count(|block| format!("{}.depthwise_conv.depthwise_conv.weight", path(block)))?;
        let symmetric = settings.indices("depthwise_padding")?;
        let (mut blocks, mut stage): (Vec<EfficientBlock>, _) = (Vec::new(), 0);
        for index in 0..count {
            let expands = tensors.has(&format!("{}.expansion.expand_conv.weight", path(index)));
            let mut block = EfficientBlock::read(tensors, path(index), Parts::of(true, expands), expands)?;
            // A stage starts where the width changes.
            let starts = blocks.last().is_none_or(|last| last.width != block.width);
            if starts {
                let stride = STRIDES.get(stage).ok_or_else(|| {
                    tensors.error(format!(
                        "efficientnet has 7 stages of one width each, block {index} is in an 8th"
                    ))
                })?;
                block.stride = *stride;
                stage += 1;
            }
            let half = block.kernel / 2;
            // Stride 2 pads as TensorFlow does for images of even sizes, but for the listed blocks.
            let even = block.stride == 2 && !symmetric.contains(&index);
            block.pads = (half - usize::from(even && half > 0), half);
            block.residual = !starts;
            blocks.push(block);
        }
        Ok(blocks)
    }
}

impl EfficientBlock {
    /// Reads the sizes; stride, padding and residual are those of a first block of stride 1.
    fn read(tensors: &TensorShapes, path: String, parts: Parts, expands: bool) -> Result<Self> {
        let dims = |name: &str| tensors.dims::<4>(&format!("{path}.{name}.weight"));
        let expanded = expands.then(|| Ok(dims(&parts.expand[0])?[0])).transpose()?;
        let [_, _, kernel, _] = dims(&parts.depthwise[0])?;
        let [width, ..] = dims(&parts.project[0])?;
        let [squeezed, ..] = dims(&format!("{}.{}", parts.excite[0], parts.excite[1]))?;
        Ok(Self { path, expanded, kernel, stride: 1, pads: (0, 0), squeezed, width, residual: false })
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, net: &EfficientNet, x: ValueId) -> Result<ValueId> {
        let parts = Parts::of(net.transformers, self.expanded.is_some());
        let (eps, activation) = (net.eps, net.activation);
        let mut y = x;
        if let Some(expanded) = self.expanded {
            let conv = Conv2d::new(expanded, 1);
            y = nn::conv_norm_act(graph, scope, strs(&parts.expand), y, &conv, eps, activation)?;
        }
        let depthwise = Conv2d::depthwise(graph, y, self.kernel).stride(self.stride).pads([self.pads; 2]);
        y = nn::conv_norm_act(graph, scope, strs(&parts.depthwise), y, &depthwise, eps, activation)?;
        let [path, reduce, expand] = &parts.excite;
        let excite =
            SqueezeExcite { squeezed: self.squeezed, reduce, expand, activation, gate: UnaryFn::Sigmoid };
        y = scope.at(graph, path, |graph, scope| excite.apply(graph, scope, y))?;
        let conv = Conv2d::new(self.width, 1);
        y = nn::conv_norm_act(graph, scope, strs(&parts.project), y, &conv, eps, UnaryFn::Identity)?;
        if self.residual { nn::add(graph, y, x) } else { Ok(y) }
    }
}

impl Network for EfficientNet {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        let size = (self.last, self.blocks.len());
        let found = SIDES.iter().find(|(known, ..)| *known == size);
        let (resized, crop) = found.map_or((256, 224), |&(_, resized, crop)| (resized, crop));
        Preprocess::imagenet(resized, crop, ResampleFilter::Bicubic)
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let pads = if self.transformers { (0, 1) } else { (1, 1) };
        let stem = Conv2d::new(self.stem, 3).stride(2).pads([pads; 2]);
        let (eps, activation) = (self.eps, self.activation);
        let mut x = nn::conv_norm_act(graph, scope, self.stem_names(), pixels, &stem, eps, activation)?;
        for block in &self.blocks {
            x = scope.at(graph, &block.path, |graph, scope| block.build(graph, scope, self, x))?;
        }
        let names = Self::last_names(self.transformers);
        let x = nn::conv_norm_act(graph, scope, names, x, &Conv2d::new(self.last, 1), eps, activation)?;
        let x = nn::global_avg_pool(graph, x)?;
        nn::dense(graph, scope, Self::classifier(self.transformers), x, self.classes, UnaryFn::Identity)
    }
}
