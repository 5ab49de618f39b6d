//! Resampling of 8-bit pixels, bit for bit as the Python Imaging Library does it: what published
//! vision models were trained and measured with.
//!
//! After `Resample.c` and `Geometry.c` of Pillow (HPND licence): the filter's support grows with
//! the scale (antialiasing), coefficients are normalised in double precision and rounded to 22
//! fractional bits, sums are 32-bit integers, and the image is rounded to 8 bits between the
//! horizontal and the vertical pass. Coefficients are computed here on the host. The horizontal
//! pass comes first, as in Pillow up to 12 and in torchvision; Pillow 13 begins with the vertical
//! one where that is cheaper, which moves some bytes by 1.

use super::cases::{Case, Random};
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Shape, Spec, Tensor};
use crate::{Error, Result};
use std::f64::consts::PI;

static RESAMPLE: Kernel = Kernel::new("resample", include_str!("../../shaders/resample.wgsl"));

params!(
    struct Params {
        items: u32,
        per_group: u32,
        size: u32,
        inner: u32,
        outputs: u32,
        table_cols: u32,
    }
);

/// Fractional bits of a coefficient.
const FRACTION: u32 = 22;

/// Start of a sum that makes the final shift round.
const HALF: i32 = 1 << (FRACTION - 1);

/// Columns of a table before the coefficients: first pixel, number of pixels, start of the sum.
const HEADER: usize = 3;

/// Most pixels that one output is computed from.
const MAX_TAPS: usize = 32_768;

/// How pixels between pixels are computed; named and numbered as in the Python Imaging Library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResampleFilter {
    /// The pixel whose centre is nearest.
    Nearest,
    /// The mean of the pixels that an output covers.
    Box,
    /// A triangle.
    Bilinear,
    /// A Hamming window: sharper than the triangle, of the same support.
    Hamming,
    /// A cubic with a = -0.5 (Keys 1981).
    Bicubic,
    /// A sinc under a wider sinc, support 3 (Duchon 1979).
    Lanczos,
}

impl ResampleFilter {
    /// All filters, by their number in the Python Imaging Library.
    pub const ALL: [Self; 6] =
        [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming];

    /// Name as in flags and files: "bilinear".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Box => "box",
            Self::Bilinear => "bilinear",
            Self::Hamming => "hamming",
            Self::Bicubic => "bicubic",
            Self::Lanczos => "lanczos",
        }
    }

    /// Half the width of the filter at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// Weight at a distance from the centre.
    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let distance = x.abs();
        match self {
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - distance).max(0.0),
            // The window's factors are single precision there.
            Self::Hamming if distance < 1.0 => {
                sinc(distance) * (f64::from(0.54_f32) + f64::from(0.46_f32) * (distance * PI).cos())
            }
            Self::Bicubic if distance < 1.0 => (1.5 * distance - 2.5) * distance * distance + 1.0,
            Self::Bicubic if distance < 2.0 => (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Hamming | Self::Bicubic | Self::Lanczos => 0.0,
        }
    }

    /// How `outputs` pixels are computed from `size` pixels.
    ///
    /// # Panics
    /// When a number is 0.
    pub fn taps(self, size: usize, outputs: usize) -> Vec<Taps> {
        assert!(size > 0 && outputs > 0, "{size} pixels to {outputs}");
        let scale = size as f64 / outputs as f64;
        if self == Self::Nearest {
            // The place is summed up, with its rounding errors.
            let places = std::iter::successors(Some(scale * 0.5), |place| Some(place + scale));
            let tap = |place: f64| Taps::one((place as usize).min(size - 1));
            return places.take(outputs).map(tap).collect();
        }
        (0..outputs).map(|output| self.tap(size, scale, output)).collect()
    }

    fn tap(self, size: usize, scale: f64, output: usize) -> Taps {
        let filter_scale = scale.max(1.0);
        let (support, inverse) = (self.support() * filter_scale, 1.0 / filter_scale);
        let center = (output as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(size);
        let mut weights: Vec<f64> =
            (first..end).map(|pixel| self.weight((pixel as f64 - center + 0.5) * inverse)).collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        let fixed = |weight: &f64| (weight * f64::from(1 << FRACTION) + 0.5_f64.copysign(*weight)) as i32;
        Taps { first, start: HALF, coefficients: weights.iter().map(fixed).collect() }
    }
}

