//! MobileNet v1 (Howard et al. 2017), with the names of transformers.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, Preprocess};
use crate::nn::{self, Conv2d, Padding, Scope};
use crate::ops::UnaryFn;

/// Strides of the depthwise convolutions.
const STRIDES: [usize; 13] = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1];

/// MobileNet v1: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV1 {
    /// Channels of the first convolution.
    pub stem: usize,
    /// Channels after each of the 13 pairs of a depthwise and a pointwise convolution.
    pub widths: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
    /// Epsilon of the batch norms.
    pub eps: f32,
    /// Activation after each convolution.
    pub activation: UnaryFn,
    /// Padding of the convolutions.
    pub padding: Padding,
}

impl Family for MobileNetV1 {
    const ARCHITECTURE: Architecture = Architecture::MobileNetV1;
    const NAME: &'static str = "mobilenet_v1";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("mobilenet_v1.conv_stem.convolution.weight")
    }

    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self> {
        let width = |path: String| -> Result<usize> {
            let [channels, ..] = tensors.dims::<4>(&format!("mobilenet_v1.{path}.convolution.weight"))?;
            Ok(channels)
        };
        let [classes, _] = tensors.dims("classifier.weight")?;
        let widths = (0..STRIDES.len()).map(|pair| width(format!("layer.{}", 2 * pair + 1)));
        Ok(Self {
            stem: width("conv_stem".into())?,
            widths: widths.collect::<Result<_>>()?,
            classes,
            eps: settings.positive("layer_norm_eps", 0.001)?,
            activation: settings.activation("hidden_act", UnaryFn::Relu6)?,
            padding: Padding::tensorflow(settings.boolean("tf_padding", true)?),
        })
    }
}

impl MobileNetV1 {
    fn unit(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        path: &str,
        x: ValueId,
        conv: &Conv2d,
    ) -> Result<ValueId> {
        let conv = self.padding.of(graph, x, conv);
        scope.at(graph, path, |graph, scope| {
            let x = nn::conv2d(graph, scope, "convolution", x, &conv)?;
            let x = nn::batch_norm(graph, scope, "normalization", x, self.eps)?;
            nn::activation(graph, x, self.activation)
        })
    }
}

impl Network for MobileNetV1 {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    fn preprocess(&self, side: Option<usize>) -> Preprocess {
        Preprocess::square(side.unwrap_or(224), Channels::Rgb, 1.0 / 255.0, [0.5; 3], [0.5; 3])
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let x = scope.at(graph, "mobilenet_v1", |graph, scope| {
            let mut x = self.unit(graph, scope, "conv_stem", pixels, &Conv2d::new(self.stem, 3).stride(2))?;
            for (pair, (&width, &stride)) in self.widths.iter().zip(&STRIDES).enumerate() {
                let depthwise = Conv2d::depthwise(graph, x, 3).stride(stride);
                x = self.unit(graph, scope, &format!("layer.{}", 2 * pair), x, &depthwise)?;
                let pointwise = Conv2d::new(width, 1);
                x = self.unit(graph, scope, &format!("layer.{}", 2 * pair + 1), x, &pointwise)?;
            }
            nn::global_avg_pool(graph, x)
        })?;
        nn::dense(graph, scope, "classifier", x, self.classes, UnaryFn::Identity)
    }
}
