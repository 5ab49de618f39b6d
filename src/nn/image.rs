//! Blocks for images `[n, channels, height, width]`: convolutions, norms, pools.

use super::{Norm, Projection, Scope, linear};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::nn::shape::{channels_first, channels_last, flatten};
use crate::ops::{
    AdaptivePool, BatchNorm, Binary, BinaryFn, Conv, ConvTranspose, Pool, PoolFn, Resize, Unary, UnaryFn,
    Window,
};

/// Number of channels of an image `[n, channels, ..]`.
pub fn channels(graph: &Graph, x: ValueId) -> usize {
    graph.spec(x).shape.dims().get(1).copied().unwrap_or(0)
}

/// Sizes of a convolution; its input channels are those of what it is applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv2d {
    /// Output channels.
    pub channels: usize,
    /// Height and width of the window, how it moves, and the padding.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// Whether it has a bias.
    pub bias: bool,
}

impl Conv2d {
    /// A square window that moves by one, without padding, groups and bias.
    pub fn new(channels: usize, kernel: usize) -> Self {
        Self { channels, window: Window::new([kernel, kernel]), groups: 1, bias: false }
    }

    /// One window for each channel of x.
    pub fn depthwise(graph: &Graph, x: ValueId, kernel: usize) -> Self {
        let channels = channels(graph, x);
        Self::new(channels, kernel).groups(channels)
    }

    /// Sets the stride.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.window = self.window.stride([stride, stride]);
        self
    }

    /// Sets the same padding on all sides.
    #[must_use]
    pub fn padding(self, padding: usize) -> Self {
        self.pads([(padding, padding); 2])
    }

    /// Sets the padding before and after each axis.
    #[must_use]
    pub fn pads(mut self, pads: [(usize, usize); 2]) -> Self {
        self.window = self.window.pads(pads);
        self
    }

    /// Sets the number of groups.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets whether it has a bias.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }
}

/// How convolutions are padded so that stride 1 keeps the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Half a window on all sides.
    Half,
    /// TensorFlow's SAME: stride s gives size / s, rounded up; an odd rest is added at the end.
    TensorFlow,
}

impl Padding {
    /// TensorFlow's, or half a window.
    pub fn tensorflow(tensorflow: bool) -> Self {
        if tensorflow { Self::TensorFlow } else { Self::Half }
    }

    /// The convolution with this padding for x.
    pub fn of(self, graph: &Graph, x: ValueId, conv: &Conv2d) -> Conv2d {
        let (dims, window) = (graph.spec(x).shape.dims(), &conv.window);
        let pads = [0, 1].map(|axis| {
            let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
            match self {
                Self::Half => ((kernel - 1) / 2, (kernel - 1) / 2),
                Self::TensorFlow => {
                    let size = dims.get(2 + axis).copied().unwrap_or(0);
                    let rest = if size.is_multiple_of(stride) { stride } else { size % stride };
                    let total = kernel.saturating_sub(rest);
                    (total / 2, total - total / 2)
                }
            }
        });
        conv.clone().pads(pads)
    }
}

/// Convolution by `name.weight` `[channels, x's channels / groups, kernel, kernel]` and, with a
/// bias, `name.bias`.
///
/// # Errors
/// When the sizes do not fit.
pub fn conv2d(
    graph: &mut Graph,
    scope: &Scope<'_>,
    name: &str,
    x: ValueId,
    conv: &Conv2d,
) -> Result<ValueId> {
    let inputs = channels(graph, x) / conv.groups.max(1);
    let window = conv.window.clone();
    scope.at(graph, name, |graph, scope| {
        let dims = [&[conv.channels, inputs], window.kernel.as_slice()].concat();
        let mut values = vec![x, scope.tensor(graph, "weight", &dims)];
        if conv.bias {
            values.push(scope.vector(graph, "bias", conv.channels));
        }
        let op = Conv { bias: conv.bias, ..Conv::new(window).groups(conv.groups) };
        graph.add_one(op, &values)
    })
}

