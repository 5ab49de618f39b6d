//! Convolutions of each channel by itself.

use super::super::image::three;
use super::super::{Expect, Op, Preparation, ResidualPlace, Window};
use super::{Epilogue, lowered};
use crate::kernel::{Caps, Kernel, Launches, Operand, Spread, count, params};
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
}

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
        let pixel = if vectors { channels / 4 } else { channels };
        let (run, width_taps) = self.unrolled();
        let sizes = three(&output[1..axes], 1);
        let runs = sizes[2].div_ceil(run);
        let spread = Spread::new(x[0] * sizes[0] * sizes[1] * runs * pixel, caps);
        let window = &self.window;
        let four = |axes: &[usize], last: usize| [axes[0], axes[1], axes[2], last].map(count);
        let pads: Vec<usize> = window.pads.iter().map(|&(before, _)| before).collect();
        let [alpha, beta] = self.epilogue.activation.arguments();
        let [depth_taps, height_taps] = [window.kernel[0], window.kernel[1]];
        let params = Params {
            image: four(&three(&x[1..axes], 1), pixel),
            output: four(&sizes, runs),
            kernel: [depth_taps, height_taps, window.kernel[2] / width_taps, 0].map(count),
            stride: four(&window.stride, 0),
            dilation: four(&window.dilation, 0),
            pads: four(&pads, 0),
            items: spread.items,
            per_group: spread.per_group,
            alpha,
            beta,
        };
        let bindings = (0..inputs.len()).map(Operand::Input).chain([Operand::Output(0)]);
        let launch = spread
            .launch(&DEPTHWISE)
            .variant("run", count(run))
            .variant("width_taps", count(width_taps))
            .variant("width_stride", if run == 1 { 1 } else { count(window.stride[2]) })
            .variant("value", if vectors { "vec4<f32>" } else { "f32" })
            .variant("bias", self.epilogue.bias)
            .variant("slope", self.epilogue.slope)
            .variant("residual", ResidualPlace::wgsl(self.epilogue.residual))
            .activation(self.epilogue.activation)
            .variant("gated", false)
            .params(params)
            .bind(bindings)
            .work((outputs[0].elements() * window.taps()) as u64);
        Ok(launch.into())
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
