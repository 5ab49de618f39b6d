//! Convolutions as matrix products whose inner dimension is read from x where it lies: no buffer
//! of patches.

use super::super::image::three;
use super::super::tiles::{FOLD, Matrices, Parts, Tiles};
use super::super::{Cost, Expect, Op, ResidualPlace, UnaryFn, Window};
use super::pack::{PANEL, PackRuns};
use super::{Epilogue, lowered};
use crate::kernel::{
    Candidate, Caps, Family, Form, Kernel, Launch, Launches, Layout, Operand, RowPart, Rule,
};
use crate::kernel::{count, groups, params, row_parts, size_class};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

static ROWS: Kernel = Kernel::new("conv_rows", include_str!("../../../shaders/conv_rows.wgsl"));
static TILES: Kernel = Kernel::new("conv_tiles", include_str!("../../../shaders/conv_tiles.wgsl"));
static MATRICES: Kernel = Kernel::new("conv_matrices", include_str!("../../../shaders/conv_matrices.wgsl"));

params!(
    struct Params {
        image: [u32; 4],
        output: [u32; 4],
        kernel: [u32; 4],
        stride: [u32; 4],
        dilation: [u32; 4],
        pads: [u32; 4],
        first_channel: u32,
        end_channel: u32,
        alpha: f32,
        beta: f32,
        phases: u32,
        parts: u32,
        part_blocks: u32,
        part_outputs: u32,
    }
);

/// A convolution, or a transposed one, with channels last: x f32 `[n, spatial.., c]`, the weight as
/// [`PackRuns`] makes it, bias and slope f32 `[o]`, the residual like the output
/// f32 `[n, windows.., o]`.
#[derive(Debug, Clone)]
pub(in super::super) struct ImplicitGemm {
    /// The graph's form.
    of: Arc<dyn Op>,
    pack: PackRuns,
    /// Over three axes.
    window: Window,
    epilogue: Epilogue,
}

impl ImplicitGemm {
    /// The form of a convolution whose weight is packed so.
    pub(in super::super) fn new(
        of: Arc<dyn Op>,
        pack: PackRuns,
        window: &Window,
        epilogue: Epilogue,
    ) -> Self {
        Self { of, pack, window: window.over_three(), epilogue }
    }

    /// Whether each output is of the pixel of x at its place.
    fn points(&self) -> bool {
        let window = &self.window;
        let near = window.taps() == 1 && window.stride == [1; 3] && window.pads == [(0, 0); 3];
        near && !self.pack.transposed()
    }

    /// Blocks of the weight of an output channel.
    fn blocks(&self) -> usize {
        let kernel = &self.window.kernel;
        kernel[0] * kernel[1] * self.taps_along_width() * self.pack.run_blocks()
    }

    fn taps_along_width(&self) -> usize {
        if self.pack.lines() { 1 } else { self.window.kernel[2] }
    }

    /// One launch for each part of the weight.
    fn steps(
        &self,
        choice: Choice,
        caps: &Caps,
        inputs: &[Spec],
        problem: &Problem,
        parts: Parts,
        output: Operand,
    ) -> Vec<Launch> {
        let step = |(index, &part): (usize, &RowPart)| {
            let weight = [Operand::Input(0), Operand::InputPart(1, index)];
            let others = (2..inputs.len()).map(Operand::Input);
            let value = if choice.stores_four(self.pack.group_outputs(), part) { "vec4<f32>" } else { "f32" };
            choice
                .launch(caps, self, problem, part, parts)
                .variant("weight_dtype", choice.weight_name(inputs[1].dtype))
                .variant("block_bytes", 16_u32)
                .variant("long_words", choice.has_long_words(caps))
                .variant("x_width", count(problem.x_width))
                .variant("transposed", self.pack.transposed())
                .variant("points", self.points())
                .variant("value", value)
                .variant("bias", self.epilogue.bias)
                .variant("slope", self.epilogue.slope)
                .variant("residual", ResidualPlace::wgsl(self.epilogue.residual))
                .activation(self.epilogue.activation)
                .variant("gated", false)
                .params(problem.params(self, choice, part, parts))
                .bind(weight.into_iter().chain(others).chain([output]))
                .work(problem.work(self, part))
        };
        row_parts(&inputs[1], caps).iter().enumerate().map(step).collect()
    }
}

