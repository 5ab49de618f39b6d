//! Linear layers: rows times a transposed weight matrix, with bias, activation, gate and
//! residual in the same kernel.

mod cases;
mod select;

use super::rms_norm::normalised;
use super::tiles::{FOLD, Matrices, Parts, Tiles};
use super::{Cost, Expect, Op, RmsNorm, UnaryFn};
use crate::kernel::{Caps, Form, Kernel, Launch, Launches, Layout, Operand};
use crate::kernel::{count, groups, params, row_parts, row_pitch, size_class};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
pub(super) use cases::cases;
use select::FAMILY;
use std::sync::Arc;

static ROWS: Kernel = Kernel::new("linear_rows", include_str!("../../shaders/linear_rows.wgsl"));
static MATVEC: Kernel = Kernel::new("linear_matvec", include_str!("../../shaders/linear_matvec.wgsl"));
static TILES: Kernel = Kernel::new("linear_tiles", include_str!("../../shaders/linear_tiles.wgsl"));
static MATRICES: Kernel = Kernel::new("linear_matrices", include_str!("../../shaders/linear_matrices.wgsl"));

params!(
    struct Params {
        rows: u32,
        cols: u32,
        inner: u32,
        blocks: u32,
        weight_first: u32,
        up_first: u32,
        output_first: u32,
        output_pitch: u32,
        part_blocks: u32,
        alpha: f32,
        beta: f32,
        eps: f32,
        offset: f32,
    }
);

/// Where a residual is added to the outputs of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ResidualPlace {
    /// activation(sum + residual): the blocks of ResNet.
    BeforeActivation,
    /// activation(sum) + residual: those of transformers and of MobileNet V2.
    AfterActivation,
}

impl ResidualPlace {
    /// The place as shaders name it: "none" without a residual.
    pub(super) fn wgsl(place: Option<Self>) -> &'static str {
        match place {
            None => "none",
            Some(Self::BeforeActivation) => "before",
            Some(Self::AfterActivation) => "after",
        }
    }

    /// Applies the activation to a sum, and adds the residual where it belongs.
    pub(super) fn finish(residual: Option<(Self, f64)>, sum: f64, activation: impl Fn(f64) -> f64) -> f64 {
        match residual {
            None => activation(sum),
            Some((Self::BeforeActivation, residual)) => activation(sum + residual),
            Some((Self::AfterActivation, residual)) => activation(sum) + residual,
        }
    }
}

/// The norm of the rows of x in front of a linear layer: x / sqrt(mean(x²) + eps) * (gain + offset).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputNorm {
    /// Added to the mean of the squares.
    #[serde(with = "super::float")]
    pub eps: f32,
    /// Added to the gain.
    #[serde(with = "super::float")]
    pub offset: f32,
}

/// y = activation(x Wᵀ + b) + residual, or activation(x Wᵀ + b + residual).
///
/// Inputs in order: x f32 `[.., k]`; the weight `[n, k]` in f32, f16 or bf16; with `bias` an f32
/// `[n]`; with `norm` the gain f32 `[k]`; with `residual` an f32 of the output's shape. Output f32
/// `[.., n]`.
///
/// `gated`: the weight has n = 2 f rows, first those of the gate, then those of up, and the
/// output is activation(gate) * up (+ residual), f32 `[.., f]` (Shazeer 2020, "GLU Variants
/// Improve Transformer").
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Whether a bias is added.
    pub bias: bool,
    /// The function of each sum.
    pub activation: UnaryFn,
    /// Whether the first half of the weight's rows gates the second.
    pub gated: bool,
    /// Whether a last input is added, and where; to gated layers after the gate only.
    pub residual: Option<ResidualPlace>,
    /// Whether the rows of x are normalised first. Few rows are in the same kernel, as
    /// ((x * gain) Wᵀ) / rms(x).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<InputNorm>,
}

impl Linear {
    /// x Wᵀ without anything else.
    pub const PLAIN: Self =
        Self { bias: false, activation: UnaryFn::Identity, gated: false, residual: None, norm: None };

    /// Position of the norm's gain among the inputs.
    fn gain(&self) -> usize {
        2 + usize::from(self.bias)
    }

