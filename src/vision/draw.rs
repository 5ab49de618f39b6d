//! Boxes and labels on images.

use super::detection::{BoundingBox, Detection};
use super::{Image, font};

/// Colours of the boxes; classes take them in turn.
const COLOURS: [[u8; 3]; 8] = [
    [230, 25, 75],
    [60, 180, 75],
    [0, 130, 200],
    [245, 130, 48],
    [145, 30, 180],
    [70, 160, 160],
    [240, 50, 230],
    [128, 128, 0],
];

/// Draws each detection: its box, and above it (or inside, at the upper border) what `text` says.
pub fn draw_detections(image: &mut Image, detections: &[Detection], text: impl Fn(&Detection) -> String) {
    // Lines and letters grow with the photo, so that they can be seen in it.
    let scale = (image.width().min(image.height()) as usize).div_ceil(240);
    // The best lie on top.
    for detection in detections.iter().rev() {
        let colour = COLOURS[detection.class % COLOURS.len()];
        draw_box(image, &detection.bounds, colour, 2 * scale);
        let (left, top) = (detection.bounds.left as usize, detection.bounds.top as usize);
        draw_label(image, left, top, &text(detection), colour, scale);
    }
}

/// Draws the border of a box, `thickness` pixels inwards.
fn draw_box(image: &mut Image, bounds: &BoundingBox, colour: [u8; 3], thickness: usize) {
    // Casts saturate: boxes may reach beyond the image.
    let (left, top) = (bounds.left.floor() as usize, bounds.top.floor() as usize);
    let (right, bottom) = (bounds.right.ceil() as usize, bounds.bottom.ceil() as usize);
    let (inner_left, inner_top) =
        (left.saturating_add(thickness).min(right), top.saturating_add(thickness).min(bottom));
    let inner_right = right.saturating_sub(thickness).max(left);
    let inner_bottom = bottom.saturating_sub(thickness).max(top);
    fill(image, left..right, top..inner_top, colour);
    fill(image, left..right, inner_bottom..bottom, colour);
    fill(image, left..inner_left, top..bottom, colour);
    fill(image, inner_right..right, top..bottom, colour);
}

/// Writes white text on a coloured bar whose lower left corner is there, moved into the image.
fn draw_label(image: &mut Image, left: usize, top: usize, text: &str, colour: [u8; 3], scale: usize) {
    let (advance, height) = ((font::WIDTH + 1) * scale, (font::HEIGHT + 2) * scale);
    let width = text.chars().count() * advance + scale;
    let left = left.min((image.width() as usize).saturating_sub(width));
    let top = top.saturating_sub(height);
    fill(image, left..left + width, top..top + height, colour);
    for (index, letter) in text.chars().enumerate() {
        for row in 0..font::HEIGHT {
            for col in (0..font::WIDTH).filter(|&col| font::has_dot(letter, row, col)) {
                let x = left + scale + index * advance + col * scale;
                let y = top + scale + row * scale;
                fill(image, x..x + scale, y..y + scale, [255; 3]);
            }
        }
    }
}

/// Fills a rectangle, as far as it lies in the image.
fn fill(image: &mut Image, cols: std::ops::Range<usize>, rows: std::ops::Range<usize>, colour: [u8; 3]) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (start, end) = (cols.start.min(width), cols.end.min(width));
    for row in rows.start.min(height)..rows.end.min(height) {
        for pixel in image.pixels_mut()[(row * width + start) * 3..(row * width + end.max(start)) * 3]
            .as_chunks_mut()
            .0
        {
            *pixel = colour;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(width: u32, height: u32, bounds: [f32; 4], text: &str) -> Vec<String> {
        let mut image = Image::from_rgb(width, height, vec![0; (width * height * 3) as usize]).unwrap();
        let [left, top, right, bottom] = bounds;
        let bounds = BoundingBox { left, top, right, bottom };
        draw_detections(&mut image, &[Detection { class: 0, score: 0.5, bounds }], |_| text.to_owned());
        let letter = |pixel: &[u8]| match pixel {
            [0, 0, 0] => '.',
            [255, 255, 255] => '#',
            _ => 'o',
        };
        let rows = image.pixels().chunks(width as usize * 3);
        rows.map(|row| row.chunks(3).map(letter).collect()).collect()
    }

    #[test]
    fn boxes_are_hollow_and_labels_readable() {
        let want = [
            "..ooooooo..",
            "..oo###oo..",
            "..o#ooo#o..",
            "..o#ooo#o..",
            "..o#ooo#o..",
            "..o#####o..",
            "..o#ooo#o..",
            "..o#ooo#o..",
            "..ooooooo..",
            "..ooooooooo",
            "..ooooooooo",
            "..oo.....oo",
            "..ooooooooo",
            "..ooooooooo",
        ];
        assert_eq!(draw(11, 14, [2.0, 9.0, 11.0, 14.0], "A"), want);
    }

    /// What reaches beyond the image is cut, also where numbers are absurd.
    #[test]
    fn everything_stays_in_the_image() {
        let table = [
            [-5.0, -5.0, 3.0, 3.0],
            [9.0, 9.0, 400.0, 1e30],
            [8.0, 8.0, 2.0, 2.0],
            [50.0, 50.0, 60.0, 60.0],
            [0.0, 0.0, 0.0, 0.0],
            [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, f32::NAN],
        ];
        for bounds in table {
            assert_eq!(draw(10, 10, bounds, "a long label \u{e9}").len(), 10);
        }
    }
}
