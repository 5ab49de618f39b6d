//! Convolutions with 3x3 kernels and a stride of 1 by fewer multiplications.

use super::super::{Cost, Expect, Op, Preparation, ResidualPlace, Window};
use super::implicit_gemm::ImplicitGemm;
use super::pack::PackRuns;
use super::{Conv, Epilogue, lowered};
use crate::kernel::{Caps, Form, Kernel, Launch, Launches, Layout, Operand, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

static INPUT: Kernel = Kernel::new("winograd_input", include_str!("../../../shaders/winograd_input.wgsl"));
static OUTPUT: Kernel = Kernel::new("winograd_output", include_str!("../../../shaders/winograd_output.wgsl"));

params!(
    struct InputParams {
        image: [u32; 4],
        tiles: [u32; 4],
        items: u32,
        per_group: u32,
        run: u32,
        runs: u32,
    }
);

params!(
    struct OutputParams {
        image: [u32; 4],
        tiles: [u32; 4],
        items: u32,
        per_group: u32,
        alpha: f32,
        beta: f32,
    }
);

/// Mean of the channels (harmonic, of inputs and outputs) from which on the products that are saved
/// cost more than the transforms do: between 51 and 64 on lavapipe.
const LEAST_CHANNELS: usize = 60;

/// Products of a tile of 2x2 outputs and a pair of channels.
const PRODUCTS: usize = 16;

/// A convolution with a 3x3 kernel, without stride, dilation and groups, by the minimal filtering
/// F(2x2, 3x3) of Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks": tiles
/// of 4x4 pixels are transformed, 16 matrix products over the channels multiply them with the
/// transformed weight, and the results become 2x2 outputs. Channels last: x f32 `[n, h, w, c]`,
/// the weight as [`PackWinograd`] makes it, bias and slope f32 `[o]`, the residual like the output
/// f32 `[n, h', w', o]`.
#[derive(Debug, Clone)]
pub(super) struct Winograd {
    /// The graph's form.
    of: Arc<dyn Op>,
    pack: PackWinograd,
    /// The matrix products: a convolution with a group for each.
    products: ImplicitGemm,
    /// Before height and width.
    pads: [usize; 2],
    epilogue: Epilogue,
}

impl Winograd {
    /// The form of a convolution of `inputs` where there is one.
    pub(super) fn new(conv: &Conv, caps: &Caps, inputs: &[Spec]) -> Option<Self> {
        let window = &conv.window;
        let fits = window.kernel == [3, 3]
            && window.stride == [1, 1]
            && window.dilation == [1, 1]
            && conv.groups == 1;
        let [_, output] = conv.images(inputs).ok().filter(|_| fits)?;
        let (channels, outputs) = (inputs[1].shape.dims()[1], output.channels);
        let tiles = output.n * output.spatial.iter().map(|size| size.div_ceil(2)).product::<usize>();
        let bytes = (4 * PRODUCTS * tiles * channels.max(outputs)) as u64;
        let vectors = channels.is_multiple_of(4) && outputs.is_multiple_of(4);
        if !vectors || bytes > caps.max_binding_bytes / 4 {
            return None;
        }
        let point = Window::new([1]);
        let weight = Spec::f32([PRODUCTS * outputs, channels, 1]);
        let pack = PackRuns::new(weight, false, PRODUCTS, &point).for_device(caps);
        let of = Arc::new(Conv::new(point.clone()).groups(PRODUCTS));
        let products = ImplicitGemm::new(of, pack.clone(), &point, Conv::new(point.clone()).epilogue());
        Some(Self {
            of: Arc::new(conv.clone()),
            pack: PackWinograd { weight: inputs[1].clone(), pack },
            products,
            pads: [window.pads[0].0, window.pads[1].0],
            epilogue: conv.epilogue(),
        })
    }

    /// Whether that is faster than the direct form.
    pub(super) fn pays(channels: usize, outputs: usize) -> bool {
        2 * channels * outputs >= LEAST_CHANNELS * (channels + outputs)
    }

    pub(super) fn pack(&self) -> &PackWinograd {
        &self.pack
    }

    fn launch_input(&self, caps: &Caps, x: &[usize], tiles: [usize; 2]) -> Launch {
        let vectors = x[3] / 4;
        let run = if caps.form() == Form::Software { tiles[1] } else { tiles[1].min(2) };
        let runs = tiles[1].div_ceil(run);
        let spread = Spread::of_loops(x[0] * tiles[0] * runs * vectors, 5 * run, caps);
        let params = InputParams {
            image: [x[1], x[2], vectors, 4].map(count),
            tiles: [tiles[0], tiles[1], self.pads[0], self.pads[1]].map(count),
            items: spread.items,
            per_group: spread.per_group,
            run: count(run),
            runs: count(runs),
        };
        let launch = spread.launch(&INPUT).params(params);
        launch.bind([Operand::Input(0), Operand::Scratch(0)]).work(u64::from(spread.items) * 32 * run as u64)
    }

    fn launch_output(&self, caps: &Caps, inputs: usize, output: &[usize], tiles: [usize; 2]) -> Launch {
        let vectors = output[3] / 4;
        let spread = Spread::of_loops(output[0] * tiles[0] * tiles[1] * vectors, 8, caps);
        let [alpha, beta] = self.epilogue.activation.arguments();
        let params = OutputParams {
            image: [output[1], output[2], vectors, 4].map(count),
            tiles: [tiles[0], tiles[1], 0, 0].map(count),
            items: spread.items,
            per_group: spread.per_group,
            alpha,
            beta,
        };
        let others = (2..inputs).map(Operand::Input);
        let bindings = [Operand::Scratch(1)].into_iter().chain(others).chain([Operand::Output(0)]);
        spread
            .launch(&OUTPUT)
            .variant("value", "vec4<f32>")
            .variant("bias", self.epilogue.bias)
            .variant("slope", self.epilogue.slope)
            .variant("residual", ResidualPlace::wgsl(self.epilogue.residual))
            .activation(self.epilogue.activation)
            .variant("gated", false)
            .params(params)
            .bind(bindings)
            .work(u64::from(spread.items) * 20)
    }
}

impl Op for Winograd {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        if let Some(weight) = inputs.get(1) {
            let packed = self.pack.pack.packed();
            weight.expect_dtype(self, "the transformed weight", &[packed.dtype])?;
            weight.expect_dims(self, "the transformed weight", packed.shape.dims())?;
        }
        lowered::infer(self.of.as_ref(), &self.pack.weight, inputs)
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (x, output) = (inputs[0].shape.dims(), outputs[0].shape.dims());
        let tiles = [output[1].div_ceil(2), output[2].div_ceil(2)];
        let scratch = |channels: usize| Spec::f32([x[0], tiles[0] * tiles[1], PRODUCTS * channels]);
        let (transformed, sums) = (scratch(x[3]), scratch(output[3]));
        let of_products = [transformed.clone(), inputs[1].clone()];
        let products = self.products.launch(caps, &of_products, std::slice::from_ref(&sums))?;
        let mut steps = vec![self.launch_input(caps, x, tiles)];
        let scratch = [vec![transformed, sums], products.scratch].concat();
        for mut step in products.steps {
            for operand in &mut step.bindings {
                match operand {
                    Operand::Input(_) => *operand = Operand::Scratch(0),
                    Operand::Output(_) => *operand = Operand::Scratch(1),
                    Operand::Scratch(index) => *index += 2,
                    Operand::InputPart(..) => {}
                }
            }
            steps.push(step);
        }
        steps.push(self.launch_output(caps, inputs.len(), output, tiles));
        Ok(Launches { steps, scratch, selected: products.selected })
    }

    fn layout(&self, input: usize) -> Layout {
        if input == 1 { Layout::Rows } else { Layout::Plain }
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        let taps: usize = self.pack.weight.shape.dims()[1..].iter().product();
        Cost::of_traffic(inputs, outputs).products(outputs[0].elements() * taps)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let Some(weight) = inputs.get(1) else { return Err(Error::op(self.name(), "takes a weight")) };
        lowered::reference(self.of.as_ref(), &self.pack.unpack(weight), inputs)
    }
}