    fn input_count(&self) -> usize {
        self.gain() + usize::from(self.norm.is_some()) + usize::from(self.residual.is_some())
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let fail = |message: String| Err(Error::op(self.name(), message));
        if inputs.len() != self.input_count() {
            return fail(format!("takes {} inputs, got {}", self.input_count(), inputs.len()));
        }
        self.activation.check(self)?;
        let (x, weight) = (&inputs[0], &inputs[1]);
        x.expect_dtype(self, "x", &[DType::F32])?;
        weight.expect_dtype(self, "the weight", &[DType::F32, DType::F16, DType::BF16])?;
        let &[n, k] = weight.shape.dims() else {
            return fail(format!("the weight must be a matrix, got {weight}"));
        };
        let Some((&inner, outer)) = x.shape.dims().split_last() else {
            return fail(format!("x must have at least one dimension, got {x}"));
        };
        if inner != k {
            return fail(format!("inner dimensions differ: x is {x}, the weight {weight}"));
        }
        if self.gated && n % 2 != 0 {
            return fail(format!("a gated weight must have an even number of rows, got {weight}"));
        }
        let mut dims = outer.to_vec();
        dims.push(if self.gated { n / 2 } else { n });
        if self.bias {
            inputs[2].expect_dtype(self, "the bias", &[DType::F32])?;
            inputs[2].expect_dims(self, "the bias", &[n])?;
        }
        if self.norm.is_some() {
            inputs[self.gain()].expect_dtype(self, "the gain", &[DType::F32])?;
            inputs[self.gain()].expect_dims(self, "the gain", &[k])?;
        }
        if self.gated && self.residual == Some(ResidualPlace::BeforeActivation) {
            return fail("a gated layer takes its residual after the activation".into());
        }
        if self.residual.is_some() {
            let residual = &inputs[inputs.len() - 1];
            residual.expect_dtype(self, "the residual", &[DType::F32])?;
            residual.expect_dims(self, "the residual", &dims)?;
        }
        Ok(vec![Spec::f32(dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let problem = Problem::new(self, inputs, &outputs[0]);
        let (choice, selected) = FAMILY.select(caps, &problem);
        let parts = choice.parts(caps, &problem);
        let normed = self.norm.is_some() && choice.takes_norm();
        let mut launches = match self.norm {
            Some(norm) if !normed => self.norm_launches(norm, caps, inputs)?,
            _ => Launches::default(),
        };
        let x = if launches.scratch.is_empty() { Operand::Input(0) } else { Operand::Scratch(0) };
        if parts.count == 1 {
            let work = Work { choice, caps, weight: &inputs[1], problem: &problem, parts };
            launches.steps.extend(self.steps(&work, normed, x, Operand::Output(0)));
        } else {
            // Sums of each part for all rows of the weight, gates and ups alike, and what adds them up.
            let sums = Problem { cols: problem.weight_rows(), gated: false, ..problem };
            let work = Work { choice, caps, weight: &inputs[1], problem: &sums, parts };
            let scratch = Operand::Scratch(launches.scratch.len());
            launches.steps.extend(Self::PLAIN.steps(&work, false, x, scratch));
            launches.steps.push(self.merge(caps, &problem, parts, scratch));
            launches.scratch.push(Spec::f32([parts.count, sums.rows, sums.cols]));
        }
        Ok(launches.selected(selected))
    }

    fn layout(&self, input: usize) -> Layout {
        if input == 1 { Layout::Rows } else { Layout::Plain }
    }

    fn with_activation(&self, activation: UnaryFn) -> Option<Arc<dyn Op>> {
        let free = self.activation == UnaryFn::Identity && !self.gated;
        let residual = self.residual.map(|_| ResidualPlace::BeforeActivation);
        free.then(|| Arc::new(Self { activation, residual, ..*self }) as Arc<dyn Op>)
    }

    fn with_residual(&self) -> Option<Arc<dyn Op>> {
        let residual = Some(ResidualPlace::AfterActivation);
        self.residual.is_none().then(|| Arc::new(Self { residual, ..*self }) as Arc<dyn Op>)
    }

    fn cost(&self, inputs: &[Spec], outputs: &[Spec]) -> Cost {
        let (rows, inner) = inputs[0].shape.rows_and_cols();
        Cost::of_traffic(inputs, outputs).products(rows * inner * inputs[1].shape.dims()[0])
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (_, k) = inputs[0].spec().shape.rows_and_cols();
        let (mut x, weight) = (inputs[0].to_f64(), inputs[1].to_f64());
        if let Some(norm) = self.norm {
            let gain = inputs[self.gain()].to_f64();
            let rows = x.chunks_exact(k.max(1));
            x = rows.flat_map(|row| normalised(row, &gain, norm.eps, norm.offset)).collect();
        }
        let n = inputs[1].dims()[0];
        let bias = if self.bias { inputs[2].to_f64() } else { vec![0.0; n] };
        let residual = self.residual.map(|place| (place, inputs[inputs.len() - 1].to_f64()));
        let dims =
            &self.infer(&inputs.iter().map(|input| input.spec().clone()).collect::<Vec<_>>())?[0].shape;
        let (rows, cols) = dims.rows_and_cols();
        let mut values = Vec::with_capacity(rows * cols);
        for row in 0..rows {
            let sum = |column: usize| {
                let (x, weight) = (&x[row * k..][..k], &weight[column * k..][..k]);
                bias[column] + x.iter().zip(weight).map(|(a, b)| a * b).sum::<f64>()
            };
            for column in 0..cols {
                let residual = residual.as_ref().map(|(place, values)| (*place, values[row * cols + column]));
                let gate = if self.gated { sum(cols + column) } else { 1.0 };
                let activation = |x| self.activation.apply(x) * gate;
                values.push(ResidualPlace::finish(residual, sum(column), activation));
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, dims.clone(), &values)])
    }
}

/// Consecutive output columns whose weight rows lie in one part (gated: each half in one part).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    output_first: usize,
    cols: usize,
    weight_part: usize,
    weight_first: usize,
    up_part: usize,
    up_first: usize,
}

impl Linear {
    /// One launch for each segment of the weight.
    fn steps(&self, work: &Work<'_>, normed: bool, x: Operand, output: Operand) -> Vec<Launch> {
        let Work { choice, caps, weight, parts, .. } = *work;
        let Problem { rows, cols, inner, .. } = *work.problem;
        let [alpha, beta] = self.activation.arguments();
        let [eps, offset] = self.norm.map_or([0.0; 2], |norm| [norm.eps, norm.offset]);
        let step = |segment: Segment| {
            let params = Params {
                rows: count(rows),
                cols: count(segment.cols),
                inner: count(inner),
                blocks: count(choice.blocks(work.problem)),
                weight_first: count(segment.weight_first),
                up_first: count(segment.up_first),
                output_first: count(segment.output_first),
                output_pitch: count(cols),
                part_blocks: count(parts.blocks),
                alpha,
                beta,
                eps,
                offset,
            };
            let sums = segment.cols * if self.gated { 2 } else { 1 };
            choice
                .launch(caps, [rows, segment.cols], self.gated, normed, parts)
                .variant("value", self.value(choice, &segment, cols))
                .variant("slope", false)
                .variant("weight_dtype", choice.weight_name(weight.dtype))
                .variant("block_bytes", count(choice.block_bytes(work.problem)))
                .variant("long_words", matches!(choice, Choice::LongRows(_)))
                .variant(
                    "x_vectors",
                    inner % choice.per_block(work.problem).max(16 / weight.dtype.size()) == 0,
                )
                .activation(self.activation)
                .variant("bias", self.bias)
                .variant("gated", self.gated)
                .variant("residual", ResidualPlace::wgsl(self.residual))
                .params(params)
                .bind(self.bindings(&segment, normed, x, output))
                .work((rows * sums * inner) as u64)
        };
        self.segments(weight, caps).into_iter().map(step).collect()
    }

