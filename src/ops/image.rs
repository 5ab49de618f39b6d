//! Images: the order of their axes, and windows that move over them.
//!
//! A batch of images has one to three spatial axes (depth, height, width; the last ones exist).
//! Operators work on three: [`three`] puts axes of size 1 in front.

use super::{Op, Transpose};
use crate::tensor::{Shape, Spec, Tensor};
use crate::{Error, Result};

/// Where the channels of a batch of images lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub enum ImageOrder {
    /// `[n, channels, spatial..]`: of graphs and published models.
    #[default]
    ChannelsFirst,
    /// `[n, spatial.., channels]`: of kernels.
    ChannelsLast,
}

/// Sizes of a batch of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDims {
    /// Number of images.
    pub n: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Sizes of the one to three spatial axes.
    pub spatial: Vec<usize>,
}

impl ImageOrder {
    /// The sizes of a batch of images in this order.
    ///
    /// # Errors
    /// [`Error::Op`] unless it has one to three spatial axes.
    pub fn dims(self, op: &dyn Op, image: &Spec) -> Result<ImageDims> {
        let dims = image.shape.dims();
        if !is_image(image) {
            let order = match self {
                Self::ChannelsFirst => "[n, channels, spatial..]",
                Self::ChannelsLast => "[n, spatial.., channels]",
            };
            let message = format!("takes images {order} with 1 to 3 spatial axes, got {image}");
            return Err(Error::op(op.name(), message));
        }
        let spatial = self.spatial_axes(dims.len()).map(|axis| dims[axis]).collect();
        Ok(ImageDims { n: dims[0], channels: dims[self.channel_axis(dims.len())], spatial })
    }

    /// The shape of a batch of images in this order.
    pub fn shape(self, image: &ImageDims) -> Shape {
        let mut dims = vec![image.n];
        dims.extend(&image.spatial);
        let at = self.channel_axis(dims.len() + 1);
        dims.insert(at, image.channels);
        dims.into()
    }

    /// The axis of the channels of a tensor of this rank.
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            Self::ChannelsFirst => 1,
            Self::ChannelsLast => rank - 1,
        }
    }

    /// The spatial axes of a tensor of this rank.
    pub fn spatial_axes(self, rank: usize) -> std::ops::Range<usize> {
        match self {
            Self::ChannelsFirst => 2..rank,
            Self::ChannelsLast => 1..rank - 1,
        }
    }

    /// Distances in elements between neighbours: along n, along the channels, and along each
    /// spatial axis.
    pub fn strides(self, image: &ImageDims) -> (usize, usize, Vec<usize>) {
        let strides = self.shape(image).strides();
        let spatial = strides[self.spatial_axes(strides.len())].to_vec();
        (strides[0], strides[self.channel_axis(strides.len())], spatial)
    }
}

/// Whether it has the rank of a batch of images.
pub fn is_image(spec: &Spec) -> bool {
    (3..=5).contains(&spec.shape.rank())
}

/// The axis of an image with its channels last, for an axis of one with its channels first.
pub fn axis_to_last(axis: usize, rank: usize) -> usize {
    match axis {
        0 => 0,
        1 => rank - 1,
        _ => axis - 1,
    }
}

/// A shape `[n, channels, spatial..]` as `[n, spatial.., channels]`; ranks below 3 as they are.
pub fn to_last(shape: &Shape) -> Shape {
    to_last_order(shape.dims()).into()
}

/// A shape `[n, spatial.., channels]` as `[n, channels, spatial..]`; ranks below 3 as they are.
pub fn to_first(shape: &Shape) -> Shape {
    let mut dims = shape.dims().to_vec();
    if dims.len() > 2 {
        dims[1..].rotate_right(1);
    }
    dims.into()
}

/// An image of the other order in this one.
pub(super) fn transposed_to(order: ImageOrder, image: &Tensor) -> Result<Tensor> {
    let mut permutation: Vec<usize> = (0..image.dims().len()).collect();
    match order {
        ImageOrder::ChannelsFirst => permutation[1..].rotate_right(1),
        ImageOrder::ChannelsLast => permutation[1..].rotate_left(1),
    }
    let mut outputs = Transpose { permutation }.reference(std::slice::from_ref(image))?;
    Ok(outputs.swap_remove(0))
}

/// One value for each axis of `[n, channels, spatial..]`, in the order `[n, spatial.., channels]`.
pub fn to_last_order<T: Clone>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    if values.len() > 2 {
        values[1..].rotate_left(1);
    }
    values
}

/// One value for each of one to three spatial axes as those of three, with `fill` in front.
pub fn three<T: Copy>(values: &[T], fill: T) -> [T; 3] {
    let mut all = [fill; 3];
    all[3 - values.len()..].copy_from_slice(values);
    all
}

