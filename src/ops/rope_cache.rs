//! What lies between the joint projection of a decoder's attention and the attention itself:
//! split, rotary position embedding (Su et al. 2021), and the write to the key-value cache.

use super::cached_attention::{INACTIVE, head_pitch, padded};
use super::cases::{Case, Random};
use super::rope::{case_table, check_table, pairs, rotate};
use super::{Cost, Expect, Op};
use crate::kernel::{Caps, Kernel, Launches, Operand, groups, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static ROPE_CACHE: Kernel = Kernel::new("rope_cache", include_str!("../../shaders/rope_cache.wgsl"));

params!(
    struct Params {
        vectors: u32,
        heads: u32,
        kv_heads: u32,
        head_dim: u32,
        head_vectors: u32,
        slots: u32,
        context: u32,
        rotary_dim: u32,
        table_rows: u32,
        row_groups: u32,
    }
);

/// Splits rows into queries, keys and values, rotates queries and keys, writes the cache.
///
/// Inputs: the joint projection f32 `[rows, (heads + 2 * kv_heads) * head_dim]` (heads of queries,
/// of keys, of values); with rotation the table f32 `[positions, rotary_dim]` (see
/// [`Rope`](super::Rope)); positions u32 `[rows]`; slots u32 `[rows]`; keys and values f32
/// `[slots, kv_heads, context, head_pitch]`. Outputs: queries f32 `[rows, heads, head_pitch]`, and
/// the next versions of keys and values. A row whose slot is [`INACTIVE`] or whose position lies
/// beyond the context gives zeros and writes nothing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeCache {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Leading dimensions of a head that are rotated; 0 for none, then there is no table.
    pub rotary_dim: usize,
    /// Whether dimension 2 i turns with 2 i + 1 (GPT-J), not i with i + rotary_dim / 2 (Llama).
    pub interleaved: bool,
}

impl RopeCache {
    /// Position of the first input after the table.
    fn after_table(&self) -> usize {
        if self.rotary_dim == 0 { 1 } else { 2 }
    }
}

impl Op for RopeCache {
    fn name(&self) -> &'static str {
        "rope_cache"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let next = self.after_table();
        if inputs.len() != next + 4 {
            let message = format!("takes {} inputs, got {}", next + 4, inputs.len());
            return Err(Error::op(self.name(), message));
        }
        if self.rotary_dim > 0 {
            check_table(self, &inputs[1], self.rotary_dim, self.head_dim)?;
        }
        let (joint, positions, slots) = (&inputs[0], &inputs[next], &inputs[next + 1]);
        let (keys, values) = (&inputs[next + 2], &inputs[next + 3]);
        let rows = joint.shape.dims().first().copied().unwrap_or(0);
        for (what, spec) in [("the joint projection", joint), ("keys", keys), ("values", values)] {
            spec.expect_dtype(self, what, &[DType::F32])?;
        }
        let cols = (self.heads + 2 * self.kv_heads) * self.head_dim;
        joint.expect_dims(self, "the joint projection", &[rows, cols])?;
        for (what, spec) in [("positions", positions), ("slots", slots)] {
            spec.expect_dtype(self, what, &[DType::U32])?;
            spec.expect_dims(self, what, &[rows])?;
        }
        let (dims, pitch) = (keys.shape.dims(), head_pitch(self.head_dim));
        let (slot_count, context) = if dims.len() == 4 { (dims[0], dims[2]) } else { (0, 0) };
        keys.expect_dims(self, "keys", &[slot_count, self.kv_heads, context, pitch])?;
        values.expect_dims(self, "values", dims)?;
        Ok(vec![Spec::f32([rows, self.heads, pitch]), keys.clone(), values.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let next = self.after_table();
        let (rows, keys) = (inputs[0].shape.dims()[0], inputs[next + 2].shape.dims());
        let head_vectors = head_pitch(self.head_dim) / 4;
        let vectors = rows * (self.heads + 2 * self.kv_heads) * head_vectors;
        let width = caps.elementwise_width();
        let count = groups(vectors, width);
        let row_groups = count.min(caps.max_workgroups);
        let number = |value: usize| u32::try_from(value).expect("bindings hold fewer than 2^32 elements");
        let table_rows = if self.rotary_dim > 0 { inputs[1].shape.dims()[0] } else { 1 };
        let bound = (0..next + 2).map(Operand::Input).chain((0..3).map(Operand::Output));
        Ok(ROPE_CACHE
            .launch()
            .variant("width", width)
            .variant("pairs", if self.rotary_dim == 0 { "none" } else { pairs(self.interleaved) })
            .params(Params {
                vectors: number(vectors),
                heads: number(self.heads),
                kv_heads: number(self.kv_heads),
                head_dim: number(self.head_dim),
                head_vectors: number(head_vectors),
                slots: number(keys[0]),
                context: number(keys[2]),
                rotary_dim: number(self.rotary_dim),
                table_rows: number(table_rows),
                row_groups,
            })
            .bind(bound)
            .workgroups([row_groups, count.div_ceil(row_groups), 1])
            .work(16 * vectors as u64)
            .into())
    }

    fn cost(&self, inputs: &[Spec], _: &[Spec]) -> Cost {
        // All heads, turned or not, and only the rows of the table and the cache that they need.
        let rows = inputs[0].shape.dims()[0] as u64;
        let table = if self.rotary_dim > 0 { 4 * rows * self.rotary_dim as u64 } else { 0 };
        let moved = Cost::of_traffic(&inputs[..1], &inputs[..1]);
        Cost { read: moved.read + table + 8 * rows, ..moved }
    }

    fn aliases(&self) -> &'static [(usize, usize)] {
        if self.rotary_dim == 0 { &[(1, 3), (2, 4)] } else { &[(1, 4), (2, 5)] }
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let next = self.after_table();
        let (positions, slots) = (inputs[next].to_u32(), inputs[next + 1].to_u32());
        let (slot_count, context) = (inputs[next + 2].dims()[0], inputs[next + 2].dims()[2]);
        let (mut keys, mut values) = (inputs[next + 2].to_f64(), inputs[next + 3].to_f64());
        let pitch = head_pitch(self.head_dim);
        let all_heads = self.heads + 2 * self.kv_heads;
        let mut queries = vec![0.0; positions.len() * self.heads * pitch];
        for (index, head) in inputs[0].to_f64().chunks(self.head_dim).enumerate() {
            let (row, part) = (index / all_heads, index % all_heads);
            let (position, slot) = (positions[row] as usize, slots[row] as usize);
            if slot >= slot_count || position >= context {
                continue;
            }
            let turned = match self.rotary_dim {
                0 => head.to_vec(),
                _ => rotate(head, &inputs[1], positions[row], self.interleaved),
            };
            let cached = |part: usize| ((slot * self.kv_heads + part) * context + position) * pitch;
            if part < self.heads {
                queries[(row * self.heads + part) * pitch..][..self.head_dim].copy_from_slice(&turned);
            } else if part < self.heads + self.kv_heads {
                let at = cached(part - self.heads);
                keys[at..at + self.head_dim].copy_from_slice(&turned);
            } else {
                let at = cached(part - self.heads - self.kv_heads);
                values[at..at + self.head_dim].copy_from_slice(head);
            }
        }
        let cache =
            |values: &[f64]| Tensor::from_f64(DType::F32, inputs[next + 2].spec().shape.clone(), values);
        let queries = Tensor::from_f64(DType::F32, [positions.len(), self.heads, pitch], &queries);
        Ok(vec![queries, cache(&keys), cache(&values)])
    }
}