/// [`conv2d`], then an activation.
///
/// # Errors
/// When the sizes do not fit.
pub fn conv2d_act(
    graph: &mut Graph,
    scope: &Scope<'_>,
    name: &str,
    x: ValueId,
    conv: &Conv2d,
    function: UnaryFn,
) -> Result<ValueId> {
    let x = conv2d(graph, scope, name, x, conv)?;
    activation(graph, x, function)
}

/// Convolution, batch norm and activation; `names` are those of the first two.
///
/// # Errors
/// When the sizes do not fit.
pub fn conv_norm_act(
    graph: &mut Graph,
    scope: &Scope<'_>,
    names: [&str; 2],
    x: ValueId,
    conv: &Conv2d,
    eps: f32,
    function: UnaryFn,
) -> Result<ValueId> {
    let x = conv2d(graph, scope, names[0], x, conv)?;
    let x = batch_norm(graph, scope, names[1], x, eps)?;
    activation(graph, x, function)
}

/// Transposed convolution with a window of `side` that moves by `side`: each pixel becomes
/// `side` x `side`. `name.weight` is `[x's channels, channels, side, side]`, `name.bias` `[channels]`.
///
/// # Errors
/// When the sizes do not fit.
pub fn conv_transpose2d(
    graph: &mut Graph,
    scope: &Scope<'_>,
    name: &str,
    x: ValueId,
    outputs: usize,
    side: usize,
) -> Result<ValueId> {
    let inputs = channels(graph, x);
    scope.at(graph, name, |graph, scope| {
        let weight = scope.tensor(graph, "weight", &[inputs, outputs, side, side]);
        let bias = scope.vector(graph, "bias", outputs);
        let window = Window::new([side, side]).stride([side, side]);
        graph.add_one(ConvTranspose { bias: true, ..ConvTranspose::new(window) }, &[x, weight, bias])
    })
}

/// Normalises each channel with the statistics of the training: `name.weight`, `name.bias`,
/// `name.running_mean` and `name.running_var`, all `[channels]` (Ioffe and Szegedy 2015).
///
/// # Errors
/// When the sizes do not fit.
pub fn batch_norm(graph: &mut Graph, scope: &Scope<'_>, name: &str, x: ValueId, eps: f32) -> Result<ValueId> {
    let length = channels(graph, x);
    scope.at(graph, name, |graph, scope| {
        let parts = ["weight", "bias", "running_mean", "running_var"];
        let mut inputs = vec![x];
        inputs.extend(parts.map(|part| scope.vector(graph, part, length)));
        graph.add_one(BatchNorm::new(eps), &inputs)
    })
}

/// A norm over the channels of each pixel.
///
/// # Errors
/// When the sizes do not fit.
pub fn norm_channels(
    graph: &mut Graph,
    scope: &Scope<'_>,
    norm: &Norm,
    name: &str,
    x: ValueId,
) -> Result<ValueId> {
    let x = channels_last(graph, x)?;
    let x = norm.apply(graph, scope, name, x)?;
    channels_first(graph, x)
}

/// A function of each element; nothing is added for the identity.
///
/// # Errors
/// When x has no floating-point numbers.
pub fn activation(graph: &mut Graph, x: ValueId, function: UnaryFn) -> Result<ValueId> {
    if function == UnaryFn::Identity { Ok(x) } else { graph.add_one(Unary(function), &[x]) }
}

/// The largest value in each window.
///
/// # Errors
/// When the window does not fit.
pub fn max_pool(graph: &mut Graph, x: ValueId, window: Window) -> Result<ValueId> {
    graph.add_one(Pool::new(PoolFn::Max, window), &[x])
}

/// The mean in each window; padding counts as zeros, as torch has it unless told otherwise.
///
/// # Errors
/// When the window does not fit.
pub fn avg_pool(graph: &mut Graph, x: ValueId, window: Window) -> Result<ValueId> {
    graph.add_one(Pool::new(PoolFn::Average, window).count_include_pad(true), &[x])
}

/// The means in windows that divide the image into `size` rows and columns.
///
/// # Errors
/// When x is no image.
pub fn adaptive_avg_pool(graph: &mut Graph, x: ValueId, size: [usize; 2]) -> Result<ValueId> {
    graph.add_one(AdaptivePool::new(PoolFn::Average, size), &[x])
}

