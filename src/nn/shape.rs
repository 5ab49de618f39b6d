//! Changing the shape of values, and joining them.

use crate::graph::{Graph, ValueId};
use crate::ops::Transpose;
use crate::ops::{
    Binary, BinaryFn, Concat, Expand, Pad, Reduce, ReduceFn, Reshape, Slice, SliceRange, Softmax,
};
use crate::{Error, Result};

/// The same elements in the same order under another shape.
///
/// # Errors
/// When the number of elements differs.
pub fn reshape(graph: &mut Graph, x: ValueId, dims: &[usize]) -> Result<ValueId> {
    graph.add_one(Reshape { dims: dims.to_vec() }, &[x])
}

/// All axes but the first as one; a scalar becomes `[1, 1]`.
///
/// # Errors
/// None in practice: the number of elements stays.
pub fn flatten(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    let dims = graph.spec(x).shape.dims();
    let (first, rest) = (dims.first().copied().unwrap_or(1), dims.iter().skip(1).product());
    reshape(graph, x, &[first, rest])
}

/// x repeated along axes of size 1.
///
/// # Errors
/// When the shapes do not broadcast.
pub fn expand(graph: &mut Graph, x: ValueId, dims: &[usize]) -> Result<ValueId> {
    if graph.spec(x).shape.dims() == dims {
        return Ok(x);
    }
    graph.add_one(Expand { dims: dims.to_vec() }, &[x])
}

/// Axes in another order.
///
/// # Errors
/// When `permutation` is none of x's axes.
pub fn transpose(graph: &mut Graph, x: ValueId, permutation: &[usize]) -> Result<ValueId> {
    graph.add_one(Transpose { permutation: permutation.to_vec() }, &[x])
}

/// `[n, channels, height, width]` as `[n, height, width, channels]`.
///
/// # Errors
/// When x has not four axes.
pub fn channels_last(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    transpose(graph, x, &[0, 2, 3, 1])
}

/// `[n, height, width, channels]` as `[n, channels, height, width]`.
///
/// # Errors
/// When x has not four axes.
pub fn channels_first(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    transpose(graph, x, &[0, 3, 1, 2])
}

/// Values one after the other along an axis.
///
/// # Errors
/// When other axes differ.
pub fn concat(graph: &mut Graph, parts: &[ValueId], axis: usize) -> Result<ValueId> {
    graph.add_one(Concat { axis }, parts)
}

/// Images with their channels one after the other.
///
/// # Errors
/// When the images differ in number or size.
pub fn concat_channels(graph: &mut Graph, parts: &[ValueId]) -> Result<ValueId> {
    concat(graph, parts, 1)
}

/// Size of an axis.
fn size(graph: &Graph, x: ValueId, axis: usize) -> Result<usize> {
    let spec = graph.spec(x);
    let size = spec.shape.dims().get(axis).copied();
    size.ok_or_else(|| Error::op("slice", format!("axis {axis} is outside of {spec}")))
}

/// A range of one axis; the others stay.
fn slice(graph: &mut Graph, x: ValueId, axis: usize, range: SliceRange) -> Result<ValueId> {
    size(graph, x, axis)?;
    let dims = graph.spec(x).shape.dims().iter();
    let mut ranges: Vec<SliceRange> = dims.map(|&size| SliceRange::full(size)).collect();
    ranges[axis] = range;
    graph.add_one(Slice { ranges }, &[x])
}

/// One place of an axis, which is dropped.
///
/// # Errors
/// When there is no such place.
pub fn select(graph: &mut Graph, x: ValueId, axis: usize, place: usize) -> Result<ValueId> {
    let x = slice(graph, x, axis, SliceRange::of(place, place + 1))?;
    let mut dims = graph.spec(x).shape.dims().to_vec();
    dims.remove(axis);
    reshape(graph, x, &dims)
}

/// An axis in `parts` of the same size.
///
/// # Errors
/// When `parts` does not divide the axis.
pub fn split(graph: &mut Graph, x: ValueId, axis: usize, parts: usize) -> Result<Vec<ValueId>> {
    let all = size(graph, x, axis)?;
    if parts == 0 || !all.is_multiple_of(parts) {
        let message = format!("axis {axis} of {} is not divided by {parts} parts", graph.spec(x));
        return Err(Error::op("slice", message));
    }
    let size = all / parts;
    let range = |part: usize| SliceRange::of(part * size, (part + 1) * size);
    (0..parts).map(|part| slice(graph, x, axis, range(part))).collect()
}

