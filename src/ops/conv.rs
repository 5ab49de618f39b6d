//! Convolutions of images with one to three spatial axes, with bias, activation and residual in
//! the same kernel.

mod batch_norm;
mod cases;
mod depthwise;
mod implicit_gemm;
mod lowered;
mod pack;
mod winograd;

use super::image::{indices, offset};
use super::{ChannelsLast, Cost, Expect, ImageDims, ImageOrder, Linear, Op, Preparation, ResidualPlace};
use super::{UnaryFn, Window};
use crate::kernel::{Candidate, Caps, Family, Form, Launches, Layout, Rule};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
pub(super) use cases::cases;
use depthwise::Depthwise;
pub(super) use implicit_gemm::ImplicitGemm;
pub(super) use lowered::not_lowered;
pub(super) use pack::PackRuns;
use std::sync::Arc;
use winograd::Winograd;

/// Cross-correlation of images with a window: y\[n, o, p\] = sum over channels c of o's group and
/// taps t of x\[n, c, p stride + t dilation - pads\] w\[o, c, t\] (Conv of ONNX, convNd of torch).
///
/// Inputs in order: x f32 `[n, c, spatial..]`; the weight `[o, c / groups, kernel..]` in f32, f16
/// or bf16; with `bias` an f32 `[o]`; with `slope` an f32 `[o]` or `[o, 1..]`, the factor of
/// negative sums (He et al. 2015, PReLU); with `residual` an f32 of the output's shape. Output f32
/// `[n, o, windows..]`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// The window over the spatial axes; its `ceil_mode` is false.
    pub window: Window,
    /// Number of groups: output channels of a group see the input channels of the same group.
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

impl Conv {
    /// A convolution without anything else.
    pub const fn new(window: Window) -> Self {
        Self { window, groups: 1, bias: false, activation: UnaryFn::Identity, slope: false, residual: None }
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
        let [outputs, channels, kernel @ ..] = weight.shape.dims() else {
            return fail(format!("the weight must be [o, c / groups, kernel..], got {weight}"));
        };
        if self.window.ceil_mode || kernel != self.window.kernel {
            return fail(format!("the window {:?} is not that of the weight {weight}", self.window));
        }
        let fits = self.groups > 0
            && image.channels == channels.saturating_mul(self.groups)
            && outputs % self.groups == 0;
        if !fits || *channels == 0 {
            let groups = self.groups;
            return fail(format!("{groups} groups do not fit x {} and the weight {weight}", inputs[0]));
        }
        let spatial = self.window.output(self, &image.spatial)?;
        let output = ImageDims { n: image.n, channels: *outputs, spatial };
        Ok([image, output])
    }

    /// The linear layer that it is, if it only mixes the channels of each pixel.
    fn as_linear(&self) -> Option<Linear> {
        let window = &self.window;
        let one_pixel = window.taps() == 1 && window.pads.iter().all(|&pads| pads == (0, 0));
        let each = one_pixel && window.stride.iter().all(|&stride| stride == 1);
        (each && self.groups == 1 && !self.slope).then_some(Linear {
            bias: self.bias,
            activation: self.activation,
            residual: self.residual,
            ..Linear::PLAIN
        })
    }
}

