//! MobileNet v3, large and small (Howard et al. 2019), with torchvision's names.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::Preprocess;
use crate::nn::{self, Conv2d, Scope, SqueezeExcite};
use crate::ops::{ResampleFilter, UnaryFn};

const EPS: f32 = 0.001;
const HARD_SIGMOID: UnaryFn = UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };

/// Stride of each block, and how many of the first blocks use relu instead of hard-swish.
const LARGE: ([usize; 15], usize) = ([1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1], 6);
const SMALL: ([usize; 11], usize) = ([2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1], 3);

/// MobileNet v3: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV3 {
    /// Channels of the first convolution.
    pub stem: usize,
    /// The blocks.
    pub blocks: Vec<MobileBlock>,
    /// Channels of the last convolution.
    pub last: usize,
    /// Width of the dense layer before the classifier.
    pub hidden: usize,
    /// Number of classes.
    pub classes: usize,
    /// Function of the squeeze-and-excite weights.
    pub gate: UnaryFn,
}

/// Sizes of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MobileBlock {
    /// Channels within, where a convolution makes them.
    pub expanded: Option<usize>,
    /// Kernel of the depthwise convolution.
    pub kernel: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
    /// Channels of squeeze and excite, where the block has it.
    pub squeezed: Option<usize>,
    /// Channels of the output.
    pub width: usize,
    /// Activation.
    pub activation: UnaryFn,
}

impl MobileBlock {
    fn read(tensors: &TensorShapes, index: usize, stride: usize, activation: UnaryFn) -> Result<Self> {
        let path = format!("features.{index}.block");
        let [first, _, kernel, _] = tensors.dims(&format!("{path}.0.0.weight"))?;
        let expands = kernel == 1;
        let kernel = if expands { tensors.dims::<4>(&format!("{path}.1.0.weight"))?[2] } else { kernel };
        let next = 1 + usize::from(expands);
        let squeeze = format!("{path}.{next}.fc1.weight");
        let squeezes = tensors.has(&squeeze);
        let squeezed = squeezes.then(|| Ok(tensors.dims::<4>(&squeeze)?[0])).transpose()?;
        let project = format!("{path}.{}.0.weight", next + usize::from(squeezes));
        let [width, ..] = tensors.dims::<4>(&project)?;
        Ok(Self { expanded: expands.then_some(first), kernel, stride, squeezed, width, activation })
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, gate: UnaryFn, x: ValueId) -> Result<ValueId> {
        let mut y = x;
        let mut parts = 0..;
        let mut part = || format!("block.{}", parts.next().unwrap_or(0));
        if let Some(expanded) = self.expanded {
            y = unit(graph, scope, &part(), y, &Conv2d::new(expanded, 1), self.activation)?;
        }
        let depthwise = Conv2d::depthwise(graph, y, self.kernel).stride(self.stride).padding(self.kernel / 2);
        y = unit(graph, scope, &part(), y, &depthwise, self.activation)?;
        if let Some(squeezed) = self.squeezed {
            let excite =
                SqueezeExcite { squeezed, reduce: "fc1", expand: "fc2", activation: UnaryFn::Relu, gate };
            y = scope.at(graph, &part(), |graph, scope| excite.apply(graph, scope, y))?;
        }
        y = unit(graph, scope, &part(), y, &Conv2d::new(self.width, 1), UnaryFn::Identity)?;
        let kept = self.stride == 1 && graph.spec(x) == graph.spec(y);
        if kept { nn::add(graph, y, x) } else { Ok(y) }
    }
}

/// Convolution ("0"), batch norm ("1"), activation.
fn unit(
    graph: &mut Graph,
    scope: &Scope<'_>,
    path: &str,
    x: ValueId,
    conv: &Conv2d,
    activation: UnaryFn,
) -> Result<ValueId> {
    scope
        .at(graph, path, |graph, scope| nn::conv_norm_act(graph, scope, ["0", "1"], x, conv, EPS, activation))
}

impl Family for MobileNetV3 {
    const ARCHITECTURE: Architecture = Architecture::MobileNetV3;
    const NAME: &'static str = "mobilenet_v3";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("features.1.block.0.0.weight") && tensors.has("classifier.3.weight")
    }

    fn read(tensors: &TensorShapes, _: &Settings<'_>) -> Result<Self> {
        let count = tensors.count(|index| format!("features.{}.block.0.0.weight", index + 1))?;
        let (strides, relus) = match count {
            15 => (&LARGE.0[..], LARGE.1),
            11 => (&SMALL.0[..], SMALL.1),
            _ => {
                let message = format!("mobilenet_v3 has 15 blocks (large) or 11 (small), got {count}");
                return Err(tensors.error(message));
            }
        };
        let block = |(index, &stride): (usize, &usize)| {
            let activation = if index < relus { UnaryFn::Relu } else { UnaryFn::HardSwish };
            MobileBlock::read(tensors, index + 1, stride, activation)
        };
        let [stem, ..] = tensors.dims::<4>("features.0.0.weight")?;
        let [last, ..] = tensors.dims::<4>(&format!("features.{}.0.weight", count + 1))?;
        let [hidden, _] = tensors.dims("classifier.0.weight")?;
        let [classes, _] = tensors.dims("classifier.3.weight")?;
        let blocks = strides.iter().enumerate().map(block).collect::<Result<_>>()?;
        Ok(Self { stem, blocks, last, hidden, classes, gate: HARD_SIGMOID })
    }
}

impl Network for MobileNetV3 {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        Preprocess::imagenet(256, 224, ResampleFilter::Bilinear)
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let swish = UnaryFn::HardSwish;
        let stem = Conv2d::new(self.stem, 3).stride(2).padding(1);
        let mut x = unit(graph, scope, "features.0", pixels, &stem, swish)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let path = format!("features.{}", index + 1);
            x = scope.at(graph, &path, |graph, scope| block.build(graph, scope, self.gate, x))?;
        }
        let path = format!("features.{}", self.blocks.len() + 1);
        let x = unit(graph, scope, &path, x, &Conv2d::new(self.last, 1), swish)?;
        let x = nn::global_avg_pool(graph, x)?;
        let x = nn::dense(graph, scope, "classifier.0", x, self.hidden, swish)?;
        nn::dense(graph, scope, "classifier.3", x, self.classes, UnaryFn::Identity)
    }
}
