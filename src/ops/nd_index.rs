//! Tuples of indices that name slices of a tensor: what ONNX's GatherND and ScatterND have in
//! common.

use super::{Expect, Op};
use crate::kernel::{Caps, Kernel, Launch, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static ND_INDEX: Kernel = Kernel::new("nd_index", include_str!("../../shaders/nd_index.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        length: u32,
        per_batch: u32,
        sizes_low: [u32; 4],
        sizes_high: [u32; 4],
        strides_low: [u32; 4],
        strides_high: [u32; 4],
        batch_stride: u32,
        from_end: u32,
    }
);

/// Most indices of a tuple.
const MAX_LENGTH: usize = 8;

/// How tuples of indices name slices of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slices {
    /// Sizes of the axes that a tuple indexes.
    sizes: Vec<usize>,
    /// Number of tuples.
    pub(super) tuples: usize,
    /// Tuples of a batch.
    per_batch: usize,
    /// Number of slices in the tensor.
    pub(super) count: usize,
    /// Elements of a slice.
    pub(super) inner: usize,
    /// Whether negative indices count from the end.
    from_end: bool,
}

impl Slices {
    /// Of x `[batch.., indexed axes.., inner..]` and indices (u32, or i32 where negative ones count
    /// from the end) `[batch.., tuples.., indexed axes]`.
    ///
    /// # Errors
    /// When these shapes do not fit.
    pub(super) fn of(op: &dyn Op, x: &Spec, indices: &Spec, batch_dims: usize) -> Result<Self> {
        indices.expect_dtype(op, "indices", &[DType::U32, DType::I32])?;
        let fail =
            |what: &str| Error::op(op.name(), format!("{what}: {x} by {indices}, {batch_dims} batch axes"));
        let dims = x.shape.dims();
        let (&length, tuples) =
            indices.shape.dims().split_last().ok_or_else(|| fail("indices have no axis"))?;
        if !(1..=MAX_LENGTH).contains(&length) || batch_dims > dims.len() || length > dims.len() - batch_dims
        {
            return Err(fail(
                "the last axis of the indices must have 1 to 8 elements, and no more than x has axes",
            ));
        }
        if batch_dims > tuples.len() || dims[..batch_dims] != tuples[..batch_dims] {
            return Err(fail("batch axes differ"));
        }
        let (indexed, inner) = dims.split_at(batch_dims + length);
        if indexed.contains(&0) && indices.elements() > 0 {
            return Err(fail("an indexed axis is empty"));
        }
        Ok(Self {
            sizes: indexed[batch_dims..].to_vec(),
            tuples: tuples.iter().product(),
            per_batch: tuples[batch_dims..].iter().product(),
            count: indexed.iter().product(),
            inner: inner.iter().product(),
            from_end: indices.dtype == DType::I32,
        })
    }

    /// Strides of the indexed axes and of the batch, in slices.
    fn strides(&self) -> (Vec<usize>, usize) {
        let strides = (0..self.sizes.len()).map(|axis| self.sizes[axis + 1..].iter().product());
        (strides.collect(), self.sizes.iter().product())
    }

    /// The dispatch from the indices to the slices' numbers, u32 `[tuples]`; those outside are
    /// larger than any.
    pub(super) fn launch(&self, caps: &Caps) -> Launch {
        let spread = Spread::of_loops(self.tuples, self.sizes.len(), caps);
        let (strides, batch_stride) = self.strides();
        let of_axes = |values: &[usize], from: usize| {
            std::array::from_fn(|axis| values.get(from + axis).map_or(0, |&value| count(value)))
        };
        spread.launch(&ND_INDEX).params(Params {
            items: spread.items,
            per_group: spread.per_group,
            length: count(self.sizes.len()),
            per_batch: count(self.per_batch),
            sizes_low: of_axes(&self.sizes, 0),
            sizes_high: of_axes(&self.sizes, 4),
            strides_low: of_axes(&strides, 0),
            strides_high: of_axes(&strides, 4),
            batch_stride: count(batch_stride),
            from_end: self.from_end.into(),
        })
    }

    /// The slices' numbers on the host.
    ///
    /// # Errors
    /// When an index is outside of its axis.
    pub(super) fn reference(&self, op: &dyn Op, indices: &Tensor) -> Result<Vec<usize>> {
        let (strides, batch_stride) = self.strides();
        let indices = indices.to_f64();
        let place = |(tuple, indices): (usize, &[f64])| {
            let mut place = tuple / self.per_batch * batch_stride;
            for ((&index, &size), stride) in indices.iter().zip(&self.sizes).zip(&strides) {
                place += stride * index_within(op, index, size)?;
            }
            Ok(place)
        };
        indices.chunks(self.sizes.len()).enumerate().map(place).collect()
    }
}

/// An index of an axis, negative ones counted from its end.
///
/// # Errors
/// When it is outside.
pub(super) fn index_within(op: &dyn Op, index: f64, size: usize) -> Result<usize> {
    let place = if index < 0.0 { index + size as f64 } else { index };
    if (0.0..size as f64).contains(&place) {
        return Ok(place as usize);
    }
    Err(Error::op(op.name(), format!("index {index} is outside of an axis of {size}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::GatherNd;

    #[test]
    fn indices_that_do_not_fit_are_refused() {
        let infer = |x: &[usize], indices: Spec, batch_dims| {
            GatherNd { batch_dims }
                .infer(&[Spec::f32(x), indices])
                .map(|specs| specs[0].shape.dims().to_vec())
        };
        assert_eq!(infer(&[2, 3, 4], Spec::u32([5, 2]), 0).ok(), Some(vec![5, 4]));
        assert_eq!(infer(&[2, 3, 4], Spec::u32([2, 7, 1]), 1).ok(), Some(vec![2, 7, 4]));
        assert_eq!(infer(&[0, 3], Spec::u32([0, 1]), 0).ok(), Some(vec![0, 3]));
        for (x, indices, batch_dims) in [
            (&[2, 3, 4][..], Spec::u32(vec![]), 0),
            (&[2, 3, 4], Spec::u32([5, 4]), 0),
            (&[2, 3, 4], Spec::u32([5, 0]), 0),
            (&[2, 3, 4], Spec::u32([3, 7, 1]), 1),
            (&[2, 3, 4], Spec::u32([2]), 2),
            (&[2, 3, 4], Spec::u32([2]), usize::MAX),
            (&[2, 3, 4], Spec::f32([5, 2]), 0),
            (&[0, 3], Spec::u32([1, 1]), 0),
            (&[1; 12], Spec::u32([5, 9]), 0),
        ] {
            assert!(infer(x, indices.clone(), batch_dims).is_err(), "{x:?} by {indices}, {batch_dims}");
        }
    }

    #[test]
    fn indices_count_from_either_end() {
        let index = |index| index_within(&GatherNd { batch_dims: 0 }, index, 3).ok();
        assert_eq!(
            [-4.0, -3.0, -1.0, 0.0, 2.0, 3.0].map(index),
            [None, Some(0), Some(2), Some(0), Some(2), None]
        );
    }
}