/// A window that moves over the spatial axes: of convolutions and pools. One value for each axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Sizes.
    pub kernel: Vec<usize>,
    /// Distances between neighbouring windows.
    pub stride: Vec<usize>,
    /// Distances between neighbouring elements of a window.
    pub dilation: Vec<usize>,
    /// Elements that are added before and after an axis.
    pub pads: Vec<(usize, usize)>,
    /// Whether a last window that reaches beyond the padding is taken, if it starts before the
    /// padding at the end.
    pub ceil_mode: bool,
}

impl Window {
    /// A window of this size that moves by one element, without padding.
    pub fn new(kernel: impl Into<Vec<usize>>) -> Self {
        let kernel = kernel.into();
        let axes = kernel.len();
        Self {
            kernel,
            stride: vec![1; axes],
            dilation: vec![1; axes],
            pads: vec![(0, 0); axes],
            ceil_mode: false,
        }
    }

    /// Sets the strides.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Vec<usize>>) -> Self {
        self.stride = stride.into();
        self
    }

    /// Sets the dilations.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Vec<usize>>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// Sets as much padding after each axis as before it.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Vec<usize>>) -> Self {
        self.pads = padding.into().into_iter().map(|pad| (pad, pad)).collect();
        self
    }

    /// Sets the padding before and after each axis.
    #[must_use]
    pub fn pads(mut self, pads: impl Into<Vec<(usize, usize)>>) -> Self {
        self.pads = pads.into();
        self
    }

    /// Sets whether a last window may reach beyond the padding.
    #[must_use]
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Elements of a window.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Elements from the first to the last of a window along each axis.
    pub fn extent(&self) -> Vec<usize> {
        let axes = self.kernel.iter().zip(&self.dilation);
        axes.map(|(&kernel, &dilation)| dilation * kernel.saturating_sub(1) + 1).collect()
    }

    /// Fails unless the window has one to three axes with sizes, strides and dilations of 1 or
    /// more, and all values are at most 65,535, so that the arithmetic of kernels does not overflow.
    ///
    /// # Errors
    /// [`Error::Op`] with the window.
    pub fn check(&self, op: &dyn Op) -> Result<()> {
        let axes = self.kernel.len();
        let lengths = [self.stride.len(), self.dilation.len(), self.pads.len()];
        if !(1..=3).contains(&axes) || lengths.iter().any(|&length| length != axes) {
            let message = format!("the window takes a value for each of 1 to 3 spatial axes, got {self:?}");
            return Err(Error::op(op.name(), message));
        }
        let sizes = [&self.kernel, &self.stride, &self.dilation].into_iter().flatten();
        let pads = self.pads.iter().flat_map(|(before, after)| [before, after]);
        if sizes.clone().any(|&value| value == 0) || sizes.chain(pads).any(|&value| value > 65_535) {
            let message = format!(
                "kernel, stride and dilation must be 1 or more, and all values at most 65535, got {self:?}"
            );
            return Err(Error::op(op.name(), message));
        }
        Ok(())
    }

    /// Number of windows along each axis of an image: floor((size + pads - extent) / stride) + 1,
    /// with `ceil_mode` rounded up unless the last window would start in the padding at the end.
    ///
    /// # Errors
    /// [`Error::Op`] when [`check`](Self::check) fails or the window does not fit the image.
    pub fn output(&self, op: &dyn Op, spatial: &[usize]) -> Result<Vec<usize>> {
        self.check(op)?;
        if spatial.len() != self.kernel.len() {
            let message = format!(
                "the window has {} axes, the image {}: {self:?} over {spatial:?}",
                self.kernel.len(),
                spatial.len()
            );
            return Err(Error::op(op.name(), message));
        }
        let extent = self.extent();
        let windows = (0..spatial.len()).map(|axis| {
            let (before, after) = self.pads[axis];
            let padded = spatial[axis] + before + after;
            let free = padded.checked_sub(extent[axis]).ok_or_else(|| {
                let message = format!("{self:?} is larger than the padded image {spatial:?}");
                Error::op(op.name(), message)
            })?;
            let stride = self.stride[axis];
            let over = self.ceil_mode && free % stride != 0;
            let more = over && (free / stride + 1) * stride < spatial[axis] + before;
            Ok(free / stride + 1 + usize::from(more))
        });
        windows.collect()
    }

    /// The same window over three axes.
    #[must_use]
    pub fn over_three(&self) -> Self {
        Self {
            kernel: three(&self.kernel, 1).into(),
            stride: three(&self.stride, 1).into(),
            dilation: three(&self.dilation, 1).into(),
            pads: three(&self.pads, (0, 0)).into(),
            ceil_mode: self.ceil_mode,
        }
    }

    /// The elements of the window at `place`: position along each axis counted from the start
    /// of the image, negative in the padding before it. For references.
    pub fn positions(&self, place: &[usize]) -> Vec<Vec<isize>> {
        let at = |axis: usize, tap: usize| {
            (place[axis] * self.stride[axis] + tap * self.dilation[axis]) as isize
                - self.pads[axis].0 as isize
        };
        indices(&self.kernel)
            .map(|taps| taps.iter().enumerate().map(|(axis, &tap)| at(axis, tap)).collect())
            .collect()
    }
}

