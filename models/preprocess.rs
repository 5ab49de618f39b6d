//! From photos to a network's input: which steps, and where an output's pixels come from.
//!
//! Plain data and geometry; the pixels are computed by [`Resample`](crate::ops::Resample).

mod read;

use crate::ops::{PixelChannel, ResampleFilter, Taps};
use crate::{Error, Result};
use std::ops::Range;

/// Largest side of a network's input.
const MAX_SIDE: u32 = 16_384;

/// Mean of ImageNet's channels, of values from 0 to 1.
pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];

/// Standard deviation of ImageNet's channels, of values from 0 to 1.
pub const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// How a photo, or the square that is cut out of it, is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Not at all.
    Keep,
    /// To this height and width, whatever the proportions are.
    Exact([usize; 2]),
    /// In proportion, so that the shorter side has this length.
    ShortestEdge(usize),
    /// In proportion, so that it fits in this height and width; the border around it is filled.
    Letterbox {
        /// Height and width.
        size: [usize; 2],
        /// Value of the border.
        fill: u8,
    },
}

/// Which channels a network takes, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Brightness: 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601).
    Gray,
}

impl Channels {
    /// Name as in flags: "rgb".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Gray => "gray",
        }
    }

    /// Number of channels.
    pub const fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }
}

/// The steps in their order: square, resize, crop, then for each channel (byte * scale - mean) / std.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Whether the centred square is cut out of the photo first.
    pub square: bool,
    /// How it is resized.
    pub resize: Resize,
    /// How pixels between pixels are computed.
    pub filter: ResampleFilter,
    /// Height and width that are cut out of the middle then; what lies outside is 0.
    pub crop: Option<[usize; 2]>,
    /// The channels.
    pub channels: Channels,
    /// Factor of the bytes.
    pub scale: f64,
    /// Subtracted then, of each channel in the network's order.
    pub mean: [f64; 3],
    /// Divided by then, of each channel in the network's order.
    pub std: [f64; 3],
}

impl Preprocess {
    /// What most networks for ImageNet were trained with: shorter side, centre crop, values of 0
    /// to 1 less mean by standard deviation.
    pub const fn imagenet(shortest_edge: usize, crop: usize, filter: ResampleFilter) -> Self {
        Self {
            square: false,
            resize: Resize::ShortestEdge(shortest_edge),
            filter,
            crop: Some([crop, crop]),
            channels: Channels::Rgb,
            scale: 1.0 / 255.0,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }

    /// The centred square, resized to `size`, as (byte * scale - mean) / std.
    pub const fn square(size: usize, channels: Channels, scale: f64, mean: [f64; 3], std: [f64; 3]) -> Self {
        Self {
            square: true,
            resize: Resize::Exact([size, size]),
            filter: ResampleFilter::Bilinear,
            crop: None,
            channels,
            scale,
            mean,
            std,
        }
    }

    /// The channels as [`UnpackPixels`](crate::ops::UnpackPixels) takes them; of grey photos all
    /// bytes are equal.
    pub fn pixel_channels(&self) -> Vec<PixelChannel> {
        let bytes: &[u8] = match self.channels {
            Channels::Rgb => &[0, 1, 2],
            Channels::Bgr => &[2, 1, 0],
            Channels::Gray => &[0],
        };
        let channel = |(&byte, (mean, std)): (&u8, (&f64, &f64))| PixelChannel {
            byte,
            scale: (self.scale / std) as f32,
            offset: (-mean / std) as f32,
        };
        bytes.iter().zip(self.mean.iter().zip(&self.std)).map(channel).collect()
    }

    /// Height and width of the result, where it is the same for all photos.
    pub fn fixed_size(&self) -> Option<[usize; 2]> {
        match (self.crop, self.resize) {
            (Some(size), _) | (None, Resize::Exact(size) | Resize::Letterbox { size, .. }) => Some(size),
            (None, Resize::ShortestEdge(side)) if self.square => Some([side, side]),
            (None, Resize::ShortestEdge(_) | Resize::Keep) => None,
        }
    }

    /// Checks that all sizes are 1 to 16,384, factor and standard deviations are above 0, and
    /// all numbers are finite.
    ///
    /// # Errors
    /// [`Error::Request`] with what was expected and got.
    pub fn check(&self) -> Result<()> {
        let wrong =
            |what: &str, got: String| Err(Error::Request(format!("preprocessing: {what}, got {got}")));
        let resized: &[usize] = match &self.resize {
            Resize::Keep => &[],
            Resize::Exact(size) | Resize::Letterbox { size, .. } => size,
            Resize::ShortestEdge(side) => std::slice::from_ref(side),
        };
        let mut sides = resized.iter().chain(self.crop.iter().flatten());
        if let Some(side) = sides.find(|&&side| side == 0 || side > MAX_SIDE as usize) {
            return wrong(&format!("sizes must be 1 to {MAX_SIDE}"), side.to_string());
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return wrong("the factor must be above 0", self.scale.to_string());
        }
        if let Some(std) = self.std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
            return wrong("standard deviations must be above 0", std.to_string());
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return wrong("means must be finite", mean.to_string());
        }
        Ok(())
    }