/// All forms of rotation, padded heads, mixed and inactive slots, positions at and beyond the end.
pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(37);
    let mut cases = Vec::new();
    // Rows, heads, key heads, size of a head, rotated dimensions, context.
    let shapes = [
        (1, 1, 1, 8, 8, 1),
        (3, 4, 2, 10, 10, 7),
        (5, 2, 2, 20, 6, 9),
        (9, 6, 2, 64, 64, 33),
        (2, 3, 1, 128, 32, 5),
        (33, 2, 1, 16, 16, 40),
        (4, 3, 3, 12, 0, 6),
        (3, 2, 1, 10, 0, 6),
        (33, 4, 2, 10, 10, 40),
    ];
    for (rows, heads, kv_heads, head_dim, rotary_dim, context) in shapes {
        for interleaved in [false, true] {
            if rotary_dim == 0 && interleaved {
                continue;
            }
            let op = RopeCache { heads, kv_heads, head_dim, rotary_dim, interleaved };
            let name = format!("{rows} rows, {rotary_dim} of {head_dim}, interleaved {interleaved}");
            cases.push(Case::new(name, op.clone(), case_inputs(&mut random, &op, rows, context)));
        }
    }
    cases
}

fn case_inputs(random: &mut Random, op: &RopeCache, rows: usize, context: usize) -> Vec<Tensor> {
    let slot_count = 2;
    let mut inputs = vec![random.f32([rows, (op.heads + 2 * op.kv_heads) * op.head_dim])];
    if op.rotary_dim > 0 {
        // Once shorter than the cache, else longer.
        inputs.push(case_table(if rows == 5 { context - 2 } else { context + 3 }, op.rotary_dim));
    }
    // Every pair of slot and position once; the last row lies beyond the context, the one before
    // it is inactive.
    let place = |row: usize| number(row / slot_count * (context / rows.div_ceil(slot_count)).max(1));
    let mut positions: Vec<u32> = (0..rows).map(place).collect();
    let mut slots: Vec<u32> = (0..rows).map(|row| number(row % slot_count)).collect();
    if rows > 2 {
        positions[rows - 1] = number(context);
        slots[rows - 2] = INACTIVE;
    }
    inputs.push(Tensor::from_u32([rows], &positions));
    inputs.push(Tensor::from_u32([rows], &slots));
    let cache = [slot_count, op.kv_heads, context, op.head_dim];
    inputs.push(padded(random, &cache, 1.0));
    inputs.push(padded(random, &cache, 1.0));
    inputs
}

fn number(value: usize) -> u32 {
    u32::try_from(value).expect("cases are small")
}