/// Every `step`th pixel of an image in both directions, from the first on.
///
/// # Errors
/// When `step` is 0.
pub fn every_nth_pixel(graph: &mut Graph, x: ValueId, step: usize) -> Result<ValueId> {
    if step == 0 {
        return Err(Error::op("slice", "takes steps of 1 or more, got 0"));
    }
    let range = |(axis, &size): (usize, &usize)| match axis {
        0 | 1 => SliceRange::full(size),
        _ => SliceRange { start: 0, count: size.div_ceil(step), step: step as isize },
    };
    let ranges = graph.spec(x).shape.dims().iter().enumerate().map(range).collect();
    graph.add_one(Slice { ranges }, &[x])
}

/// An image with channels of zeros before and behind its own.
///
/// # Errors
/// When x is no image.
pub fn pad_channels(graph: &mut Graph, x: ValueId, before: usize, after: usize) -> Result<ValueId> {
    size(graph, x, 1)?;
    let mut pads = vec![(0, 0); graph.spec(x).shape.rank()];
    pads[1] = (before, after);
    graph.add_one(Pad::zeros(pads), &[x])
}

/// An image with zeros around it, so that it gets the height and width of another one; an odd rest
/// is added at the end.
///
/// # Errors
/// When x is larger, or has other axes.
pub fn pad_to(graph: &mut Graph, x: ValueId, like: ValueId) -> Result<ValueId> {
    let (x_spec, like_spec) = (graph.spec(x), graph.spec(like));
    let (have, want) = (x_spec.shape.dims(), like_spec.shape.dims());
    let fits = |axis: usize| axis < 2 || have[axis] <= want[axis];
    if have.len() != want.len() || !(0..have.len()).all(fits) {
        return Err(Error::op("pad", format!("cannot pad {x_spec} to the size of {like_spec}")));
    }
    let axis = |axis: usize| match axis {
        0 | 1 => (0, 0),
        _ => {
            let rest = want[axis] - have[axis];
            (rest / 2, rest - rest / 2)
        }
    };
    let pads: Vec<(usize, usize)> = (0..have.len()).map(axis).collect();
    if pads.iter().all(|&pad| pad == (0, 0)) {
        return Ok(x);
    }
    graph.add_one(Pad::zeros(pads), &[x])
}

/// a * b, broadcast.
///
/// # Errors
/// When the shapes do not broadcast.
pub fn mul(graph: &mut Graph, a: ValueId, b: ValueId) -> Result<ValueId> {
    graph.add_one(Binary(BinaryFn::Mul), &[a, b])
}

/// Softmax over the last axis.
///
/// # Errors
/// When x is not f32.
pub fn softmax(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    graph.add_one(Softmax { logarithm: false }, &[x])
}

/// Sums over the last axis, which is dropped.
///
/// # Errors
/// When x is a scalar.
pub fn sum_last(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    let axis = graph.spec(x).shape.rank().saturating_sub(1);
    graph.add_one(Reduce { function: ReduceFn::Sum, axes: vec![axis], keep_dims: false }, &[x])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Spec;

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut graph = Graph::new();
        let x = graph.input("x", Spec::f32([2, 6, 4, 5]));
        let larger = graph.input("larger", Spec::f32([2, 6, 5, 5]));
        let row = graph.input("row", Spec::f32([7]));
        assert_eq!(split(&mut graph, x, 1, 3).unwrap().len(), 3);
        for (axis, parts) in [(1, 4), (1, 0), (1, 12), (4, 1)] {
            assert!(split(&mut graph, x, axis, parts).is_err(), "{axis} {parts}");
        }
        assert!(select(&mut graph, x, 3, 5).is_err() && select(&mut graph, x, 4, 0).is_err());
        assert!(every_nth_pixel(&mut graph, x, 0).is_err());
        assert!(pad_channels(&mut graph, row, 1, 1).is_err());
        assert!(pad_to(&mut graph, x, larger).is_ok());
        assert!(pad_to(&mut graph, larger, x).is_err() && pad_to(&mut graph, row, x).is_err());
    }
}
