//! SqueezeNet 1.0 and 1.1 (Iandola et al. 2016), with torchvision's names.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, Preprocess};
use crate::nn::{self, Conv2d, Scope};
use crate::ops::{UnaryFn, Window};

/// SqueezeNet: f32 `[n, 3, height, width]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SqueezeNet {
    /// Channels and kernel of the first convolution.
    pub stem: [usize; 2],
    /// From `features.2` on: a fire module, or a pool where there is none.
    pub modules: Vec<Option<Fire>>,
    /// Number of classes.
    pub classes: usize,
    /// Whether pools round their size up.
    pub ceil_mode: bool,
}

/// Channels of a fire module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    /// Of the 1x1 convolution that both branches read.
    pub squeeze: usize,
    /// Of the 1x1 branch.
    pub expand1x1: usize,
    /// Of the 3x3 branch.
    pub expand3x3: usize,
}

impl Family for SqueezeNet {
    const ARCHITECTURE: Architecture = Architecture::SqueezeNet;
    const NAME: &'static str = "squeezenet";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("features.3.squeeze.weight") && tensors.has("classifier.1.weight")
    }

    fn read(tensors: &TensorShapes, _: &Settings<'_>) -> Result<Self> {
        let fire = |index: usize| format!("features.{index}.squeeze.weight");
        let end = (0..32).rev().find(|&index| tensors.has(&fire(index))).map_or(0, |last| last + 1);
        let module = |index: usize| {
            if !tensors.has(&fire(index)) {
                return Ok(None);
            }
            let channels = |part: &str| -> Result<usize> {
                let [channels, ..] = tensors.dims::<4>(&format!("features.{index}.{part}.weight"))?;
                Ok(channels)
            };
            let (squeeze, expand1x1) = (channels("squeeze")?, channels("expand1x1")?);
            Ok(Some(Fire { squeeze, expand1x1, expand3x3: channels("expand3x3")? }))
        };
        let [channels, _, kernel, _] = tensors.dims("features.0.weight")?;
        let [classes, ..] = tensors.dims::<4>("classifier.1.weight")?;
        let modules = (2..end).map(module).collect::<Result<_>>()?;
        Ok(Self { stem: [channels, kernel], modules, classes, ceil_mode: true })
    }
}

impl SqueezeNet {
    /// SqueezeNet 1.1 with the names of torchvision.
    pub fn squeezenet1_1(classes: usize) -> Self {
        let fire = |squeeze, expand| Some(Fire { squeeze, expand1x1: expand, expand3x3: expand });
        let modules = vec![
            None,
            fire(16, 64),
            fire(16, 64),
            None,
            fire(32, 128),
            fire(32, 128),
            None,
            fire(48, 192),
            fire(48, 192),
            fire(64, 256),
            fire(64, 256),
        ];
        Self { stem: [64, 3], modules, classes, ceil_mode: true }
    }

    fn fire(graph: &mut Graph, scope: &Scope<'_>, x: ValueId, fire: Fire) -> Result<ValueId> {
        let relu = UnaryFn::Relu;
        let conv = |channels, kernel| Conv2d::new(channels, kernel).padding(kernel / 2).bias(true);
        let x = nn::conv2d_act(graph, scope, "squeeze", x, &conv(fire.squeeze, 1), relu)?;
        let small = nn::conv2d_act(graph, scope, "expand1x1", x, &conv(fire.expand1x1, 1), relu)?;
        let large = nn::conv2d_act(graph, scope, "expand3x3", x, &conv(fire.expand3x3, 3), relu)?;
        nn::concat_channels(graph, &[small, large])
    }
}

impl Network for SqueezeNet {
    fn task(&self) -> Task {
        Task::Classify { classes: self.classes }
    }

    /// Of its authors' weights, not of those that torchvision trained.
    fn preprocess(&self, side: Option<usize>) -> Preprocess {
        Preprocess::square(side.unwrap_or(227), Channels::Bgr, 1.0, [104.0, 117.0, 123.0], [1.0; 3])
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let relu = UnaryFn::Relu;
        let [channels, kernel] = self.stem;
        let stem = Conv2d::new(channels, kernel).stride(2).bias(true);
        let mut x = nn::conv2d_act(graph, scope, "features.0", pixels, &stem, relu)?;
        for (index, module) in self.modules.iter().enumerate() {
            x = scope.at(graph, &format!("features.{}", index + 2), |graph, scope| match module {
                Some(fire) => Self::fire(graph, scope, x, *fire),
                None => {
                    let window = Window::new([3, 3]).stride([2, 2]).ceil_mode(self.ceil_mode);
                    nn::max_pool(graph, x, window)
                }
            })?;
        }
        let classifier = Conv2d::new(self.classes, 1).bias(true);
        let x = nn::conv2d_act(graph, scope, "classifier.1", x, &classifier, relu)?;
        nn::global_avg_pool(graph, x)
    }
}
