//! The networks for handwritten digits of models/pretrained/digits: the field's textbook forms.
//! Convolutions `conv1`, `conv2`, ... of 3x3, each with relu and all but the last with a 2x2 pool;
//! then dense layers `dense1`, ... with relu between them. The dense network has no convolution.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, Preprocess};
use crate::nn::{self, Conv2d, Scope};
use crate::ops::{UnaryFn, Window};

/// A textbook network: f32 `[n, channels, side, side]` to `[n, classes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digits {
    /// Channels of the image.
    pub channels: usize,
    /// Height and width of the image.
    pub side: usize,
    /// Channels of each convolution.
    pub convolutions: Vec<usize>,
    /// Outputs of each dense layer; the last one's are the classes.
    pub dense: Vec<usize>,
}

impl Family for Digits {
    const ARCHITECTURE: Architecture = Architecture::Digits;
    const NAME: &'static str = "digits";
    const MODEL_TYPES: &'static [&'static str] = &["wginfer_digits"];

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("dense1.weight") && tensors.has("dense2.weight")
    }

    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self> {
        let width = |kind: &str, index: usize| format!("{kind}{}.weight", index + 1);
        let conv = |index: usize| width("conv", index);
        let convolutions = match tensors.has(&conv(0)) {
            true => (0..tensors.count(conv)?)
                .map(|index| Ok(tensors.dims::<4>(&conv(index))?[0]))
                .collect::<Result<Vec<_>>>()?,
            false => Vec::new(),
        };
        let layers = tensors.count(|index| width("dense", index))?;
        let dense = (0..layers).map(|index| Ok(tensors.dims::<2>(&width("dense", index))?[0]));
        let channels = match convolutions.first() {
            Some(_) => tensors.dims::<4>(&conv(0))?[1],
            None => settings.size("num_channels")?.unwrap_or(1),
        };
        let side = settings.size("image_size")?.unwrap_or(28);
        Ok(Self { channels, side, convolutions, dense: dense.collect::<Result<_>>()? })
    }
}

impl Network for Digits {
    fn task(&self) -> Task {
        Task::Classify { classes: self.dense.last().copied().unwrap_or(0) }
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn fixed_side(&self) -> Option<usize> {
        Some(self.side)
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        Preprocess::square(self.side, Channels::Rgb, 1.0 / 255.0, [0.0; 3], [1.0; 3])
    }

    fn labels(&self) -> Option<&'static [&'static str]> {
        Some(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"])
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let mut x = pixels;
        for (index, &channels) in self.convolutions.iter().enumerate() {
            let conv = Conv2d::new(channels, 3).bias(true);
            x = nn::conv2d_act(graph, scope, &format!("conv{}", index + 1), x, &conv, UnaryFn::Relu)?;
            if index + 1 < self.convolutions.len() {
                x = nn::max_pool(graph, x, Window::new([2, 2]).stride([2, 2]))?;
            }
        }
        x = nn::flatten(graph, x)?;
        for (index, &width) in self.dense.iter().enumerate() {
            let last = index + 1 == self.dense.len();
            let activation = if last { UnaryFn::Identity } else { UnaryFn::Relu };
            x = nn::dense(graph, scope, &format!("dense{}", index + 1), x, width, activation)?;
        }
        Ok(x)
    }
}
