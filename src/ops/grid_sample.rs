//! Sampling of images at given places: GridSample of ONNX, `grid_sample` of torch.

use super::cases::{Case, Random};
use super::image::indices;
use super::{Expect, Inputs, Op};
use crate::kernel::{Caps, Kernel, Launches, Spread, count, params};
use crate::tensor::{DType, Spec, Tensor};
use crate::{Error, Result};

static GRID_SAMPLE: Kernel = Kernel::new("grid_sample", include_str!("../../shaders/grid_sample.wgsl"));

params!(
    struct Params {
        sizes: [u32; 4],
        points: u32,
        axes: u32,
        aligned: u32,
        outside: u32,
        items: u32,
        per_group: u32,
    }
);

/// Longest side.
const MAX_SIDE: usize = 1 << 20;

/// How values between pixels are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum GridFilter {
    /// The nearest pixel, ties to the even one.
    Nearest,
    /// A line between two neighbours along each axis.
    Linear,
    /// A cubic through four neighbours with the slope -0.75 (Keys 1981); of two axes only.
    Cubic,
}

/// What lies outside of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum GridPadding {
    /// Zeros.
    Zeros,
    /// The nearest pixel.
    Border,
    /// The image mirrored at its edges, or at the centres of its outermost pixels if corners are
    /// aligned.
    Reflection,
}

/// Coordinates beyond this many pixels, infinite ones too, are taken as this: indices do not overflow.
const FARTHEST: f64 = (1_u64 << 40) as f64;

/// Samples f32 images `[n, c, spatial..]` with two or three spatial axes at the places of an f32
/// grid `[n, points.., axes]`, whose last axis holds coordinates from -1 to 1 along width, height
/// and depth. Output: f32 `[n, c, points..]` (Jaderberg et al. 2015, "Spatial Transformer
/// Networks").
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridSample {
    /// How values between pixels are computed.
    pub filter: GridFilter,
    /// What lies outside.
    pub padding: GridPadding,
    /// Whether -1 and 1 are the centres of the outermost pixels, not their outer edges.
    pub align_corners: bool,
}

impl GridFilter {
    const fn wgsl(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Linear => "linear",
            Self::Cubic => "cubic",
        }
    }

    /// The first pixel that is read around a place, and how many.
    fn taps(self, place: f64) -> std::ops::Range<i64> {
        let place = place.clamp(-FARTHEST, FARTHEST);
        let (first, taps) = match self {
            Self::Nearest => (place.round_ties_even() as i64, 1),
            Self::Linear => (place.floor() as i64, 2),
            Self::Cubic => (place.floor() as i64 - 1, 4),
        };
        first..first + taps
    }

    fn weight(self, distance: f64) -> f64 {
        match self {
            Self::Nearest => 1.0,
            Self::Linear => (1.0 - distance).max(0.0),
            Self::Cubic if distance < 1.0 => (1.25 * distance - 2.25) * distance * distance + 1.0,
            Self::Cubic if distance < 2.0 => ((-0.75 * distance + 3.75) * distance - 6.0) * distance + 3.0,
            Self::Cubic => 0.0,
        }
    }
}

impl GridSample {
    /// Pixels of an axis with their weights for a coordinate.
    fn taps(&self, coordinate: f64, size: usize) -> Vec<(usize, f64)> {
        let (pixels, last) = (size as f64, size as i64 - 1);
        let place = if self.align_corners {
            (coordinate + 1.0) / 2.0 * (pixels - 1.0)
        } else {
            ((coordinate + 1.0) * pixels - 1.0) / 2.0
        };
        let aligned = i64::from(self.align_corners);
        let inside = |index: i64| match self.padding {
            GridPadding::Zeros => Some(index).filter(|index| (0..=last).contains(index)),
            GridPadding::Border => Some(index.clamp(0, last)),
            GridPadding::Reflection => {
                let rest = index.rem_euclid((2 * (last + 1 - aligned)).max(1));
                Some(rest.min(2 * last + 1 - aligned - rest).clamp(0, last))
            }
        };
        let tap =
            |index: i64| Some((inside(index)? as usize, self.filter.weight((index as f64 - place).abs())));
        self.filter.taps(place).filter_map(tap).collect()
    }
}

