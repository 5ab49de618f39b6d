//! Index of the largest element.

use super::cases::{Case, ROW_SHAPES, Random};
use super::image::is_image;
use super::{ChannelsLast, Expect, Inputs, Op, strided};
use crate::kernel::{
    Caps, Form, Kernel, Launch, Launches, MAX_ITERATIONS, Operand, RowSpread, Spread, count, params,
};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static ARGMAX: Kernel = Kernel::new("argmax", include_str!("../../shaders/argmax.wgsl"));
static ARGMAX_MERGE: Kernel = Kernel::new("argmax_merge", include_str!("../../shaders/argmax_merge.wgsl"));
static ARGMAX_COLUMNS: Kernel =
    Kernel::new("argmax_columns", include_str!("../../shaders/argmax_columns.wgsl"));

params!(
    struct Params {
        rows: u32,
        rows_per_group: u32,
        chunks: u32,
        parts: u32,
        part_chunks: u32,
    }
);
params!(
    struct MergeParams {
        rows: u32,
        rows_per_group: u32,
        parts: u32,
        cols: u32,
    }
);
params!(
    struct ColumnParams {
        items: u32,
        per_group: u32,
        length: u32,
        inner: u32,
    }
);

/// Columns of a part of a long row. A GPU computes the parts of few long rows side by side,
/// because one workgroup reads with a small share of the memory's bandwidth.
const PART_COLS: usize = 4096;

/// Index of the largest element along an axis, the lowest among equals; NaN are passed over.
/// f32 to u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgMax {
    /// Along which axis.
    pub axis: usize,
    /// Whether the axis stays, with size 1.
    pub keep_dims: bool,
}

impl ArgMax {
    /// The input as `[outer, length, inner]`.
    fn split(&self, dims: &[usize]) -> [usize; 3] {
        [dims[..self.axis].iter().product(), dims[self.axis], dims[self.axis + 1..].iter().product()]
    }
}

