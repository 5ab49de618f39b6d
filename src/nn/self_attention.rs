//! Self-attention in which every token sees all others.

use super::{Projection, Scope, linear};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{self, HeadLayout, UnaryFn};

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
        let op = ops::Attention {
            heads: self.heads,
            kv_heads: self.heads,
            scale: self.scale,
            softcap: None,
            causal: None,
            window: None,
            mask: false,
            layout: HeadLayout::Packed,
        };
        let mixed = graph.add_one(op, &[qkv])?;
        linear(graph, scope, &self.out, mixed, UnaryFn::Identity, false)
    }
}
