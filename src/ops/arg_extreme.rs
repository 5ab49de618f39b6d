//! Index of the largest or smallest element along an axis, of any dtype, the first or the last
//! among equals. [`ArgMax`](super::ArgMax) is the faster form of the most frequent kind.

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, Split, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static ARG_EXTREME: Kernel = Kernel::new("arg_extreme", include_str!("../../shaders/arg_extreme.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        length: u32,
        count: u32,
        parts: u32,
        part: u32,
        inner: u32,
    }
);

/// Index of the largest or smallest element along an axis; NaN are passed over. f32, i32 or u32 to
/// u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgExtreme {
    /// Along which axis.
    pub axis: usize,
    /// Whether the axis stays, with size 1.
    pub keep_dims: bool,
    /// Whether the smallest is wanted, not the largest.
    pub smallest: bool,
    /// Whether the last among equals is wanted, not the first.
    pub last: bool,
}

/// Most elements that one invocation compares.
const MOST_COMPARED: usize = 4_096;

impl ArgExtreme {
    /// The input as `[outer, length, inner]`.
    fn split(&self, dims: &[usize]) -> [usize; 3] {
        [dims[..self.axis].iter().product(), dims[self.axis], dims[self.axis + 1..].iter().product()]
    }

    /// How a later element must compare with the best before it.
    const fn wins(&self) -> &'static str {
        match (self.smallest, self.last) {
            (false, false) => ">",
            (false, true) => ">=",
            (true, false) => "<",
            (true, true) => "<=",
        }
    }

    /// The dispatch that compares parts of `candidates` elements along the axis.
    fn launch_parts(&self, caps: &Caps, input: &Spec, candidates: usize, split: Split) -> Launch {
        let [outer, length, inner] = self.split(input.shape.dims());
        let spread = Spread::of_loops(outer * split.parts * inner, split.length, caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            length: count(length),
            count: count(candidates),
            parts: count(split.parts),
            part: count(split.length),
            inner: count(inner),
        };
        let launch = spread.launch(&ARG_EXTREME).variant("dtype", input.dtype.name());
        launch.variant("wins", self.wins()).params(params).work((outer * candidates * inner) as u64)
    }
}

impl Op for ArgExtreme {
    fn name(&self) -> &'static str {
        "arg_extreme"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &[DType::F32, DType::I32, DType::U32])?;
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
        let mut launches = Launches::default();
        let mut candidates = length;
        loop {
            let split = Split::new(candidates, outer * inner, MOST_COMPARED, caps);
            let step = self.launch_parts(caps, &inputs[0], candidates, split);
            let before = launches.scratch.len().checked_sub(1).map(Operand::Scratch);
            let to =
                if split.parts == 1 { Operand::Output(0) } else { Operand::Scratch(launches.scratch.len()) };
            let bindings = [Operand::Input(0), to].into_iter().chain(before);
            launches.steps.push(step.variant("merge", before.is_some()).bind(bindings));
            if split.parts == 1 {
                return Ok(launches);
            }
            launches.scratch.push(Spec::u32([outer, split.parts, inner]));
            candidates = split.parts;
        }
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs = self.infer(&[inputs[0].spec().clone()])?;
        let values = inputs[0].to_f64();
        let [outer, length, inner] = self.split(inputs[0].dims());
        let sign = if self.smallest { -1.0 } else { 1.0 };
        let mut indices = Vec::with_capacity(outer * inner);
        for column in 0..outer * inner {
            let start = column / inner * length * inner + column % inner;
            let mut best: Option<(f64, usize)> = None;
            for i in 0..length {
                let value = sign * values[start + i * inner];
                let wins = |highest: f64| value > highest || (self.last && value == highest);
                if !value.is_nan() && best.is_none_or(|(highest, _)| wins(highest)) {
                    best = Some((value, i));
                }
            }
            indices.push(best.map_or(0, |(_, i)| count(i)));
        }
        Ok(vec![Tensor::from_u32(specs[0].shape.clone(), &indices)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(35);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize); 8] = [
        (&[1], 0),
        (&[3, 5, 4, 7], 0),
        (&[3, 5, 4, 7], 2),
        (&[3, 5, 4, 7], 3),
        (&[33, 67], 1),
        (&[2, 1_030], 1),
        (&[1, 70_001], 1),
        (&[2, 4_099, 3], 1),
    ];
    for (dims, axis) in shapes {
        for (smallest, last) in [(false, false), (false, true), (true, false), (true, true)] {
            let op = ArgExtreme { axis, keep_dims: last, smallest, last };
            // With ties.
            for (dtype, scale) in [(DType::F32, 1.0), (DType::I32, 4.0), (DType::U32, 4.0)] {
                let name = format!("{dtype} {dims:?} axis {axis}, smallest {smallest}, last {last}");
                cases.push(Case::new(name, op, vec![random.tensor(dtype, dims, scale)]));
            }
        }
    }
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    let odd = Tensor::from_f32([4, 3], &[nan, 1.0, 1.0, nan, nan, nan, low, low, low, 2.0, -low, nan]);
    for (smallest, last) in [(false, false), (false, true), (true, false)] {
        let op = ArgExtreme { axis: 1, keep_dims: false, smallest, last };
        cases.push(Case::new(format!("NaN and infinities, smallest {smallest}"), op, vec![odd.clone()]));
    }
    let extremes = Tensor::from_u32([3], &[0, u32::MAX, 0x8000_0000]);
    let op = ArgExtreme { axis: 0, keep_dims: false, smallest: false, last: false };
    cases.push(Case::new("large unsigned numbers", op, vec![extremes]));
    cases
}
