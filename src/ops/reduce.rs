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
static REDUCE_PARTS: Kernel = Kernel::new("reduce_parts", include_str!("../../shaders/reduce_parts.wgsl"));
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

params!(
    struct PartParams {
        items: u32,
        per_group: u32,
        length: u32,
        parts: u32,
        part: u32,
        inner: u32,
    }
);

/// How numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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
    /// The sum of their magnitudes.
    L1,
    /// The square root of the sum of their squares.
    L2,
    /// The natural logarithm of their sum.
    LogSum,
    /// The sum of their squares.
    SumSquare,
}

impl ReduceFn {
    /// All functions.
    pub const ALL: [Self; 9] = [
        Self::Sum,
        Self::Mean,
        Self::Max,
        Self::Min,
        Self::Prod,
        Self::L1,
        Self::L2,
        Self::LogSum,
        Self::SumSquare,
    ];

    /// Dtypes of the input.
    const fn dtypes(self) -> &'static [DType] {
        match self {
            Self::Sum | Self::Max | Self::Min | Self::Prod => &[DType::F32, DType::I32, DType::U32],
            _ => &[DType::F32],
        }
    }

    /// Name in the kernels of floats.
    const fn wgsl(self) -> &'static str {
        match self {
            Self::Max | Self::Min => "max",
            Self::Prod => "product",
            _ => "sum",
        }
    }

    /// Name in the kernel of integers.
    const fn wgsl_of_integers(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
            Self::Prod => "product",
            _ => "sum",
        }
    }

    /// What becomes of each number first.
    const fn before(self) -> &'static str {
        match self {
            Self::L1 => "abs",
            Self::L2 | Self::SumSquare => "square",
            _ => "itself",
        }
    }

    /// What becomes of the result at last.
    const fn after(self) -> &'static str {
        match self {
            Self::L2 => "sqrt",
            Self::LogSum => "log",
            _ => "itself",
        }
    }

    const fn start(self) -> f64 {
        match self {
            Self::Max => f64::NEG_INFINITY,
            Self::Min => f64::INFINITY,
            Self::Prod => 1.0,
            _ => 0.0,
        }
    }

    fn combine(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum | Self::Mean | Self::LogSum => a + b,
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            Self::Prod => a * b,
            Self::L1 => a + b.abs(),
            Self::L2 | Self::SumSquare => a + b * b,
        }
    }

    /// Of all numbers, with their count.
    fn finish(self, result: f64, count: f64) -> f64 {
        match self {
            Self::Mean => result / count,
            Self::L2 => result.sqrt(),
            Self::LogSum => result.ln(),
            _ => result,
        }
    }

    /// Of 32-bit integers in i64, whose lower half is the result.
    fn combine_integers(self, a: i64, b: i64) -> i64 {
        match self {
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            Self::Prod => a.wrapping_mul(b),
            _ => a.wrapping_add(b),
        }
    }
}

/// Reduces `axes` (all where there are none) by `function`: f32, and for sums, products and
/// extremes also i32 and u32, which wrap. The output has the input's dtype.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
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
    dtype: DType,
}

impl Reduce {
    fn is_reduced(&self, axis: usize) -> bool {
        self.axes.is_empty() || self.axes.contains(&axis)
    }

