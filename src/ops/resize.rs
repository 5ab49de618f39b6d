//! Resizing of images by interpolation: Resize of ONNX, `interpolate` of torch.

mod cases;
mod line;

use super::image::{ImageDims, ImageOrder, indices, is_image, three};
use super::{ChannelsLast, Expect, Inputs, Op};
use crate::kernel::{Caps, Form, Kernel, Launch, Launches, Operand, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};
pub(super) use cases::cases;
use line::Line;

static RESIZE: Kernel = Kernel::new("resize", include_str!("../../shaders/resize.wgsl"));

params!(
    struct Params {
        sizes: [u32; 4],
        outputs: [u32; 4],
        step: [u32; 4],
        offset: [u32; 4],
        denominator: [u32; 4],
        support: [u32; 4],
        reach: [u32; 4],
        items: u32,
        per_group: u32,
        cubic: f32,
    }
);

/// Longest side.
const MAX_SIDE: usize = 1 << 20;

/// Most pixels that one output of one dispatch is computed from.
const MAX_TAPS: usize = 32_768;

/// How values between pixels are computed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum ResizeFilter {
    /// One pixel, the place rounded so.
    Nearest(NearestRounding),
    /// A line between two neighbours along each axis.
    Linear,
    /// A cubic through four neighbours, with this slope at distance 1 (Keys 1981): -0.75 in torch
    /// and ONNX, -0.5 in torch with antialiasing.
    Cubic(#[serde(with = "super::float")] f32),
}

/// To which pixel a place between two goes; of ONNX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum NearestRounding {
    /// Down.
    Floor,
    /// Up.
    Ceil,
    /// To the nearest, halves down.
    PreferFloor,
    /// To the nearest, halves up.
    PreferCeil,
}

/// Where output i of an axis lies in the input, in pixels; named as in ONNX. The scale is always
/// input size / output size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Coordinates {
    /// (i + 1/2) scale - 1/2.
    HalfPixel,
    /// The same, but 0 where the output has one pixel.
    PytorchHalfPixel,
    /// i scale.
    Asymmetric,
    /// i (input size - 1) / (output size - 1): first and last pixel stay.
    AlignCorners,
}

/// Resizes f32 images to `size` along their one to three spatial axes. Outside of the image, its
/// nearest pixel counts.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Sizes of the spatial axes of the output.
    pub size: Vec<usize>,
    /// How values between pixels are computed.
    pub filter: ResizeFilter,
    /// Where outputs lie in the input.
    pub coordinates: Coordinates,
    /// Whether the filter is as many times as wide as the image shrinks; pixels outside of the
    /// image are left out then, and the other weights add to 1.
    pub antialias: bool,
    /// Where the channels lie.
    pub order: ImageOrder,
}

impl Resize {
    /// Makes a resizing without antialiasing.
    pub fn new(size: impl Into<Vec<usize>>, filter: ResizeFilter, coordinates: Coordinates) -> Self {
        let order = ImageOrder::ChannelsFirst;
        Self { size: size.into(), filter, coordinates, antialias: false, order }
    }

    /// The pixel at or before each place: "nearest" of torch.
    pub fn nearest(size: impl Into<Vec<usize>>) -> Self {
        Self::new(size, ResizeFilter::Nearest(NearestRounding::Floor), Coordinates::Asymmetric)
    }

    /// The pixel whose centre is nearest: "nearest-exact" of torch.
    pub fn nearest_exact(size: impl Into<Vec<usize>>) -> Self {
        Self::new(size, ResizeFilter::Nearest(NearestRounding::PreferCeil), Coordinates::HalfPixel)
    }

    /// Linear interpolation: "linear", "bilinear" and "trilinear" of torch.
    pub fn bilinear(size: impl Into<Vec<usize>>) -> Self {
        Self::new(size, ResizeFilter::Linear, Coordinates::HalfPixel)
    }

    /// The same with first and last pixels that stay: `align_corners=True` of torch.
    pub fn bilinear_aligned(size: impl Into<Vec<usize>>) -> Self {
        Self::new(size, ResizeFilter::Linear, Coordinates::AlignCorners)
    }