impl Op for ImplicitGemm {
    fn name(&self) -> &'static str {
        self.of.name()
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        if let Some(weight) = inputs.get(1) {
            weight.expect_dtype(self, "the packed weight", &[self.pack.weight().dtype])?;
            weight.expect_dims(self, "the packed weight", self.pack.packed().shape.dims())?;
        }
        lowered::infer(self.of.as_ref(), self.pack.weight(), inputs)
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let problem = Problem::new(self, &inputs[0], &outputs[0]);
        let sizes = Sizes::new(self, &problem);
        let (choice, selected) = FAMILY.select(caps, &sizes);
        let parts = choice.parts(caps, &sizes);
        if parts.count == 1 {
            let steps = self.steps(choice, caps, inputs, &problem, parts, Operand::Output(0));
            return Ok(Launches::from(steps).selected(selected));
        }
        let Epilogue { bias, slope, activation, residual } = self.epilogue;
        let none = Epilogue { bias: false, slope: false, activation: UnaryFn::Identity, residual: None };
        let sums = Self { epilogue: none, ..self.clone() };
        let mut steps = sums.steps(choice, caps, &inputs[..2], &problem, parts, Operand::Scratch(0));
        let matrix = [outputs[0].elements() / problem.outputs, problem.outputs];
        let others = (2..inputs.len()).map(Operand::Input);
        steps.push(
            parts
                .merge(caps, matrix, false, activation)
                .variant("bias", bias)
                .variant("slope", slope)
                .variant("residual", ResidualPlace::wgsl(residual))
                .bind([Operand::Scratch(0)].into_iter().chain(others).chain([Operand::Output(0)])),
        );
        let scratch = vec![Spec::f32([parts.count, matrix[0], matrix[1]])];
        Ok(Launches { steps, scratch, ..Launches::default() }.selected(selected))
    }

    fn layout(&self, input: usize) -> Layout {
        if input == 1 { Layout::Rows } else { Layout::Plain }
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        let problem = Problem::new(self, &inputs[0], &outputs[0]);
        let products = problem.rows * problem.phases * problem.outputs * problem.products(self);
        Cost::of_traffic(inputs, outputs).products(products)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let Some(weight) = inputs.get(1) else { return Err(Error::op(self.name(), "takes a weight")) };
        lowered::reference(self.of.as_ref(), &self.pack.unpack(weight), inputs)
    }
}

/// Sizes of x and of the output over three axes.
#[derive(Debug, Clone, Copy)]
struct Problem {
    image: [usize; 3],
    channels: usize,
    output: [usize; 3],
    outputs: usize,
    /// Output positions; of a transposed convolution, those of one phase.
    rows: usize,
    /// Phases of a transposed convolution: positions of an output modulo the strides.
    phases: usize,
    /// Channels of an element of x, 1 or 4.
    x_width: usize,
}

impl Problem {
    fn new(op: &ImplicitGemm, x: &Spec, output: &Spec) -> Self {
        let (mut image, channels) = image_of(x);
        let (mut output_sizes, outputs) = image_of(output);
        let mut images = x.shape.dims()[0];
        if op.points() {
            image = [1, 1, images * image.iter().product::<usize>()];
            (output_sizes, images) = (image, 1);
        }
        let stride = if op.pack.transposed() { three(&op.window.stride, 1) } else { [1; 3] };
        let row_sizes = [0, 1, 2].map(|axis| output_sizes[axis].div_ceil(stride[axis]));
        let vectors = channels.is_multiple_of(4) && op.pack.channels().is_multiple_of(4);
        Self {
            image,
            channels,
            output: output_sizes,
            outputs,
            rows: images * row_sizes.iter().product::<usize>(),
            phases: stride.iter().product(),
            x_width: if vectors { 4 } else { 1 },
        }
    }

    fn params(&self, op: &ImplicitGemm, choice: Choice, part: RowPart, parts: Parts) -> Params {
        let window = &op.window;
        let [alpha, beta] = op.epilogue.activation.arguments();
        let four = |axes: &[usize], last: usize| [axes[0], axes[1], axes[2], last].map(count);
        let [depth, height, width] = self.image;
        let run_blocks = op.pack.run_blocks() * choice.blocks_of_16_bytes();
        let pads: Vec<usize> = window.pads.iter().map(|&(before, _)| before).collect();
        Params {
            image: [depth, height, width * self.channels / self.x_width, self.channels / self.x_width]
                .map(count),
            output: four(&self.output, self.outputs),
            kernel: four(&[window.kernel[0], window.kernel[1], op.taps_along_width()], run_blocks),
            stride: four(&window.stride, op.pack.run() / self.x_width),
            dilation: four(&window.dilation, op.pack.group_outputs()),
            pads: four(&pads, self.rows),
            first_channel: count(part.start),
            end_channel: count(part.start + part.rows),
            alpha,
            beta,
            phases: count(self.phases),
            parts: count(parts.count),
            part_blocks: count(parts.blocks),
            part_outputs: count(self.rows * self.outputs),
        }
    }

