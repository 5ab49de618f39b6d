//! Looking up rows, and the element-wise steps between layers.

use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{Binary, BinaryFn, Embedding, Gather, Unary, UnaryFn};
use crate::tensor::Tensor;
use std::sync::Arc;

/// Rows of `table` `[vocab, width]` at `ids` u32 `[rows]`, times `scale`: f32 `[rows, width]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn embedding(graph: &mut Graph, table: ValueId, ids: ValueId, scale: f32) -> Result<ValueId> {
    graph.add_one(Embedding { scale }, &[table, ids])
}

/// The rows of x `[rows, width]` that `indices` u32 `[n]` name: `[n, width]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn select_rows(graph: &mut Graph, x: ValueId, indices: ValueId) -> Result<ValueId> {
    graph.add_one(Gather { axis: 0 }, &[x, indices])
}

/// a + b, broadcast.
///
/// # Errors
/// When the shapes do not broadcast.
pub fn add(graph: &mut Graph, a: ValueId, b: ValueId) -> Result<ValueId> {
    graph.add_one(Binary(BinaryFn::Add), &[a, b])
}

/// x times a number; nothing is added where it is 1.
///
/// # Errors
/// When x is not f32.
pub fn scale(graph: &mut Graph, x: ValueId, factor: f32) -> Result<ValueId> {
    if factor == 1.0 {
        return Ok(x);
    }
    let factor = graph.constant(format!("scale {factor}"), Arc::new(Tensor::from_f32([1], &[factor])));
    graph.add_one(Binary(BinaryFn::Mul), &[x, factor])
}

/// `cap * tanh(x / cap)`; nothing is added where there is no cap.
///
/// # Errors
/// When the cap is not positive.
pub fn softcap(graph: &mut Graph, x: ValueId, cap: Option<f32>) -> Result<ValueId> {
    cap.map_or(Ok(x), |cap| graph.add_one(Unary(UnaryFn::Softcap(cap)), &[x]))
}
