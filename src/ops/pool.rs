//! Pools: the largest element or the average of windows that move over images.

mod passes;

use super::cases::{Case, Random};
use super::conv::not_lowered;
use super::image::{indices, offset};
use super::{ChannelsLast, Expect, ImageDims, ImageOrder, Inputs, Op, Window};
use crate::kernel::{Caps, Launches};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
pub(super) use passes::{AxisWindows, MOST_TAPS, Passes};

/// How the elements of a window become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum PoolFn {
    /// The largest; minus infinity of none.
    Max,
    /// Their sum divided by their number; 0 of none.
    Average,
}

impl PoolFn {
    fn apply(self, values: impl Iterator<Item = f64>, divisor: usize) -> f64 {
        match self {
            Self::Max => values.fold(f64::NEG_INFINITY, f64::max),
            Self::Average => values.sum::<f64>() / divisor.max(1) as f64,
        }
    }
}

/// The largest element or the average of each window of each channel (MaxPool and AveragePool of
/// ONNX, MaxPoolNd and AvgPoolNd of torch).
///
/// Input: x f32 `[n, c, spatial..]` with one to three spatial axes. Output: f32
/// `[n, c, windows..]`. Padding is never the largest element, and of an average it counts only
/// with `count_include_pad`; elements that a window of `ceil_mode` has beyond the padding never do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// How.
    pub function: PoolFn,
    /// The window over the spatial axes.
    pub window: Window,
    /// Whether an average counts the padding as zeros: torch's default, not ONNX's.
    pub count_include_pad: bool,
    /// Order of the axes.
    pub order: ImageOrder,
}

impl Pool {
    /// A pool of `[n, c, spatial..]` whose averages do not count the padding.
    pub const fn new(function: PoolFn, window: Window) -> Self {
        Self { function, window, count_include_pad: false, order: ImageOrder::ChannelsFirst }
    }

    /// Sets whether an average counts the padding.
    #[must_use]
    pub fn count_include_pad(mut self, count_include_pad: bool) -> Self {
        self.count_include_pad = count_include_pad;
        self
    }

    /// Sizes of x and of the output.
    fn images(&self, x: &Spec) -> Result<[ImageDims; 2]> {
        let image = self.order.dims(self, x)?;
        if self.window.kernel.iter().any(|&size| size > MOST_TAPS) {
            let message = format!("takes windows of up to {MOST_TAPS} along an axis, got {:?}", self.window);
            return Err(Error::op(self.name(), message));
        }
        let spatial = self.window.output(self, &image.spatial)?;
        let output = ImageDims { n: image.n, channels: image.channels, spatial };
        Ok([image, output])
    }

    /// The windows along one axis, for the kernel.
    fn axis(&self, axis: usize, image: usize, output: usize) -> AxisWindows {
        let window = &self.window;
        let (before, after) = window.pads[axis];
        let counted_after = if self.count_include_pad { after } else { 0 };
        AxisWindows {
            image,
            output,
            taps: window.kernel[axis],
            stride: window.stride[axis],
            dilation: window.dilation[axis],
            before,
            counted: before + image + counted_after,
        }
    }
}

impl Op for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x] = inputs.exactly(self)?;
        x.expect_dtype(self, "x", &[DType::F32])?;
        let [_, output] = self.images(x)?;
        Ok(vec![Spec::f32(self.order.shape(&output))])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        if self.order == ImageOrder::ChannelsFirst {
            return Err(not_lowered(self));
        }
        let [image, output] = self.images(&inputs[0])?;
        let axes =
            (0..image.spatial.len()).map(|axis| self.axis(axis, image.spatial[axis], output.spatial[axis]));
        let passes = Passes::new(self.function, false, self.count_include_pad, &axes.collect::<Vec<_>>());
        Ok(passes.launches(caps, image.n, image.channels))
    }

    fn channels_last(&self, _: &Caps, _: &[Spec]) -> Option<ChannelsLast> {
        let op = Self { order: ImageOrder::ChannelsLast, ..self.clone() };
        let form = || ChannelsLast { required: true, ..ChannelsLast::following(op, [0]) };
        (self.order == ImageOrder::ChannelsFirst).then(form)
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let [image, output] = self.images(inputs[0].spec())?;
        let counts = |position: &[isize], axis: usize| {
            let (before, after) = self.window.pads[axis];
            let end = image.spatial[axis] + after;
            position[axis] >= -(before as isize) && position[axis] < end as isize
        };
        let window = |place: &[usize]| {
            let positions = self.window.positions(place);
            let inside = |position: &&Vec<isize>| (0..position.len()).all(|axis| counts(position, axis));
            let divisor = self.count_include_pad.then(|| positions.iter().filter(inside).count());
            (positions, divisor)
        };
        Ok(vec![reference(self.function, self.order, &inputs[0], &image, &output, window)])
    }
}