    /// Multiply-adds of one output.
    fn products(&self, op: &ImplicitGemm) -> usize {
        op.window.taps().div_ceil(self.phases) * op.pack.channels()
    }

    /// Multiply-adds.
    fn work(&self, op: &ImplicitGemm, part: RowPart) -> u64 {
        let channels = part.rows * if op.pack.panels() { PANEL } else { 1 };
        (self.rows * self.phases * channels) as u64 * self.products(op) as u64
    }
}

/// Sizes of the three spatial axes of `[n, spatial.., c]`, and c.
fn image_of(spec: &Spec) -> ([usize; 3], usize) {
    let dims = spec.shape.dims();
    let last = dims.len() - 1;
    (three(&dims[1..last], 1), dims[last])
}

/// Which kernel computes a shape class on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Software adapters: blocks of this many rows.
    Rows(u32),
    /// Groups of few output channels: in registers, each lane for the group of its channels.
    Groups,
    /// GPUs: tiles of rows by output channels; with the inner dimension in parts or whole.
    Tiles(Tiles, bool),
    /// Matrix units, the same.
    Matrices(Matrices, bool),
}

const SMALL: Choice = Choice::Tiles(Tiles::T32X64, false);
const SMALL_PARTS: Choice = Choice::Tiles(Tiles::T32X64, true);
const MEDIUM: Choice = Choice::Tiles(Tiles::T64X64, false);
const MEDIUM_PARTS: Choice = Choice::Tiles(Tiles::T64X64, true);
const LARGE: Choice = Choice::Tiles(Tiles::T128X128, false);
const MEDIUM_MATRICES: Choice = Choice::Matrices(Matrices::T64X64, false);
const MEDIUM_MATRICES_PARTS: Choice = Choice::Matrices(Matrices::T64X64, true);
const LARGE_MATRICES: Choice = Choice::Matrices(Matrices::T128X128, false);

/// Rows that an invocation computes for a small group.
const GROUP_ROWS: u32 = 4;

/// Multiply-adds that a workgroup of a software adapter should have at least: its start costs as
/// much as some thousand.
const GROUP_WORK: usize = 200_000;

/// Workgroups that keep the cores of a software adapter equally busy.
const EVEN_GROUPS: usize = 16;

/// Iterations of the inner loops of one invocation; llvmpipe ends them all after 65,535.
const MOST_ITERATIONS: usize = 30_000;

/// What is known of a shape when a choice is made.
#[derive(Debug)]
struct Sizes {
    rows: usize,
    inner: usize,
    /// Blocks of the weight of an output channel.
    blocks: usize,
    group_outputs: usize,
    groups: usize,
    phases: usize,
    x_width: usize,
    dtype: DType,
    /// Whether the weight lies in panels, as software adapters want it.
    panels: bool,
    few_outputs: bool,
}

impl Sizes {
    fn new(op: &ImplicitGemm, problem: &Problem) -> Self {
        Self {
            rows: problem.rows,
            inner: problem.products(op),
            blocks: op.blocks(),
            group_outputs: op.pack.group_outputs(),
            groups: op.pack.groups(),
            phases: problem.phases,
            x_width: problem.x_width,
            dtype: op.pack.weight().dtype,
            panels: op.pack.panels(),
            few_outputs: op.pack.few_outputs(),
        }
    }

    fn in_tiles(_: &Caps, it: &Self) -> bool {
        !it.panels && !it.few_outputs
    }

    /// Workgroups that make one tile each.
    fn tiles(&self, rows: u32, columns: u32) -> usize {
        let of_group = self.rows.div_ceil(rows as usize) * self.group_outputs.div_ceil(columns as usize);
        of_group * self.groups * self.phases
    }

    /// Whether tiles of so many rows by columns are too few for a device, and parts long enough.
    fn parts_pay(&self, caps: &Caps, rows: u32, columns: u32) -> bool {
        Parts::pay(caps, self.tiles(rows, columns), self.inner)
    }

    fn keeps_busy(&self, caps: &Caps) -> bool {
        self.rows >= 128 && self.group_outputs > 64 && 2 * self.tiles(128, 128) >= caps.busy_workgroups()
    }

