//! MobileNet v2 (Sandler et al. 2018), with the names of torchvision or transformers.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, Preprocess};
use crate::nn::{self, Conv2d, Padding, Scope};
use crate::ops::{ResampleFilter, UnaryFn};

/// Strides of the inverted residual blocks.
const STRIDES: [usize; 17] = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1];

/// Whose names the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Torchvision,
    Transformers,
}

impl Names {
    fn of(tensors: &TensorShapes) -> Self {
        if tensors.has_prefix("mobilenet_v2.") { Self::Transformers } else { Self::Torchvision }
    }

    fn stem(self) -> Unit {
        match self {
            Self::Torchvision => Unit::torchvision("features.0"),
            Self::Transformers => Unit::transformers("mobilenet_v2.conv_stem.first_conv"),
        }
    }

    fn last(self) -> Unit {
        match self {
            Self::Torchvision => Unit::torchvision("features.18"),
            Self::Transformers => Unit::transformers("mobilenet_v2.conv_1x1"),
        }
    }

    /// Path of a block and, below it, its three units. The first block may lack the first one.
    fn block(self, block: usize, expands: bool) -> (String, [Unit; 3]) {
        match self {
            Self::Torchvision => {
                let part = |index: usize| Unit::torchvision(&format!("conv.{index}"));
                let reduce = if expands { ("conv.2", "conv.3") } else { ("conv.1", "conv.2") };
                let units = if expands { [part(0), part(1)] } else { [part(0), part(0)] };
                let [expand, depthwise] = units;
                let reduce = Unit { conv: reduce.0.into(), norm: reduce.1.into() };
                (format!("features.{}", block + 1), [expand, depthwise, reduce])
            }
            Self::Transformers => {
                let path = match block {
                    0 => "mobilenet_v2.conv_stem".to_owned(),
                    _ => format!("mobilenet_v2.layer.{}", block - 1),
                };
                (path, ["expand_1x1", "conv_3x3", "reduce_1x1"].map(Unit::transformers))
            }
        }
    }

    fn classifier(self) -> &'static str {
        match self {
            Self::Torchvision => "classifier.1",
            Self::Transformers => "classifier",
        }
    }
}

/// Paths of a convolution and the batch norm behind it.
struct Unit {
    conv: String,
    norm: String,
}

impl Unit {
    fn torchvision(path: &str) -> Self {
        Self { conv: format!("{path}.0"), norm: format!("{path}.1") }
    }

    fn transformers(path: &str) -> Self {
        Self { conv: format!("{path}.convolution"), norm: format!("{path}.normalization") }
    }
}

/// MobileNet v2: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV2 {
    names: Names,
    /// Channels of the first convolution.
    pub stem: usize,
    /// The 17 inverted residual blocks.
    pub blocks: Vec<InvertedResidual>,
    /// Channels of the last convolution.
    pub last: usize,
    /// Number of classes.
    pub classes: usize,
    /// Epsilon of the batch norms.
    pub eps: f32,
    /// Activation after all convolutions but the last of each block.
    pub activation: UnaryFn,
    /// Padding of the convolutions.
    pub padding: Padding,
}

/// Sizes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvertedResidual {
    /// Channels within, where a convolution makes them.
    pub expanded: Option<usize>,
    /// Channels of the output.
    pub width: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
}

impl Family for MobileNetV2 {
    const ARCHITECTURE: Architecture = Architecture::MobileNetV2;
    const NAME: &'static str = "mobilenet_v2";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("mobilenet_v2.conv_stem.first_conv.convolution.weight")
            || tensors.has("features.1.conv.0.0.weight")
    }

    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self> {
        let names = Names::of(tensors);
        settings.only("output_stride", settings.size("output_stride")?, 32)?;
        let width = |conv: &str| -> Result<usize> {
            let [channels, ..] = tensors.dims::<4>(&format!("{conv}.weight"))?;
            Ok(channels)
        };
        let block = |(index, &stride): (usize, &usize)| {
            // Its depthwise convolution has one input channel per group, an expansion has more.
            let (path, [expand, ..]) = names.block(index, true);
            let expand = format!("{path}.{}", expand.conv);
            let weight = format!("{expand}.weight");
            let expands = match names {
                Names::Transformers => tensors.has(&weight),
                Names::Torchvision => tensors.dims::<4>(&weight)?[2] == 1,
            };
            let (path, [.., reduce]) = names.block(index, expands);
            let expanded = expands.then(|| width(&expand)).transpose()?;
            Ok(InvertedResidual { expanded, width: width(&format!("{path}.{}", reduce.conv))?, stride })
        };
        let tensorflow = names == Names::Transformers && settings.boolean("tf_padding", true)?;
        let eps = if names == Names::Transformers { 0.001 } else { 1e-5 };
        let [classes, _] = tensors.dims(&format!("{}.weight", names.classifier()))?;
        Ok(Self {
            names,
            stem: width(&names.stem().conv)?,
            blocks: STRIDES.iter().enumerate().map(block).collect::<Result<_>>()?,
            last: width(&names.last().conv)?,
            classes,
            eps: settings.positive("layer_norm_eps", eps)?,
            activation: settings.activation("hidden_act", UnaryFn::Relu6)?,
            padding: Padding::tensorflow(tensorflow),
        })
    }
}

