//! Brightness and edges on the GPU against plain loops.

mod common;

use wginfer::gpu::Gpu;
use wginfer::kernel::{Caps, Form};
use wginfer::vision::{Image, grayscale, sobel_edges};

/// An image with all kinds of steps in it.
fn image(width: u32, height: u32) -> Image {
    let byte = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & if i % 7 < 3 { 0xff } else { 0x1f };
    Image::from_rgb(width, height, (0..width * height * 3).map(byte).collect()).unwrap()
}

/// Brightness from 0 to 1 at a place; beyond the border it is that of the border.
fn brightness(image: &Image, row: i64, col: i64) -> f64 {
    let row = row.clamp(0, i64::from(image.height()) - 1);
    let col = col.clamp(0, i64::from(image.width()) - 1);
    let start = usize::try_from((row * i64::from(image.width()) + col) * 3).unwrap();
    let [red, green, blue] = [0, 1, 2].map(|channel| f64::from(image.pixels()[start + channel]));
    (0.299 * red + 0.587 * green + 0.114 * blue) / 255.0
}

/// Length of the gradient by Sobel's windows.
fn edge(image: &Image, row: i64, col: i64) -> f64 {
    let at = |rows: i64, cols: i64| brightness(image, row + rows, col + cols);
    let side = |d: i64| at(-1, d) + 2.0 * at(0, d) + at(1, d);
    let line = |d: i64| at(d, -1) + 2.0 * at(d, 0) + at(d, 1);
    ((side(1) - side(-1)) / 4.0).hypot((line(1) - line(-1)) / 4.0).min(1.0)
}

/// The values of all pixels, times 255.
fn each(image: &Image, value: impl Fn(&Image, i64, i64) -> f64) -> Vec<f64> {
    let (height, width) = (i64::from(image.height()), i64::from(image.width()));
    (0..height * width).map(|i| 255.0 * value(image, i / width, i % width)).collect()
}

/// Where an image is not within half a level (and what f32 loses) of these values, or not grey.
fn mismatch(got: &Image, want: &[f64]) -> Option<String> {
    let pixels: Vec<&[u8]> = got.pixels().chunks(3).collect();
    let good =
        |(pixel, want): (&&[u8], &f64)| pixel.iter().all(|&byte| (f64::from(byte) - want).abs() < 0.501);
    let wrong = pixels.iter().zip(want).position(|pair| !good(pair));
    match wrong {
        Some(at) => Some(format!("pixel {at}: got {:?}, want {}", pixels[at], want[at])),
        None => (pixels.len() != want.len()).then(|| format!("{} pixels", pixels.len())),
    }
}

fn check(gpu: &Gpu, image: &Image) -> Vec<String> {
    let gray = mismatch(&grayscale(gpu, image).unwrap(), &each(image, brightness));
    let edges = mismatch(&sobel_edges(gpu, image).unwrap(), &each(image, edge));
    let named =
        |what: &str, found: Option<String>| found.map(|found| format!("{what} of {image:?}: {found}"));
    [named("brightness", gray), named("edges", edges)].into_iter().flatten().collect()
}

#[test]
fn brightness_and_edges_are_those_of_plain_loops() {
    let Some(gpu) = common::gpu() else { return };
    let mut failures = Vec::new();
    for form in [Form::Software, Form::Subgroup, Form::Plain] {
        let gpu = gpu.with_caps(gpu.caps().clone().with_form(form));
        for (width, height) in [(1, 1), (1, 5), (4, 1), (2, 2), (31, 17), (64, 33)] {
            failures.extend(check(&gpu, &image(width, height)).iter().map(|it| format!("{form:?}: {it}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Bands of a few rows give the same image, also where the last one overlaps.
#[test]
fn images_over_the_binding_limit_are_computed_in_bands() {
    let Some(gpu) = common::gpu() else { return };
    let small = gpu.with_caps(Caps { max_binding_bytes: 12 * 33 * 6, ..gpu.caps().clone() });
    for height in [1, 4, 5, 11, 12] {
        assert_eq!(check(&small, &image(31, height)), Vec::<String>::new());
    }
    let tiny = gpu.with_caps(Caps { max_binding_bytes: 500, ..gpu.caps().clone() });
    let error = sobel_edges(&tiny, &image(31, 9)).unwrap_err().to_string();
    assert!(error.contains("a row of 31 pixels is over the device's binding limit"), "{error}");
}

/// A white square on black: its border is white, all else black.
#[test]
fn a_square_has_four_edges() {
    let Some(gpu) = common::gpu() else { return };
    let inside = |i: usize| (4..12).contains(&(i / 16)) && (4..12).contains(&(i % 16));
    let pixels = (0..256).flat_map(|i| [if inside(i) { 255 } else { 0 }; 3]).collect();
    let edges = sobel_edges(gpu, &Image::from_rgb(16, 16, pixels).unwrap()).unwrap();
    let at = |row: usize, col: usize| edges.pixels()[(row * 16 + col) * 3];
    assert_eq!((at(8, 3), at(8, 4), at(3, 8), at(11, 8), at(12, 8)), (255, 255, 255, 255, 255));
    assert_eq!((at(8, 8), at(1, 1), at(8, 2), at(14, 8)), (0, 0, 0, 0));
}