    fn in_matrices(&self, caps: &Caps, tiles: Matrices) -> bool {
        let subgroups = caps.form() == Form::Subgroup;
        subgroups && Self::in_tiles(caps, self) && self.dtype == DType::F16 && tiles.fit(caps, false)
    }

    fn in_parts(&self, caps: &Caps, choice: Choice) -> bool {
        Self::in_tiles(caps, self) && choice.parts(caps, self).count > 1
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { groups, rows, inner, group_outputs, x_width, dtype, .. } = self;
        let (layers, rows, dtype) = (groups * self.phases, size_class(*rows), dtype.name());
        write!(f, "{layers}x{rows}x{group_outputs}x{inner} vec{x_width} {dtype}")
    }
}

/// Whether lanes of a software adapter share their loads of x.
fn shares_x(caps: &Caps) -> bool {
    caps.subgroups && caps.subgroup_min >= 8
}

static FAMILY: Family<Sizes, Choice> = Family {
    name: "conv_gemm",
    choices: &[
        Candidate::new("rows8", Choice::Rows(8), |_, it| it.panels),
        Candidate::new("rows16", Choice::Rows(16), |caps, it| it.panels && shares_x(caps)),
        Candidate::new("rows32", Choice::Rows(32), |caps, it| it.panels && shares_x(caps)),
        Candidate::new("groups", Choice::Groups, |_, it| !it.panels && it.few_outputs),
        Candidate::new("tiles32x64", SMALL, Sizes::in_tiles),
        Candidate::new("tiles32x64_parts", SMALL_PARTS, |caps, it| it.in_parts(caps, SMALL_PARTS)),
        Candidate::new("tiles64x64", MEDIUM, Sizes::in_tiles),
        Candidate::new("tiles64x64_parts", MEDIUM_PARTS, |caps, it| it.in_parts(caps, MEDIUM_PARTS)),
        Candidate::new("tiles128x128", LARGE, Sizes::in_tiles),
        Candidate::new("matrices64x64", MEDIUM_MATRICES, |caps, it| it.in_matrices(caps, Matrices::T64X64)),
        Candidate::new("matrices64x64_parts", MEDIUM_MATRICES_PARTS, |caps, it| {
            it.in_matrices(caps, Matrices::T64X64) && it.in_parts(caps, MEDIUM_MATRICES_PARTS)
        }),
        Candidate::new("matrices128x128", LARGE_MATRICES, |caps, it| {
            it.in_matrices(caps, Matrices::T128X128)
        }),
    ],
    rules: &[
        Rule::new(Choice::Rows(8), |caps, _| !shares_x(caps), "a software adapter without subgroups of 8"),
        Rule::new(Choice::Rows(8), |_, it| it.rows <= 8, "few rows on a software adapter"),
        Rule::new(Choice::Rows(16), |_, it| it.rows <= 16, "up to 16 rows on a software adapter"),
        Rule::new(Choice::Rows(16), |_, it| it.x_width == 1, "a software adapter loads single channels"),
        Rule::new(Choice::Rows(32), |_, _| true, "many rows on a software adapter"),
        Rule::new(Choice::Groups, |_, _| true, "few output channels in a group"),
        Rule::new(LARGE_MATRICES, |caps, it| it.keeps_busy(caps), "large tiles keep matrix units busy"),
        Rule::new(
            MEDIUM_MATRICES_PARTS,
            |caps, it| it.parts_pay(caps, 64, 64),
            "few tiles for a GPU with matrix units",
        ),
        Rule::new(MEDIUM_MATRICES, |_, _| true, "too few large tiles for a GPU with matrix units"),
        Rule::new(
            SMALL_PARTS,
            |caps, it| it.rows <= 32 && it.parts_pay(caps, 32, 64),
            "up to 32 rows, few tiles",
        ),
        Rule::new(SMALL, |_, it| it.rows <= 32, "up to 32 rows"),
        Rule::new(LARGE, |caps, it| it.keeps_busy(caps), "large tiles keep a GPU busy"),
        Rule::new(MEDIUM_PARTS, |caps, it| it.parts_pay(caps, 64, 64), "few tiles for a GPU"),
        Rule::new(MEDIUM, |_, _| true, "too few large tiles to keep a GPU busy"),
    ],
};

