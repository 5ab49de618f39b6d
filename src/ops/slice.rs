//! Parts of a tensor along its axes.

use super::cases::{Case, Random};
use super::strided::{self, MAX_AXES};
use super::{ChannelsLast, Expect, Inputs, Op, image};
use crate::kernel::{Caps, Launches};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};

/// What is taken of one axis: `count` elements from `start`, each `step` after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceRange {
    /// First index.
    pub start: usize,
    /// Number of elements.
    pub count: usize,
    /// Distance, negative to walk backwards.
    pub step: isize,
}

impl SliceRange {
    /// A whole axis.
    pub const fn full(size: usize) -> Self {
        Self { start: 0, count: size, step: 1 }
    }

    /// The elements `start..end` of an axis.
    ///
    /// # Panics
    /// When the end lies before the start.
    pub const fn of(start: usize, end: usize) -> Self {
        Self { start, count: end - start, step: 1 }
    }

    /// NumPy's and ONNX's `start:end:step` of an axis: negative positions count from the end, and
    /// those outside are moved to it. A step of 0 counts as 1.
    pub fn resolve(start: i64, end: i64, step: i64, size: usize) -> Self {
        let (size, step) = (size as i64, if step == 0 { 1 } else { step });
        let from_end = |position: i64| if position < 0 { position.saturating_add(size) } else { position };
        let (lowest, highest) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let start = from_end(start).clamp(lowest, highest);
        let end = from_end(end).clamp(lowest, highest);
        let span = if step > 0 { end - start } else { start - end };
        let count = if span <= 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 };
        Self { start: start.max(0) as usize, count: count as usize, step: step as isize }
    }

    fn fits(&self, size: usize) -> bool {
        let last = (self.count as i128 - 1) * self.step as i128 + self.start as i128;
        self.count == 0 || (self.start < size && (0..size as i128).contains(&last))
    }
}

/// Takes a range of every axis. Any dtype of two or four bytes, rank 8 at most.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// One range for each axis.
    pub ranges: Vec<SliceRange>,
}

impl Slice {
    fn output(&self) -> Shape {
        self.ranges.iter().map(|range| range.count).collect::<Vec<_>>().into()
    }

    fn strides_and_offset(&self, input: &Shape) -> (Vec<isize>, usize) {
        let axes = || self.ranges.iter().zip(input.strides());
        let strides = axes().map(|(range, stride)| range.step * stride as isize).collect();
        (strides, axes().map(|(range, stride)| range.start * stride).sum())
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        input.expect_dtype(self, "the input", strided::DTYPES)?;
        let rank = input.shape.rank();
        if rank != self.ranges.len() || rank > MAX_AXES {
            let message = format!("takes rank 8 at most and a range for each axis, got {input}");
            return Err(Error::op(self.name(), message));
        }
        for (axis, (range, &size)) in self.ranges.iter().zip(input.shape.dims()).enumerate() {
            if !range.fits(size) {
                let message = format!("{range:?} does not fit axis {axis} of {input}");
                return Err(Error::op(self.name(), message));
            }
        }
        Ok(vec![Spec::new(input.dtype, self.output())])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (strides, offset) = self.strides_and_offset(&inputs[0].shape);
        Ok(strided::launch(caps, &outputs[0], &strides, offset).into())
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let last = Self { ranges: image::to_last_order(&self.ranges) };
        image::is_image(&inputs[0]).then(|| ChannelsLast::following(last, [0]))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (strides, offset) = self.strides_and_offset(&inputs[0].spec().shape);
        Ok(vec![strided::reference(&inputs[0], &self.output(), &strides, offset)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(5);
    let range = SliceRange::resolve;
    let last = i64::MAX;
    let slices = [
        ("one element", vec![7], vec![range(3, 4, 1, 7)]),
        ("whole", vec![5, 9], vec![SliceRange::full(5), SliceRange::full(9)]),
        ("reversed", vec![5, 9], vec![range(-1, i64::MIN, -1, 5), range(-1, i64::MIN, -1, 9)]),
        ("every third", vec![3, 100], vec![SliceRange::of(1, 3), range(2, last, 3, 100)]),
        ("backwards by two", vec![41], vec![range(-2, 3, -2, 41)]),
        ("last row", vec![33, 64], vec![SliceRange::of(32, 33), SliceRange::full(64)]),
        (
            "middle of an image",
            vec![2, 3, 9, 11],
            vec![SliceRange::full(2), SliceRange::of(1, 3), range(1, -1, 2, 9), range(2, -2, 1, 11)],
        ),
    ];
    let mut cases = Vec::new();
    for (name, dims, ranges) in slices {
        for dtype in [DType::F32, DType::F16, DType::U32] {
            let op = Slice { ranges: ranges.clone() };
            cases.push(Case::new(
                format!("{name} {dtype}"),
                op,
                vec![random.tensor(dtype, dims.clone(), 99.0)],
            ));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_numpy() {
        let resolve = |start, end, step, size| {
            let range = SliceRange::resolve(start, end, step, size);
            (range.start, range.count, range.step)
        };
        assert_eq!(resolve(0, i64::MAX, 1, 5), (0, 5, 1));
        assert_eq!(resolve(-2, 100, 1, 5), (3, 2, 1));
        assert_eq!(resolve(3, 1, 1, 5).1, 0);
        assert_eq!(resolve(10, i64::MIN, -2, 5), (4, 3, -2));
        assert_eq!(resolve(i64::MIN, i64::MAX, 4, 9), (0, 3, 4));
        assert_eq!(resolve(-1, i64::MIN, i64::MIN, 5), (4, 1, i64::MIN as isize));
    }
}
