//! Cases of resizing.

use super::super::cases::{Case, Random};
use super::{Coordinates, NearestRounding, Resize, ResizeFilter};
use crate::ops::ImageOrder;

/// Every kind of resizing to a size.
fn kinds(size: &[usize]) -> Vec<Resize> {
    let mut kinds = vec![
        Resize::nearest(size),
        Resize::nearest_exact(size),
        Resize::bilinear(size),
        Resize::bilinear(size).antialiased(),
        Resize::bilinear_aligned(size),
        Resize::bicubic(size),
        Resize::bicubic(size).antialiased(),
        Resize::new(size, ResizeFilter::Linear, Coordinates::Asymmetric),
        Resize::new(size, ResizeFilter::Cubic(-0.6), Coordinates::PytorchHalfPixel),
        Resize::new(size, ResizeFilter::Cubic(-0.75), Coordinates::AlignCorners),
    ];
    for rounding in [NearestRounding::Ceil, NearestRounding::PreferFloor] {
        let filter = ResizeFilter::Nearest(rounding);
        kinds.extend(
            [Coordinates::HalfPixel, Coordinates::AlignCorners]
                .map(|coordinates| Resize::new(size, filter, coordinates)),
        );
    }
    kinds
}

pub(in super::super) fn cases() -> Vec<Case> {
    let mut random = Random::new(71);
    let mut cases = Vec::new();
    let mut add = |op: Resize, dims: &[usize]| {
        let name = format!("{dims:?} to {:?} {:?} {:?}", op.size, op.filter, op.coordinates);
        cases.push(Case::new(name, op, vec![random.f32(dims)]));
    };
    for (dims, size) in [([1, 1, 1, 1], [1, 1]), ([2, 3, 5, 7], [9, 4]), ([1, 2, 6, 5], [3, 13])] {
        kinds(&size).into_iter().for_each(|op| add(op, &dims));
    }
    let kinds_of_few = |size: &[usize]| {
        [Resize::nearest(size), Resize::bilinear(size), Resize::bilinear_aligned(size), Resize::bicubic(size)]
    };
    for op in kinds_of_few(&[11]).into_iter().chain([Resize::bilinear([2]).antialiased()]) {
        add(op, &[2, 3, 7]);
    }
    for op in kinds_of_few(&[3, 6, 5]).into_iter().chain([Resize::bilinear([2, 2, 3]).antialiased()]) {
        add(op, &[2, 2, 2, 3, 7]);
    }
    for dims in [[2, 5, 7, 3], [2, 5, 7, 8], [1, 4, 4, 68]] {
        for op in kinds_of_few(&[10, 6]).into_iter().chain([Resize::bicubic([2, 3]).antialiased()]) {
            add(Resize { order: ImageOrder::ChannelsLast, ..op }, &dims);
        }
    }
    let wide = Resize::bilinear([64, 64]);
    add(wide.clone(), &[1, 4, 33, 31]);
    add(Resize { order: ImageOrder::ChannelsLast, ..wide }, &[1, 32, 32, 16]);
    // More pixels to one than all loops of an invocation may take together on some adapters.
    add(Resize::bicubic([2, 3]).antialiased(), &[1, 1, 3, 20_000]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::resize::MAX_SIDE;
    use crate::tensor::{Shape, Spec, Tensor};

    /// A way of resizing, and what it makes of five pixels: three and eight.
    type Line = (fn([usize; 1]) -> Resize, [f32; 3], [f32; 8]);

    fn resized(op: &Resize, shape: impl Into<Shape>, values: &[f32]) -> Vec<f32> {
        op.reference(&[Tensor::from_f32(shape, values)]).unwrap()[0].to_f32()
    }

    fn assert_near(what: &Resize, got: &[f32], want: &[f32]) {
        let near = got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-6);
        assert!(near, "{what:?}: got {got:?}, want {want:?}");
    }

    /// Five pixels to 3 and to 8 as torch.nn.functional.interpolate computes them.
    #[test]
    fn lines_follow_torch() {
        let x = [1.0, 2.0, 4.0, 3.0, -1.0];
        let aligned = |size| Resize { coordinates: Coordinates::AlignCorners, ..Resize::bicubic(size) };
        #[rustfmt::skip]
        let table: [Line; 8] = [
            (Resize::nearest, [1.0, 2.0, 3.0], [1.0, 1.0, 2.0, 2.0, 4.0, 3.0, 3.0, -1.0]),
            (Resize::nearest_exact, [1.0, 4.0, -1.0], [1.0, 1.0, 2.0, 4.0, 4.0, 3.0, -1.0, -1.0]),
            (Resize::bilinear, [1.333333, 4.0, 0.333333],
                [1.0, 1.4375, 2.125, 3.375, 3.6875, 3.0625, 0.75, -1.0]),
            (Resize::bilinear_aligned, [1.0, 4.0, -1.0],
                [1.0, 1.571429, 2.285714, 3.428571, 3.714286, 3.142857, 1.285714, -1.0]),
            (Resize::bicubic, [1.203704, 4.0, 0.203704],
                [0.907165, 1.268311, 2.143311, 3.576416, 4.130615, 3.219971, 0.638489, -1.371338]),
            (aligned, [1.0, 4.0, -1.0],
                [1.0, 1.370262, 2.333819, 3.625364, 4.129738, 3.462099, 1.215743, -1.0]),
            (|size| Resize::bilinear(size).antialiased(), [1.428571, 3.333333, 0.714286],
                [1.0, 1.4375, 2.125, 3.375, 3.6875, 3.0625, 0.75, -1.0]),
            (|size| Resize::bicubic(size).antialiased(), [1.384615, 3.55814, 0.692308],
                [0.928044, 1.294098, 2.103027, 3.562988, 4.009766, 3.150391, 0.528828, -1.287823]),
        ];
        for (op, three, eight) in table {
            assert_near(&op([3]), &resized(&op([3]), [1, 1, 5], &x), &three);
            assert_near(&op([8]), &resized(&op([8]), [1, 1, 5], &x), &eight);
        }
    }

    /// `[5, 6]` pixels of i^2 / 100 to `[4, 3]`, with torch's antialiasing.
    #[test]
    fn planes_follow_torch() {
        let x: Vec<f32> = (0..30u16).map(|i| f32::from(i * i) / 100.0).collect();
        #[rustfmt::skip]
        let table = [
            (Resize::bicubic([4, 3]).antialiased(), [0.024838, 0.118126, 0.284612, 0.777603, 1.158217,
                1.612027, 2.702065, 3.382774, 4.136679, 5.63443, 6.602464, 7.643694]),
            (Resize::bilinear([4, 3]).antialiased(), [0.121429, 0.235, 0.407143, 0.941429, 1.305,
                1.727143, 2.721429, 3.335, 4.007143, 5.461429, 6.325, 7.247143]),
        ];
        for (op, want) in table {
            assert_near(&op, &resized(&op, [1, 1, 5, 6], &x), &want);
        }
    }

    /// ONNX's roundings of the place 1/2, 3/2 ..., and its one pixel of pytorch_half_pixel.
    #[test]
    fn roundings_follow_onnx() {
        let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let nearest = |rounding, coordinates, size: usize| {
            resized(&Resize::new([size], ResizeFilter::Nearest(rounding), coordinates), [1, 1, 6], &x)
        };
        let half = |rounding| nearest(rounding, Coordinates::HalfPixel, 3);
        assert_eq!(half(NearestRounding::Floor), [0.0, 2.0, 4.0]);
        assert_eq!(half(NearestRounding::Ceil), [1.0, 3.0, 5.0]);
        assert_eq!(half(NearestRounding::PreferFloor), [0.0, 2.0, 4.0]);
        assert_eq!(half(NearestRounding::PreferCeil), [1.0, 3.0, 5.0]);
        assert_eq!(nearest(NearestRounding::PreferFloor, Coordinates::AlignCorners, 3), [0.0, 2.0, 5.0]);
        assert_eq!(nearest(NearestRounding::Floor, Coordinates::HalfPixel, 1), [2.0]);
        assert_eq!(nearest(NearestRounding::Floor, Coordinates::PytorchHalfPixel, 1), [0.0]);
    }

    #[test]
    fn what_cannot_be_resized_is_refused() {
        let infer = |op: Resize, dims: &[usize]| op.infer(&[Spec::f32(dims)]);
        assert!(infer(Resize::nearest([4, 4]), &[1, 3, 2, 2]).is_ok());
        assert!(infer(Resize::nearest([4]), &[1, 3, 2, 2]).is_err());
        assert!(infer(Resize::nearest([0, 4]), &[1, 3, 2, 2]).is_err());
        assert!(infer(Resize::nearest([4, 4]), &[1, 3, 0, 2]).is_err());
        assert!(infer(Resize::nearest([4, 4]).antialiased(), &[1, 3, 2, 2]).is_err());
        assert!(infer(Resize::nearest([4, MAX_SIDE + 1]), &[1, 3, 2, 2]).is_err());
        let (op, spec) = (Resize::bilinear([100_003]), Spec::f32([1, 1, 100_019]));
        let outputs = op.infer(std::slice::from_ref(&spec)).unwrap();
        let error = op.launch(&crate::kernel::Caps::webgpu_minimum(), &[spec], &outputs).unwrap_err();
        assert!(error.to_string().contains("in 32 bits"), "{error}");
    }
}