/// How one output is computed: (start + sum of coefficients times pixels) / 2^22, cut to a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taps {
    /// The first pixel that is read.
    pub first: usize,
    /// Start of the sum.
    start: i32,
    /// Coefficient of each pixel.
    coefficients: Vec<i32>,
}

impl Taps {
    /// A copy of one pixel.
    pub fn one(pixel: usize) -> Self {
        Self { first: pixel, start: HALF, coefficients: vec![1 << FRACTION] }
    }

    /// The same value for all channels, whatever the image is.
    pub fn constant(value: u8) -> Self {
        Self { first: 0, start: (i32::from(value) << FRACTION) + HALF, coefficients: Vec::new() }
    }

    /// The pixel behind the last one that is read.
    pub fn end(&self) -> usize {
        self.first + self.coefficients.len()
    }

    /// Whether no pixel is read.
    pub fn is_constant(&self) -> bool {
        self.coefficients.is_empty()
    }

    /// The table that [`Resample`] takes, i32 `[outputs, 3 + most coefficients]`.
    pub fn table(taps: &[Self]) -> Tensor {
        let cols = HEADER + taps.iter().map(|taps| taps.coefficients.len()).max().unwrap_or(0);
        let small = |number: usize| i32::try_from(number).expect("images have less than 2^31 pixels a side");
        let mut rows = Vec::with_capacity(taps.len() * cols);
        for (index, taps) in taps.iter().enumerate() {
            rows.extend([small(taps.first), small(taps.coefficients.len()), taps.start]);
            rows.extend(&taps.coefficients);
            rows.resize((index + 1) * cols, 0);
        }
        Tensor::from_i32([taps.len(), cols], &rows)
    }
}

/// Resamples pixels along `axis`. Inputs: pixels, u32 words of four bytes, of any shape; the
/// table of [`Taps::table`]. Output: the pixels with as many along the axis as the table has rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resample {
    /// Along which axis.
    pub axis: usize,
}

impl Resample {
    /// Elements before and behind the axis, and its size.
    fn around(&self, pixels: &Shape) -> (usize, usize, usize) {
        let dims = pixels.dims();
        (dims[..self.axis].iter().product(), dims[self.axis], dims[self.axis + 1..].iter().product())
    }
}