    /// The launch that adds up the sums of the parts of the inner dimension.
    fn merge(&self, caps: &Caps, problem: &Problem, parts: Parts, sums: Operand) -> Launch {
        let bias = self.bias.then_some(Operand::Input(2));
        let residual = self.residual.map(|_| Operand::Input(self.input_count() - 1));
        parts
            .merge(caps, [problem.rows, problem.cols], self.gated, self.activation)
            .variant("bias", self.bias)
            .variant("slope", false)
            .variant("residual", ResidualPlace::wgsl(self.residual))
            .bind([Some(sums), bias, residual, Some(Operand::Output(0))].into_iter().flatten())
    }

    /// One launch for each. A gated layer binds the part of its gate rows and that of its up
    /// rows, often the same one twice, so that part boundaries may fall anywhere.
    fn segments(&self, weight: &Spec, caps: &Caps) -> Vec<Segment> {
        let parts = row_parts(weight, caps);
        let n = weight.shape.dims()[0];
        let cols = if self.gated { n / 2 } else { n };
        let up_offset = if self.gated { cols } else { 0 };
        let part_of = |row: usize| {
            let index = parts.partition_point(|part| part.start + part.rows <= row);
            (index, parts[index])
        };
        let mut segments = Vec::new();
        let mut column = 0;
        while column < cols {
            let (weight_part, gate) = part_of(column);
            let (up_part, up) = part_of(column + up_offset);
            let end = (gate.start + gate.rows).min(up.start + up.rows - up_offset).min(cols);
            segments.push(Segment {
                output_first: column,
                cols: end - column,
                weight_part,
                weight_first: column - gate.start,
                up_part,
                up_first: column + up_offset - up.start,
            });
            column = end;
        }
        segments
    }

