//! Normalisation layers.

use super::Scope;
use crate::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{LayerNorm, RmsNorm};

/// Which normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// x / rms(x) * weight (Zhang and Sennrich 2019).
    Rms,
    /// (x - mean) / deviation * weight + bias (Ba et al. 2016).
    Layer,
}

/// A normalisation layer's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Which.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
    /// Added to the weight: 1 for Gemma, whose weights are stored around 0.
    pub offset: f32,
}

impl Norm {
    /// Normalises the rows of x `[.., width]` by the layer called `name`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn apply(&self, graph: &mut Graph, scope: &Scope<'_>, name: &str, x: ValueId) -> Result<ValueId> {
        let (_, width) = graph.spec(x).shape.rows_and_cols();
        let weight = scope.vector(graph, &format!("{name}.weight"), width);
        match self.kind {
            NormKind::Rms => {
                graph.add_one(RmsNorm { eps: self.eps, offset: self.offset, residual: false }, &[x, weight])
            }
            NormKind::Layer => {
                let bias = scope.vector(graph, &format!("{name}.bias"), width);
                graph.add_one(LayerNorm::new(self.eps, true), &[x, weight, bias])
            }
        }
    }
}
