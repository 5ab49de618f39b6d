//! Convolutions of each channel by itself.

use super::super::image::three;
use super::super::{Cost, Expect, Op, Preparation, ResidualPlace, Window};
use super::{Epilogue, lowered};
use crate::kernel::{Candidate, Caps, Family, Form, Kernel, Launch, Launches, Operand, Rule, Spread};
use crate::kernel::{count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

static DEPTHWISE: Kernel =
    Kernel::new("depthwise_conv", include_str!("../../../shaders/depthwise_conv.wgsl"));

params!(
    struct Params {
        image: [u32; 4],
        output: [u32; 4],
        kernel: [u32; 4],
        stride: [u32; 4],
        dilation: [u32; 4],
        pads: [u32; 4],
        items: u32,
        per_group: u32,
        alpha: f32,
        beta: f32,
    }
);

static STRIPS: Kernel =
    Kernel::new("depthwise_strips", include_str!("../../../shaders/depthwise_strips.wgsl"));

params!(
    struct StripParams {
        image: [u32; 4],
        output: [u32; 4],
        pads: [u32; 4],
        items: u32,
        per_group: u32,
        alpha: f32,
        beta: f32,
    }
);

/// Items that keep the cores of a software adapter busy.
const MANY_STRIPS: usize = 512;

/// Lines of a strip below which too many lines of x are loaded twice.
const LEAST_LINES: usize = 4;

/// Outputs along the width that an invocation makes.
const RUN: usize = 4;

/// Most taps along the width that are unrolled.
const MOST_TAPS: usize = 7;

/// A convolution with as many groups as input and output channels, with channels last: x f32
/// `[n, spatial.., c]`, the weight as [`PackTaps`] makes it, bias and slope f32 `[c]`, the residual
/// like the output f32 `[n, windows.., c]`.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    /// The graph's form.
    of: Arc<dyn Op>,
    pack: PackTaps,
    /// Over three axes.
    window: Window,
    epilogue: Epilogue,
}

impl Depthwise {
    /// The form of a convolution with this weight.
    pub(super) fn new(of: Arc<dyn Op>, weight: Spec, window: &Window, epilogue: Epilogue) -> Self {
        Self { of, pack: PackTaps { weight }, window: window.over_three(), epilogue }
    }

    pub(super) fn pack(&self) -> &PackTaps {
        &self.pack
    }

    /// Outputs of an invocation, and taps along the width that are unrolled.
    fn unrolled(&self) -> (usize, usize) {
        let (taps, stride) = (self.window.kernel[2], self.window.stride[2]);
        let near = self.window.dilation[2] == 1 || taps == 1;
        if near && taps <= MOST_TAPS && stride <= 2 { (RUN, taps) } else { (1, 1) }
    }

    /// Taps along height and width, and the stride, where the kernel of strips has them.
    fn in_strips(&self) -> Option<(usize, usize)> {
        let Window { kernel, stride, dilation, pads, .. } = &self.window;
        let plane = kernel[0] == 1 && stride[0] == 1 && pads[0] == (0, 0) && dilation[1..] == [1, 1];
        let square = kernel[1] == kernel[2] && stride[1] == stride[2];
        (plane && square && kernel[1] == 3 && stride[1] <= 2).then_some((kernel[1], stride[1]))
    }

    /// In strips of several lines.
    fn launch_strips(&self, caps: &Caps, shape: Shape, (taps, stride): (usize, usize)) -> Launch {
        let Shape { n, image, output, pixel, .. } = shape;
        let runs = output[2].div_ceil(RUN);
        let wanted = match caps.form() {
            Form::Software => MANY_STRIPS.div_ceil(n * runs * pixel),
            Form::Subgroup | Form::Plain => usize::MAX,
        };
        let strips = wanted.clamp(1, output[1].div_ceil(LEAST_LINES));
        let lines = output[1].div_ceil(strips);
        let strips = output[1].div_ceil(lines);
        let spread = Spread::of_loops(n * strips * runs * pixel, (lines * stride + taps) * (RUN + 1), caps);
        let [alpha, beta] = self.epilogue.activation.arguments();
        let params = StripParams {
            image: [image[1], image[2], pixel, lines].map(count),
            output: [output[1], output[2], strips, runs].map(count),
            pads: [self.window.pads[1].0, self.window.pads[2].0, 0, 0].map(count),
            items: spread.items,
            per_group: spread.per_group,
            alpha,
            beta,
        };
        let launch = spread.launch(&STRIPS).variant("run", count(RUN)).variant("taps", count(taps));
        launch.variant("stride", count(stride)).params(params)
    }

    /// In blocks of outputs along the width, for all windows.
    fn launch_runs(&self, caps: &Caps, shape: Shape) -> Launch {
        let Shape { n, image, output, pixel } = shape;
        let (run, width_taps) = self.unrolled();
        let runs = output[2].div_ceil(run);
        let spread = Spread::new(n * output[0] * output[1] * runs * pixel, caps);
        let window = &self.window;
        let four = |axes: &[usize], last: usize| [axes[0], axes[1], axes[2], last].map(count);
        let pads: Vec<usize> = window.pads.iter().map(|&(before, _)| before).collect();
        let [alpha, beta] = self.epilogue.activation.arguments();
        let params = Params {
            image: four(&image, pixel),
            output: four(&output, runs),
            kernel: [window.kernel[0], window.kernel[1], window.kernel[2] / width_taps, 0].map(count),
            stride: four(&window.stride, 0),
            dilation: four(&window.dilation, 0),
            pads: four(&pads, 0),
            items: spread.items,
            per_group: spread.per_group,
            alpha,
            beta,
        };
        spread
            .launch(&DEPTHWISE)
            .variant("run", count(run))
            .variant("width_taps", count(width_taps))
            .variant("width_stride", if run == 1 { 1 } else { count(window.stride[2]) })
            .params(params)
    }
}

