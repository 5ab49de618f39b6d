//! Photos: decoding, and what of the preprocessing runs on the host.

use super::guarded;
use wginfer::ops::{Op, Resample, ResampleFilter, Taps};
use wginfer::tensor::{Spec, Tensor};
use wginfer::vision::{Channels, Image, ImageLimits, Preprocess};

/// Sizes that decode in milliseconds.
const LIMITS: ImageLimits = ImageLimits { file_bytes: 1 << 20, side: 4096, pixels: 1 << 18 };
/// Pixels of a photo that is resized.
const MOST_PIXELS: usize = 1 << 12;

/// The bytes are the file. Panics of decoders that the library turns into errors are none of ours.
pub(crate) fn images(data: &[u8]) {
    guarded(read, data);
}

fn read(data: &[u8]) {
    let Ok(image) = Image::decode_within(data, LIMITS) else { return };
    let size = [image.height() as usize, image.width() as usize];
    assert_eq!(image.pixels().len(), 3 * size[0] * size[1], "bytes of an image");
    if size[0] * size[1] > MOST_PIXELS {
        return;
    }
    let steps = [
        Preprocess::imagenet(9, 8, ResampleFilter::Bicubic),
        Preprocess::square(7, Channels::Gray, 1.0, [0.0; 3], [1.0; 3]),
    ];
    for preprocess in steps {
        let Ok(axes) = preprocess.axes(size) else { continue };
        let (taps, rows) = axes[0].taps(preprocess.filter);
        let cols = size[1];
        let words: Vec<u8> = image.pixels()[3 * cols * rows.start..3 * cols * rows.end]
            .chunks(3)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 0])
            .collect();
        let pixels = Tensor::from_bytes(Spec::u32([rows.len(), cols]), words);
        let resized = Resample { axis: 0 }.reference(&[pixels, Taps::table(&taps)]);
        assert!(resized.is_ok(), "rows of a photo that has an axis are resized: {resized:?}");
    }
}