    /// The dispatches, in order: at least one.
    fn stages(&self, input: &Spec) -> Vec<Stage> {
        let (dims, dtype) = (input.shape.dims(), input.dtype);
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
                _ if reduced => stages.push(Stage { outer, length: dims[axis], inner, dtype }),
                _ => inner *= dims[axis],
            }
            previous_reduced = reduced;
        }
        if stages.is_empty() {
            stages.push(Stage { outer: 1, length: 1, inner, dtype });
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

    /// Whether the last axis is reduced, and its kernel is for the dtype.
    fn is_rows(&self) -> bool {
        self.inner == 1 && self.dtype == DType::F32
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

    /// The dispatch, of which it is known whether it is the first and the last of a reduction.
    fn launch(&self, caps: &Caps, function: ReduceFn, scale: f32, [first, last]: [bool; 2]) -> Launch {
        if self.dtype != DType::F32 {
            let Self { outer, length, inner, dtype } = *self;
            return parts(caps, dtype, function, [outer, length, inner], self.split(caps));
        }
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
        let before = if first { function.before() } else { "itself" };
        let after = if last { function.after() } else { "itself" };
        launch.variant("function", function.wgsl()).variant("before", before).variant("after", after)
    }
}

/// The dispatch that reduces the parts of the middle axis of `[outer, length, inner]` to
/// `[outer, parts, inner]`: sums, products or extremes, element by element.
pub(super) fn parts(
    caps: &Caps,
    dtype: DType,
    function: ReduceFn,
    [outer, length, inner]: [usize; 3],
    split: Split,
) -> Launch {
    let spread = Spread::of_loops(outer * split.parts * inner, split.length, caps);
    let params = PartParams {
        items: spread.items,
        per_group: spread.per_group,
        length: count(length),
        parts: count(split.parts),
        part: count(split.length),
        inner: count(inner),
    };
    let launch = spread.launch(&REDUCE_PARTS).variant("function", function.wgsl_of_integers());
    launch.variant("dtype", dtype.name()).params(params).work((outer * length * inner) as u64)
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", self.function.dtypes())?;
        if let Some(axis) = self.axes.iter().find(|&&axis| axis >= input.shape.rank()) {
            return Err(Error::op(self.name(), format!("there is no axis {axis} in {input}")));
        }
        let dims = input.shape.dims();
        let axes = (0..dims.len()).filter(|&axis| self.keep_dims || !self.is_reduced(axis));
        let output: Vec<usize> =
            axes.map(|axis| if self.is_reduced(axis) { 1 } else { dims[axis] }).collect();
        Ok(vec![Spec::new(input.dtype, output)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let stages = self.stages(&inputs[0]);
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
            launches
                .steps
                .push(stage.launch(caps, self.function, scale, [i == 0, i == last]).bind([from, to]));
            if i != last {
                let shape = [stage.outer, stage.split(caps).parts, stage.inner];
                launches.scratch.push(Spec::new(stage.dtype, shape));
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
        let places = super::strided::places(&inputs[0].spec().shape, &strides, 0);
        let numbers = inputs[0].to_f64().into_iter().zip(places);
        if inputs[0].dtype() != DType::F32 {
            let mut values: Vec<Option<i64>> = vec![None; to.elements()];
            for (x, place) in numbers {
                let before = values[place];
                values[place] =
                    Some(before.map_or(x as i64, |all| self.function.combine_integers(all, x as i64)));
            }
            let empty = i64::from(self.function == ReduceFn::Prod);
            let bytes = values.into_iter().flat_map(|value| (value.unwrap_or(empty) as u32).to_le_bytes());
            return Ok(vec![Tensor::from_bytes(specs[0].clone(), bytes.collect())]);
        }
        let mut values = vec![self.function.start(); to.elements()];
        for (x, place) in numbers {
            values[place] = self.function.combine(values[place], x);
        }
        let length = inputs[0].spec().elements() as f64 / values.len() as f64;
        values.iter_mut().for_each(|value| *value = self.function.finish(*value, length));
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
    cases.extend(integer_cases(&mut random));
    cases.extend(long_cases(&mut random));
    cases.extend(image_cases(&mut random));
    cases
}

/// Integers, whose sums and products wrap.
fn integer_cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[], &[]),
        (&[7], &[]),
        (&[2, 3, 8], &[1]),
        (&[3, 5, 3, 4, 2], &[3, 1]),
        (&[3, 517], &[1]),
        (&[1, 70_001], &[1]),
        (&[4_099, 31], &[0]),
        (&[1, 6, 1], &[0, 2]),
    ];
    for (dims, axes) in shapes {
        for function in [ReduceFn::Sum, ReduceFn::Max, ReduceFn::Min, ReduceFn::Prod] {
            for dtype in [DType::I32, DType::U32] {
                let op = Reduce { function, axes: axes.to_vec(), keep_dims: false };
                let name = format!("{function:?} of {dtype} {dims:?} over {axes:?}");
                // Odd numbers, of which no product of many is 0.
                let values: Vec<u32> =
                    (0..dims.iter().product()).map(|_: usize| random.below(u32::MAX) | 1).collect();
                let bytes = values.into_iter().flat_map(u32::to_le_bytes).collect();
                cases.push(Case::new(name, op, vec![Tensor::from_bytes(Spec::new(dtype, dims), bytes)]));
            }
        }
    }
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
        for function in [ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max, ReduceFn::L2] {
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