    /// Where the result's rows and columns lie in a photo of this height and width.
    ///
    /// # Errors
    /// [`Error::Request`] when a photo is so narrow that a side would exceed 16,384 pixels, or
    /// for what [`check`](Self::check) refuses.
    pub fn axes(&self, photo: [usize; 2]) -> Result<[Axis; 2]> {
        self.check()?;
        let short = photo[0].min(photo[1]);
        let source = if self.square { [short; 2] } else { photo };
        let scaled = |from: usize, numerator: usize, denominator: usize| from * numerator / denominator;
        let (resized, window, fill) = match self.resize {
            Resize::Keep => (source, source, 0),
            Resize::Exact(size) => (size, size, 0),
            Resize::ShortestEdge(side) => {
                // The longer side is rounded down.
                let size = source.map(|length| scaled(side, length, short));
                (size, size, 0)
            }
            Resize::Letterbox { size, fill } => {
                let ratio = (0..2).map(|i| size[i] as f64 / source[i] as f64).fold(f64::MAX, f64::min);
                let fitted = source.map(|length| ((length as f64 * ratio).round() as usize).max(1));
                ([fitted[0].min(size[0]), fitted[1].min(size[1])], size, fill)
            }
        };
        if resized.iter().any(|&length| length > MAX_SIDE as usize) {
            let [height, width] = photo;
            let message = format!("a photo of {width}x{height} would be resized to {resized:?}");
            return Err(Error::Request(format!("{message}, at most {MAX_SIDE} a side is supported")));
        }
        let outputs = self.crop.unwrap_or(window);
        let axis = |i: usize| Axis {
            source: (photo[i] - source[i]) / 2..(photo[i] - source[i]) / 2 + source[i],
            resized: resized[i],
            // Halves are dropped, of what is cut off and of what is added.
            offset: (resized[i] as isize - outputs[i] as isize) / 2,
            outputs: outputs[i],
            fill,
        };
        Ok([axis(0), axis(1)])
    }
}

/// Where the outputs along one axis lie in a photo: `source` is resized to `resized` pixels, of
/// which `outputs` are taken from `offset` on; those outside are `fill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// Pixels of the photo.
    pub source: Range<usize>,
    /// Their number when resized.
    pub resized: usize,
    /// The first output among them; negative where a border comes first.
    pub offset: isize,
    /// Number of outputs.
    pub outputs: usize,
    /// Value of the border.
    pub fill: u8,
}

