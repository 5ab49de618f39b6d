//! Writing to places that indices name: what ONNX's ScatterElements and ScatterND have in common.
//!
//! Updates of one place are applied in the order of their indices, by one invocation, so that the
//! result is always the same.

use super::strided::{self, axis_values, merged_axes};
use crate::kernel::{Caps, Form, Kernel, Launch, Operand, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};

static SCATTER: Kernel = Kernel::new("scatter", include_str!("../../shaders/scatter.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        buckets: u32,
        axes: u32,
        dims_low: [u32; 4],
        dims_high: [u32; 4],
        strides_low: [u32; 4],
        strides_high: [u32; 4],
        first: u32,
        last: u32,
        length: u32,
        inner: u32,
        axis_size: u32,
        axis_stride: u32,
        from_end: u32,
        same_indices: u32,
    }
);

/// Dtypes that can be scattered.
pub(super) const DTYPES: &[DType] = &[DType::F32, DType::I32, DType::U32];

/// What becomes of an update and the value at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ScatterFn {
    /// The update; of several the last.
    Put,
    /// Their sum; integers wrap.
    Add,
    /// Their product; integers wrap.
    Mul,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

impl ScatterFn {
    /// All functions.
    pub const ALL: [Self; 5] = [Self::Put, Self::Add, Self::Mul, Self::Max, Self::Min];

    const fn wgsl(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Add => "add",
            Self::Mul => "multiply",
            Self::Max => "max",
            Self::Min => "min",
        }
    }

    fn apply(self, old: f64, new: f64) -> f64 {
        match self {
            Self::Put => new,
            Self::Add => old + new,
            Self::Mul => old * new,
            Self::Max => old.max(new),
            Self::Min => old.min(new),
        }
    }

    /// Of 32-bit integers in i64, whose lower half is the result.
    fn apply_integers(self, old: i64, new: i64) -> i64 {
        match self {
            Self::Put => new,
            Self::Add => old + new,
            Self::Mul => old.wrapping_mul(new),
            Self::Max => old.max(new),
            Self::Min => old.min(new),
        }
    }
}

/// How updates go to an output.
#[derive(Debug, Clone)]
pub(super) struct Scatter {
    pub(super) function: ScatterFn,
    /// Axes of the updates without that along which they go; and the output's strides there.
    pub(super) lines: Vec<usize>,
    pub(super) strides: Vec<isize>,
    /// Updates of a line.
    pub(super) length: usize,
    /// From one update of a line to the next.
    pub(super) inner: usize,
    /// Size and stride of the output's axis.
    pub(super) axis_size: usize,
    pub(super) axis_stride: usize,
    /// Whether negative indices count from the end.
    pub(super) from_end: bool,
    /// Whether all lines have the same indices.
    pub(super) same_indices: bool,
}

/// Updates of a line that one dispatch applies: some adapters end longer loops.
const MOST_UPDATES: usize = 32_768;

impl Scatter {
    /// The dispatches: the output is a copy of `data` first, then the updates are applied.
    pub(super) fn launches(&self, caps: &Caps, output: &Spec, indices: Operand) -> Vec<Launch> {
        let strides: Vec<isize> = output.shape.strides().iter().map(|&stride| stride as isize).collect();
        let copy = strided::launch(caps, output, &strides, 0);
        let mut steps = vec![copy.bind([Operand::Input(0), Operand::Output(0)])];
        for first in (0..self.length).step_by(MOST_UPDATES) {
            let last = self.length.min(first + MOST_UPDATES);
            let step = self.updates(caps, output.dtype, first, last);
            steps.push(step.bind([indices, Operand::Input(2), Operand::Output(0)]));
        }
        steps
    }

    fn updates(&self, caps: &Caps, dtype: DType, first: usize, last: usize) -> Launch {
        let axes = merged_axes(&self.lines, [&self.strides]);
        let dims = axis_values(&axes, |axis| count(axis.size));
        let strides = axis_values(&axes, |axis| axis.strides[0] as u32);
        let lines: usize = self.lines.iter().product();
        let buckets = self.buckets(caps, lines);
        let spread = Spread::of_loops(lines * buckets, last - first, caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            buckets: count(buckets),
            axes: count(axes.len()),
            dims_low: dims[0],
            dims_high: dims[1],
            strides_low: strides[0],
            strides_high: strides[1],
            first: count(first),
            last: count(last),
            length: count(self.length),
            inner: count(self.inner),
            axis_size: count(self.axis_size),
            axis_stride: count(self.axis_stride),
            from_end: self.from_end.into(),
            same_indices: self.same_indices.into(),
        };
        let launch = spread.launch(&SCATTER).variant("dtype", dtype.name());
        let work = (lines * buckets * (last - first)) as u64;
        launch.variant("reduction", self.function.wgsl()).params(params).work(work)
    }

    /// Where there are few lines, each is shared by several invocations, which all read its indices.
    fn buckets(&self, caps: &Caps, lines: usize) -> usize {
        let invocations = match caps.form() {
            Form::Software => 16,
            Form::Subgroup | Form::Plain => 1_024,
        };
        (invocations / lines.max(1)).min(self.length / 16).min(self.axis_size).max(1)
    }
}

/// The output on the host: updates in order, each with its place.
pub(super) fn reference(
    function: ScatterFn,
    data: &Tensor,
    updates: &Tensor,
    places: impl Iterator<Item = usize>,
) -> Tensor {
    let mut values = data.to_f64();
    let is_float = data.dtype().is_float();
    for (place, new) in places.zip(updates.to_f64()) {
        let old = values[place];
        values[place] = match data.dtype() {
            _ if is_float => f64::from(function.apply(old, new) as f32),
            DType::I32 => f64::from(function.apply_integers(old as i64, new as i64) as i32),
            _ => f64::from(function.apply_integers(old as i64, new as i64) as u32),
        };
    }
    Tensor::from_f64(data.dtype(), data.dims(), &values)
}
