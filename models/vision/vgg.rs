//! VGG 11 to 19 (Simonyan and Zisserman 2014), with torchvision's names.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::Preprocess;
use crate::nn::{self, Conv2d, Scope};
use crate::ops::{ResampleFilter, UnaryFn, Window};

const EPS: f32 = 1e-5;
/// Side to which the last image is pooled.
const SIDE: usize = 7;

/// VGG: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vgg {
    /// Convolutions and pools in their order.
    pub layers: Vec<VggLayer>,
    /// Whether a batch norm follows each convolution.
    pub batch_norm: bool,
    /// Widths of the two dense layers before the classifier.
    pub hidden: [usize; 2],
    /// Number of classes.
    pub classes: usize,
}

/// A layer of VGG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VggLayer {
    /// A 3x3 convolution with its index below `features` and its channels.
    Conv(usize, usize),
    /// A pool that halves the image, with its index.
    Pool(usize),
}

impl Family for Vgg {
    const ARCHITECTURE: Architecture = Architecture::Vgg;
    const NAME: &'static str = "vgg";

    fn matches(tensors: &TensorShapes) -> bool {
        // AlexNet has `classifier.1` in the place of `classifier.0`.
        tensors.has("features.0.weight")
            && ["0", "3", "6"].iter().all(|index| tensors.has(&format!("classifier.{index}.weight")))
    }

    fn read(tensors: &TensorShapes, _: &Settings<'_>) -> Result<Self> {
        let batch_norm = tensors.has("features.1.running_mean");
        // Indices that a convolution takes with its norm and activation.
        let step = if batch_norm { 3 } else { 2 };
        let weight = |index: usize| format!("features.{index}.weight");
        let (mut layers, mut index) = (Vec::new(), 0);
        while tensors.has(&weight(index)) {
            let [channels, ..] = tensors.dims::<4>(&weight(index))?;
            layers.push(VggLayer::Conv(index, channels));
            index += step;
            if !tensors.has(&weight(index)) {
                layers.push(VggLayer::Pool(index));
                index += 1;
            }
        }
        let dense = |index: usize| -> Result<usize> {
            let [width, _] = tensors.dims(&format!("classifier.{index}.weight"))?;
            Ok(width)
        };
        Ok(Self { layers, batch_norm, hidden: [dense(0)?, dense(3)?], classes: dense(6)? })
    }
}

impl Network for Vgg {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        Preprocess::imagenet(256, 224, ResampleFilter::Bilinear)
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let mut x = pixels;
        for layer in &self.layers {
            x = match *layer {
                VggLayer::Conv(index, channels) => {
                    let conv = Conv2d::new(channels, 3).padding(1).bias(true);
                    x = nn::conv2d(graph, scope, &format!("features.{index}"), x, &conv)?;
                    if self.batch_norm {
                        x = nn::batch_norm(graph, scope, &format!("features.{}", index + 1), x, EPS)?;
                    }
                    nn::activation(graph, x, UnaryFn::Relu)?
                }
                VggLayer::Pool(index) => graph.scope(format!("features.{index}"), |graph| {
                    nn::max_pool(graph, x, Window::new([2, 2]).stride([2, 2]))
                })?,
            };
        }
        let x = nn::adaptive_avg_pool(graph, x, [SIDE, SIDE])?;
        let x = nn::flatten(graph, x)?;
        let x = nn::dense(graph, scope, "classifier.0", x, self.hidden[0], UnaryFn::Relu)?;
        let x = nn::dense(graph, scope, "classifier.3", x, self.hidden[1], UnaryFn::Relu)?;
        nn::dense(graph, scope, "classifier.6", x, self.classes, UnaryFn::Identity)
    }
}
