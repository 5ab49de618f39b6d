//! ResNet for images of 32x32 (He et al. 2015, section 4.2), with the names of
//! akamaster/pytorch_resnet_cifar10 and kuangliu/pytorch-cifar.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, IMAGENET_MEAN, IMAGENET_STD, Preprocess};
use crate::nn::{self, Conv2d, Scope};
use crate::ops::UnaryFn;

const EPS: f32 = 1e-5;
/// The classes of CIFAR-10.
const CIFAR10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// ResNet for CIFAR: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifarResNet {
    /// Channels of the first convolution.
    pub stem: usize,
    /// Blocks are a 1x1, a 3x3 and a 1x1 convolution; else two 3x3 convolutions.
    pub bottleneck: bool,
    /// Number of blocks, channels within and of the output, of each stage.
    pub stages: Vec<[usize; 3]>,
    /// Shortcuts between different sizes are convolutions (option B); else every second pixel,
    /// with channels of zeros around (option A).
    pub projects: bool,
    /// Number of classes.
    pub classes: usize,
}

impl Family for CifarResNet {
    const ARCHITECTURE: Architecture = Architecture::CifarResNet;
    const NAME: &'static str = "cifar_resnet";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("conv1.weight") && tensors.has("layer3.0.conv1.weight") && tensors.has("linear.weight")
    }

    fn read(tensors: &TensorShapes, _: &Settings<'_>) -> Result<Self> {
        let conv = |stage: usize, block: usize, index: usize| {
            format!("layer{}.{block}.conv{}.weight", stage + 1, index + 1)
        };
        let bottleneck = tensors.has(&conv(0, 0, 2));
        let stage = |stage: usize| {
            let blocks = tensors.count(|block| conv(stage, block, 0))?;
            let [inner, ..] = tensors.dims::<4>(&conv(stage, 0, 0))?;
            let [width, ..] = tensors.dims::<4>(&conv(stage, 0, 1 + usize::from(bottleneck)))?;
            Ok([blocks, inner, width])
        };
        let stages = tensors.count(|stage| conv(stage, 0, 0))?;
        let [stem, ..] = tensors.dims::<4>("conv1.weight")?;
        let [classes, _] = tensors.dims("linear.weight")?;
        Ok(Self {
            stem,
            bottleneck,
            stages: (0..stages).map(stage).collect::<Result<_>>()?,
            projects: tensors.has("layer2.0.shortcut.0.weight"),
            classes,
        })
    }
}

impl CifarResNet {
    fn block(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        [inner, width]: [usize; 2],
        stride: usize,
        x: ValueId,
    ) -> Result<ValueId> {
        let three = |channels: usize| Conv2d::new(channels, 3).padding(1);
        let convolutions = if self.bottleneck {
            vec![Conv2d::new(inner, 1), three(inner).stride(stride), Conv2d::new(width, 1)]
        } else {
            vec![three(inner).stride(stride), three(width)]
        };
        let mut y = x;
        for (index, conv) in convolutions.iter().enumerate() {
            let names = [&format!("conv{}", index + 1), &format!("bn{}", index + 1)];
            let last = index + 1 == convolutions.len();
            let activation = if last { UnaryFn::Identity } else { UnaryFn::Relu };
            y = nn::conv_norm_act(graph, scope, names.map(String::as_str), y, conv, EPS, activation)?;
        }
        let shortcut = match graph.spec(x) == graph.spec(y) {
            true => x,
            false if self.projects => {
                let conv = Conv2d::new(width, 1).stride(stride);
                let names = ["shortcut.0", "shortcut.1"];
                nn::conv_norm_act(graph, scope, names, x, &conv, EPS, UnaryFn::Identity)?
            }
            false => {
                let picked = nn::every_nth_pixel(graph, x, stride)?;
                let added = width.saturating_sub(nn::channels(graph, x));
                nn::pad_channels(graph, picked, added / 2, added - added / 2)?
            }
        };
        let sum = nn::add(graph, y, shortcut)?;
        nn::activation(graph, sum, UnaryFn::Relu)
    }
}

impl Network for CifarResNet {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, side: Option<usize>) -> Preprocess {
        let side = side.unwrap_or(32);
        Preprocess::square(side, Channels::Rgb, 1.0 / 255.0, IMAGENET_MEAN, IMAGENET_STD)
    }

    fn labels(&self) -> Option<&'static [&'static str]> {
        Some(&CIFAR10)
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let stem = Conv2d::new(self.stem, 3).padding(1);
        let mut x = nn::conv_norm_act(graph, scope, ["conv1", "bn1"], pixels, &stem, EPS, UnaryFn::Relu)?;
        for (stage, &[blocks, inner, width]) in self.stages.iter().enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let path = format!("layer{}.{block}", stage + 1);
                x = scope
                    .at(graph, &path, |graph, scope| self.block(graph, scope, [inner, width], stride, x))?;
            }
        }
        let x = nn::global_avg_pool(graph, x)?;
        nn::dense(graph, scope, "linear", x, self.classes, UnaryFn::Identity)
    }
}
