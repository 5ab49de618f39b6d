//! Transposed convolutions: of decoders that make images larger.

use super::cases::{Case, Random};
use super::conv::{Epilogue, ImplicitGemm, PackRuns, not_lowered, operands};
use super::image::{indices, offset};
use super::{ChannelsLast, Cost, ImageDims, ImageOrder, Op, ResidualPlace, UnaryFn, Window};
use crate::kernel::{Caps, Launches, Layout};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

/// The transpose of a convolution with respect to its input: x\[n, c, p\] w\[c, o, t\] is added to
/// y\[n, o, p stride + t dilation - pads\] for all channels c of o's group, positions p and taps t
/// (ConvTranspose of ONNX, convTransposeNd of torch).
///
/// Inputs in order: x f32 `[n, c, spatial..]`; the weight `[c, o / groups, kernel..]` in f32, f16 or
/// bf16; with `bias` an f32 `[o]`; with `slope` an f32 `[o]`; with `residual` an f32 of the output's
/// shape. Output f32 `[n, o, spatial..]` of (size - 1) stride + (kernel - 1) dilation + 1 - pads +
/// output_padding along each axis.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose {
    /// The window over the output's spatial axes; its `ceil_mode` is false.
    pub window: Window,
    /// Elements that are added at the end of each axis of the output.
    pub output_padding: Vec<usize>,
    /// Number of groups.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// The function of each sum.
    pub activation: UnaryFn,
    /// Whether negative sums get a factor of their channel, before the activation.
    pub slope: bool,
    /// Whether a last input is added, and where.
    pub residual: Option<ResidualPlace>,
}

impl ConvTranspose {
    /// A transposed convolution without anything else.
    pub fn new(window: Window) -> Self {
        Self {
            output_padding: vec![0; window.kernel.len()],
            window,
            groups: 1,
            bias: false,
            activation: UnaryFn::Identity,
            slope: false,
            residual: None,
        }
    }

    /// Sets the elements that are added at the end of each axis.
    #[must_use]
    pub fn output_padding(mut self, output_padding: impl Into<Vec<usize>>) -> Self {
        self.output_padding = output_padding.into();
        self
    }

    /// Sets the number of groups.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    fn epilogue(&self) -> Epilogue {
        Epilogue { bias: self.bias, slope: self.slope, activation: self.activation, residual: self.residual }
    }

    /// Sizes of x and of the output.
    fn images(&self, inputs: &[Spec]) -> Result<[ImageDims; 2]> {
        let fail = |message: String| Err(Error::op(self.name(), message));
        let (image, weight) = operands(self, self.epilogue(), inputs)?;
        let [channels, outputs, kernel @ ..] = weight.shape.dims() else {
            return fail(format!("the weight must be [c, o / groups, kernel..], got {weight}"));
        };
        self.window.check(self)?;
        if self.window.ceil_mode || kernel != self.window.kernel {
            return fail(format!("the window {:?} is not that of the weight {weight}", self.window));
        }
        let fits = self.groups > 0 && image.channels == *channels && channels % self.groups == 0;
        if !fits || *channels == 0 {
            let groups = self.groups;
            return fail(format!("{groups} groups do not fit x {} and the weight {weight}", inputs[0]));
        }
        let spatial = self.spatial(&image.spatial)?;
        let output = ImageDims { n: image.n, channels: outputs * self.groups, spatial };
        Ok([image, output])
    }

    fn spatial(&self, image: &[usize]) -> Result<Vec<usize>> {
        let (window, padding) = (&self.window, &self.output_padding);
        let steps = window.stride.iter().zip(&window.dilation).map(|(stride, dilation)| stride.max(dilation));
        let fits = image.len() == window.kernel.len() && padding.len() == image.len();
        if !fits || padding.iter().zip(steps).any(|(padding, step)| padding >= step) {
            let message = format!(
                "output_padding must be less than stride or dilation on each of {} axes, got {padding:?}",
                image.len()
            );
            return Err(Error::op(self.name(), message));
        }
        let extent = window.extent();
        let size = |axis: usize| {
            let (before, after) = window.pads[axis];
            let all = image[axis].checked_sub(1)? * window.stride[axis] + extent[axis] + padding[axis];
            all.checked_sub(before + after).filter(|&size| size > 0)
        };
        (0..image.len()).map(size).collect::<Option<Vec<_>>>().ok_or_else(|| {
            let message = format!("nothing is left of {image:?} without the pads of {window:?}");
            Error::op(self.name(), message)
        })
    }
}

