//! ResNet 18 to 152 (He et al. 2015; the stride in the 3x3 convolution as in torchvision), ResNeXt
//! (Xie et al. 2016) and Wide ResNet, with the names of torchvision or transformers.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::Preprocess;
use crate::nn::{self, Conv2d, Scope};
use crate::ops::{ResampleFilter, UnaryFn, Window};

/// Whose names the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResNetNames {
    /// `layer1.0.conv1`, `bn1`.
    Torchvision,
    /// `resnet.encoder.stages.0.layers.0.layer.0.convolution`, `normalization`.
    Transformers,
}

impl ResNetNames {
    fn stem(self) -> [&'static str; 2] {
        match self {
            Self::Torchvision => ["conv1", "bn1"],
            Self::Transformers => {
                ["resnet.embedder.embedder.convolution", "resnet.embedder.embedder.normalization"]
            }
        }
    }

    fn pool(self) -> &'static str {
        match self {
            Self::Torchvision => "maxpool",
            Self::Transformers => "resnet.embedder.pooler",
        }
    }

    fn block(self, stage: usize, block: usize) -> String {
        match self {
            Self::Torchvision => format!("layer{}.{block}", stage + 1),
            Self::Transformers => format!("resnet.encoder.stages.{stage}.layers.{block}"),
        }
    }

    /// Paths of a block's convolution and of the norm behind it.
    fn unit(self, index: usize) -> [String; 2] {
        match self {
            Self::Torchvision => [format!("conv{}", index + 1), format!("bn{}", index + 1)],
            Self::Transformers => {
                [format!("layer.{index}.convolution"), format!("layer.{index}.normalization")]
            }
        }
    }

    fn shortcut(self) -> [&'static str; 2] {
        match self {
            Self::Torchvision => ["downsample.0", "downsample.1"],
            Self::Transformers => ["shortcut.convolution", "shortcut.normalization"],
        }
    }

    fn classifier(self) -> &'static str {
        match self {
            Self::Torchvision => "fc",
            Self::Transformers => "classifier.1",
        }
    }
}

/// ResNet: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ResNet {
    /// Whose names the tensors have.
    pub names: ResNetNames,
    /// Channels of the first convolution.
    pub stem: usize,
    /// Blocks are a 1x1, a 3x3 and a 1x1 convolution; else two 3x3 convolutions.
    pub bottleneck: bool,
    /// The stages.
    pub stages: Vec<ResNetStage>,
    /// Number of classes.
    pub classes: usize,
    /// Epsilon of the batch norms.
    pub eps: f32,
    /// The stride of a bottleneck is in its first convolution (as first published), not in its second.
    pub stride_in_first: bool,
    /// The first stage halves the image as well.
    pub downsample_first: bool,
}

/// Blocks of the same sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNetStage {
    /// Number of blocks.
    pub blocks: usize,
    /// Channels between the convolutions of a block.
    pub inner: usize,
    /// Channels of the output.
    pub width: usize,
    /// Groups of the 3x3 convolution of a bottleneck.
    pub groups: usize,
}

impl Family for ResNet {
    const ARCHITECTURE: Architecture = Architecture::ResNet;
    const NAME: &'static str = "resnet";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("resnet.embedder.embedder.convolution.weight")
            || (tensors.has("conv1.weight")
                && tensors.has("layer4.0.conv1.weight")
                && tensors.has("fc.weight"))
    }

    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self> {
        let transformers = tensors.has_prefix("resnet.embedder.");
        let names = if transformers { ResNetNames::Transformers } else { ResNetNames::Torchvision };
        let conv = |stage: usize, block: usize, index: usize| {
            let [conv, _] = names.unit(index);
            format!("{}.{conv}.weight", names.block(stage, block))
        };
        let bottleneck = tensors.has(&conv(0, 0, 2));
        let stage = |stage: usize| {
            let blocks = tensors.count(|block| conv(stage, block, 0))?;
            let [inner, ..] = tensors.dims::<4>(&conv(stage, 0, 0))?;
            let [_, per_group, ..] = tensors.dims::<4>(&conv(stage, 0, 1))?;
            let [width, ..] = tensors.dims::<4>(&conv(stage, 0, 1 + usize::from(bottleneck)))?;
            Ok(ResNetStage { blocks, inner, width, groups: inner / per_group.max(1) })
        };
        let stages = tensors.count(|stage| conv(stage, 0, 0))?;
        let [stem, ..] = tensors.dims::<4>(&format!("{}.weight", names.stem()[0]))?;
        let [classes, _] = tensors.dims(&format!("{}.weight", names.classifier()))?;
        Ok(Self {
            names,
            stem,
            bottleneck,
            stages: (0..stages).map(stage).collect::<Result<_>>()?,
            classes,
            eps: 1e-5,
            stride_in_first: settings.boolean("downsample_in_bottleneck", false)?,
            downsample_first: settings.boolean("downsample_in_first_stage", false)?,
        })
    }
}