impl Op for ArgMax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &[DType::F32])?;
        let mut dims = input.shape.dims().to_vec();
        if dims.get(self.axis).is_none_or(|&length| length == 0) {
            return Err(Error::op(self.name(), format!("axis {} of {input} has no element", self.axis)));
        }
        if self.keep_dims {
            dims[self.axis] = 1;
        } else {
            dims.remove(self.axis);
        }
        Ok(vec![Spec::u32(dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let [outer, length, inner] = self.split(inputs[0].shape.dims());
        if inner > 1 {
            let short = length <= MAX_ITERATIONS as usize;
            let columns = if short {
                columns(caps, [outer, length, inner]).into()
            } else {
                long_columns(caps, [outer, length, inner])
            };
            return Ok(columns);
        }
        let parts = length.div_ceil(PART_COLS);
        if caps.form() == Form::Software || parts < 4 || outer > 64 {
            return Ok(rows(caps, outer, length, 1).bind_all(1, 1).into());
        }
        let first = rows(caps, outer, length, parts).bind([Operand::Input(0), Operand::Scratch(0)]);
        let merge = RowSpread::new(outer, parts, caps);
        let params = MergeParams {
            rows: merge.rows,
            rows_per_group: merge.rows_per_group,
            parts: count(parts),
            cols: count(length),
        };
        let second = merge.launch(&ARGMAX_MERGE).params(params).bind([
            Operand::Input(0),
            Operand::Scratch(0),
            Operand::Output(0),
        ]);
        Ok(Launches {
            steps: vec![first, second],
            scratch: vec![Spec::u32([outer, parts])],
            ..Launches::default()
        })
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let last = Self { axis: inputs[0].shape.rank() - 1, ..*self };
        let form = || ChannelsLast { image_outputs: self.keep_dims, ..ChannelsLast::following(last, [0]) };
        (is_image(&inputs[0]) && self.axis == 1).then(form)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs = self.infer(&[inputs[0].spec().clone()])?;
        let values = inputs[0].to_f64();
        let [outer, length, inner] = self.split(inputs[0].dims());
        let mut indices = Vec::with_capacity(outer * inner);
        for column in 0..outer * inner {
            let start = column / inner * length * inner + column % inner;
            let (mut best, mut index) = (f64::NEG_INFINITY, 0);
            for i in 0..length {
                let value = values[start + i * inner];
                if value > best {
                    (best, index) = (value, i);
                }
            }
            indices.push(count(index));
        }
        Ok(vec![Tensor::from_u32(specs[0].shape.clone(), &indices)])
    }
}

fn rows(caps: &Caps, outer: usize, length: usize, parts: usize) -> Launch {
    let whole = RowSpread::new(outer, length, caps);
    // Parts are whole numbers of chunks; the last may be shorter.
    let part_chunks = if whole.vectors { PART_COLS / 4 } else { PART_COLS };
    let spread = match parts {
        1 => whole,
        _ => RowSpread::of_chunks(outer * parts, part_chunks, whole.vectors, caps),
    };
    let params = Params {
        rows: spread.rows,
        rows_per_group: spread.rows_per_group,
        chunks: whole.chunks,
        parts: count(parts),
        part_chunks: spread.chunks,
    };
    spread.launch(&ARGMAX).params(params)
}

fn columns(caps: &Caps, [outer, length, inner]: [usize; 3]) -> Launch {
    let spread = Spread::of_loops(outer * inner, length, caps);
    let params = ColumnParams {
        items: spread.items,
        per_group: spread.per_group,
        length: count(length),
        inner: count(inner),
    };
    let work = (outer * length * inner) as u64;
    spread.launch(&ARGMAX_COLUMNS).params(params).bind_all(1, 1).work(work)
}

/// Columns that are too long for one loop: transposed, they are rows.
fn long_columns(caps: &Caps, [outer, length, inner]: [usize; 3]) -> Launches {
    let transposed = Spec::f32([outer, inner, length]);
    let strides = [length * inner, 1, inner].map(|stride| stride as isize);
    let [input, scratch, output] = [Operand::Input(0), Operand::Scratch(0), Operand::Output(0)];
    let steps = vec![
        strided::launch(caps, &transposed, &strides, 0).bind([input, scratch]),
        rows(caps, outer * inner, length, 1).bind([scratch, output]),
    ];
    Launches { steps, scratch: vec![transposed], ..Launches::default() }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(13);
    let last = ArgMax { axis: 1, keep_dims: false };
    let mut cases = Vec::new();
    for dims in ROW_SHAPES {
        cases.push(Case::new(format!("{dims:?}"), last, vec![random.f32(dims)]));
        let few: Vec<f64> = (0..dims[0] * dims[1]).map(|_| f64::from(random.below(3))).collect();
        let input = Tensor::from_f64(DType::F32, dims, &few);
        cases.push(Case::new(format!("{dims:?} with ties"), last, vec![input]));
    }
    for cols in [16_384, 16_385, 49_152, 200_003] {
        cases.push(Case::new(format!("a row of {cols}"), last, vec![random.f32([1, cols])]));
    }
    for place in [4_095, 4_096, 20_000] {
        let mut values = vec![0.0; 3 * 20_001];
        values[20_001 + place] = 1.0;
        let input = Tensor::from_f32([3, 20_001], &values);
        cases.push(Case::new(format!("largest at {place}"), last, vec![input]));
    }
    cases.push(Case::new("odd long rows", last, vec![random.f32([40, 70_001])]));
    let columns = vec![random.f32([2, 70_001, 3])];
    cases.push(Case::new("long columns", ArgMax { axis: 1, keep_dims: true }, columns));
    for axis in 0..4 {
        let op = ArgMax { axis, keep_dims: axis % 2 == 0 };
        cases.push(Case::new(format!("axis {axis}"), op, vec![random.f32([3, 5, 4, 7])]));
    }
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    let odd = Tensor::from_f32([4, 3], &[nan, 1.0, 2.0, nan, nan, nan, low, low, low, low, f32::MIN, 1e-40]);
    cases.push(Case::new("NaN and infinities", last, vec![odd]));
    cases
}