/// The mean of each channel: `[n, channels, height, width]` to `[n, channels]`.
///
/// # Errors
/// When x is no image.
pub fn global_avg_pool(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    let x = adaptive_avg_pool(graph, x, [1, 1])?;
    flatten(graph, x)
}

/// Each pixel becomes `factor` x `factor` equal ones.
///
/// # Errors
/// When x is no image.
pub fn upsample_nearest(graph: &mut Graph, x: ValueId, factor: usize) -> Result<ValueId> {
    let size = enlarged(graph, x, factor);
    graph.add_one(Resize::nearest(size), &[x])
}

/// The image `factor` times as large, bilinear between the centres of the corner pixels.
///
/// # Errors
/// When x is no image.
pub fn upsample_bilinear(graph: &mut Graph, x: ValueId, factor: usize) -> Result<ValueId> {
    let size = enlarged(graph, x, factor);
    graph.add_one(Resize::bilinear_aligned(size), &[x])
}

fn enlarged(graph: &Graph, x: ValueId, factor: usize) -> Vec<usize> {
    graph.spec(x).shape.dims().iter().skip(2).map(|size| size * factor).collect()
}

/// Weights each channel by what two 1x1 convolutions make of the channels' means (Hu et al. 2017).
#[derive(Debug, Clone, Copy)]
pub struct SqueezeExcite<'a> {
    /// Channels between the convolutions.
    pub squeezed: usize,
    /// Name of the first convolution.
    pub reduce: &'a str,
    /// Name of the second.
    pub expand: &'a str,
    /// Function after the first.
    pub activation: UnaryFn,
    /// Function after the second.
    pub gate: UnaryFn,
}

impl SqueezeExcite<'_> {
    /// Applies it to x `[n, channels, height, width]`.
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn apply(&self, graph: &mut Graph, scope: &Scope<'_>, x: ValueId) -> Result<ValueId> {
        let outputs = channels(graph, x);
        let means = adaptive_avg_pool(graph, x, [1, 1])?;
        let conv = |channels: usize| Conv2d::new(channels, 1).bias(true);
        let y = conv2d_act(graph, scope, self.reduce, means, &conv(self.squeezed), self.activation)?;
        let y = conv2d_act(graph, scope, self.expand, y, &conv(outputs), self.gate)?;
        graph.add_one(Binary(BinaryFn::Mul), &[x, y])
    }
}

/// A linear layer with bias, then an activation: `name.weight` `[outputs, width]`, `name.bias`.
/// x is f32 `[.., width]`.
///
/// # Errors
/// When the sizes do not fit.
pub fn dense(
    graph: &mut Graph,
    scope: &Scope<'_>,
    name: &str,
    x: ValueId,
    outputs: usize,
    activation: UnaryFn,
) -> Result<ValueId> {
    let (_, width) = graph.spec(x).shape.rows_and_cols();
    let projection = Projection::new(name, outputs, width).bias(true);
    graph.scope(name, |graph| linear(graph, scope, &projection, x, activation, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Spec, Tensor};

    /// Values of torch.nn.AvgPool1d(3, 2, 1) with its defaults.
    #[test]
    fn averages_count_the_padding() {
        let mut graph = Graph::new();
        let x = graph.input("x", Spec::f32([1, 1, 4]));
        avg_pool(&mut graph, x, Window::new([3]).stride([2]).padding([1])).unwrap();
        let node = graph.nodes().last().unwrap();
        let pooled = node.op.reference(&[Tensor::from_f32([1, 1, 4], &[3.0, 6.0, 9.0, 12.0])]).unwrap();
        assert_eq!(pooled[0].to_f32(), [3.0, 9.0]);
    }

    #[test]
    fn upsampling_of_what_is_no_image_is_refused() {
        let mut graph = Graph::new();
        let x = graph.input("x", Spec::f32([3]));
        assert!(upsample_nearest(&mut graph, x, 2).is_err());
        assert!(upsample_bilinear(&mut graph, x, 2).is_err());
    }
}