    /// What the kernel stores at once: the block kernel four columns, where it can.
    fn value(&self, kernel: Choice, segment: &Segment, output_pitch: usize) -> &'static str {
        let whole = [segment.cols, segment.output_first, output_pitch].iter().all(|count| count % 4 == 0);
        if whole && !self.gated && matches!(kernel, Choice::Rows(_) | Choice::LongRows(_)) {
            "vec4<f32>"
        } else {
            "f32"
        }
    }

    /// The norm of x as a kernel of its own, into the first scratch value.
    fn norm_launches(&self, norm: InputNorm, caps: &Caps, inputs: &[Spec]) -> Result<Launches> {
        let op = RmsNorm { eps: norm.eps, offset: norm.offset, residual: false };
        let operands = [inputs[0].clone(), inputs[self.gain()].clone()];
        let mut launches = op.launch(caps, &operands, &inputs[..1])?;
        for operand in launches.steps.iter_mut().flat_map(|step| &mut step.bindings) {
            match operand {
                Operand::Input(1) => *operand = Operand::Input(self.gain()),
                Operand::Output(_) => *operand = Operand::Scratch(0),
                _ => {}
            }
        }
        launches.scratch.push(inputs[0].clone());
        Ok(launches)
    }

    fn bindings(&self, segment: &Segment, normed: bool, x: Operand, output: Operand) -> Vec<Operand> {
        let mut operands = vec![x, Operand::InputPart(1, segment.weight_part)];
        if self.gated {
            operands.push(Operand::InputPart(1, segment.up_part));
        }
        operands.extend(self.bias.then_some(Operand::Input(2)));
        operands.extend(self.residual.map(|_| Operand::Input(self.input_count() - 1)));
        operands.push(output);
        operands.extend(normed.then(|| Operand::Input(self.gain())));
        operands
    }
}

/// Which kernel computes a shape class on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Software adapters, blocks of this many rows.
    Rows(u32),
    /// The same with loads of words of 64 bits, eight or more elements of the weight at a time.
    LongRows(u32),
    /// GPUs, up to this many rows by streaming the weight once.
    Matvec(u32, Team),
    /// GPUs, in tiles; with the inner dimension in parts or whole.
    Tiles(Tiles, bool),
    /// Matrix units, the same.
    Matrices(Matrices, bool),
}

/// What launches of a layer have in common.
#[derive(Debug, Clone, Copy)]
struct Work<'a> {
    choice: Choice,
    caps: &'a Caps,
    weight: &'a Spec,
    problem: &'a Problem,
    parts: Parts,
}

/// Who makes the sums of a pair of weight rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Team {
    /// A subgroup, where there are such.
    Subgroup,
    /// A workgroup.
    Workgroup,
    /// Several workgroups, each for a part of the inner dimension.
    Parts,
}

/// What is known of a shape when a choice is made.
#[derive(Debug)]
struct Problem {
    rows: usize,
    /// Outputs of a row.
    cols: usize,
    inner: usize,
    dtype: DType,
    gated: bool,
}

impl Problem {
    fn new(layer: &Linear, inputs: &[Spec], output: &Spec) -> Self {
        let (rows, inner) = inputs[0].shape.rows_and_cols();
        let (_, cols) = output.shape.rows_and_cols();
        Self { rows, cols, inner, dtype: inputs[1].dtype, gated: layer.gated }
    }

    fn weight_rows(&self) -> usize {
        if self.gated { 2 * self.cols } else { self.cols }
    }

    /// Workgroups that make one tile each.
    fn tiles(&self, rows: u32, columns: u32) -> usize {
        self.rows.div_ceil(rows as usize) * self.weight_rows().div_ceil(columns as usize)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, gated) = (size_class(self.rows), if self.gated { " gated" } else { "" });
        write!(f, "{rows}x{}x{} {}{gated}", self.cols, self.inner, self.dtype.name())
    }
}

impl Choice {
    /// Blocks of a row of the weight, as the kernel counts them.
    fn blocks(self, problem: &Problem) -> usize {
        row_pitch(problem.inner, problem.dtype) / self.per_block(problem)
    }

