//! Sums, means, extremes and products over axes.
//!
//! Neighbouring axes are reduced by one dispatch; where others lie between them, by one for
//! each run of neighbours, from the last. Where few results come from many numbers, these are
//! reduced in parts, whose results are reduced again.

use super::cases::{Case, ROW_SHAPES, Random};
use super::image::{axis_to_last, is_image};
use super::{ChannelsLast, Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, RowSpread, Split, Spread, count, params};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

static REDUCE_ROWS: Kernel = Kernel::new("reduce_rows", include_str!("../../shaders/reduce_rows.wgsl"));
static REDUCE_COLUMNS: Kernel =
    Kernel::new("reduce_columns", include_str!("../../shaders/reduce_columns.wgsl"));

params!(
    struct RowParams {
        rows: u32,
        rows_per_group: u32,
        chunks: u32,
        parts: u32,
        part_chunks: u32,
        sign: f32,
        scale: f32,
    }
);
params!(
    struct ColumnParams {
        items: u32,
        per_group: u32,
        length: u32,
        parts: u32,
        part: u32,
        inner: u32,
        sign: f32,
        scale: f32,
    }
);

/// How numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceFn {
    /// Their sum.
    Sum,
    /// Their sum divided by their number.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// Their product.
    Prod,
}

impl ReduceFn {
    /// All functions.
    pub const ALL: [Self; 5] = [Self::Sum, Self::Mean, Self::Max, Self::Min, Self::Prod];

    const fn wgsl(self) -> &'static str {
        match self {
            Self::Sum | Self::Mean => "sum",
            Self::Max | Self::Min => "max",
            Self::Prod => "product",
        }
    }

    const fn start(self) -> f64 {
        match self {
            Self::Sum | Self::Mean => 0.0,
            Self::Max => f64::NEG_INFINITY,
            Self::Min => f64::INFINITY,
            Self::Prod => 1.0,
        }
    }

    fn combine(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum | Self::Mean => a + b,
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            Self::Prod => a * b,
        }
    }
}

/// Reduces f32 `axes` (all where there are none) by `function`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduce {
    /// How.
    pub function: ReduceFn,
    /// Over which axes, in any order.
    pub axes: Vec<usize>,
    /// Whether these axes stay, with size 1.
    pub keep_dims: bool,
}

/// A run of neighbouring axes that one dispatch reduces: `[outer, length, inner]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stage {
    outer: usize,
    length: usize,
    inner: usize,
}

impl Reduce {
    fn is_reduced(&self, axis: usize) -> bool {
        self.axes.is_empty() || self.axes.contains(&axis)
    }

    /// The dispatches, in order: at least one.
    fn stages(&self, dims: &[usize]) -> Vec<Stage> {
        let mut stages: Vec<Stage> = Vec::new();
        let mut inner = 1;
        let mut previous_reduced = false;
        for axis in (0..dims.len()).rev().filter(|&axis| dims[axis] != 1) {
            let outer = dims[..axis].iter().product();
            let reduced = self.is_reduced(axis);
            match stages.last_mut() {
                Some(stage) if reduced && previous_reduced => {
                    stage.length *= dims[axis];
                    stage.outer = outer;
                }
                _ if reduced => stages.push(Stage { outer, length: dims[axis], inner }),
                _ => inner *= dims[axis],
            }
            previous_reduced = reduced;
        }
        if stages.is_empty() {
            stages.push(Stage { outer: 1, length: 1, inner });
        }
        stages
    }
}

/// Most numbers that one invocation sums up: more would lose digits.
const MOST_SUMMED: usize = 4_096;

impl Stage {
    /// Elements of a vector of the inner axes.
    fn chunk(&self) -> usize {
        if self.inner.is_multiple_of(4) { 4 } else { 1 }
    }

    /// Whether the last axis is reduced.
    fn is_rows(&self) -> bool {
        self.inner == 1
    }

    /// How one dispatch splits the axis; for rows in chunks.
    fn split(&self, caps: &Caps) -> Split {
        if self.is_rows() {
            return RowSpread::new(self.outer, self.length, caps).split(caps);
        }
        Split::new(self.length, self.outer * self.inner / self.chunk(), MOST_SUMMED, caps)
    }

