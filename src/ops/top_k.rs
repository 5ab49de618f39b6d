//! The largest or smallest elements along an axis, sorted, with their indices.
//!
//! Parts of the axis are sorted by ranks; then pairs of runs are merged, of which only the first
//! `k` elements are kept, until one run is left (merge sort).

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launch, Launches, Operand, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static TOP_K: Kernel = Kernel::new("top_k", include_str!("../../shaders/top_k.wgsl"));
static TOP_K_PARTS: Kernel = Kernel::new("top_k_parts", include_str!("../../shaders/top_k_parts.wgsl"));
static TOP_K_MERGE: Kernel = Kernel::new("top_k_merge", include_str!("../../shaders/top_k_merge.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        length: u32,
        inner: u32,
        k: u32,
    }
);
params!(
    struct PartParams {
        items: u32,
        per_group: u32,
        length: u32,
        inner: u32,
        part: u32,
        kept: u32,
    }
);
params!(
    struct MergeParams {
        items: u32,
        per_group: u32,
        length: u32,
        inner: u32,
        run: u32,
        runs: u32,
        kept: u32,
        k: u32,
    }
);

/// The `k` largest (or smallest) elements along an axis of f32, i32 or u32, sorted; of equal ones
/// those of lower index come first. NaN count as the largest, negative ones as the smallest.
///
/// Outputs: the elements, of the input's dtype, and their indices, u32; both of the input's shape
/// with `k` in place of the axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// How many, at most the axis's size.
    pub k: usize,
    /// Along which axis.
    pub axis: usize,
    /// Whether the smallest are wanted, not the largest.
    pub smallest: bool,
}

/// Elements of a part that is sorted by ranks.
const PART: usize = 64;

impl TopK {
    /// The input as `[outer, length, inner]`.
    fn split(&self, dims: &[usize]) -> [usize; 3] {
        [dims[..self.axis].iter().product(), dims[self.axis], dims[self.axis + 1..].iter().product()]
    }

    fn sorted_by(&self, launch: Launch, dtype: DType) -> Launch {
        launch.variant("dtype", dtype.name()).variant("smallest", self.smallest)
    }

    fn parts(&self, caps: &Caps, input: &Spec) -> Launch {
        let [outer, length, inner] = self.split(input.shape.dims());
        let spread = Spread::of_loops(outer * inner * length, PART, caps);
        let params = PartParams {
            items: spread.items,
            per_group: spread.per_group,
            length: count(length),
            inner: count(inner),
            part: count(PART),
            kept: count(self.k.min(PART)),
        };
        let work = (outer * inner * length * PART) as u64;
        self.sorted_by(spread.launch(&TOP_K_PARTS), input.dtype).params(params).work(work)
    }

    fn merge(&self, caps: &Caps, input: &Spec, run: usize) -> Launch {
        let [outer, length, inner] = self.split(input.shape.dims());
        let (runs, kept) = (length.div_ceil(run), self.k.min(run));
        let spread = Spread::of_loops(outer * inner * runs * kept, 32, caps);
        let params = MergeParams {
            items: spread.items,
            per_group: spread.per_group,
            length: count(length),
            inner: count(inner),
            run: count(run),
            runs: count(runs),
            kept: count(kept),
            k: count(self.k),
        };
        let work = (outer * inner * runs * kept * 16) as u64;
        self.sorted_by(spread.launch(&TOP_K_MERGE), input.dtype).params(params).work(work)
    }
}