    /// Bytes of a weight row that are loaded at once. Many rows by twice as many bytes of halves
    /// would be too long a loop for the caches of instructions.
    fn block_bytes(self, problem: &Problem) -> usize {
        match self {
            Self::LongRows(_) if problem.dtype == DType::F32 => 32,
            Self::LongRows(1) if problem.inner.is_multiple_of(16) => 32,
            Self::Matrices(..) => 8,
            _ => 16,
        }
    }

    /// Elements of a block.
    fn per_block(self, problem: &Problem) -> usize {
        self.block_bytes(problem) / problem.dtype.size()
    }

    /// The form in which the kernel takes the weight.
    fn weight_name(self, dtype: DType) -> &'static str {
        if matches!(self, Self::Matrices(..)) { "halves" } else { dtype.name() }
    }

    /// The parts of the inner dimension.
    fn parts(self, caps: &Caps, problem: &Problem) -> Parts {
        let blocks = self.blocks(problem);
        let (tiles, step) = match self {
            Self::Tiles(tiles, true) => (problem.tiles(tiles.rows, tiles.columns), 32),
            Self::Matrices(tiles, true) => (problem.tiles(tiles.rows, tiles.columns), 32),
            Self::Matvec(_, Team::Parts) => (problem.weight_rows().div_ceil(8), 128),
            _ => return Parts::whole(blocks),
        };
        let (step, sums) = (step / self.per_block(problem), problem.rows * problem.weight_rows());
        Parts::of_tiles(caps, tiles, blocks, step, sums)
    }

    /// Whether the kernel can normalise the rows of x: where others would load their gain again
    /// for each block of rows, a kernel of its own takes less time.
    fn takes_norm(self) -> bool {
        let one_row = matches!(self, Self::Rows(1) | Self::LongRows(1));
        one_row || matches!(self, Self::Matvec(_, Team::Subgroup | Team::Workgroup))
    }

    fn launch(
        self,
        caps: &Caps,
        [rows, cols]: [usize; 2],
        gated: bool,
        normed: bool,
        parts: Parts,
    ) -> Launch {
        // Outputs that stand for this many weight rows.
        let stored = |weight_rows: u32| if gated { weight_rows / 2 } else { weight_rows };
        let grid = |tile_rows: u32, tile_columns: u32| {
            tiled(groups(cols, stored(tile_columns)), groups(rows, tile_rows), count(parts.count))
        };
        match self {
            Self::Rows(block_rows) | Self::LongRows(block_rows) => ROWS
                .launch()
                .variant("share_x", shares_x(caps))
                .variant("block_rows", block_rows)
                .variant("norm", normed)
                .variant("normed_rows", 1_u32)
                .workgroups(grid(block_rows, 32)),
            Self::Matvec(batch, team) => {
                let (form, width, rounds) = match (caps.form(), team) {
                    (Form::Subgroup, Team::Workgroup) => ("workgroup", 256, 1),
                    (Form::Subgroup, _) => ("subgroup", 128, 128 / caps.subgroup_min.clamp(4, 128)),
                    _ => ("plain", 64, 1),
                };
                // Registers for more loads at a time are there with few rows only.
                let unroll: u32 = [4, 2, 1][usize::from(batch > 1) + usize::from(batch > 4)];
                MATVEC
                    .launch()
                    .variant("form", form)
                    .variant("batch", batch)
                    .variant("width", width)
                    .variant("rounds", rounds)
                    .variant("unroll", unroll)
                    .variant("norm", normed)
                    .variant("normed_rows", batch)
                    .workgroups(folded(groups(cols, rounds * stored(2)), count(parts.count)))
            }
            Self::Tiles(tiles, _) => tiles.launch(&TILES).workgroups(grid(tiles.rows, tiles.columns)),
            Self::Matrices(tiles, _) => {
                tiles.launch(&MATRICES, caps, gated).workgroups(grid(tiles.rows, tiles.columns))
            }
        }
    }
}

/// Whether lanes of a software adapter share their loads of x.
fn shares_x(caps: &Caps) -> bool {
    caps.subgroups && caps.subgroup_min >= 8
}

/// A grid of that many workgroups or a few more, folded into two dimensions, for each part.
fn folded(workgroups: u32, parts: u32) -> [u32; 3] {
    [workgroups.min(FOLD), workgroups.div_ceil(FOLD), parts]
}

/// A grid of column tiles by row tiles, the latter folded, for each part.
fn tiled(columns: u32, rows: u32, parts: u32) -> [u32; 3] {
    [columns, rows.min(FOLD), rows.div_ceil(FOLD) * parts]
}