/// Sizes of x and of the output.
#[derive(Debug, Clone, Copy)]
struct Shape {
    n: usize,
    image: [usize; 3],
    output: [usize; 3],
    /// Values of a pixel: vectors of four channels, or channels.
    pixel: usize,
}

/// How a depthwise convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// In strips of several lines, whose windows share what they load.
    Strips,
    /// In blocks of outputs along the width.
    Runs,
}

/// What is known of a shape when a choice is made.
#[derive(Debug)]
struct Sizes {
    shape: Shape,
    /// Taps along height and width, and the stride, where the kernel of strips has them.
    strips: Option<(usize, usize)>,
    taps: usize,
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { n, image, output, pixel } = self.shape;
        write!(f, "{n}x{image:?} to {output:?}, {pixel} values, {} taps", self.taps)
    }
}

static FAMILY: Family<Sizes, Choice> = Family {
    name: "depthwise_conv",
    choices: &[
        Candidate::new("strips", Choice::Strips, |_, it| it.strips.is_some()),
        Candidate::new("runs", Choice::Runs, |_, _| true),
    ],
    rules: &[
        Rule::new(Choice::Strips, |_, _| true, "3x3 windows of a strip share their lines"),
        Rule::new(Choice::Runs, |_, _| true, "any window"),
    ],
};

impl Op for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise_conv"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        if let Some(weight) = inputs.get(1) {
            let packed = self.pack.packed();
            weight.expect_dtype(self, "the packed weight", &[packed.dtype])?;
            weight.expect_dims(self, "the packed weight", packed.shape.dims())?;
        }
        lowered::infer(self.of.as_ref(), &self.pack.weight, inputs)
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (x, output) = (inputs[0].shape.dims(), outputs[0].shape.dims());
        let (axes, channels) = (x.len() - 1, x[x.len() - 1]);
        let vectors = channels.is_multiple_of(4);
        let shape = Shape {
            n: x[0],
            image: three(&x[1..axes], 1),
            output: three(&output[1..axes], 1),
            pixel: if vectors { channels / 4 } else { channels },
        };
        let strips = self.in_strips();
        let (choice, selected) = FAMILY.select(caps, &Sizes { shape, strips, taps: self.window.taps() });
        let launch = match (choice, strips) {
            (Choice::Strips, Some(window)) => self.launch_strips(caps, shape, window),
            (Choice::Strips | Choice::Runs, _) => self.launch_runs(caps, shape),
        };
        let bindings = (0..inputs.len()).map(Operand::Input).chain([Operand::Output(0)]);
        let launch = launch
            .variant("value", if vectors { "vec4<f32>" } else { "f32" })
            .variant("bias", self.epilogue.bias)
            .variant("slope", self.epilogue.slope)
            .variant("residual", ResidualPlace::wgsl(self.epilogue.residual))
            .activation(self.epilogue.activation)
            .variant("gated", false)
            .bind(bindings)
            .work((outputs[0].elements() * self.window.taps()) as u64);
        Ok(Launches::from(launch).selected(selected))
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        Cost::of_traffic(inputs, outputs).products(outputs[0].elements() * self.window.taps())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let Some(packed) = inputs.get(1) else { return Err(Error::op(self.name(), "takes a weight")) };
        let (taps, channels) = packed.spec().shape.rows_and_cols();
        let values = transposed(&packed.to_f64(), taps, channels);
        let weight = &self.pack.weight;
        let weight = Tensor::from_f64(weight.dtype, weight.shape.clone(), &values);
        lowered::reference(self.of.as_ref(), &weight, inputs)
    }
}

/// Packs the weight `[c, 1, kernel..]` of a depthwise convolution in f32 by taps: `[taps, c]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackTaps {
    weight: Spec,
}

impl PackTaps {
    fn packed(&self) -> Spec {
        let channels = self.weight.shape.dims()[0];
        Spec::f32([self.weight.elements() / channels.max(1), channels])
    }
}

impl Preparation for PackTaps {
    fn infer(&self, inputs: &[Spec]) -> Result<Spec> {
        match inputs {
            [weight] if *weight == self.weight => Ok(self.packed()),
            _ => {
                let message = format!("the rule that packs a weight takes {}, got {inputs:?}", self.weight);
                Err(Error::op("depthwise_conv", message))
            }
        }
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        let packed = self.infer(&specs)?;
        let (taps, channels) = packed.shape.rows_and_cols();
        let values = transposed(&inputs[0].to_f64(), channels, taps);
        Ok(Tensor::from_f64(DType::F32, packed.shape, &values))
    }
}

/// The transpose of a matrix.
fn transposed(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|index| values[index % rows * cols + index / rows]).collect()
}
