//! Self-attention in which every token sees all others.

use super::shape::{reshape, softmax, split, transpose};
use super::{Projection, Scope, linear};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{MatMul, UnaryFn};

/// A self-attention layer of an encoder (Vaswani et al. 2017).
#[derive(Debug, Clone)]
pub struct SelfAttention {
    /// Heads.
    pub heads: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Queries, keys and values, stacked.
    pub qkv: Projection,
    /// Output projection.
    pub out: Projection,
}

impl SelfAttention {
    /// Applies the layer to x f32 `[n, tokens, width]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn apply(&self, graph: &mut Graph, scope: &Scope<'_>, x: ValueId) -> Result<ValueId> {
        let qkv = linear(graph, scope, &self.qkv, x, UnaryFn::Identity, false)?;
        let (rows, outputs) = graph.spec(qkv).shape.rows_and_cols();
        let n = graph.spec(x).shape.dims()[0];
        let (tokens, head_dim) = (rows / n.max(1), outputs / (3 * self.heads).max(1));
        // [n, 3 heads, tokens, head_dim]
        let heads = reshape(graph, qkv, &[n, tokens, 3 * self.heads, head_dim])?;
        let heads = transpose(graph, heads, &[0, 2, 1, 3])?;
        let parts = split(graph, heads, 1, 3)?;
        let scores = MatMul { transpose_b: true, alpha: self.scale, ..MatMul::PLAIN };
        let scores = graph.add_one(scores, &[parts[0], parts[1]])?;
        let shares = softmax(graph, scores)?;
        let mixed = graph.add_one(MatMul::PLAIN, &[shares, parts[2]])?;
        let mixed = transpose(graph, mixed, &[0, 2, 1, 3])?;
        let mixed = reshape(graph, mixed, &[n, tokens, self.heads * head_dim])?;
        linear(graph, scope, &self.out, mixed, UnaryFn::Identity, false)
    }
}