/// All index tuples of a shape, the last axis fastest.
pub fn indices(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let dims = dims.to_vec();
    (0..dims.iter().product()).map(move |mut rest: usize| {
        let mut index = vec![0; dims.len()];
        for axis in (0..dims.len()).rev() {
            index[axis] = rest % dims[axis];
            rest /= dims[axis];
        }
        index
    })
}

/// Offset of a position in an image with these strides; none outside of it.
pub fn offset(position: &[isize], spatial: &[usize], strides: &[usize]) -> Option<usize> {
    let mut total = 0;
    for ((&at, &size), &stride) in position.iter().zip(spatial).zip(strides) {
        let at = usize::try_from(at).ok().filter(|&at| at < size)?;
        total += at * stride;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Softmax;

    const OP: Softmax = Softmax { logarithm: false };

    #[test]
    fn orders_of_axes() {
        let image = ImageDims { n: 2, channels: 3, spatial: vec![5, 7] };
        assert_eq!(ImageOrder::ChannelsFirst.shape(&image), Shape::from([2, 3, 5, 7]));
        assert_eq!(ImageOrder::ChannelsLast.shape(&image), Shape::from([2, 5, 7, 3]));
        assert_eq!(ImageOrder::ChannelsFirst.strides(&image), (105, 35, vec![7, 1]));
        assert_eq!(ImageOrder::ChannelsLast.strides(&image), (105, 1, vec![21, 3]));
        for order in [ImageOrder::ChannelsFirst, ImageOrder::ChannelsLast] {
            let spec = Spec::f32(order.shape(&image));
            assert_eq!(order.dims(&OP, &spec).unwrap(), image);
        }
        assert_eq!(to_last(&Shape::from([2, 3, 5, 7])), Shape::from([2, 5, 7, 3]));
        assert_eq!((0..4).map(|axis| axis_to_last(axis, 4)).collect::<Vec<_>>(), [0, 3, 1, 2]);
        assert_eq!(three(&[5, 7], 1), [1, 5, 7]);
        assert!(ImageOrder::ChannelsFirst.dims(&OP, &Spec::f32([2, 3])).is_err());
    }

    /// Sizes that torch.nn.functional.max_pool1d gives.
    #[test]
    fn numbers_of_windows_follow_torch() {
        let output = |size, kernel, stride, pad, dilation, ceil_mode| {
            let window = Window::new([kernel]).stride([stride]).padding([pad]).dilation([dilation]);
            window.ceil_mode(ceil_mode).output(&OP, &[size]).unwrap()[0]
        };
        assert_eq!(output(7, 3, 2, 0, 1, false), 3);
        assert_eq!(output(8, 3, 2, 0, 1, false), 3);
        assert_eq!(output(8, 3, 2, 0, 1, true), 4);
        // Rounded up, the last window would start in the padding at the end.
        assert_eq!(output(5, 2, 3, 1, 1, true), 2);
        assert_eq!(output(3, 2, 2, 1, 1, true), 2);
        assert_eq!(output(4, 2, 2, 1, 1, true), 3);
        assert_eq!(output(1, 1, 5, 0, 1, true), 1);
        assert_eq!(output(10, 3, 2, 1, 3, true), 4);
        assert_eq!(output(10, 3, 2, 1, 3, false), 3);
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        assert!(Window::new([3]).output(&OP, &[2]).is_err());
        assert!(Window::new([3]).padding([1]).output(&OP, &[2]).is_ok());
        assert!(Window::new([3, 3]).output(&OP, &[5]).is_err());
        assert!(Window::new([0]).output(&OP, &[5]).is_err());
        assert!(Window::new([2]).stride([0]).output(&OP, &[5]).is_err());
        assert!(Window::new([2, 2]).stride([2]).output(&OP, &[5, 5]).is_err());
    }

    #[test]
    fn positions_of_a_window() {
        let window = Window::new([2, 1]).stride([2, 3]).dilation([3, 1]).pads([(1, 0), (0, 0)]);
        assert_eq!(window.positions(&[0, 1]), [[-1, 3], [2, 3]]);
        assert_eq!(offset(&[2, 3], &[4, 5], &[5, 1]), Some(13));
        assert_eq!(offset(&[-1, 3], &[4, 5], &[5, 1]), None);
        assert_eq!(offset(&[2, 5], &[4, 5], &[5, 1]), None);
    }
}