impl ResNet {
    /// ResNet-50 as torchvision has it.
    pub fn resnet50(classes: usize) -> Self {
        let stage = |(index, &blocks): (usize, &usize)| {
            let inner = 64 << index;
            ResNetStage { blocks, inner, width: 4 * inner, groups: 1 }
        };
        Self {
            names: ResNetNames::Torchvision,
            stem: 64,
            bottleneck: true,
            stages: [3, 4, 6, 3].iter().enumerate().map(stage).collect(),
            classes,
            eps: 1e-5,
            stride_in_first: false,
            downsample_first: false,
        }
    }

    /// The convolutions of a block.
    fn convolutions(&self, stage: &ResNetStage, stride: usize) -> Vec<Conv2d> {
        let three = |channels: usize| Conv2d::new(channels, 3).padding(1);
        if !self.bottleneck {
            return vec![three(stage.inner).stride(stride), three(stage.width)];
        }
        let (first, second) = if self.stride_in_first { (stride, 1) } else { (1, stride) };
        vec![
            Conv2d::new(stage.inner, 1).stride(first),
            three(stage.inner).stride(second).groups(stage.groups),
            Conv2d::new(stage.width, 1),
        ]
    }

    fn block(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        stage: &ResNetStage,
        stride: usize,
        x: ValueId,
    ) -> Result<ValueId> {
        let mut y = x;
        let convolutions = self.convolutions(stage, stride);
        for (index, conv) in convolutions.iter().enumerate() {
            let [name, norm] = self.names.unit(index);
            let last = index + 1 == convolutions.len();
            let activation = if last { UnaryFn::Identity } else { UnaryFn::Relu };
            y = nn::conv_norm_act(graph, scope, [&name, &norm], y, conv, self.eps, activation)?;
        }
        let same = graph.spec(x) == graph.spec(y);
        let shortcut = if same {
            x
        } else {
            let conv = Conv2d::new(stage.width, 1).stride(stride);
            let names = self.names.shortcut();
            nn::conv_norm_act(graph, scope, names, x, &conv, self.eps, UnaryFn::Identity)?
        };
        let sum = nn::add(graph, y, shortcut)?;
        nn::activation(graph, sum, UnaryFn::Relu)
    }
}

impl Network for ResNet {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        let filter = match self.names {
            ResNetNames::Torchvision => ResampleFilter::Bilinear,
            ResNetNames::Transformers => ResampleFilter::Bicubic,
        };
        Preprocess::imagenet(256, 224, filter)
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let stem = Conv2d::new(self.stem, 7).stride(2).padding(3);
        let names = self.names.stem();
        let x = nn::conv_norm_act(graph, scope, names, pixels, &stem, self.eps, UnaryFn::Relu)?;
        let window = Window::new([3, 3]).stride([2, 2]).padding([1, 1]);
        let mut x = graph.scope(self.names.pool(), |graph| nn::max_pool(graph, x, window))?;
        for (index, stage) in self.stages.iter().enumerate() {
            for block in 0..stage.blocks {
                let halves = block == 0 && (index > 0 || self.downsample_first);
                let stride = if halves { 2 } else { 1 };
                let path = self.names.block(index, block);
                x = scope.at(graph, &path, |graph, scope| self.block(graph, scope, stage, stride, x))?;
            }
        }
        let x = nn::global_avg_pool(graph, x)?;
        nn::dense(graph, scope, self.names.classifier(), x, self.classes, UnaryFn::Identity)
    }
}