impl Choice {
    /// The parts of the inner dimension, which transposed convolutions, with another one in each
    /// phase, have whole.
    fn parts(self, caps: &Caps, sizes: &Sizes) -> Parts {
        let blocks = sizes.blocks * self.blocks_of_16_bytes();
        let (rows, columns) = match self {
            Self::Tiles(tiles, true) if sizes.phases == 1 => (tiles.rows, tiles.columns),
            Self::Matrices(tiles, true) if sizes.phases == 1 => (tiles.rows, tiles.columns),
            _ => return Parts::whole(blocks),
        };
        let sums = sizes.rows * sizes.group_outputs * sizes.groups;
        let step = 32 / (16 / sizes.dtype.size()) * self.blocks_of_16_bytes();
        Parts::of_tiles(caps, sizes.tiles(rows, columns), blocks, step, sums)
    }

    /// Blocks of the weight as the kernel counts them in 16 bytes: matrix units take f16 as they
    /// are, in eight.
    fn blocks_of_16_bytes(self) -> usize {
        if matches!(self, Self::Matrices(..)) { 2 } else { 1 }
    }

    /// The form in which the kernel takes the weight.
    fn weight_name(self, dtype: DType) -> &'static str {
        if matches!(self, Self::Matrices(..)) { "halves" } else { dtype.name() }
    }

    /// Whether an invocation stores four neighbouring output channels of one group and part.
    fn stores_four(self, group_outputs: usize, part: RowPart) -> bool {
        let channels = [group_outputs, part.start, part.rows];
        match self {
            Self::Rows(_) => group_outputs.is_multiple_of(4),
            Self::Groups => channels.iter().all(|count| count % 4 == 0),
            Self::Tiles(..) | Self::Matrices(..) => false,
        }
    }

    /// Workgroups along the rows: each takes several blocks of rows where one is little work.
    fn shared_blocks(
        problem: &Problem,
        op: &ImplicitGemm,
        part: RowPart,
        blocks: usize,
        block_rows: usize,
    ) -> usize {
        let products = problem.products(op);
        let most = MOST_ITERATIONS / (products / 4 + block_rows);
        let together = (GROUP_WORK / (products * block_rows * PANEL)).clamp(1, most.max(1));
        let least = EVEN_GROUPS.div_ceil(part.rows * problem.phases);
        blocks.div_ceil(together).max(least.min(blocks))
    }

    /// Whether weights and vectors of x are loaded as words of 64 bits.
    fn has_long_words(self, caps: &Caps) -> bool {
        matches!(self, Self::Rows(_)) && caps.int64
    }

    fn launch(
        self,
        caps: &Caps,
        op: &ImplicitGemm,
        problem: &Problem,
        part: RowPart,
        parts: Parts,
    ) -> Launch {
        let cols = op.pack.group_outputs();
        let grid = |columns: u32, block_rows: u32, layers: usize| {
            let layers = count(layers * problem.phases).min(FOLD);
            [columns, groups(problem.rows, block_rows).min(FOLD), layers]
        };
        let in_tiles = |tile_rows: u32, tile_columns: u32| {
            // Groups that have output channels in this part of the weight.
            let layers = (part.start + part.rows - 1) / cols - part.start / cols + 1;
            grid(groups(cols.min(part.rows), tile_columns), tile_rows, layers * parts.count)
        };
        let in_registers = |width: u32, block_rows: u32, lane_channels: u32| {
            ROWS.launch()
                .variant("width", width)
                .variant("block_rows", block_rows)
                .variant("lane_channels", lane_channels)
                .variant("own_group", self == Self::Groups)
        };
        match self {
            Self::Rows(block_rows) => {
                let [columns, blocks, phases] = grid(count(part.rows).min(FOLD), block_rows, 1);
                let blocks = Self::shared_blocks(problem, op, part, blocks as usize, block_rows as usize);
                in_registers(8, block_rows, 4).variant("share_x", shares_x(caps)).workgroups([
                    columns,
                    count(blocks),
                    phases,
                ])
            }
            Self::Groups => {
                let width = caps.elementwise_width();
                let lane_channels = if self.stores_four(cols, part) { 4 } else { 1 };
                in_registers(width, GROUP_ROWS, lane_channels).variant("share_x", false).workgroups(grid(
                    groups(part.rows, width * lane_channels),
                    GROUP_ROWS,
                    1,
                ))
            }
            Self::Tiles(tiles, _) => tiles.launch(&TILES).workgroups(in_tiles(tiles.rows, tiles.columns)),
            Self::Matrices(tiles, _) => {
                tiles.launch(&MATRICES, caps, false).workgroups(in_tiles(tiles.rows, tiles.columns))
            }
        }
    }
}