impl Op for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", &[DType::F32, DType::I32, DType::U32])?;
        let mut dims = input.shape.dims().to_vec();
        if dims.get(self.axis).is_none_or(|&length| length < self.k) {
            let message = format!("axis {} of {input} has no {} elements", self.axis, self.k);
            return Err(Error::op(self.name(), message));
        }
        dims[self.axis] = self.k;
        Ok(vec![Spec::new(input.dtype, dims.as_slice()), Spec::u32(dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let [outer, length, inner] = self.split(inputs[0].shape.dims());
        let lists = Spec::u32([outer, inner, length]);
        let mut launches =
            Launches { scratch: vec![lists; 1 + usize::from(length > PART)], ..Launches::default() };
        let input = Operand::Input(0);
        launches.steps.push(self.parts(caps, &inputs[0]).bind([input, Operand::Scratch(0)]));
        let (mut from, mut run) = (0, PART);
        while run < length {
            let step = self.merge(caps, &inputs[0], run);
            launches.steps.push(step.bind([input, Operand::Scratch(from), Operand::Scratch(1 - from)]));
            (from, run) = (1 - from, 2 * run);
        }
        let spread = Spread::new(outputs[0].elements(), caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            length: count(length),
            inner: count(inner),
            k: count(self.k),
        };
        let bindings = [input, Operand::Scratch(from), Operand::Output(0), Operand::Output(1)];
        launches.steps.push(spread.launch(&TOP_K).params(params).bind(bindings));
        Ok(launches)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let specs = self.infer(&[inputs[0].spec().clone()])?;
        let values = inputs[0].to_f64();
        let [outer, length, inner] = self.split(inputs[0].dims());
        let mut best = vec![0.0; outer * self.k * inner];
        let mut indices = vec![0; best.len()];
        for column in 0..outer * inner {
            let (outer, column) = (column / inner, column % inner);
            // Both zeros are equal.
            let value = |i: usize| values[(outer * length + i) * inner + column] + 0.0;
            let mut order: Vec<usize> = (0..length).collect();
            order.sort_by(|&a, &b| {
                let order = value(b).total_cmp(&value(a));
                if self.smallest { order.reverse() } else { order }
            });
            for (rank, &i) in order.iter().take(self.k).enumerate() {
                let place = (outer * self.k + rank) * inner + column;
                (best[place], indices[place]) = (values[(outer * length + i) * inner + column], count(i));
            }
        }
        let shape = specs[1].shape.clone();
        Ok(vec![Tensor::from_f64(inputs[0].dtype(), shape.clone(), &best), Tensor::from_u32(shape, &indices)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(37);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize, usize); 11] = [
        (&[1], 0, 1),
        (&[7], 0, 3),
        (&[3, 64], 1, 64),
        (&[5, 65], 1, 1),
        (&[2, 129], 1, 100),
        (&[3, 257, 5], 1, 70),
        (&[4, 5, 6], 0, 2),
        (&[4, 5, 6], 2, 6),
        (&[1, 8_400], 1, 300),
        (&[1, 4_097], 1, 4_097),
        (&[2, 1_000], 1, 5),
    ];
    for (dims, axis, k) in shapes {
        for smallest in [false, true] {
            let op = TopK { k, axis, smallest };
            // Integers have ties.
            for (dtype, scale) in [(DType::F32, 1.0), (DType::I32, 20.0), (DType::U32, 20.0)] {
                let name = format!("{k} of {dtype} {dims:?} axis {axis}, smallest {smallest}");
                cases.push(Case::new(name, op, vec![random.tensor(dtype, dims, scale)]));
            }
        }
    }
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let odd = Tensor::from_f32([9], &[0.0, -0.0, inf, nan, -inf, -1.0, 0.0, f32::MAX, inf]);
    let large = Tensor::from_u32([4], &[0, u32::MAX, 0x8000_0000, 0x7fff_ffff]);
    for smallest in [false, true] {
        let op = TopK { k: 9, axis: 0, smallest };
        cases.push(Case::new("zeros, infinities and NaN", op, vec![odd.clone()]));
        let op = TopK { k: 4, axis: 0, smallest };
        cases.push(Case::new("large unsigned numbers", op, vec![large.clone()]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_elements_than_there_are_are_refused() {
        let infer = |k, axis| TopK { k, axis, smallest: false }.infer(&[Spec::f32([2, 5])]).is_ok();
        assert!(infer(5, 1) && infer(0, 1) && infer(2, 0));
        assert!(!infer(6, 1) && !infer(1, 2));
    }
}
