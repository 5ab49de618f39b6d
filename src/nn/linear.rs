//! Linear layers whose weight may be stacked from several tensors of the checkpoint.

use super::Scope;
use crate::Result;
use crate::graph::{Graph, Segment, ValueId};
use crate::ops::{Linear, UnaryFn};
use crate::tensor::Shape;
use std::ops::Range;

/// The weight of a linear layer: rows of tensors, stacked, with an optional bias.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// Tensor (without ".weight"), its rows in the file, and the rows taken.
    parts: Vec<(String, usize, Range<usize>)>,
    /// Whether names end in "_weight" and "_bias" instead.
    underscore: bool,
    /// Number of inputs.
    cols: usize,
    bias: bool,
    transposed: bool,
}

impl Projection {
    /// One tensor `[rows, cols]`.
    pub fn new(tensor: &str, rows: usize, cols: usize) -> Self {
        Self::stacked(&[(tensor, rows)], cols)
    }

    /// Several tensors `[rows, cols]` on top of each other: one product computes them all.
    pub fn stacked(tensors: &[(&str, usize)], cols: usize) -> Self {
        let parts = tensors.iter().map(|&(tensor, rows)| (tensor.to_owned(), rows, 0..rows)).collect();
        Self { parts, cols, ..Self::default() }
    }

    /// The rows of one tensor `[rows, cols]` in another order.
    pub fn reordered(
        tensor: &str,
        rows: usize,
        cols: usize,
        order: impl IntoIterator<Item = Range<usize>>,
    ) -> Self {
        let parts = order.into_iter().map(|range| (tensor.to_owned(), rows, range)).collect();
        Self { parts, cols, ..Self::default() }
    }

    /// With or without a bias (".bias" beside each weight).
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The files hold the weights as `[cols, rows]` (GPT-2's Conv1D).
    #[must_use]
    pub fn transposed(mut self, transposed: bool) -> Self {
        self.transposed = transposed;
        self
    }

    /// Names end in "_weight" and "_bias" (the `in_proj` of torch's attention).
    #[must_use]
    pub fn underscore(mut self) -> Self {
        self.underscore = true;
        self
    }

    fn segments(&self, scope: &Scope<'_>, ending: &str, shape: impl Fn(usize) -> Shape) -> Vec<Segment> {
        let separator = if self.underscore { '_' } else { '.' };
        self.parts
            .iter()
            .map(|(tensor, rows, range)| Segment {
                tensor: scope.name(&format!("{tensor}{separator}{ending}")),
                shape: shape(*rows),
                rows: range.clone(),
            })
            .collect()
    }
}

/// `activation(x W^T + b)`; with `gated`, the upper half of W's rows is the gate and the lower
/// half what it scales: `activation(gate) * up` (Shazeer 2020, GLU variants).
///
/// x is f32 `[.., cols]`; the result is f32 `[.., rows]`, or half as many when gated.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(
    graph: &mut Graph,
    scope: &Scope<'_>,
    projection: &Projection,
    x: ValueId,
    activation: UnaryFn,
    gated: bool,
) -> Result<ValueId> {
    let (cols, transposed) = (projection.cols, projection.transposed);
    let shape = |rows| if transposed { Shape::from([cols, rows]) } else { Shape::from([rows, cols]) };
    let segments = projection.segments(scope, "weight", shape);
    let mut inputs = vec![x, scope.joined(graph, segments, Some(cols), transposed)];
    if projection.bias {
        let segments = projection.segments(scope, "bias", |rows| Shape::from([rows]));
        inputs.push(scope.joined(graph, segments, None, false));
    }
    graph.add_one(Linear { bias: projection.bias, activation, gated, ..Linear::PLAIN }, &inputs)
}

/// x W^T with a weight that is already there.
///
/// # Errors
/// When the shapes do not fit.
pub fn project(graph: &mut Graph, x: ValueId, weight: ValueId) -> Result<ValueId> {
    graph.add_one(Linear::PLAIN, &[x, weight])
}