impl Op for ConvTranspose {
    fn name(&self) -> &'static str {
        "conv_transpose"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [_, output] = self.images(inputs)?;
        let output = Spec::f32(ImageOrder::ChannelsFirst.shape(&output));
        self.epilogue().check(self, inputs, &output)?;
        Ok(vec![output])
    }

    fn launch(&self, _: &Caps, _: &[Spec], _: &[Spec]) -> Result<Launches> {
        Err(not_lowered(self))
    }

    /// Its weight is given when a model is loaded.
    fn layout(&self, input: usize) -> Layout {
        if input == 1 { Layout::Rows } else { Layout::Plain }
    }

    fn channels_last(&self, caps: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let pack = PackRuns::new(inputs[1].clone(), true, self.groups, &self.window).for_device(caps);
        let of = Arc::new(self.clone());
        let op = ImplicitGemm::new(of, pack.clone(), &self.window, self.epilogue());
        Some(self.epilogue().channels_last(Arc::new(op), Arc::new(pack)))
    }

    fn with_activation(&self, activation: UnaryFn) -> Option<Arc<dyn Op>> {
        let Epilogue { activation, residual, .. } = self.epilogue().with_activation(activation)?;
        Some(Arc::new(Self { activation, residual, ..self.clone() }))
    }

    fn with_slope(&self) -> Option<(Arc<dyn Op>, usize)> {
        let position = self.epilogue().slope_position()?;
        Some((Arc::new(Self { slope: true, ..self.clone() }), position))
    }

    fn with_residual(&self) -> Option<Arc<dyn Op>> {
        let residual = Some(ResidualPlace::AfterActivation);
        self.residual.is_none().then(|| Arc::new(Self { residual, ..self.clone() }) as Arc<dyn Op>)
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        let taps: usize = inputs[1].shape.dims()[1..].iter().product();
        Cost::of_traffic(inputs, outputs).products(inputs[0].elements() * taps)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let [image, output] = self.images(&specs)?;
        let (x, weight) = (inputs[0].to_f64(), inputs[1].to_f64());
        let (n_stride, channel_stride, strides) = ImageOrder::ChannelsFirst.strides(&output);
        let (group_channels, group_outputs) = (image.channels / self.groups, output.channels / self.groups);
        let taps = self.window.taps();
        let spec = Spec::f32(ImageOrder::ChannelsFirst.shape(&output));
        let mut sums = vec![0.0; spec.elements()];
        let places: Vec<Vec<usize>> = indices(&image.spatial).collect();
        for (index, x) in x.into_iter().enumerate() {
            let (n, c) = (index / places.len() / image.channels, index / places.len() % image.channels);
            let positions = self.window.positions(&places[index % places.len()]);
            for (tap, position) in positions.iter().enumerate() {
                let Some(at) = offset(position, &output.spatial, &strides) else { continue };
                for o in 0..group_outputs {
                    let channel = c / group_channels * group_outputs + o;
                    let weight = weight[(c * group_outputs + o) * taps + tap];
                    sums[n * n_stride + channel * channel_stride + at] += x * weight;
                }
            }
        }
        Ok(vec![self.epilogue().reference(inputs, &spec, sums)])
    }
}