impl Op for Conv {
    fn name(&self) -> &'static str {
        "conv"
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
        let (weight, epilogue) = (inputs[1].clone(), self.epilogue());
        let of: Arc<dyn Op> = Arc::new(self.clone());
        let forms = Forms::new(self, caps, inputs).ok()?;
        let (choice, selected) = FAMILY.select(caps, &forms);
        let (op, pack): (Arc<dyn Op>, Arc<dyn Preparation>) = match (choice, forms) {
            (Choice::Linear, Forms { linear: Some(linear), .. }) => {
                (Arc::new(linear), Arc::new(PackRuns::new(weight, false, 1, &self.window)))
            }
            (Choice::Depthwise, _) => {
                let op = Depthwise::new(of, weight, &self.window, epilogue);
                let pack = op.pack().clone();
                (Arc::new(op), Arc::new(pack))
            }
            (Choice::Winograd, Forms { winograd: Some(op), .. }) => {
                let pack = op.pack().clone();
                (Arc::new(op), Arc::new(pack))
            }
            (Choice::Linear | Choice::Winograd | Choice::Gemm, _) => {
                let pack = PackRuns::new(weight, false, self.groups, &self.window).for_device(caps);
                (Arc::new(ImplicitGemm::new(of, pack.clone(), &self.window, epilogue)), Arc::new(pack))
            }
        };
        Some(ChannelsLast { selected: vec![selected], ..epilogue.channels_last(op, pack) })
    }

    fn with_activation(&self, activation: UnaryFn) -> Option<Arc<dyn Op>> {
        let epilogue = self.epilogue().with_activation(activation)?;
        let (activation, residual) = (epilogue.activation, epilogue.residual);
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
        Cost::of_traffic(inputs, outputs).products(outputs[0].elements() * taps)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let [image, output] = self.images(&specs)?;
        let (x, weight) = (inputs[0].to_f64(), inputs[1].to_f64());
        let (n_stride, channel_stride, strides) = ImageOrder::ChannelsFirst.strides(&image);
        let (channels, taps) = (image.channels / self.groups, self.window.taps());
        let group_outputs = output.channels / self.groups;
        let mut sums = Vec::with_capacity(specs[0].elements());
        for n in 0..image.n {
            for o in 0..output.channels {
                let first_channel = o / group_outputs * channels;
                for place in indices(&output.spatial) {
                    let positions = self.window.positions(&place);
                    let mut sum = 0.0;
                    for (tap, position) in positions.iter().enumerate() {
                        let Some(at) = offset(position, &image.spatial, &strides) else { continue };
                        for c in 0..channels {
                            let x = x[n * n_stride + (first_channel + c) * channel_stride + at];
                            sum += x * weight[(o * channels + c) * taps + tap];
                        }
                    }
                    sums.push(sum);
                }
            }
        }
        let spec = Spec::f32(ImageOrder::ChannelsFirst.shape(&output));
        Ok(vec![self.epilogue().reference(inputs, &spec, sums)])
    }
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// As a linear layer of each pixel.
    Linear,
    /// Each channel by itself.
    Depthwise,
    /// With fewer multiplications, see [`Winograd`].
    Winograd,
    /// As a matrix product whose rows are windows.
    Gemm,
}

/// The forms that a convolution can take when a choice is made.
#[derive(Debug)]
struct Forms {
    linear: Option<Linear>,
    depthwise: bool,
    winograd: Option<Winograd>,
    winograd_pays: bool,
    class: String,
}

impl Forms {
    fn new(conv: &Conv, caps: &Caps, inputs: &[Spec]) -> Result<Self> {
        let [image, output] = conv.images(inputs)?;
        let weight = &inputs[1];
        let Window { kernel, stride, .. } = &conv.window;
        let class = format!(
            "{}x{:?}x{} to {}, kernel {kernel:?}, stride {stride:?}, groups {} {}",
            output.n,
            output.spatial,
            image.channels,
            output.channels,
            conv.groups,
            weight.dtype.name()
        );
        Ok(Self {
            linear: conv.as_linear(),
            depthwise: weight.shape.dims()[..2] == [conv.groups, 1] && conv.groups > 1,
            winograd: Winograd::new(conv, caps, inputs),
            winograd_pays: Winograd::pays(image.channels, output.channels),
            class,
        })
    }
}

impl std::fmt::Display for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.class)
    }
}

static FAMILY: Family<Forms, Choice> = Family {
    name: "conv",
    choices: &[
        Candidate::new("linear", Choice::Linear, |_, it| it.linear.is_some()),
        Candidate::new("depthwise", Choice::Depthwise, |_, it| it.depthwise),
        Candidate::new("winograd", Choice::Winograd, |_, it| it.winograd.is_some()),
        Candidate::new("gemm", Choice::Gemm, |_, _| true),
    ],
    rules: &[
        Rule::new(Choice::Linear, |caps, _| caps.form() != Form::Software, "it mixes channels only"),
        Rule::new(Choice::Depthwise, |_, _| true, "each channel has its own kernel"),
        Rule::new(Choice::Winograd, |_, it| it.winograd_pays, "channels enough for the transforms to pay"),
        Rule::new(Choice::Gemm, |_, _| true, "any window"),
    ],
};

/// What follows the sums: inputs in this order after x and the weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Epilogue {
    pub(super) bias: bool,
    pub(super) slope: bool,
    pub(super) activation: UnaryFn,
    pub(super) residual: Option<ResidualPlace>,
}