/// Transforms a weight `[o, c, 3, 3]` in f64, U = G g G^T, and packs the 16 matrices `[o, c]` in
/// f32 for the products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackWinograd {
    weight: Spec,
    pack: PackRuns,
}

/// G of F(2, 3).
const FORWARD: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

/// A matrix whose product with [`FORWARD`] is the identity.
const BACK: [[f64; 4]; 3] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]];

/// m g m^T, where g is what `at` gives.
fn on_both_sides<const N: usize, const M: usize>(
    m: &[[f64; N]; M],
    at: impl Fn(usize, usize) -> f64,
) -> [[f64; M]; M] {
    let sum = |row: usize, col: usize| {
        let terms = (0..N * N).map(|index| (index / N, index % N));
        terms.map(|(i, j)| m[row][i] * at(i, j) * m[col][j]).sum()
    };
    std::array::from_fn(|row| std::array::from_fn(|col| sum(row, col)))
}

impl PackWinograd {
    /// The graph's weight of a packed one.
    fn unpack(&self, packed: &Tensor) -> Tensor {
        let values = self.pack.unpack(packed).to_f64();
        let pairs = values.len() / PRODUCTS;
        let kernel = |pair: usize| on_both_sides(&BACK, |i, j| values[(i * 4 + j) * pairs + pair]);
        let weight: Vec<f64> = (0..pairs).flat_map(|pair| kernel(pair).concat()).collect();
        Tensor::from_f64(self.weight.dtype, self.weight.shape.clone(), &weight)
    }
}

impl Preparation for PackWinograd {
    fn infer(&self, inputs: &[Spec]) -> Result<Spec> {
        match inputs {
            [weight] if *weight == self.weight => Ok(self.pack.packed()),
            _ => {
                let message =
                    format!("the rule that transforms a weight takes {}, got {inputs:?}", self.weight);
                Err(Error::op("conv", message))
            }
        }
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        self.infer(&specs)?;
        let kernels = inputs[0].to_f64();
        let pairs = kernels.len() / 9;
        let mut transformed = vec![0.0; PRODUCTS * pairs];
        for (pair, kernel) in kernels.as_chunks::<9>().0.iter().enumerate() {
            let matrix = on_both_sides(&FORWARD, |i, j| kernel[i * 3 + j]);
            for (product, value) in matrix.as_flattened().iter().enumerate() {
                transformed[product * pairs + pair] = *value;
            }
        }
        let shape = self.pack.weight().shape.clone();
        self.pack.prepare(&[Tensor::from_f64(DType::F32, shape, &transformed)])
    }
}