impl Axis {
    /// How the outputs are computed, and the pixels of the photo that they are computed from:
    /// taps count from the range's start.
    pub fn taps(&self, filter: ResampleFilter) -> (Vec<Taps>, Range<usize>) {
        let resized = filter.taps(self.source.len(), self.resized);
        let place = |output: usize| usize::try_from(output as isize + self.offset).ok();
        let tap = |output: usize| place(output).and_then(|place| resized.get(place)).cloned();
        let mut taps: Vec<Taps> =
            (0..self.outputs).map(|output| tap(output).unwrap_or(Taps::constant(self.fill))).collect();
        let used = || taps.iter().filter(|taps| !taps.is_constant());
        let first = used().map(|taps| taps.first).min().unwrap_or(0);
        // One pixel at least: there are no empty images.
        let end = used().map(Taps::end).max().unwrap_or(0).max(first + 1);
        taps.iter_mut().filter(|taps| !taps.is_constant()).for_each(|taps| taps.first -= first);
        (taps, self.source.start + first..self.source.start + end)
    }

    /// A place among the outputs (0 is the border before the first one) as a place in the photo.
    pub fn to_photo(&self, place: f64) -> f64 {
        let scale = self.source.len() as f64 / self.resized as f64;
        self.source.start as f64 + (place + self.offset as f64) * scale
    }
}

/// What flags change of a model's own preprocessing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PreprocessChanges {
    /// Another resizing.
    pub resize: Option<Resize>,
    /// Another crop; `Some(None)` is none.
    pub crop: Option<Option<[usize; 2]>>,
    /// Whether the centred square is cut out first.
    pub square: Option<bool>,
    /// Another filter.
    pub filter: Option<ResampleFilter>,
    /// Other channels.
    pub channels: Option<Channels>,
    /// Another factor.
    pub scale: Option<f64>,
    /// Another mean.
    pub mean: Option<[f64; 3]>,
    /// Another standard deviation.
    pub std: Option<[f64; 3]>,
}

impl PreprocessChanges {
    /// The preprocessing with these changes.
    #[must_use]
    pub fn apply(&self, to: Preprocess) -> Preprocess {
        Preprocess {
            resize: self.resize.unwrap_or(to.resize),
            crop: self.crop.unwrap_or(to.crop),
            square: self.square.unwrap_or(to.square),
            filter: self.filter.unwrap_or(to.filter),
            channels: self.channels.unwrap_or(to.channels),
            scale: self.scale.unwrap_or(to.scale),
            mean: self.mean.unwrap_or(to.mean),
            std: self.std.unwrap_or(to.std),
        }
    }
}

impl std::fmt::Display for Preprocess {
    /// The steps in words: "shorter side to 256 (bilinear), centre 224x224, rgb, x / 255 - ...".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.square {
            f.write_str("centre square, ")?;
        }
        match self.resize {
            Resize::Keep => f.write_str("not resized")?,
            Resize::Exact([height, width]) => write!(f, "resized to {width}x{height}")?,
            Resize::ShortestEdge(side) => write!(f, "shorter side resized to {side}")?,
            Resize::Letterbox { size: [height, width], fill } => {
                write!(f, "fitted in {width}x{height} on {fill}")?;
            }
        }
        if self.resize != Resize::Keep {
            write!(f, " ({})", self.filter.name())?;
        }
        if let Some([height, width]) = self.crop {
            write!(f, ", centre {width}x{height}")?;
        }
        let numbers = |values: &[f64; 3]| {
            let texts: Vec<String> =
                values[..self.channels.count()].iter().map(|&value| short(value)).collect();
            if texts.iter().all(|text| *text == texts[0]) {
                texts[0].clone()
            } else {
                format!("[{}]", texts.join(", "))
            }
        };
        let inverse = 1.0 / self.scale;
        write!(f, ", {}, ", self.channels.name())?;
        match () {
            () if self.scale == 1.0 => f.write_str("(x")?,
            () if (inverse - inverse.round()).abs() < 1e-6 => write!(f, "(x / {}", short(inverse.round()))?,
            () => write!(f, "(x * {}", short(self.scale))?,
        }
        write!(f, " - {}) / {}", numbers(&self.mean), numbers(&self.std))
    }
}

