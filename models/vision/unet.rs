//! U-Net (Ronneberger et al. 2015), with the names of milesial/Pytorch-UNet.

use super::{Architecture, Family, Network, Settings, Task, TensorShapes};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::models::preprocess::{Channels, Preprocess, Resize};
use crate::nn::{self, Conv2d, Scope};
use crate::ops::{UnaryFn, Window};

const EPS: f32 = 1e-5;

/// U-Net: f32 `[n, channels, height, width]` to one logit for each class and pixel,
/// `[n, classes, height, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UNet {
    /// Channels of the image.
    pub channels: usize,
    /// Channels between and after the two convolutions of the first block.
    pub first: [usize; 2],
    /// The same of each block on the way down.
    pub down: Vec<[usize; 2]>,
    /// Channels of the transposed convolution (none: bilinear), and of the two convolutions, of
    /// each block on the way up.
    pub up: Vec<(Option<usize>, [usize; 2])>,
    /// Number of classes.
    pub classes: usize,
}

/// Two 3x3 convolutions, each with batch norm and relu.
fn double_conv(
    graph: &mut Graph,
    scope: &Scope<'_>,
    x: ValueId,
    [middle, output]: [usize; 2],
) -> Result<ValueId> {
    scope.at(graph, "double_conv", |graph, scope| {
        let conv = |channels: usize| Conv2d::new(channels, 3).padding(1);
        let x = nn::conv_norm_act(graph, scope, ["0", "1"], x, &conv(middle), EPS, UnaryFn::Relu)?;
        nn::conv_norm_act(graph, scope, ["3", "4"], x, &conv(output), EPS, UnaryFn::Relu)
    })
}

/// Doubles the image, gives it the size of `skip`, and joins the two.
fn up(
    graph: &mut Graph,
    scope: &Scope<'_>,
    x: ValueId,
    skip: ValueId,
    transposed: Option<usize>,
    widths: [usize; 2],
) -> Result<ValueId> {
    let x = match transposed {
        Some(channels) => nn::conv_transpose2d(graph, scope, "up", x, channels, 2)?,
        None => nn::upsample_bilinear(graph, x, 2)?,
    };
    let x = nn::pad_to(graph, x, skip)?;
    let x = nn::concat_channels(graph, &[skip, x])?;
    scope.at(graph, "conv", |graph, scope| double_conv(graph, scope, x, widths))
}

impl Family for UNet {
    const ARCHITECTURE: Architecture = Architecture::UNet;
    const NAME: &'static str = "unet";

    fn matches(tensors: &TensorShapes) -> bool {
        tensors.has("inc.double_conv.0.weight") && tensors.has("up1.conv.double_conv.0.weight")
    }

    fn read(tensors: &TensorShapes, _: &Settings<'_>) -> Result<Self> {
        let double = |path: &str| -> Result<[usize; 2]> {
            let [middle, ..] = tensors.dims::<4>(&format!("{path}.double_conv.0.weight"))?;
            let [output, ..] = tensors.dims::<4>(&format!("{path}.double_conv.3.weight"))?;
            Ok([middle, output])
        };
        let down = |index: usize| format!("down{}.maxpool_conv.1", index + 1);
        let up = |index: usize| -> Result<(Option<usize>, [usize; 2])> {
            let name = format!("up{}.up.weight", index + 1);
            let transposed = tensors.has(&name).then(|| Ok(tensors.dims::<4>(&name)?[1])).transpose()?;
            Ok((transposed, double(&format!("up{}.conv", index + 1))?))
        };
        let [_, channels, ..] = tensors.dims::<4>("inc.double_conv.0.weight")?;
        let [classes, ..] = tensors.dims::<4>("outc.conv.weight")?;
        let count = tensors.count(|index| format!("{}.double_conv.0.weight", down(index)))?;
        Ok(Self {
            channels,
            first: double("inc")?,
            down: (0..count).map(|index| double(&down(index))).collect::<Result<_>>()?,
            up: (0..count).map(up).collect::<Result<_>>()?,
            classes,
        })
    }
}

impl Network for UNet {
    fn task(&self) -> Task {
        Task::Segment { classes: self.classes }
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn preprocess(&self, _: Option<usize>) -> Preprocess {
        let square = Preprocess::square(1, Channels::Rgb, 1.0 / 255.0, [0.0; 3], [1.0; 3]);
        Preprocess { square: false, resize: Resize::Keep, ..square }
    }

    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId> {
        let mut x = scope.at(graph, "inc", |graph, scope| double_conv(graph, scope, pixels, self.first))?;
        let mut skips = Vec::new();
        for (index, &widths) in self.down.iter().enumerate() {
            skips.push(x);
            x = scope.at(graph, &format!("down{}", index + 1), |graph, scope| {
                let x = nn::max_pool(graph, x, Window::new([2, 2]).stride([2, 2]))?;
                scope.at(graph, "maxpool_conv.1", |graph, scope| double_conv(graph, scope, x, widths))
            })?;
        }
        for (index, (&(transposed, widths), skip)) in self.up.iter().zip(skips.into_iter().rev()).enumerate()
        {
            let path = format!("up{}", index + 1);
            x = scope.at(graph, &path, |graph, scope| up(graph, scope, x, skip, transposed, widths))?;
        }
        nn::conv2d(graph, scope, "outc.conv", x, &Conv2d::new(self.classes, 1).bias(true))
    }
}
