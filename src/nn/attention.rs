//! Causal self-attention over a key-value cache that lives between runs.

use super::{Norm, Projection, Scope, linear};
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{CachedAttention, HeadNorm, RopeCache, UnaryFn, head_pitch};
use crate::tensor::{DType, Spec, Tensor};

/// Which sequence and position each row of a run belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// u32 `[rows]`: position in the sequence.
    pub positions: ValueId,
    /// u32 `[rows]`: slot of the sequence, or [`INACTIVE`](crate::ops::INACTIVE).
    pub slots: ValueId,
    /// All active rows belong to one sequence, in order.
    pub one_sequence: bool,
}

/// Size of the cache.
#[derive(Debug, Clone, Copy)]
pub struct Cache {
    /// Sequences at a time.
    pub slots: usize,
    /// Positions of each.
    pub context: usize,
}

/// Rotary position embedding: the table of cosines and sines, and how it is applied.
#[derive(Debug, Clone, Copy)]
pub struct Rotary {
    /// f32 `[context, dims]`: for each position `dims / 2` cosines, then as many sines.
    pub table: ValueId,
    /// Leading dimensions of a head that are rotated.
    pub dims: usize,
}

/// A self-attention layer.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Limits the scores to `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Number of positions a row sees, its own included.
    pub window: Option<u32>,
    /// Rotation of queries and keys; `None` where positions are embedded otherwise.
    pub rotary: Option<Rotary>,
    /// Normalises each head of queries and keys ("q_norm", "k_norm").
    pub head_norm: Option<Norm>,
    /// Queries, keys and values, stacked.
    pub qkv: Projection,
    /// Output projection.
    pub out: Projection,
}

impl Attention {
    /// Applies the layer to x f32 `[rows, width]`. `layer` names the cache.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn apply(
        &self,
        graph: &mut Graph,
        scope: &Scope<'_>,
        x: ValueId,
        rows: Rows,
        cache: Cache,
        layer: usize,
    ) -> Result<ValueId> {
        let mut qkv = linear(graph, scope, &self.qkv, x, UnaryFn::Identity, false)?;
        if let Some(norm) = self.head_norm {
            let q = scope.vector(graph, "q_norm.weight", self.head_dim);
            let k = scope.vector(graph, "k_norm.weight", self.head_dim);
            let op = HeadNorm {
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                eps: norm.eps,
                offset: norm.offset,
            };
            qkv = graph.add_one(op, &[qkv, q, k])?;
        }
        let (queries, keys, values) = self.rotate(graph, qkv, rows, cache, layer)?;
        let op = CachedAttention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: self.scale,
            softcap: self.softcap,
            window: self.window,
            one_sequence: rows.one_sequence,
        };
        let mixed = graph.add_one(op, &[queries, keys, values, rows.positions, rows.slots])?;
        linear(graph, scope, &self.out, mixed, UnaryFn::Identity, false)
    }

    /// Rotates queries and keys, and writes keys and values to the cache.
    fn rotate(
        &self,
        graph: &mut Graph,
        qkv: ValueId,
        rows: Rows,
        cache: Cache,
        layer: usize,
    ) -> Result<(ValueId, ValueId, ValueId)> {
        let spec = Spec::f32([cache.slots, self.kv_heads, cache.context, head_pitch(self.head_dim)]);
        let keys = graph.state(format!("keys.{layer}"), spec.clone());
        let values = graph.state(format!("values.{layer}"), spec);
        let op = RopeCache {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            rotary_dim: self.rotary.map_or(0, |rotary| rotary.dims),
            interleaved: false,
        };
        let table = self.rotary.map(|rotary| rotary.table);
        let inputs: Vec<ValueId> =
            [qkv].into_iter().chain(table).chain([rows.positions, rows.slots, keys, values]).collect();
        match graph.add(op, &inputs)?.as_slice() {
            &[queries, keys, values] => Ok((queries, keys, values)),
            _ => unreachable!("RopeCache has three outputs"),
        }
    }
}

/// The table that [`Rotary`] rotates by: cosines and sines of `position * frequency` times
/// `factor`, computed in f64: f32 `[context, 2 * frequencies]`.
pub fn rotary_table(frequencies: &[f64], factor: f64, context: usize) -> Tensor {
    let row = |position: usize| {
        let angles = frequencies.iter().map(move |frequency| position as f64 * frequency);
        angles
            .clone()
            .map(move |angle| angle.cos() * factor)
            .chain(angles.map(move |angle| angle.sin() * factor))
    };
    let values: Vec<f64> = (0..context).flat_map(row).collect();
    Tensor::from_f64(DType::F32, [context, frequencies.len() * 2], &values)
}