impl MobileNetV2 {
    /// MobileNet v2 of width 1 with the names of torchvision.
    pub fn width_1(classes: usize) -> Self {
        const WIDTHS: [usize; 17] = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320];
        let block = |index: usize| InvertedResidual {
            // Six times the channels of the block before it.
            expanded: (index > 0).then(|| 6 * WIDTHS[index - 1]),
            width: WIDTHS[index],
            stride: STRIDES[index],
        };
        Self {
            names: Names::Torchvision,
            stem: 32,
            blocks: (0..WIDTHS.len()).map(block).collect(),
            last: 1280,
            classes,
            eps: 1e-5,
            activation: UnaryFn::Relu6,
            padding: Padding::Half,
        }
    }

    fn unit(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        unit: &Unit,
        x: ValueId,
        conv: &Conv2d,
    ) -> Result<ValueId> {
        let conv = self.padding.of(graph, x, conv);
        let x = nn::conv2d(graph, scope, &unit.conv, x, &conv)?;
        nn::batch_norm(graph, scope, &unit.norm, x, self.eps)
    }

    fn active(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        unit: &Unit,
        x: ValueId,
        conv: &Conv2d,
    ) -> Result<ValueId> {
        let x = self.unit(graph, scope, unit, x, conv)?;
        nn::activation(graph, x, self.activation)
    }

    fn block(&self, graph: &mut Graph, scope: &Scope<'_>, index: usize, x: ValueId) -> Result<ValueId> {
        let block = self.blocks[index];
        let (path, [expand, depthwise, reduce]) = self.names.block(index, block.expanded.is_some());
        scope.at(graph, &path, |graph, scope| {
            let mut y = x;
            if let Some(expanded) = block.expanded {
                y = self.active(graph, scope, &expand, y, &Conv2d::new(expanded, 1))?;
            }
            let conv = Conv2d::depthwise(graph, y, 3).stride(block.stride);
            y = self.active(graph, scope, &depthwise, y, &conv)?;
            y = self.unit(graph, scope, &reduce, y, &Conv2d::new(block.width, 1))?;
            // In transformers the first block is the end of the stem, without residual.
            let may = index > 0 || self.names == Names::Torchvision;
            let kept = may && block.stride == 1 && graph.spec(x) == graph.spec(y);
            if kept { nn::add(graph, y, x) } else { Ok(y) }
        })
    }
}

impl Network for MobileNetV2 {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, side: Option<usize>) -> Preprocess {
        match self.names {
            Names::Torchvision => Preprocess::imagenet(256, 224, ResampleFilter::Bilinear),
            Names::Transformers => {
                Preprocess::square(side.unwrap_or(224), Channels::Rgb, 1.0 / 255.0, [0.5; 3], [0.5; 3])
            }
        }
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let stem = Conv2d::new(self.stem, 3).stride(2);
        let mut x = self.active(graph, scope, &self.names.stem(), pixels, &stem)?;
        for block in 0..self.blocks.len() {
            x = self.block(graph, scope, block, x)?;
        }
        let x = self.active(graph, scope, &self.names.last(), x, &Conv2d::new(self.last, 1))?;
        let x = nn::global_avg_pool(graph, x)?;
        nn::dense(graph, scope, self.names.classifier(), x, self.classes, UnaryFn::Identity)
    }
}