/// A transposed convolution of `[n, c, spatial..]` to `o` channels of each group, weights scaled
/// so that sums stay near 1.
fn case(conv: ConvTranspose, dtype: DType, x: &[usize], o: usize) -> Case {
    let mut random = Random::new((x.iter().product::<usize>() * 1009 + o * 31) as u64);
    let weight = [&[x[1], o], &conv.window.kernel[..]].concat();
    let sums = x[1] / conv.groups * conv.window.taps() / conv.window.stride.iter().product::<usize>();
    let weight = random.tensor(dtype, weight, 1.5 / (sums.max(1) as f64).sqrt());
    let mut inputs = vec![random.f32(x), weight];
    for _ in 0..usize::from(conv.bias) + usize::from(conv.slope) {
        inputs.push(random.f32([o * conv.groups]));
    }
    if conv.residual.is_some() {
        let spatial = conv.spatial(&x[2..]).expect("cases fit");
        inputs.push(random.f32([&[x[0], o * conv.groups], &spatial[..]].concat()));
    }
    let (kernel, stride) = (&conv.window.kernel, &conv.window.stride);
    Case::new(format!("{} {x:?} to {o} by {kernel:?} stride {stride:?}", dtype.name()), conv, inputs)
}

pub(super) fn cases() -> Vec<Case> {
    let square = |size| Window::new([size, size]);
    let f32 = |conv, x: &[usize], o| case(conv, DType::F32, x, o);
    let mut cases = Vec::new();
    for (window, padding, x, o) in [
        (square(1), [0, 0], [1, 1, 1, 1], 1),
        (square(2).stride([2, 2]), [0, 0], [1, 16, 5, 7], 8),
        (square(2).stride([2, 2]), [0, 0], [2, 5, 4, 3], 33),
        (square(3).padding([1, 1]), [0, 0], [1, 8, 6, 5], 12),
        (square(3).stride([2, 2]).padding([1, 1]), [1, 1], [1, 12, 5, 6], 36),
        (square(4).stride([2, 2]).padding([1, 1]), [0, 0], [2, 8, 5, 4], 40),
        (square(5).stride([3, 2]).pads([(1, 2), (0, 3)]), [2, 0], [1, 6, 5, 4], 7),
        // Phases without taps.
        (square(1).stride([2, 3]), [1, 2], [1, 4, 4, 5], 9),
        (square(2).stride([3, 3]).dilation([2, 1]), [0, 1], [1, 8, 4, 5], 16),
        // Strides and dilations with and without a common divisor.
        (square(3).stride([2, 4]).dilation([4, 6]).padding([2, 3]), [1, 2], [1, 4, 5, 6], 8),
        (square(3).stride([2, 3]).dilation([3, 2]).padding([3, 1]), [0, 0], [1, 3, 5, 6], 5),
        (square(7).padding([4, 5]), [0, 0], [1, 4, 4, 6], 4),
    ] {
        let conv = ConvTranspose { bias: true, ..ConvTranspose::new(window) };
        cases.push(f32(conv.output_padding(padding), &x, o));
    }
    for (groups, channels, o) in [(2, 8, 16), (4, 8, 3), (6, 6, 1), (8, 16, 4)] {
        let window = square(3).stride([2, 2]).padding([1, 1]);
        cases.push(f32(ConvTranspose::new(window).groups(groups), &[2, channels, 4, 5], o));
    }
    let line = Window::new([16]).stride([8]).padding([4]);
    cases.push(f32(ConvTranspose::new(line), &[1, 24, 19], 12));
    let cube = Window::new([2, 3, 4]).stride([2, 1, 2]).pads([(0, 0), (1, 1), (1, 0)]);
    cases.push(f32(ConvTranspose::new(cube), &[2, 4, 3, 4, 5], 10));
    for dtype in [DType::F16, DType::BF16] {
        for channels in [4, 8, 11] {
            let window = square(3).stride([2, 2]).padding([1, 1]);
            cases.push(case(ConvTranspose::new(window), dtype, &[1, channels, 5, 5], 20));
        }
    }
    for (slope, activation, residual) in [
        (false, UnaryFn::Relu, Some(ResidualPlace::BeforeActivation)),
        (true, UnaryFn::Identity, Some(ResidualPlace::AfterActivation)),
    ] {
        let window = square(3).stride([2, 2]).padding([1, 1]);
        let conv = ConvTranspose { bias: true, slope, activation, residual, ..ConvTranspose::new(window) };
        cases.push(f32(conv.clone(), &[2, 8, 4, 5], 12));
        cases.push(f32(conv.groups(2), &[1, 8, 4, 5], 3));
    }
    cases
}
