//! Normalisation of each head of queries and keys (Henry et al. 2020; Qwen 3, Gemma 3).

use super::cases::{Case, Random};
use super::rms_norm::normalised;
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, RowSpread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static HEAD_NORM: Kernel = Kernel::new("head_norm", include_str!("../../shaders/head_norm.wgsl"));

params!(
    struct Params {
        rows: u32,
        rows_per_group: u32,
        chunks: u32,
        heads: u32,
        kv_heads: u32,
        cols: f32,
        eps: f32,
        offset: f32,
    }
);

/// Each query and key head divided by its root mean square and scaled; values are copied.
///
/// Inputs: queries, keys and values f32 `[rows, (heads + 2 kv_heads) * head_dim]`; the weights
/// of queries and of keys f32 `[head_dim]`. Output: as the first input.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadNorm {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Added to the mean of the squares.
    #[serde(with = "super::float")]
    pub eps: f32,
    /// Added to the weights: 1 for Gemma.
    #[serde(with = "super::float")]
    pub offset: f32,
}

impl HeadNorm {
    fn all_heads(&self) -> usize {
        self.kv_heads.saturating_mul(2).saturating_add(self.heads)
    }
}

impl Op for HeadNorm {
    fn name(&self) -> &'static str {
        "head_norm"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [qkv, queries, keys] = inputs.exactly(self)?;
        let (rows, cols) = qkv.shape.rows_and_cols();
        let want = self.all_heads().saturating_mul(self.head_dim);
        if cols != want || qkv.shape.rank() != 2 {
            return Err(Error::op(
                self.name(),
                format!("the input must have shape [{rows}, {want}], got {qkv}"),
            ));
        }
        qkv.expect_dtype(self, "the input", &[DType::F32])?;
        for (weight, what) in [(queries, "the queries' weight"), (keys, "the keys' weight")] {
            weight.expect_dtype(self, what, &[DType::F32])?;
            weight.expect_dims(self, what, &[self.head_dim])?;
        }
        Ok(vec![qkv.clone()])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let (tokens, _) = inputs[0].shape.rows_and_cols();
        let spread = RowSpread::new(tokens * self.all_heads(), self.head_dim, caps);
        let params = Params {
            rows: spread.rows,
            rows_per_group: spread.rows_per_group,
            chunks: spread.chunks,
            heads: count(self.heads),
            kv_heads: count(self.kv_heads),
            cols: self.head_dim as f32,
            eps: self.eps,
            offset: self.offset,
        };
        Ok(spread.launch(&HEAD_NORM).params(params).bind_all(3, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let weights = [inputs[1].to_f64(), inputs[2].to_f64()];
        let mut values = Vec::with_capacity(inputs[0].spec().elements());
        for (index, head) in inputs[0].to_f64().chunks_exact(self.head_dim).enumerate() {
            match index % self.all_heads() {
                kind if kind < self.heads => {
                    values.extend(normalised(head, &weights[0], self.eps, self.offset));
                }
                kind if kind < self.heads + self.kv_heads => {
                    values.extend(normalised(head, &weights[1], self.eps, self.offset));
                }
                _ => values.extend_from_slice(head),
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, inputs[0].dims(), &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(23);
    let mut case = |rows: usize, heads: usize, kv_heads: usize, head_dim: usize| {
        let op = HeadNorm { heads, kv_heads, head_dim, eps: 1e-6, offset: (rows % 2) as f32 };
        let inputs = vec![
            random.f32([rows, (heads + 2 * kv_heads) * head_dim]),
            random.f32([head_dim]),
            random.f32([head_dim]),
        ];
        Case::new(format!("{rows} rows, {heads}/{kv_heads} heads of {head_dim}"), op, inputs)
    };
    vec![case(1, 1, 1, 1), case(1, 6, 2, 16), case(3, 4, 4, 10), case(17, 8, 2, 64), case(2, 2, 1, 256)]
}