impl Op for Resample {
    fn name(&self) -> &'static str {
        "resample"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [pixels, table] = inputs.exactly(self)?;
        pixels.expect_dtype(self, "the pixels", &[DType::U32])?;
        table.expect_dtype(self, "the table", &[DType::I32])?;
        if self.axis >= pixels.shape.rank() {
            return Err(Error::op(self.name(), format!("axis {} is outside of {pixels}", self.axis)));
        }
        let &[outputs, cols] = table.shape.dims() else {
            return Err(Error::op(self.name(), format!("the table must have 2 dimensions, got {table}")));
        };
        if !(HEADER..=HEADER + MAX_TAPS).contains(&cols) {
            let message = format!("takes at most {MAX_TAPS} pixels to one, the table is {table}");
            return Err(Error::op(self.name(), message));
        }
        let mut dims = pixels.shape.dims().to_vec();
        dims[self.axis] = outputs;
        Ok(vec![Spec::u32(dims)])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (_, size, inner) = self.around(&inputs[0].shape);
        let cols = inputs[1].shape.dims()[1];
        let elements = outputs[0].elements();
        let spread = Spread::of_loops(elements, cols, caps);
        let params = Params {
            items: spread.items,
            per_group: spread.per_group,
            size: count(size),
            inner: count(inner),
            outputs: count(outputs[0].shape.dims()[self.axis]),
            table_cols: count(cols),
        };
        let work = elements as u64 * cols as u64;
        Ok(spread.launch(&RESAMPLE).work(work).params(params).bind_all(2, 1).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (outer, size, inner) = self.around(&inputs[0].spec().shape);
        let (pixels, table) = (inputs[0].to_u32(), inputs[1].to_f64());
        let mut output = Vec::new();
        for before in 0..outer {
            for row in table.chunks_exact(inputs[1].dims()[1]) {
                let (first, taps) = (row[0] as usize, row[1] as usize);
                if row[0] < 0.0 || row[1] < 0.0 || first + taps > size || taps > row.len() - HEADER {
                    let message = format!("a table's row reads {taps} pixels from {first}, of {size}");
                    return Err(Error::op(self.name(), message));
                }
                for behind in 0..inner {
                    let pixel = |tap: usize| pixels[(before * size + first + tap) * inner + behind];
                    let byte = |channel: usize| {
                        let products = (0..taps)
                            .map(|tap| row[HEADER + tap] * f64::from(pixel(tap).to_le_bytes()[channel]));
                        let sum = row[2] + products.sum::<f64>();
                        (sum / f64::from(1 << FRACTION)).floor() as u8
                    };
                    output.push(u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]));
                }
            }
        }
        let specs: Vec<Spec> = inputs.iter().map(|input| input.spec().clone()).collect();
        Ok(vec![Tensor::from_u32(self.infer(&specs)?.remove(0).shape, &output)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(60);
    let mut cases = Vec::new();
    for filter in ResampleFilter::ALL {
        for (dims, axis, outputs) in [
            (vec![1, 1], 0, 1),
            (vec![1, 1], 1, 5),
            (vec![5, 7], 0, 3),
            (vec![5, 7], 1, 16),
            (vec![33, 67], 1, 31),
            (vec![67, 33], 0, 9),
            (vec![2, 19, 31], 1, 8),
        ] {
            let table = Taps::table(&filter.taps(dims[axis], outputs));
            let name = format!("{} {dims:?} axis {axis} to {outputs}", filter.name());
            let pixels = random.u32(dims, u32::MAX);
            cases.push(Case::new(name, Resample { axis }, vec![pixels, table]));
        }
    }
    let mut bordered = vec![Taps::constant(114); 3];
    bordered.extend(ResampleFilter::Bicubic.taps(11, 6));
    bordered.push(Taps::constant(255));
    let inputs = vec![random.u32([11, 4], u32::MAX), Taps::table(&bordered)];
    cases.push(Case::new("a border of one value", Resample { axis: 0 }, inputs));
    // More pixels to one than all loops of an invocation may take together on some adapters.
    let table = Taps::table(&ResampleFilter::Lanczos.taps(20_000, 2));
    let inputs = vec![random.u32([3, 20_000], u32::MAX), table];
    cases.push(Case::new("20,000 pixels to 2", Resample { axis: 1 }, inputs));
    let table = Taps::table(&ResampleFilter::Box.taps(4_000, 4));
    let inputs = vec![random.u32([700, 4_000], u32::MAX), table];
    cases.push(Case::new("many long sums", Resample { axis: 1 }, inputs));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enlarging by 2 with a triangle: weights of 1/4 and 3/4, one pixel at the borders.
    #[test]
    fn a_triangle_of_scale_one_half() {
        let taps = ResampleFilter::Bilinear.taps(2, 4);
        let quarter = 1 << (FRACTION - 2);
        let coefficients: Vec<&[i32]> = taps.iter().map(|taps| &taps.coefficients[..]).collect();
        assert_eq!(coefficients[0], [4 * quarter]);
        assert_eq!(coefficients[1], [3 * quarter, quarter]);
        assert_eq!(coefficients[2], [quarter, 3 * quarter]);
        assert_eq!((taps[3].first, taps[3].end()), (1, 2));
    }

    #[test]
    fn the_same_size_is_a_copy() {
        for filter in ResampleFilter::ALL {
            for (index, taps) in filter.taps(9, 9).iter().enumerate() {
                let at = index - taps.first;
                for (tap, coefficient) in taps.coefficients.iter().enumerate() {
                    assert_eq!(*coefficient, i32::from(tap == at) << FRACTION, "{filter:?} {index}");
                }
            }
        }
    }
}