    /// Cubic interpolation: "bicubic" of torch.
    pub fn bicubic(size: impl Into<Vec<usize>>) -> Self {
        Self::new(size, ResizeFilter::Cubic(-0.75), Coordinates::HalfPixel)
    }

    /// With antialiasing as in torch, whose cubic has the slope -0.5 then.
    #[must_use]
    pub fn antialiased(mut self) -> Self {
        self.antialias = true;
        if let ResizeFilter::Cubic(slope) = &mut self.filter {
            *slope = -0.5;
        }
        self
    }

    /// Sizes of the images and of the output.
    fn images(&self, input: &Spec) -> Result<[ImageDims; 2]> {
        input.expect_dtype(self, "the images", &[DType::F32])?;
        let image = self.order.dims(self, input)?;
        let fail = |message: String| Err(Error::op(self.name(), message));
        if image.spatial.len() != self.size.len() {
            return fail(format!("takes {} spatial axes, got {input}", self.size.len()));
        }
        let mut sides = image.spatial.iter().chain(&self.size);
        if !sides.all(|side| (1..=MAX_SIDE).contains(side)) {
            return fail(format!("sides must be 1 to {MAX_SIDE}, got {input} to {:?}", self.size));
        }
        let output = ImageDims { spatial: self.size.clone(), ..image.clone() };
        Ok([image, output])
    }

    /// How each spatial axis is resized.
    fn lines(&self, image: &ImageDims) -> Vec<Line> {
        let axes = image.spatial.iter().zip(&self.size);
        axes.map(|(&size, &outputs)| Line::new(self.filter, self.coordinates, self.antialias, size, outputs))
            .collect()
    }

    /// The lines of each dispatch: one axis after the other, the last first, where filters are
    /// wide; else all at once.
    fn passes(&self, lines: &[Line]) -> Vec<Vec<Line>> {
        let changed: Vec<usize> = (0..lines.len()).rev().filter(|&axis| !lines[axis].is_copy()).collect();
        if !self.antialias || changed.len() < 2 {
            return vec![lines.to_vec()];
        }
        let copy = |size| Line::new(self.filter, self.coordinates, false, size, size);
        let pass = |&now: &usize| {
            let done = |axis: usize| axis > now;
            (0..lines.len())
                .map(|axis| match lines[axis] {
                    line if axis == now => line,
                    line => copy(if done(axis) { line.outputs } else { line.size }),
                })
                .collect()
        };
        changed.iter().map(pass).collect()
    }

    /// Images of so many Values a pixel, resized along these lines.
    fn pass(&self, caps: &Caps, n: usize, [values, width]: [usize; 2], lines: &[Line]) -> Result<Launch> {
        let copy = Line::new(self.filter, self.coordinates, false, 1, 1);
        let lines = three(lines, copy);
        let taps = lines.iter().rev().fold(1, |taps, line| 1 + line.most_taps() * taps);
        if taps > MAX_TAPS || !lines.iter().all(Line::fits) {
            let sizes = lines.map(|line| [line.size, line.outputs]);
            let message = format!("cannot compute axes of {sizes:?} pixels, input and output, in 32 bits");
            return Err(Error::op(self.name(), message));
        }
        // Where lanes are few, the place of a pixel is computed once for all its channels.
        let most = if caps.form() == Form::Software { (MAX_TAPS / taps).max(1) } else { 1 };
        let per_item = (1..=values.min(most)).rev().find(|part| values.is_multiple_of(*part)).unwrap_or(1);
        let pixels = n * lines.iter().map(|line| line.outputs).product::<usize>();
        let spread = Spread::of_loops(pixels * (values / per_item), per_item * (taps + 1), caps);
        let of_lines = |value: fn(&Line) -> i64, last: usize| {
            // Negative numbers wrap, and so does the kernel's arithmetic.
            let [depth, height, width] = [0, 1, 2].map(|axis| value(&lines[axis]) as u32);
            [depth, height, width, count(last)]
        };
        let params = Params {
            sizes: of_lines(|line| line.size as i64, values),
            outputs: of_lines(|line| line.outputs as i64, per_item),
            step: of_lines(|line| line.step, 0),
            offset: of_lines(|line| line.offset, 0),
            denominator: of_lines(|line| line.denominator, 0),
            support: of_lines(|line| line.support, 0),
            reach: of_lines(|line| line.reach, 0),
            items: spread.items,
            per_group: spread.per_group,
            cubic: if let ResizeFilter::Cubic(slope) = self.filter { slope } else { 0.0 },
        };
        let launch = spread
            .launch(&RESIZE)
            .variant("value", if width == 4 { "vec4<f32>" } else { "f32" })
            .variant("filter", self.filter.wgsl())
            .variant("antialias", self.antialias)
            .work((pixels * values * width * taps) as u64);
        Ok(launch.params(params))
    }
}

