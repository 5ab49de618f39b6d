//! DenseNet 121 to 201 (Huang et al. 2016), with torchvision's names, and those of its published
//! files, which have a dot in `norm.1`, `conv.2`.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::Preprocess;
use crate::nn::{self, Conv2d, Scope};
use crate::ops::{ResampleFilter, UnaryFn, Window};

const EPS: f32 = 1e-5;

/// DenseNet: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseNet {
    /// Channels of the first convolution.
    pub stem: usize,
    /// The dense blocks.
    pub blocks: Vec<DenseBlock>,
    /// Number of classes.
    pub classes: usize,
    /// Layers are numbered with a dot: `norm.1`, `conv.2`.
    pub dotted: bool,
}

/// Name of a part of a layer.
fn part(kind: &str, number: usize, dotted: bool) -> String {
    if dotted { format!("{kind}.{number}") } else { format!("{kind}{number}") }
}

/// A dense block and the transition behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseBlock {
    /// Number of layers.
    pub layers: usize,
    /// Channels between the two convolutions of a layer.
    pub inner: usize,
    /// Channels that a layer adds.
    pub growth: usize,
    /// Channels of the transition; none behind the last block.
    pub transition: Option<usize>,
}

impl DenseBlock {
    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, x: ValueId, dotted: bool) -> Result<ValueId> {
        let (norm, conv) = (|number| part("norm", number, dotted), |number| part("conv", number, dotted));
        let mut x = x;
        for layer in 0..self.layers {
            let path = format!("denselayer{}", layer + 1);
            let new = scope.at(graph, &path, |graph, scope| {
                let y = norm_act(graph, scope, &norm(1), x)?;
                let y = nn::conv2d(graph, scope, &conv(1), y, &Conv2d::new(self.inner, 1))?;
                let y = norm_act(graph, scope, &norm(2), y)?;
                nn::conv2d(graph, scope, &conv(2), y, &Conv2d::new(self.growth, 3).padding(1))
            })?;
            x = nn::concat_channels(graph, &[x, new])?;
        }
        Ok(x)
    }

    fn transition(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        x: ValueId,
        channels: usize,
    ) -> Result<ValueId> {
        let x = norm_act(graph, scope, "norm", x)?;
        let x = nn::conv2d(graph, scope, "conv", x, &Conv2d::new(channels, 1))?;
        nn::avg_pool(graph, x, Window::new([2, 2]).stride([2, 2]))
    }
}

fn norm_act(graph: &mut Graph, scope: &Scope<'_>, name: &str, x: ValueId) -> Result<ValueId> {
    let x = nn::batch_norm(graph, scope, name, x, EPS)?;
    nn::activation(graph, x, UnaryFn::Relu)
}

impl Family for DenseNet {
    const ARCHITECTURE: Architecture = Architecture::DenseNet;
    const NAME: &'static str = "densenet";

    fn matches(tensors: &TensorShapes) -> bool {
        let first = |dotted| format!("features.denseblock1.denselayer1.{}.weight", part("conv", 1, dotted));
        tensors.has("features.conv0.weight") && [false, true].iter().any(|it| tensors.has(&first(*it)))
    }

    fn read(tensors: &TensorShapes, _: &Settings<'_>) -> Result<Self> {
        let dotted = tensors.has("features.denseblock1.denselayer1.conv.1.weight");
        let conv = |block: usize, layer: usize, index: usize| {
            let conv = part("conv", index, dotted);
            format!("features.denseblock{}.denselayer{}.{conv}.weight", block + 1, layer + 1)
        };
        let count = tensors.count(|block| conv(block, 0, 1))?;
        let block = |block: usize| {
            let layers = tensors.count(|layer| conv(block, layer, 1))?;
            let [inner, ..] = tensors.dims::<4>(&conv(block, 0, 1))?;
            let [growth, ..] = tensors.dims::<4>(&conv(block, 0, 2))?;
            let transition = format!("features.transition{}.conv.weight", block + 1);
            let transition = match block + 1 < count {
                true => Some(tensors.dims::<4>(&transition)?[0]),
                false => None,
            };
            Ok(DenseBlock { layers, inner, growth, transition })
        };
        let [stem, ..] = tensors.dims::<4>("features.conv0.weight")?;
        let [classes, _] = tensors.dims("classifier.weight")?;
        Ok(Self { stem, blocks: (0..count).map(block).collect::<Result<_>>()?, classes, dotted })
    }
}

impl Network for DenseNet {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        Preprocess::imagenet(256, 224, ResampleFilter::Bilinear)
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let x = scope.at(graph, "features", |graph, scope| {
            let stem = Conv2d::new(self.stem, 7).stride(2).padding(3);
            let x = nn::conv2d(graph, scope, "conv0", pixels, &stem)?;
            let x = norm_act(graph, scope, "norm0", x)?;
            let mut x = nn::max_pool(graph, x, Window::new([3, 3]).stride([2, 2]).padding([1, 1]))?;
            for (index, block) in self.blocks.iter().enumerate() {
                let path = format!("denseblock{}", index + 1);
                x = scope.at(graph, &path, |graph, scope| block.build(graph, scope, x, self.dotted))?;
                if let Some(channels) = block.transition {
                    let path = format!("transition{}", index + 1);
                    x = scope.at(graph, &path, |graph, scope| block.transition(graph, scope, x, channels))?;
                }
            }
            let x = norm_act(graph, scope, "norm5", x)?;
            nn::global_avg_pool(graph, x)
        })?;
        nn::dense(graph, scope, "classifier", x, self.classes, UnaryFn::Identity)
    }
}