    /// This stage, and those that reduce the parts of the one before.
    fn with_merges(self, caps: &Caps) -> Vec<Self> {
        let mut stages = vec![self];
        let mut parts = self.split(caps).parts;
        while parts > 1 {
            let merge = Self { length: parts, ..self };
            stages.push(merge);
            parts = merge.split(caps).parts;
        }
        stages
    }

    fn launch(&self, caps: &Caps, function: ReduceFn, scale: f32) -> Launch {
        let sign = if function == ReduceFn::Min { -1.0 } else { 1.0 };
        let scale = scale * sign;
        let Split { parts, length } = self.split(caps);
        let launch = if self.is_rows() {
            let whole = RowSpread::new(self.outer, self.length, caps);
            let part_chunks = length.min(whole.chunks as usize);
            let spread = RowSpread::of_chunks(self.outer * parts, part_chunks, whole.vectors, caps);
            let params = RowParams {
                rows: spread.rows,
                rows_per_group: spread.rows_per_group,
                chunks: whole.chunks,
                parts: count(parts),
                part_chunks: spread.chunks,
                sign,
                scale,
            };
            spread.launch(&REDUCE_ROWS).params(params)
        } else {
            let chunk = self.chunk();
            let spread = Spread::of_loops(self.outer * parts * self.inner / chunk, length, caps);
            let params = ColumnParams {
                items: spread.items,
                per_group: spread.per_group,
                length: count(self.length),
                parts: count(parts),
                part: count(length),
                inner: count(self.inner / chunk),
                sign,
                scale,
            };
            let work = (self.outer * self.length * self.inner) as u64;
            let chunk = if chunk == 4 { "vec4<f32>" } else { "f32" };
            spread.launch(&REDUCE_COLUMNS).variant("chunk", chunk).params(params).work(work)
        };
        launch.variant("function", function.wgsl())
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &[DType::F32])?;
        if let Some(axis) = self.axes.iter().find(|&&axis| axis >= input.shape.rank()) {
            return Err(Error::op(self.name(), format!("there is no axis {axis} in {input}")));
        }
        let dims = input.shape.dims();
        let axes = (0..dims.len()).filter(|&axis| self.keep_dims || !self.is_reduced(axis));
        let output: Vec<usize> =
            axes.map(|axis| if self.is_reduced(axis) { 1 } else { dims[axis] }).collect();
        Ok(vec![Spec::f32(output)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let stages = self.stages(inputs[0].shape.dims());
        let stages: Vec<Stage> = stages.into_iter().flat_map(|stage| stage.with_merges(caps)).collect();
        let last = stages.len() - 1;
        let mut launches = Launches::default();
        for (i, stage) in stages.iter().enumerate() {
            let from = if i == 0 { Operand::Input(0) } else { Operand::Scratch(i - 1) };
            let to = if i == last { Operand::Output(0) } else { Operand::Scratch(i) };
            let scale = match self.function {
                ReduceFn::Mean if i == last => outputs[0].elements() as f32 / inputs[0].elements() as f32,
                _ => 1.0,
            };
            launches.steps.push(stage.launch(caps, self.function, scale).bind([from, to]));
            if i != last {
                launches.scratch.push(Spec::f32([stage.outer, stage.split(caps).parts, stage.inner]));
            }
        }
        Ok(launches)
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let rank = inputs[0].shape.rank();
        if !is_image(&inputs[0]) {
            return None;
        }
        let mut axes: Vec<usize> = (0..rank).filter(|&axis| self.is_reduced(axis)).collect();
        axes.iter_mut().for_each(|axis| *axis = axis_to_last(*axis, rank));
        let following = ChannelsLast::following(Self { axes, ..self.clone() }, [0]);
        let kept = |axis: usize| self.keep_dims || !self.is_reduced(axis);
        // The output is an image, or its axes are in the same order anyway.
        let image_outputs = kept(0) && kept(1) && (2..rank).any(kept);
        let same_order = !kept(1) || !(2..rank).any(kept);
        (image_outputs || same_order).then_some(ChannelsLast { image_outputs, ..following })
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs = self.infer(&[inputs[0].spec().clone()])?;
        let dims = inputs[0].dims();
        let kept: Vec<usize> =
            dims.iter().enumerate().map(|(axis, &dim)| if self.is_reduced(axis) { 1 } else { dim }).collect();
        let to = Shape::from(kept);
        let strides = super::strided::broadcast_strides(&to, &inputs[0].spec().shape);
        let mut values = vec![self.function.start(); to.elements()];
        let places = super::strided::places(&inputs[0].spec().shape, &strides, 0);
        for (x, place) in inputs[0].to_f64().into_iter().zip(places) {
            values[place] = self.function.combine(values[place], x);
        }
        if self.function == ReduceFn::Mean {
            let length = inputs[0].spec().elements() as f64 / values.len() as f64;
            values.iter_mut().for_each(|value| *value /= length);
        }
        Ok(vec![Tensor::from_f64(DType::F32, specs[0].shape.clone(), &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(12);
    let mut cases = Vec::new();
    let mut case = |function, dims: &[usize], axes: &[usize], keep_dims, input: Tensor| {
        let name = format!("{function:?} of {dims:?} over {axes:?}");
        // Sums of up to 20,000 numbers in -1..1, in any order.
        let op = Reduce { function, axes: axes.to_vec(), keep_dims };
        cases.push(Case::new(name, op, vec![input]).tolerance(1e-4, 1e-5));
    };
    for dims in ROW_SHAPES {
        case(ReduceFn::Sum, &dims, &[1], false, random.f32(dims));
        case(ReduceFn::Min, &dims, &[1], true, random.f32(dims));
        case(ReduceFn::Mean, &dims, &[0], false, random.f32(dims));
    }
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[], &[]),
        (&[7], &[]),
        (&[2, 3, 5], &[]),
        (&[2, 3, 8], &[1]),
        (&[2, 3, 7, 9], &[2, 3]),
        (&[2, 3, 7, 9], &[0, 2, 3]),
        (&[3, 5, 3, 4, 2], &[3, 1]),
        (&[1, 6, 1], &[0, 2]),
    ];
    for (dims, axes) in shapes {
        for function in ReduceFn::ALL {
            // Factors near 1, so that products stay in range.
            let values: Vec<f64> =
                (0..dims.iter().product()).map(|_: usize| 1.0 + 0.1 * random.unit()).collect();
            let keep_dims = axes.len() != 1;
            case(function, dims, axes, keep_dims, Tensor::from_f64(DType::F32, dims, &values));
        }
    }
    let infinite = Tensor::from_f32([2, 2], &[f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY, 1.0]);
    case(ReduceFn::Max, &[2, 2], &[1], false, infinite.clone());
    case(ReduceFn::Min, &[2, 2], &[0], false, infinite);
    cases.extend(long_cases(&mut random));
    cases.extend(image_cases(&mut random));
    cases
}

/// More numbers than all loops of an invocation may walk over on some adapters.
fn long_cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |function, dims: &[usize], axes: &[usize], input: Tensor| {
        let name = format!("{function:?} of {dims:?} over {axes:?}");
        let op = Reduce { function, axes: axes.to_vec(), keep_dims: false };
        // Sums of up to 600,000 numbers in -1..1, in any order.
        cases.push(Case::new(name, op, vec![input]).tolerance(5e-4, 1e-5));
    };
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[1, 70_001], &[1]),
        (&[3, 200_004], &[1]),
        (&[1, 600_001], &[1]),
        (&[40, 15_001], &[1]),
        (&[70_001, 1], &[0]),
        (&[70_001, 3], &[0]),
        (&[200_003, 4], &[0]),
        (&[1, 600, 150, 8], &[1, 2]),
        (&[4_099, 31], &[0]),
    ];
    for (dims, axes) in shapes {
        for function in [ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max, ReduceFn::Min] {
            case(function, dims, axes, random.f32(dims));
        }
    }
    cases
}

/// Every kind of axes of images: they may come with their channels last.
fn image_cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    let axes: [&[usize]; 9] = [&[2, 3], &[1], &[2], &[3], &[0], &[0, 2, 3], &[1, 2, 3], &[1, 3], &[0, 1]];
    for axes in axes {
        for keep_dims in [false, true] {
            let op = Reduce { function: ReduceFn::Mean, axes: axes.to_vec(), keep_dims };
            let name = format!("an image over {axes:?}, keep {keep_dims}");
            cases.push(Case::new(name, op, vec![random.f32([2, 12, 5, 7])]));
        }
    }
    cases
}