impl Op for GridSample {
    fn name(&self) -> &'static str {
        "grid_sample"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let [x, grid] = inputs.exactly(self)?;
        x.expect_dtype(self, "the images", &[DType::F32])?;
        grid.expect_dtype(self, "the grid", &[DType::F32])?;
        let fail = |message: String| Err(Error::op(self.name(), message));
        let ([n, channels, spatial @ ..], [of, points @ .., axes]) = (x.shape.dims(), grid.shape.dims())
        else {
            return fail(format!("takes images and a grid, got {x} and {grid}"));
        };
        let cubic = self.filter == GridFilter::Cubic;
        let fits = of == n && *axes == spatial.len() && points.len() == spatial.len();
        if !fits || !(2..=if cubic { 2 } else { 3 }).contains(&spatial.len()) {
            let most = if cubic { "2" } else { "2 or 3" };
            return fail(format!("takes images of {most} axes and a grid for them, got {x} and {grid}"));
        }
        if !spatial.iter().all(|side| (1..=MAX_SIDE).contains(side)) {
            return fail(format!("sides must be 1 to {MAX_SIDE}, got {x}"));
        }
        Ok(vec![Spec::f32([&[*n, *channels], points].concat())])
    }

    fn launch(&self, caps: &Caps, inputs: &[Spec], outputs: &[Spec]) -> Result<Launches> {
        let (dims, axes) = (inputs[0].shape.dims(), inputs[0].shape.rank() - 2);
        let side = |axis: usize| if axis < 3 - axes { 1 } else { count(dims[axis + axes - 1]) };
        let items = outputs[0].elements();
        let taps = self.filter.taps(0.0).count().pow(count(axes));
        let spread = Spread::of_loops(items, 2 * taps, caps);
        let params = Params {
            sizes: [side(0), side(1), side(2), count(dims[1])],
            points: count(outputs[0].shape.dims()[2..].iter().product()),
            axes: count(axes),
            aligned: u32::from(self.align_corners),
            outside: match self.padding {
                GridPadding::Zeros => 0,
                GridPadding::Border => 1,
                GridPadding::Reflection => 2,
            },
            items: spread.items,
            per_group: spread.per_group,
        };
        let launch = spread.launch(&GRID_SAMPLE).variant("filter", self.filter.wgsl());
        Ok(launch.params(params).bind_all(2, 1).work((items * taps) as u64).into())
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let [x, grid] = [&inputs[0], &inputs[1]];
        let output = self.infer(&[x.spec().clone(), grid.spec().clone()])?.remove(0);
        let (dims, axes) = (x.dims(), x.dims().len() - 2);
        let points: usize = output.shape.dims()[2..].iter().product();
        let (pixels, coordinates) = (x.to_f64(), grid.to_f64());
        let image: usize = dims[2..].iter().product();
        let mut values = Vec::with_capacity(output.elements());
        for item in 0..output.elements() {
            let (plane, point) = (item / points, item % points);
            let at = ((plane / dims[1]) * points + point) * axes;
            // Coordinates begin with the last axis.
            let taps: Vec<Vec<(usize, f64)>> =
                (0..axes).map(|axis| self.taps(coordinates[at + axes - 1 - axis], dims[axis + 2])).collect();
            let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
            let sum = indices(&counts).map(|tap| {
                let (mut place, mut weight) = (0, 1.0);
                for axis in 0..axes {
                    let (index, factor) = taps[axis][tap[axis]];
                    (place, weight) = (place * dims[axis + 2] + index, weight * factor);
                }
                weight * pixels[plane * image + place]
            });
            values.push(sum.sum());
        }
        Ok(vec![Tensor::from_f64(DType::F32, output.shape, &values)])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut random = Random::new(93);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize]); 4] = [
        (&[1, 1, 1, 1], &[1, 1]),
        (&[2, 3, 5, 7], &[4, 9]),
        (&[1, 5, 33, 31], &[17, 19]),
        (&[2, 2, 3, 4, 5], &[2, 3, 7]),
    ];
    for (dims, points) in shapes {
        for filter in [GridFilter::Nearest, GridFilter::Linear, GridFilter::Cubic] {
            if filter == GridFilter::Cubic && dims.len() == 5 {
                continue;
            }
            for padding in [GridPadding::Zeros, GridPadding::Border, GridPadding::Reflection] {
                for align_corners in [false, true] {
                    let op = GridSample { filter, padding, align_corners };
                    let grid = [&dims[..1], points, &[dims.len() - 2]].concat();
                    let inputs = vec![random.f32(dims), random.tensor(DType::F32, grid, 1.7)];
                    let name = format!("{dims:?} to {points:?} {filter:?} {padding:?} {align_corners}");
                    cases.push(Case::new(name, op, inputs));
                }
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of torch.nn.functional.grid_sample for one row 1, 2, 3 at -1.5, -0.5, 0.25 and 1.25.
    #[test]
    fn places_follow_torch() {
        let x = Tensor::from_f32([1, 1, 1, 3], &[1.0, 2.0, 3.0]);
        let grid = Tensor::from_f32([1, 1, 4, 2], &[-1.5, 0.0, -0.5, 0.0, 0.25, 0.0, 1.25, 0.0]);
        let sampled = |filter, padding, align_corners| {
            let op = GridSample { filter, padding, align_corners };
            op.reference(&[x.clone(), grid.clone()]).unwrap()[0].to_f32()
        };
        use {GridFilter as F, GridPadding as P};
        assert_eq!(sampled(F::Linear, P::Zeros, true), [0.5, 1.5, 2.25, 2.25]);
        assert_eq!(sampled(F::Linear, P::Border, false), [1.0, 1.25, 2.375, 3.0]);
        assert_eq!(sampled(F::Linear, P::Reflection, true), [1.5, 1.5, 2.25, 2.75]);
        assert_eq!(sampled(F::Nearest, P::Zeros, false), [0.0, 1.0, 2.0, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let op = |filter| GridSample { filter, padding: GridPadding::Zeros, align_corners: false };
        let infer = |filter, x: &[usize], grid: &[usize]| op(filter).infer(&[Spec::f32(x), Spec::f32(grid)]);
        assert!(infer(GridFilter::Linear, &[1, 2, 3, 4, 5], &[1, 2, 2, 2, 3]).is_ok());
        assert!(infer(GridFilter::Cubic, &[1, 2, 3, 4, 5], &[1, 2, 2, 2, 3]).is_err());
        assert!(infer(GridFilter::Linear, &[1, 2, 3, 4], &[2, 2, 2, 2]).is_err());
        assert!(infer(GridFilter::Linear, &[1, 2, 3, 4], &[1, 2, 2, 3]).is_err());
        assert!(infer(GridFilter::Linear, &[1, 2, 0, 4], &[1, 2, 2, 2]).is_err());
    }
}