/// A pool by its definition: `window` gives, for the place of an output, the positions that it is
/// computed from, and what their sum is divided by, if not by the number of those in the image.
pub(super) fn reference(
    function: PoolFn,
    order: ImageOrder,
    x: &Tensor,
    image: &ImageDims,
    output: &ImageDims,
    window: impl Fn(&[usize]) -> (Vec<Vec<isize>>, Option<usize>),
) -> Tensor {
    let values = x.to_f64();
    let (n_stride, channel_stride, strides) = order.strides(image);
    let (n_output, channel_output, output_strides) = order.strides(output);
    let spec = Spec::f32(order.shape(output));
    let mut pooled = vec![0.0; spec.elements()];
    for place in indices(&output.spatial) {
        let (positions, divisor) = window(&place);
        let inside: Vec<usize> =
            positions.iter().filter_map(|position| offset(position, &image.spatial, &strides)).collect();
        let to: usize = place.iter().zip(&output_strides).map(|(at, stride)| at * stride).sum();
        for n in 0..image.n {
            for channel in 0..image.channels {
                let start = n * n_stride + channel * channel_stride;
                let window = inside.iter().map(|at| values[start + at]);
                pooled[n * n_output + channel * channel_output + to] =
                    function.apply(window, divisor.unwrap_or(inside.len()));
            }
        }
    }
    Tensor::from_f64(DType::F32, spec.shape, &pooled)
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(71);
    let mut cases = Vec::new();
    let mut case = |op: Pool, dims: &[usize]| {
        let name = format!("{:?} {dims:?} by {:?} {:?}", op.function, op.window.kernel, op.order);
        cases.push(Case::new(name, op, vec![random.f32(dims)]));
    };
    let three = || Window::new([3, 3]);
    let windows: [(Window, &[usize]); 17] = [
        (Window::new([1, 1]), &[1, 1, 1, 1]),
        (Window::new([2, 2]).stride([2, 2]), &[2, 3, 5, 8]),
        (three().stride([2, 2]), &[1, 4, 7, 9]),
        (three().stride([2, 2]).padding([1, 1]), &[2, 8, 13, 12]),
        (three().stride([2, 2]).ceil_mode(true), &[1, 64, 14, 15]),
        (three().stride([2, 2]).padding([1, 1]).ceil_mode(true), &[1, 5, 8, 11]),
        (three().padding([1, 1]), &[1, 6, 33, 31]),
        (three().pads([(0, 1), (2, 0)]).stride([1, 2]), &[2, 4, 6, 7]),
        (three().dilation([2, 3]).padding([2, 1]), &[1, 7, 9, 11]),
        (Window::new([2, 2]).stride([3, 3]).padding([1, 1]).ceil_mode(true), &[1, 3, 5, 5]),
        (Window::new([5, 1]).padding([2, 0]), &[1, 3, 12, 4]),
        (Window::new([13, 13]).padding([6, 6]), &[1, 8, 13, 13]),
        (Window::new([7, 7]), &[2, 36, 7, 7]),
        (Window::new([9, 11]).stride([2, 20]).dilation([3, 2]).padding([4, 5]), &[1, 4, 40, 70]),
        (Window::new([4]).stride([3]).padding([1]).ceil_mode(true), &[2, 5, 101]),
        (Window::new([2, 3, 2]).stride([1, 2, 2]).padding([1, 1, 0]), &[2, 4, 3, 5, 6]),
        (Window::new([5, 5, 5]).padding([2, 2, 2]).ceil_mode(true), &[1, 3, 6, 5, 7]),
    ];
    for (window, dims) in &windows {
        for function in [PoolFn::Max, PoolFn::Average] {
            case(Pool::new(function, window.clone()), dims);
        }
        case(Pool::new(PoolFn::Average, window.clone()).count_include_pad(true), dims);
    }
    // Windows of padding alone.
    let sparse = Window::new([2, 2]).dilation([3, 3]).padding([1, 1]);
    case(Pool::new(PoolFn::Max, sparse.clone()), &[1, 2, 2, 2]);
    case(Pool::new(PoolFn::Average, sparse), &[1, 2, 2, 2]);
    // More elements than all loops of an invocation may walk over on some adapters.
    case(Pool::new(PoolFn::Average, Window::new([300, 280])), &[1, 4, 300, 280]);
    case(Pool::new(PoolFn::Max, Window::new([30_000]).stride([7])), &[1, 3, 30_011]);
    let last = |function, window| Pool { order: ImageOrder::ChannelsLast, ..Pool::new(function, window) };
    case(last(PoolFn::Max, three().stride([2, 2])), &[1, 9, 10, 8]);
    case(last(PoolFn::Average, three().padding([1, 1])), &[2, 5, 6, 3]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(op: &Pool, values: &[f32]) -> Vec<f32> {
        op.reference(&[Tensor::from_f32([1, 1, values.len()], values)]).unwrap()[0].to_f32()
    }

    /// Values of torch.nn.functional.avg_pool1d and max_pool1d.
    #[test]
    fn windows_at_the_borders_follow_torch() {
        let window = Window::new([3]).stride([2]).padding([1]).ceil_mode(true);
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let average = Pool::new(PoolFn::Average, window.clone());
        assert_eq!(row(&average, &values), [1.5, 3.0, 5.0, 6.0]);
        assert_eq!(row(&average.count_include_pad(true), &values), [1.0, 3.0, 5.0, 3.0]);
        assert_eq!(row(&Pool::new(PoolFn::Max, window), &values), [2.0, 4.0, 6.0, 6.0]);
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let infer = |window, dims: &[usize]| Pool::new(PoolFn::Max, window).infer(&[Spec::f32(dims)]);
        assert!(infer(Window::new([3, 3]), &[1, 2, 3, 3]).is_ok());
        assert!(infer(Window::new([3, 3]), &[1, 2, 3, 2]).is_err());
        assert!(infer(Window::new([3, 3]), &[2, 3]).is_err());
        assert!(infer(Window::new([3]), &[1, 2, 3, 3]).is_err());
        assert!(infer(Window::new([40_000]), &[1, 2, 50_000]).is_err());
    }
}
