//! What is measured, and how much of its output is compared with the reference.

use super::Family;
use crate::gpu::Gpu;
use crate::ops::Op;
use crate::session::run_op;
use crate::tensor::{Shape, Spec, Tensor, Tolerance};
use crate::{Error, Result};
use std::sync::Arc;

/// An operator at the shape of a real model.
pub(super) struct Subject {
    pub(super) family: Family,
    pub(super) name: String,
    pub(super) op: Arc<dyn Op>,
    /// Makes the inputs: random, and the same each time.
    pub(super) inputs: Box<dyn Fn() -> Vec<Tensor>>,
    /// Axes of the output of which a few positions are compared; all are of the others.
    sampled: Vec<SampledAxis>,
    /// The operator that computes the sampled part, where it differs.
    part: Option<Arc<dyn Op>>,
}

/// An axis of the first output whose positions need only some positions of the inputs.
pub(super) struct SampledAxis {
    axis: usize,
    /// Positions to compare at most.
    count: usize,
    /// Input and its axis, where the same positions are taken.
    inputs: Vec<(usize, usize)>,
}

impl SampledAxis {
    /// `count` positions of an axis of the output, and of these axes of inputs.
    pub(super) fn new(axis: usize, count: usize, inputs: &[(usize, usize)]) -> Self {
        Self { axis, count, inputs: inputs.to_vec() }
    }

    /// Positions from the first to the last of `size`, evenly.
    fn positions(&self, size: usize) -> Vec<usize> {
        if size <= self.count {
            return (0..size).collect();
        }
        (0..self.count).map(|index| index * (size - 1) / (self.count - 1).max(1)).collect()
    }
}

impl Subject {
    /// An operator whose whole output is compared.
    pub(super) fn new(
        family: Family,
        name: String,
        op: impl Op,
        inputs: impl Fn() -> Vec<Tensor> + 'static,
    ) -> Self {
        Self::of(family, name, Arc::new(op), inputs)
    }

    /// The same of an operator that is known only when it runs.
    pub(super) fn of(
        family: Family,
        name: String,
        op: Arc<dyn Op>,
        inputs: impl Fn() -> Vec<Tensor> + 'static,
    ) -> Self {
        Self { family, name, op, inputs: Box::new(inputs), sampled: Vec::new(), part: None }
    }

    /// The same, of whose output these positions are compared: the reference of all would take
    /// too long.
    pub(super) fn sampled(mut self, axes: Vec<SampledAxis>) -> Self {
        self.sampled = axes;
        self
    }

    /// The same, where another operator computes the sampled part.
    pub(super) fn part(mut self, op: impl Op) -> Self {
        self.part = Some(Arc::new(op));
        self
    }

    /// What differs from the reference; none where nothing does.
    ///
    /// # Errors
    /// What the operator or the device says.
    pub(super) fn mismatch(&self, gpu: &Gpu, inputs: &[Tensor]) -> Result<Option<String>> {
        let mut got = run_op(gpu, self.op.clone(), inputs)?;
        let mut inputs = inputs.to_vec();
        let Some(first) = got.first_mut() else { return Err(Error::op(self.op.name(), "has no output")) };
        for sampled in &self.sampled {
            let positions = sampled.positions(first.dims()[sampled.axis]);
            *first = take(first, sampled.axis, &positions);
            for &(input, axis) in &sampled.inputs {
                inputs[input] = take(&inputs[input], axis, &positions);
            }
        }
        let want = self.part.as_ref().unwrap_or(&self.op).reference(&inputs)?;
        let mismatch = |(got, want): (&Tensor, &Tensor)| Tolerance::of(want.dtype()).mismatch(got, want);
        Ok(got.iter().zip(&want).find_map(mismatch).map(|mismatch| mismatch.to_string()))
    }
}

/// Some positions of an axis, in order.
fn take(tensor: &Tensor, axis: usize, positions: &[usize]) -> Tensor {
    let dims = tensor.dims();
    let run = dims[axis + 1..].iter().product::<usize>() * tensor.dtype().size();
    let mut bytes = Vec::with_capacity(tensor.bytes().len() / dims[axis].max(1) * positions.len());
    for outer in tensor.bytes().chunks_exact((dims[axis] * run).max(1)) {
        for &position in positions {
            bytes.extend_from_slice(&outer[position * run..][..run]);
        }
    }
    let mut taken = dims.to_vec();
    taken[axis] = positions.len();
    Tensor::from_bytes(Spec::new(tensor.dtype(), Shape::from(taken)), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_spread_and_taken() {
        let tensor = Tensor::from_u32([2, 5, 2], &(0..20).collect::<Vec<_>>());
        let axis = SampledAxis::new(1, 3, &[]);
        assert_eq!(axis.positions(5), [0, 2, 4]);
        assert_eq!(axis.positions(2), [0, 1]);
        let taken = take(&tensor, 1, &axis.positions(5));
        assert_eq!(taken.dims(), [2, 3, 2]);
        assert_eq!(taken.to_u32(), [0, 1, 4, 5, 8, 9, 10, 11, 14, 15, 18, 19]);
    }
}