/// The sizes of x and the spec of the weight, with their dtypes and the number of inputs checked.
pub(super) fn operands<'a>(
    op: &dyn Op,
    epilogue: Epilogue,
    inputs: &'a [Spec],
) -> Result<(ImageDims, &'a Spec)> {
    let count = epilogue.input_count();
    if inputs.len() != count {
        return Err(Error::op(op.name(), format!("takes {count} inputs, got {}", inputs.len())));
    }
    inputs[0].expect_dtype(op, "x", &[DType::F32])?;
    inputs[1].expect_dtype(op, "the weight", &[DType::F32, DType::F16, DType::BF16])?;
    Ok((ImageOrder::ChannelsFirst.dims(op, &inputs[0])?, &inputs[1]))
}

impl Epilogue {
    fn input_count(self) -> usize {
        2 + [self.bias, self.slope, self.residual.is_some()].iter().filter(|&&has| has).count()
    }

    /// Fails unless bias, slope and residual fit the output `[n, o, ..]`.
    pub(super) fn check(self, op: &dyn Op, inputs: &[Spec], output: &Spec) -> Result<()> {
        self.activation.check(op)?;
        let mut rest = inputs[2..].iter();
        let mut channel = output.shape.dims()[1..].to_vec();
        channel[1..].fill(1);
        let slope = inputs.get(2 + usize::from(self.bias));
        let slope_rank = if slope.is_some_and(|slope| slope.shape.rank() == 1) { 1 } else { channel.len() };
        for (has, what, dims) in [
            (self.bias, "the bias", &channel[..1]),
            (self.slope, "the slope", &channel[..slope_rank]),
            (self.residual.is_some(), "the residual", output.shape.dims()),
        ] {
            if let Some(input) = has.then(|| rest.next()).flatten() {
                input.expect_dtype(op, what, &[DType::F32])?;
                input.expect_dims(op, what, dims)?;
            }
        }
        Ok(())
    }

    /// The form with channels last: the packed weight, and x and the residual as images.
    pub(super) fn channels_last(self, op: Arc<dyn Op>, pack: Arc<dyn Preparation>) -> ChannelsLast {
        let residual = self.residual.map(|_| self.input_count() - 1);
        ChannelsLast {
            op,
            images: [0].into_iter().chain(residual).collect(),
            prepared: vec![(1, pack)],
            image_outputs: true,
            required: true,
            selected: Vec::new(),
        }
    }

    /// The same with an activation after all that is there, if nothing but a residual is.
    pub(super) fn with_activation(self, activation: UnaryFn) -> Option<Self> {
        let residual = self.residual.map(|_| ResidualPlace::BeforeActivation);
        let free = self.activation == UnaryFn::Identity && !(self.slope && self.residual.is_some());
        free.then_some(Self { activation, residual, ..self })
    }

    /// Where a slope would stand among the inputs, if it can be added after all that is there.
    pub(super) fn slope_position(self) -> Option<usize> {
        let free = self.activation == UnaryFn::Identity && !self.slope && self.residual.is_none();
        free.then(|| self.input_count())
    }

    /// The outputs `[n, o, ..]` of these sums.
    pub(super) fn reference(self, inputs: &[Tensor], output: &Spec, sums: Vec<f64>) -> Tensor {
        let mut rest = inputs[2..].iter().map(Tensor::to_f64);
        let mut next = |has: bool| has.then(|| rest.next()).flatten();
        let (bias, slope) = (next(self.bias), next(self.slope));
        let residual = self.residual.and_then(|place| Some((place, next(true)?)));
        let channels = output.shape.dims()[1];
        let pixels: usize = output.shape.dims()[2..].iter().product();
        let finish = |(index, sum): (usize, f64)| {
            let channel = index / pixels % channels;
            let factor =
                |x: f64| slope.as_ref().map_or(1.0, |slope| if x < 0.0 { slope[channel] } else { 1.0 });
            let sum = sum + bias.as_ref().map_or(0.0, |bias| bias[channel]);
            let residual = residual.as_ref().map(|(place, values)| (*place, values[index]));
            ResidualPlace::finish(residual, sum, |x| self.activation.apply(x * factor(x)))
        };
        let values: Vec<f64> = sums.into_iter().enumerate().map(finish).collect();
        Tensor::from_f64(DType::F32, output.shape.clone(), &values)
    }
}
