//! Pools whose windows follow from the size of the output.

use super::cases::{Case, Random};
use super::conv::not_lowered;
use super::image::indices;
use super::pool::{self, AxisWindows, MOST_TAPS, Passes};
use super::{ChannelsLast, Expect, ImageDims, ImageOrder, Inputs, Op, PoolFn, Reduce, ReduceFn};
use crate::kernel::{Caps, Launches};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

/// The largest element or the average of `size` windows along each spatial axis: window i of an
/// axis is floor(i image / size) up to ceil((i + 1) image / size) (AdaptiveAvgPoolNd and
/// AdaptiveMaxPoolNd of torch). Sizes of 1 pool each image globally.
///
/// Input: x f32 `[n, c, spatial..]` with one to three spatial axes. Output: f32 `[n, c, size..]`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptivePool {
    /// How.
    pub function: PoolFn,
    /// Sizes of the output along the spatial axes.
    pub size: Vec<usize>,
    /// Order of the axes.
    pub order: ImageOrder,
}

/// Largest size of the output, so that the arithmetic of kernels does not overflow.
const MOST_WINDOWS: usize = 65_535;

impl AdaptivePool {
    /// A pool of `[n, c, spatial..]`.
    pub fn new(function: PoolFn, size: impl Into<Vec<usize>>) -> Self {
        Self { function, size: size.into(), order: ImageOrder::ChannelsFirst }
    }

    fn is_global(&self) -> bool {
        self.size.iter().all(|&size| size == 1)
    }

    /// Sizes of x and of the output.
    fn images(&self, x: &Spec) -> Result<[ImageDims; 2]> {
        let image = self.order.dims(self, x)?;
        let fits = |(&size, &pixels): (&usize, &usize)| {
            let short = || self.is_global() || most_taps(pixels, size) <= MOST_TAPS;
            (1..=MOST_WINDOWS).contains(&size) && pixels > 0 && short()
        };
        if self.size.len() != image.spatial.len() || !self.size.iter().zip(&image.spatial).all(fits) {
            let message = format!(
                "takes a size of 1 to {MOST_WINDOWS} for each spatial axis, with at most {MOST_TAPS} \
                 elements to one, got {:?} for {x}",
                self.size
            );
            return Err(Error::op(self.name(), message));
        }
        let output = ImageDims { n: image.n, channels: image.channels, spatial: self.size.clone() };
        Ok([image, output])
    }
}

/// Most elements of a window.
fn most_taps(pixels: usize, size: usize) -> usize {
    pixels.div_ceil(size) + usize::from(!pixels.is_multiple_of(size))
}

impl Op for AdaptivePool {
    fn name(&self) -> &'static str {
        "adaptive_pool"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", &[DType::F32])?;
        let [_, output] = self.images(x)?;
        Ok(vec![Spec::f32(self.order.shape(&output))])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        if self.order == ImageOrder::ChannelsFirst {
            return Err(not_lowered(self));
        }
        if self.is_global() {
            let function = if self.function == PoolFn::Max { ReduceFn::Max } else { ReduceFn::Mean };
            let axes = self.order.spatial_axes(inputs[0].shape.rank()).collect();
            return Reduce { function, axes, keep_dims: true }.launch(caps, inputs, outputs);
        }
        let [image, output] = self.images(&inputs[0])?;
        let windows = |(&image, &output): (&usize, &usize)| {
            let taps = most_taps(image, output);
            AxisWindows { image, output, taps, stride: 1, dilation: 1, before: 0, counted: image }
        };
        let axes: Vec<AxisWindows> = image.spatial.iter().zip(&output.spatial).map(windows).collect();
        Ok(Passes::new(self.function, true, false, &axes).launches(caps, image.n, image.channels))
    }

    fn channels_last(&self, _: &Caps, _: &[Spec]) -> Option<ChannelsLast> {
        let op = Self { order: ImageOrder::ChannelsLast, ..self.clone() };
        let form = || ChannelsLast { required: true, ..ChannelsLast::following(op, [0]) };
        (self.order == ImageOrder::ChannelsFirst).then(form)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let [image, output] = self.images(inputs[0].spec())?;
        let window = |place: &[usize]| {
            let axis = |axis: usize| {
                let (pixels, size) = (image.spatial[axis], self.size[axis]);
                let start = place[axis] * pixels / size;
                (start, ((place[axis] + 1) * pixels).div_ceil(size) - start)
            };
            let axes: Vec<(usize, usize)> = (0..place.len()).map(axis).collect();
            let counts: Vec<usize> = axes.iter().map(|&(_, count)| count).collect();
            let position = |taps: Vec<usize>| {
                axes.iter().zip(taps).map(|(&(start, _), tap)| (start + tap) as isize).collect()
            };
            (indices(&counts).map(position).collect(), None)
        };
        Ok(vec![pool::reference(self.function, self.order, &inputs[0], &image, &output, window)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(72);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize]); 16] = [
        (&[1, 1, 1, 1], &[1, 1]),
        (&[2, 36, 7, 7], &[1, 1]),
        (&[1, 10, 13, 13], &[1, 1]),
        (&[1, 8, 33, 70], &[1, 1]),
        (&[1, 4, 300, 280], &[1, 1]),
        (&[1, 6, 13, 13], &[6, 6]),
        (&[2, 3, 7, 9], &[7, 9]),
        (&[1, 4, 5, 3], &[7, 4]),
        (&[1, 5, 32, 31], &[3, 8]),
        (&[1, 4, 512, 3], &[7, 1]),
        (&[2, 5, 90_001], &[1]),
        (&[1, 8, 70, 81], &[2, 2]),
        (&[3, 5, 101], &[10]),
        (&[1, 3, 30_001], &[2]),
        (&[2, 4, 5, 6, 7], &[2, 3, 4]),
        (&[1, 3, 20, 21, 22], &[1, 2, 1]),
    ];
    for (dims, size) in shapes {
        for function in [PoolFn::Average, PoolFn::Max] {
            let name = format!("{function:?} {dims:?} to {size:?}");
            cases.push(Case::new(name, AdaptivePool::new(function, size), vec![random.f32(dims)]));
        }
    }
    let last = AdaptivePool { order: ImageOrder::ChannelsLast, ..AdaptivePool::new(PoolFn::Average, [2, 3]) };
    cases.push(Case::new("channels last", last, vec![random.f32([2, 7, 8, 12])]));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of torch.nn.functional.adaptive_avg_pool1d.
    #[test]
    fn windows_follow_torch() {
        let values: Vec<f32> = (1_u8..=7).map(f32::from).collect();
        let op = AdaptivePool::new(PoolFn::Average, [3]);
        let pooled = op.reference(&[Tensor::from_f32([1, 1, 7], &values)]).unwrap();
        assert_eq!(pooled[0].to_f32(), [2.0, 4.0, 6.0]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let infer =
            |size: &[usize], dims: &[usize]| AdaptivePool::new(PoolFn::Max, size).infer(&[Spec::f32(dims)]);
        assert!(infer(&[2, 2], &[1, 3, 5, 5]).is_ok());
        assert!(infer(&[2], &[1, 3, 5, 5]).is_err());
        assert!(infer(&[0, 1], &[1, 3, 5, 5]).is_err());
        assert!(infer(&[1, 1], &[1, 3, 0, 5]).is_err());
        assert!(infer(&[1], &[1, 3, 100_000]).is_ok());
        assert!(infer(&[2], &[1, 3, 100_000]).is_err());
    }
}
