//! Rows of a state replaced by new ones: how a cache grows in place.

use super::cases::{Case, Random};
use super::{Cost, Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Operand, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static WRITE_ROWS: Kernel = Kernel::new("write_rows", include_str!("../../shaders/write_rows.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        rows: u32,
        capacity: u32,
        inner: u32,
    }
);

/// Writes rows along an axis of a state.
///
/// Inputs: the state f32, i32 or u32 `[outer.., capacity, inner..]`, rows of its dtype
/// `[outer.., rows, inner..]`, and u32 `[1]`, the place of the first of them. Output: the next
/// version of the state. Rows that would lie beyond its capacity are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRows {
    /// Along which axis.
    pub axis: usize,
}

impl WriteRows {
    /// A tensor as `[outer, rows, inner]`.
    fn split(&self, dims: &[usize]) -> [usize; 3] {
        [dims[..self.axis].iter().product(), dims[self.axis], dims[self.axis + 1..].iter().product()]
    }
}

impl Op for WriteRows {
    fn name(&self) -> &'static str {
        "write_rows"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [state, rows, first] = inputs.exactly(self)?;
        state.expect_dtype(self, "the state", &[DType::F32, DType::I32, DType::U32])?;
        rows.expect_dtype(self, "the rows", &[state.dtype])?;
        first.expect_dtype(self, "the place", &[DType::U32])?;
        first.expect_dims(self, "the place", &[1])?;
        let Some(&capacity) = state.shape.dims().get(self.axis) else {
            return Err(Error::op(self.name(), format!("there is no axis {} in {state}", self.axis)));
        };
        let mut dims = state.shape.dims().to_vec();
        dims[self.axis] = rows.shape.dims().get(self.axis).map_or(capacity, |&rows| rows.min(capacity));
        rows.expect_dims(self, "the rows", &dims)?;
        Ok(vec![state.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let [_, capacity, inner] = self.split(inputs[0].shape.dims());
        let [outer, rows, _] = self.split(inputs[1].shape.dims());
        let spread = Spread::new((outer * rows * inner).max(1), caps);
        let params = Params {
            items: count(outer * rows * inner),
            per_group: spread.per_group,
            rows: count(rows),
            capacity: count(capacity),
            inner: count(inner),
        };
        let bound = [Operand::Input(1), Operand::Input(2), Operand::Output(0)];
        Ok(spread.launch(&WRITE_ROWS).params(params).bind(bound).into())
    }

    fn cost(&self, inputs: &[Spec], _: &[Spec]) -> Cost {
        Cost::of_traffic(&inputs[1..], &inputs[1..2])
    }

    fn aliases(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let [_, capacity, inner] = self.split(inputs[0].dims());
        let [outer, rows, _] = self.split(inputs[1].dims());
        let first = inputs[2].to_u32()[0] as usize;
        let written = rows.min(capacity.saturating_sub(first));
        let mut bytes = inputs[0].bytes().to_vec();
        let size = inner * inputs[0].dtype().size();
        for part in 0..outer {
            if written > 0 {
                let (from, to) = (part * rows * size, (part * capacity + first) * size);
                let length = written * size;
                bytes[to..to + length].copy_from_slice(&inputs[1].bytes()[from..from + length]);
            }
        }
        Ok(vec![Tensor::from_bytes(inputs[0].spec().clone(), bytes)])
    }
}

/// One row and many, at the start, in the middle, up to the end, beyond it and far beyond it.
pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(41);
    let mut cases = Vec::new();
    let shapes: [(&[usize], usize); 6] = [
        (&[1], 0),
        (&[7], 0),
        (&[5, 3], 1),
        (&[1, 4, 16, 16], 2),
        (&[2, 3, 33, 20], 2),
        (&[3, 1, 130, 67], 2),
    ];
    for (dims, axis) in shapes {
        let capacity = dims[axis];
        for (rows, first) in
            [(1, 0), (1, capacity / 2), (1, capacity), (capacity, 0), (capacity, u32::MAX as usize)]
        {
            let mut new = dims.to_vec();
            new[axis] = rows;
            let place = Tensor::from_u32([1], &[count(first)]);
            for dtype in [DType::F32, DType::I32] {
                let inputs =
                    vec![random.tensor(dtype, dims, 9.0), random.tensor(dtype, &*new, 9.0), place.clone()];
                let name = format!("{dtype} {rows} rows of {dims:?} from {first} along axis {axis}");
                cases.push(Case::new(name, WriteRows { axis }, inputs));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_another_shape_are_refused() {
        let specs = [Spec::f32([2, 4, 3]), Spec::f32([2, 5, 3]), Spec::u32([1])];
        let error = WriteRows { axis: 1 }.infer(&specs).unwrap_err().to_string();
        assert_eq!(error, "write_rows: the rows must have shape [2, 4, 3], got f32[2, 5, 3]");
        let error = WriteRows { axis: 3 }.infer(&specs).unwrap_err().to_string();
        assert_eq!(error, "write_rows: there is no axis 3 in f32[2, 4, 3]");
    }
}
