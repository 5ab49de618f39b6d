//! Rotary position embedding of heads (Su et al. 2021, RoFormer), without a cache.

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, groups, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static ROPE: Kernel = Kernel::new("rope", include_str!("../../shaders/rope.wgsl"));

params!(
    struct Params {
        elements: u32,
        row_elements: u32,
        head_dim: u32,
        rotary_dim: u32,
        table_rows: u32,
        row_groups: u32,
    }
);

/// Rotates the heads of every row by the row's position.
///
/// Inputs: x f32 `[rows, heads, head_dim]`; table f32 `[positions, rotary_dim]`, for each position
/// `rotary_dim / 2` cosines, then as many sines; positions u32 `[rows]`, those beyond the table
/// use its last row. Output: as x. Dimensions from `rotary_dim` on are copied.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rope {
    /// Leading dimensions of a head that are rotated: even, at least 2; the table's width.
    pub rotary_dim: usize,
    /// Whether dimension 2 i turns with 2 i + 1 (GPT-J), not i with i + rotary_dim / 2 (Llama).
    pub interleaved: bool,
}

/// The template variable `pairs` of `lib/rope.wgsl`.
pub(super) fn pairs(interleaved: bool) -> &'static str {
    if interleaved { "interleaved" } else { "halves" }
}

/// Fails unless the table is f32 `[positions, rotary_dim]` and the heads are large enough.
pub(super) fn check_table(op: &dyn Op, table: &Spec, rotary_dim: usize, head_dim: usize) -> Result<()> {
    if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim {
        let message = format!("rotary size must be even and 2 to {head_dim}, got {rotary_dim}");
        return Err(Error::op(op.name(), message));
    }
    table.expect_dtype(op, "the table", &[DType::F32])?;
    let positions = table.shape.dims().first().copied().unwrap_or(0).max(1);
    table.expect_dims(op, "the table", &[positions, rotary_dim])
}

/// One head rotated, by the definition.
pub(super) fn rotate(head: &[f64], table: &Tensor, position: u32, interleaved: bool) -> Vec<f64> {
    let (positions, rotary_dim) = table.spec().shape.rows_and_cols();
    let row = (position as usize).min(positions - 1) * rotary_dim;
    let turns = table.to_f64();
    let half = rotary_dim / 2;
    let mut rotated = head.to_vec();
    for pair in 0..half {
        let (cosine, sine) = (turns[row + pair], turns[row + half + pair]);
        let (a, b) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
        rotated[a] = head[a] * cosine - head[b] * sine;
        rotated[b] = head[b] * cosine + head[a] * sine;
    }
    rotated
}

/// A table of cosines and sines for cases.
pub(super) fn case_table(positions: usize, rotary_dim: usize) -> Tensor {
    let half = rotary_dim / 2;
    let angle = |position: usize, pair: usize| position as f64 * 10_000f64.powf(-(pair as f64) / half as f64);
    let row = |position: usize| {
        let cosines = (0..half).map(move |pair| angle(position, pair).cos());
        cosines.chain((0..half).map(move |pair| angle(position, pair).sin()))
    };
    let values: Vec<f64> = (0..positions).flat_map(row).collect();
    Tensor::from_f64(DType::F32, [positions, rotary_dim], &values)
}

impl Op for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, table, positions] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", &[DType::F32])?;
        let &[rows, _, head_dim] = x.shape.dims() else {
            return Err(Error::op(
                self.name(),
                format!("x must have shape [rows, heads, head_dim], got {x}"),
            ));
        };
        check_table(self, table, self.rotary_dim, head_dim)?;
        positions.expect_dtype(self, "positions", &[DType::U32])?;
        positions.expect_dims(self, "positions", &[rows])?;
        Ok(vec![x.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let dims = inputs[0].shape.dims();
        let (elements, head_dim) = (inputs[0].elements(), dims[2]);
        let width = caps.elementwise_width();
        let count = groups(elements, width);
        let row_groups = count.min(caps.max_workgroups);
        let number = |value: usize| u32::try_from(value).expect("bindings hold fewer than 2^32 elements");
        Ok(ROPE
            .launch()
            .variant("width", width)
            .variant("pairs", pairs(self.interleaved))
            .params(Params {
                elements: number(elements),
                row_elements: number(dims[1] * head_dim),
                head_dim: number(head_dim),
                rotary_dim: number(self.rotary_dim),
                table_rows: number(inputs[1].shape.dims()[0]),
                row_groups,
            })
            .bind_all(3, 1)
            .workgroups([row_groups, count.div_ceil(row_groups), 1])
            .work(4 * elements as u64)
            .into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let [x, table, positions] = inputs else { unreachable!("infer checked the inputs") };
        let (heads, head_dim) = (x.dims()[1], x.dims()[2]);
        let (values, positions) = (x.to_f64(), positions.to_u32());
        let rotated: Vec<f64> = values
            .chunks(head_dim)
            .enumerate()
            .flat_map(|(index, head)| rotate(head, table, positions[index / heads], self.interleaved))
            .collect();
        Ok(vec![Tensor::from_f64(DType::F32, x.spec().shape.clone(), &rotated)])
    }
}

/// Both kinds of pairs, whole and partial rotation, positions beyond the table.
pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(31);
    let shapes = [(1, 1, 2, 2), (3, 2, 8, 8), (5, 3, 10, 4), (9, 4, 64, 64), (2, 12, 80, 32)];
    let mut cases = Vec::new();
    for (rows, heads, head_dim, rotary_dim) in shapes {
        for interleaved in [false, true] {
            let inputs =
                vec![random.f32([rows, heads, head_dim]), case_table(40, rotary_dim), random.u32([rows], 50)];
            let name = format!("{rows} rows, {rotary_dim} of {head_dim}, interleaved {interleaved}");
            cases.push(Case::new(name, Rope { rotary_dim, interleaved }, inputs));
        }
    }
    cases
}
