//! Running sums along an axis.
//!
//! A long axis is taken in parts: their sums, the running sums of these, and from these the
//! running sums of each part.

use super::cases::{Case, Random};
use super::reduce::{self, ReduceFn};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, Split, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static CUMSUM: Kernel = Kernel::new("cumsum", include_str!("../../shaders/cumsum.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        length: u32,
        parts: u32,
        part: u32,
        inner: u32,
        exclusive: u32,
        reverse: u32,
    }
);

/// Running sums along an axis of f32, i32 or u32; integers wrap. The output has the input's spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CumSum {
    /// Along which axis.
    pub axis: usize,
    /// Whether an element is left out of its own sum.
    pub exclusive: bool,
    /// Whether the sums run from the end of the axis.
    pub reverse: bool,
}

/// Elements of a part: more would lose digits and keep few invocations busy.
const PART: usize = 256;
/// Most parts.
const MOST_PARTS: usize = 16_384;

impl CumSum {
    /// The input as `[outer, length, inner]`.
    fn split(&self, dims: &[usize]) -> [usize; 3] {
        [dims[..self.axis].iter().product(), dims[self.axis], dims[self.axis + 1..].iter().product()]
    }

    fn sums(&self, caps: &Caps, dtype: DType, [outer, length, inner]: [usize; 3], split: Split) -> Launch {
        let spread = Spread::of_loops(outer * split.parts * inner, split.length, caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            length: count(length),
            parts: count(split.parts),
            part: count(split.length),
            inner: count(inner),
            exclusive: self.exclusive.into(),
            reverse: self.reverse.into(),
        };
        let launch = spread.launch(&CUMSUM).variant("dtype", dtype.name()).variant("starts", split.parts > 1);
        launch.params(params).work((outer * length * inner) as u64)
    }
}

impl Op for CumSum {
    fn name(&self) -> &'static str {
        "cumsum"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &[DType::F32, DType::I32, DType::U32])?;
        if self.axis >= input.shape.rank() {
            return Err(Error::op(self.name(), format!("there is no axis {} in {input}", self.axis)));
        }
        Ok(vec![input.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let dtype = inputs[0].dtype;
        let [outer, length, inner] = self.split(inputs[0].shape.dims());
        let part = PART.max(length.div_ceil(MOST_PARTS));
        let split = Split { parts: length.div_ceil(part), length: part };
        let whole = self.sums(caps, dtype, [outer, length, inner], split);
        let [input, output] = [Operand::Input(0), Operand::Output(0)];
        if split.parts == 1 {
            return Ok(whole.bind([input, output]).into());
        }
        let [totals, starts] = [Operand::Scratch(0), Operand::Scratch(1)];
        let of_parts = [outer, split.parts, inner];
        let one = Split { parts: 1, length: split.parts };
        let before = Self { exclusive: true, ..*self };
        let steps = vec![
            reduce::parts(caps, dtype, ReduceFn::Sum, [outer, length, inner], split).bind([input, totals]),
            before.sums(caps, dtype, of_parts, one).bind([totals, starts]),
            whole.bind([input, output, starts]),
        ];
        Ok(Launches { steps, scratch: vec![Spec::new(dtype, of_parts); 2], ..Launches::default() })
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut values = inputs[0].to_f64();
        let [outer, length, inner] = self.split(inputs[0].dims());
        for column in 0..outer * inner {
            let start = column / inner * length * inner + column % inner;
            let mut sum = 0.0;
            for i in 0..length {
                let i = if self.reverse { length - 1 - i } else { i };
                let value = &mut values[start + i * inner];
                let before = sum;
                sum += *value;
                *value = if self.exclusive { before } else { sum };
            }
        }
        if inputs[0].dtype().is_float() {
            return Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)]);
        }
        // Sums of integers are exact in f64; they wrap.
        let bytes = values.into_iter().flat_map(|value| (value as i64 as u32).to_le_bytes()).collect();
        Ok(vec![Tensor::from_bytes(inputs[0].spec().clone(), bytes)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(36);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize); 8] = [
        (&[1], 0),
        (&[5], 0),
        (&[3, 5, 7], 0),
        (&[3, 5, 7], 1),
        (&[33, 67], 1),
        (&[2, 257], 1),
        (&[3, 2_051, 4], 1),
        (&[1, 70_001], 1),
    ];
    for (dims, axis) in shapes {
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            let op = CumSum { axis, exclusive, reverse };
            let name = format!("{dims:?} axis {axis}, exclusive {exclusive}, reverse {reverse}");
            let case = Case::new(format!("f32 {name}"), op, vec![random.f32(dims)]);
            // Sums of up to 70,000 numbers in -1..1, in any order.
            cases.push(case.tolerance(1e-4, 1e-5));
            cases.push(Case::new(format!("i32 {name}"), op, vec![random.tensor(DType::I32, dims, 2e9)]));
        }
    }
    cases
}