/// A number with at most six digits behind the point.
fn short(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_and_borders_are_centred() {
        let preprocess = Preprocess::imagenet(256, 224, ResampleFilter::Bilinear);
        let [rows, cols] = preprocess.axes([427, 640]).unwrap();
        assert_eq!((rows.source.clone(), rows.resized, rows.offset, rows.outputs), (0..427, 256, 16, 224));
        assert_eq!((cols.source.clone(), cols.resized, cols.offset, cols.outputs), (0..640, 383, 79, 224));
        let (taps, used) = cols.taps(ResampleFilter::Bilinear);
        assert_eq!(taps.len(), 224);
        assert_eq!(taps[0].first, 0);
        assert!(used.start > 128 && used.end < 512, "{used:?}");
        assert_eq!(taps[223].end(), used.len());

        let square = Preprocess::square(128, Channels::Rgb, 1.0, [0.0; 3], [1.0; 3]);
        let [rows, cols] = square.axes([300, 451]).unwrap();
        assert_eq!((rows.source.clone(), cols.source.clone()), (0..300, 75..375));
        assert_eq!(square.fixed_size(), Some([128, 128]));

        let resize = Resize::Letterbox { size: [64, 64], fill: 114 };
        let letterbox = Preprocess { resize, square: false, ..square };
        let [rows, cols] = letterbox.axes([100, 201]).unwrap();
        assert_eq!((rows.resized, rows.offset, cols.resized, cols.offset), (32, -16, 64, 0));
        let (taps, used) = rows.taps(ResampleFilter::Bilinear);
        assert_eq!((taps[0].is_constant(), taps[16].is_constant(), used), (true, false, 0..100));
        assert!((rows.to_photo(16.0) - 0.0).abs() < 1e-9 && (rows.to_photo(48.0) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn narrow_photos_are_refused() {
        let preprocess = Preprocess::imagenet(256, 224, ResampleFilter::Bilinear);
        let text = preprocess.axes([1, 65_535]).unwrap_err().to_string();
        assert!(text.contains("65535x1"), "{text}");
    }

    #[test]
    fn steps_that_cannot_be_are_refused() {
        let good = Preprocess::imagenet(256, 224, ResampleFilter::Bilinear);
        let table = [
            (Preprocess { resize: Resize::ShortestEdge(0), ..good.clone() }, "1 to 16384, got 0"),
            (Preprocess { resize: Resize::Exact([224, 20_000]), ..good.clone() }, "got 20000"),
            (Preprocess { crop: Some([0, 224]), ..good.clone() }, "got 0"),
            (Preprocess { scale: 0.0, ..good.clone() }, "factor must be above 0, got 0"),
            (Preprocess { std: [1.0, -1.0, 1.0], ..good.clone() }, "above 0, got -1"),
            (Preprocess { mean: [f64::NAN; 3], ..good.clone() }, "finite, got NaN"),
        ];
        for (preprocess, want) in table {
            let got = preprocess.axes([100, 100]).unwrap_err().to_string();
            assert!(got.contains(want), "{got}");
        }
        assert!(good.check().is_ok());
    }

    #[test]
    fn steps_are_told_in_words() {
        let imagenet = Preprocess::imagenet(256, 224, ResampleFilter::Bicubic);
        assert_eq!(
            imagenet.to_string(),
            "shorter side resized to 256 (bicubic), centre 224x224, rgb, \
             (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]"
        );
        let caffe = Preprocess::square(227, Channels::Bgr, 1.0, [104.0, 117.0, 123.0], [1.0; 3]);
        assert_eq!(
            caffe.to_string(),
            "centre square, resized to 227x227 (bilinear), bgr, (x - [104, 117, 123]) / 1"
        );
    }
}
