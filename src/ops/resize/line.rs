//! Which pixels of one axis an output is computed from, in integers.

use super::{Coordinates, NearestRounding, ResizeFilter};

/// The output at index i of an axis lies at (i step + offset) / denominator in the input; pixels
/// nearer than support / denominator are read, and their distance is counted in
/// reach / denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) size: usize,
    pub(super) outputs: usize,
    pub(super) step: i64,
    pub(super) offset: i64,
    pub(super) denominator: i64,
    pub(super) support: i64,
    pub(super) reach: i64,
}

impl Line {
    /// How an axis of `size` pixels becomes `outputs` pixels, none of them 0 nor above 2^20.
    pub(super) fn new(
        filter: ResizeFilter,
        coordinates: Coordinates,
        antialias: bool,
        size: usize,
        outputs: usize,
    ) -> Self {
        let [step, offset, denominator] = coordinates.place(size as i64, outputs as i64);
        let line = Self { size, outputs, step, offset, denominator, support: 0, reach: 1 };
        match filter {
            _ if size == outputs => Self { step: 1, offset: 0, denominator: 1, ..line }.nearest_below(),
            ResizeFilter::Nearest(rounding) => line.rounded(rounding).nearest_below(),
            ResizeFilter::Linear => line.weighted(1, antialias),
            ResizeFilter::Cubic(_) => line.weighted(2, antialias),
        }
    }

    /// The line whose places, rounded down, are those of this one rounded so.
    fn rounded(self, rounding: NearestRounding) -> Self {
        let half = self.denominator;
        let (scale, more) = match rounding {
            NearestRounding::Floor => (1, 0),
            NearestRounding::Ceil => (1, self.denominator - 1),
            NearestRounding::PreferFloor => (2, half - 1),
            NearestRounding::PreferCeil => (2, half),
        };
        Self {
            step: scale * self.step,
            offset: scale * self.offset + more,
            denominator: scale * self.denominator,
            ..self
        }
    }

    /// Reads the one pixel at or before the place: places move to the middles between pixels,
    /// where exactly one is nearer than half a pixel.
    fn nearest_below(self) -> Self {
        let (offset, denominator) = (2 * self.offset + 1 - self.denominator, 2 * self.denominator);
        Self { step: 2 * self.step, offset, denominator, support: self.denominator, ..self }
    }

    /// Reads `radius` pixels on both sides, more where antialiasing widens the filter.
    fn weighted(self, radius: i64, antialias: bool) -> Self {
        let (size, outputs) = (self.size as i64, self.outputs as i64);
        let mut line = Self { reach: self.denominator, ..self };
        if antialias && size > outputs {
            // The filter is as many times as wide as the image shrinks.
            let scale = outputs / divisor(self.denominator * size, outputs);
            line.step *= scale;
            line.offset *= scale;
            line.denominator *= scale;
            line.reach = line.denominator * size / outputs;
        }
        let common = [line.offset, line.denominator, line.reach].into_iter().fold(line.step, divisor);
        line.step /= common;
        line.offset /= common;
        line.denominator /= common;
        line.reach /= common;
        line.support = radius * line.reach;
        line
    }

    /// Whether nothing changes.
    pub(super) fn is_copy(&self) -> bool {
        self.size == self.outputs
    }

    /// The pixels of an output, from the first to the one behind the last; some may lie outside.
    fn region(&self, output: usize) -> std::ops::Range<i64> {
        let position = self.position(output);
        let at = |position: i64| position.div_euclid(self.denominator) + 1;
        at(position - self.support)..at(position + self.support)
    }

    fn position(&self, output: usize) -> i64 {
        output as i64 * self.step + self.offset
    }

    /// Most pixels of an output.
    pub(super) fn most_taps(&self) -> usize {
        (2 * self.support + self.denominator - 1).div_euclid(self.denominator) as usize
    }

    /// Whether the kernel's 32-bit arithmetic holds all numbers.
    pub(super) fn fits(&self) -> bool {
        let ends = [self.position(0), self.position(self.outputs - 1)];
        let position = ends.into_iter().map(i64::abs).max().unwrap_or(0);
        let pixels = self.size as i64 * self.denominator;
        position.max(pixels) + self.support + 2 * self.denominator < 1 << 31
    }

    /// The pixels of an output inside of the image, with their weights.
    pub(super) fn taps(&self, output: usize, filter: ResizeFilter, antialias: bool) -> Vec<(usize, f64)> {
        let (last, position) = (self.size as i64 - 1, self.position(output));
        let mut taps = Vec::new();
        for index in self.region(output) {
            let inside = index.clamp(0, last);
            let distance = (index * self.denominator - position).abs() as f64 / self.reach as f64;
            if inside == index || !antialias {
                taps.push((inside as usize, filter.weight(distance)));
            }
        }
        if antialias {
            let total: f64 = taps.iter().map(|(_, weight)| weight).sum();
            taps.iter_mut().for_each(|(_, weight)| *weight /= total);
        }
        taps
    }
}

impl Coordinates {
    /// Step, offset and denominator of the places of outputs in the input.
    const fn place(self, size: i64, outputs: i64) -> [i64; 3] {
        match self {
            Self::PytorchHalfPixel | Self::AlignCorners if outputs == 1 => [0, 0, 1],
            Self::HalfPixel | Self::PytorchHalfPixel => [2 * size, size - outputs, 2 * outputs],
            Self::Asymmetric => [size, 0, outputs],
            Self::AlignCorners => [size - 1, 0, outputs - 1],
        }
    }
}

impl ResizeFilter {
    /// Weight of a pixel at a distance.
    pub(crate) fn weight(self, distance: f64) -> f64 {
        match self {
            Self::Nearest(_) => 1.0,
            Self::Linear => (1.0 - distance).max(0.0),
            Self::Cubic(a) => {
                let (a, d) = (f64::from(a), distance);
                match d {
                    _ if d < 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                    _ if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
                    _ => 0.0,
                }
            }
        }
    }
}

/// Greatest common divisor.
fn divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs().max(1) } else { divisor(b, a % b) }
}