impl ResizeFilter {
    const fn wgsl(self) -> &'static str {
        match self {
            Self::Nearest(_) => "box",
            Self::Linear => "triangle",
            Self::Cubic(_) => "cubic",
        }
    }
}

impl Op for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [input] = inputs.exactly(self)?;
        let [_, output] = self.images(input)?;
        if self.antialias && matches!(self.filter, ResizeFilter::Nearest(_)) {
            return Err(Error::op(self.name(), "the nearest pixel has no antialiasing"));
        }
        if matches!(self.filter, ResizeFilter::Cubic(slope) if !slope.is_finite()) {
            return Err(Error::op(self.name(), format!("{:?} is not defined", self.filter)));
        }
        Ok(vec![Spec::f32(self.order.shape(&output))])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], _: &[Spec]) -> Result<Launches> {
        let [image, _] = self.images(&inputs[0])?;
        // With channels first, each channel is an image of one value a pixel.
        let (n, values) = match self.order {
            ImageOrder::ChannelsFirst => (image.n * image.channels, [1, 1]),
            ImageOrder::ChannelsLast if image.channels.is_multiple_of(4) => {
                (image.n, [image.channels / 4, 4])
            }
            ImageOrder::ChannelsLast => (image.n, [image.channels, 1]),
        };
        let passes = self.passes(&self.lines(&image));
        let mut launches = Launches::default();
        for (index, lines) in passes.iter().enumerate() {
            let from = index.checked_sub(1).map_or(Operand::Input(0), Operand::Scratch);
            let last = index + 1 == passes.len();
            if !last {
                let pixels: usize = lines.iter().map(|line| line.outputs).product();
                launches.scratch.push(Spec::f32([n * pixels * values[0] * values[1]]));
            }
            let to = if last { Operand::Output(0) } else { Operand::Scratch(index) };
            launches.steps.push(self.pass(caps, n, values, lines)?.bind([from, to]));
        }
        Ok(launches)
    }

    fn channels_last(&self, _: &Caps, inputs: &[Spec]) -> Option<ChannelsLast> {
        let first = self.order == ImageOrder::ChannelsFirst && is_image(&inputs[0]);
        first.then(|| ChannelsLast::following(Self { order: ImageOrder::ChannelsLast, ..self.clone() }, [0]))
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let [image, output] = self.images(inputs[0].spec())?;
        let values = inputs[0].to_f64();
        let (n_stride, channel_stride, strides) = self.order.strides(&image);
        let taps: Vec<Vec<Vec<(usize, f64)>>> = self
            .lines(&image)
            .iter()
            .map(|line| (0..line.outputs).map(|i| line.taps(i, self.filter, self.antialias)).collect())
            .collect();
        let shape = self.order.shape(&output);
        let spatial_axes = self.order.spatial_axes(shape.rank());
        let mut results = Vec::with_capacity(shape.elements());
        for index in indices(shape.dims()) {
            let channel = index[self.order.channel_axis(shape.rank())];
            // Offsets and weights of the pixels, one axis after the other.
            let mut pixels = vec![(index[0] * n_stride + channel * channel_stride, 1.0)];
            for (axis, &at) in index[spatial_axes.clone()].iter().enumerate() {
                let next = |&(offset, weight): &(usize, f64)| {
                    let stride = strides[axis];
                    taps[axis][at].iter().map(move |&(tap, more)| (offset + tap * stride, weight * more))
                };
                pixels = pixels.iter().flat_map(next).collect();
            }
            results.push(pixels.iter().map(|&(offset, weight)| values[offset] * weight).sum());
        }
        Ok(vec![Tensor::from_f64(DType::F32, shape, &results)])
    }
}
