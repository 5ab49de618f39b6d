//! Photos as pixels: PNG, JPEG and WebP, upright, in 8-bit RGB.

use super::jpeg;
use crate::error::contained;
use crate::json::read_bytes;
use crate::{Error, Result};
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, Limits};
use std::io::Cursor;
use std::path::Path;

/// Bytes that a decoder may take besides its output: for rows, tables and colour profiles.
const DECODER_BYTES: u64 = 64 << 20;

/// What is decoded at most; more is an error before anything is allocated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of a file.
    pub file_bytes: u64,
    /// Pixels along a side.
    pub side: u32,
    /// Pixels in all.
    pub pixels: u64,
}

impl Default for ImageLimits {
    /// 256 MiB, 65,535 pixels a side, 100 million pixels.
    fn default() -> Self {
        Self { file_bytes: 256 << 20, side: 65_535, pixels: 100_000_000 }
    }
}

/// An image of 8-bit RGB pixels, rows from top to bottom.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Image {
    /// Makes an image from the bytes of its pixels, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`Error::Request`] when a side is 0 or the number of bytes is another.
    pub fn from_rgb(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self> {
        let wanted = u64::from(width) * u64::from(height) * 3;
        if wanted == 0 || wanted != pixels.len() as u64 {
            let got = pixels.len();
            return Err(Error::Request(format!(
                "an image of {width}x{height} pixels has {wanted} bytes, at least 3; got {got}"
            )));
        }
        Ok(Self { width, height, pixels })
    }

    /// Reads a file with the default limits; see [`open_within`](Self::open_within).
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_within(path, ImageLimits::default())
    }

    /// Reads a PNG, JPEG or WebP file (told by its content, not its name) as RGB, turned upright
    /// by its EXIF orientation. Alpha is dropped, the lower byte of 16-bit channels as well, grey
    /// becomes three equal channels, CMYK is converted without colour profile; of an animation
    /// the first frame is taken.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] for what is not there, no such image, broken, truncated, empty, or
    /// over the limits.
    pub fn open_within(path: &Path, limits: ImageLimits) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::file(path, "expected a PNG, JPEG or WebP image, got a folder"));
        }
        let bytes = read_bytes(path, limits.file_bytes)?;
        decode(&bytes.ok_or_else(|| Error::file(path, "no such file"))?, path, limits)
    }

    /// Decodes the bytes of a file; as [`open`](Self::open).
    ///
    /// # Errors
    /// As there; the path named is "image".
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::decode_within(bytes, ImageLimits::default())
    }

    /// Decodes the bytes of a file; as [`open_within`](Self::open_within).
    ///
    /// # Errors
    /// As there; the path named is "image".
    pub fn decode_within(bytes: &[u8], limits: ImageLimits) -> Result<Self> {
        decode(bytes, Path::new("image"), limits)
    }

    /// Pixels of a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes `[height, width, 3]`, channels red, green, blue.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes, to be changed.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    /// [`Error::File`] with what the system says.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        let format = image::ExtendedColorType::Rgb8;
        image::save_buffer_with_format(path, &self.pixels, self.width, self.height, format, ImageFormat::Png)
            .map_err(|error| Error::file(path, error.to_string()))
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}

/// Decodes bytes; a panic of a decoder is an error of the file.
fn decode(bytes: &[u8], path: &Path, limits: ImageLimits) -> Result<Image> {
    let decoded = contained("the decoder", || decode_format(bytes, path, limits));
    decoded.unwrap_or_else(|message| Err(Error::file(path, format!("cannot be decoded: {message}"))))
}

fn decode_format(bytes: &[u8], path: &Path, limits: ImageLimits) -> Result<Image> {
    let mut limit = Limits::no_limits();
    limit.max_alloc = Some(DECODER_BYTES);
    let data = Cursor::new(bytes);
    let warn = || log::warn!("{}: an animation; its first frame is taken", path.display());
    let reader = Reader { path, limits };
    match image::guess_format(bytes).ok() {
        Some(ImageFormat::Png) => {
            let decoder =
                PngDecoder::with_limits(data, limit).map_err(|error| reader.error("PNG", &error))?;
            if decoder.is_apng().unwrap_or(false) {
                warn();
            }
            reader.read("PNG", decoder)
        }
        Some(ImageFormat::Jpeg) => {
            jpeg::check_complete(bytes).map_err(|message| Error::file(path, format!("JPEG is {message}")))?;
            reader.read("JPEG", JpegDecoder::new(data).map_err(|error| reader.error("JPEG", &error))?)
        }
        Some(ImageFormat::WebP) => {
            let decoder = WebPDecoder::new(data).map_err(|error| reader.error("WebP", &error))?;
            if decoder.has_animation() {
                warn();
            }
            reader.read("WebP", decoder)
        }
        Some(other) => Err(Error::file(path, format!("expected a PNG, JPEG or WebP image, got {other:?}"))),
        None if bytes.is_empty() => {
            Err(Error::file(path, "expected a PNG, JPEG or WebP image, got an empty file"))
        }
        None => Err(Error::file(path, "not an image: expected PNG, JPEG or WebP")),
    }
}

/// Where an image comes from, for errors, and how large it may be.
struct Reader<'a> {
    path: &'a Path,
    limits: ImageLimits,
}

impl Reader<'_> {
    fn error(&self, format: &str, error: &image::ImageError) -> Error {
        use image::error::ImageError;
        let message = match error {
            ImageError::IoError(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                format!("{format} is truncated")
            }
            ImageError::Limits(_) => {
                format!("{format} needs more than {DECODER_BYTES} bytes besides its pixels")
            }
            other => format!("{format} cannot be decoded: {other}"),
        };
        Error::file(self.path, message)
    }

    fn read(&self, format: &str, mut decoder: impl ImageDecoder) -> Result<Image> {
        let ((width, height), limits) = (decoder.dimensions(), self.limits);
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(Error::file(self.path, format!("{format} has no pixels: it is {width}x{height}")));
        }
        if width.max(height) > limits.side || pixels > limits.pixels {
            let (side, most) = (limits.side, limits.pixels);
            return Err(Error::file(
                self.path,
                format!(
                    "{format} is {width}x{height}, at most {side} pixels a side and {most} in all are read"
                ),
            ));
        }
        // Broken metadata are no reason to refuse a photo.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(|error| self.error(format, &error))?;
        image.apply_orientation(orientation);
        let (width, height) = (image.width(), image.height());
        Image::from_rgb(width, height, rgb_bytes(image))
    }
}

/// The pixels as RGB: of 16 bits the higher byte, as the Python Imaging Library reads colours.
fn rgb_bytes(image: DynamicImage) -> Vec<u8> {
    let high = |channel: &u16| channel.to_be_bytes()[0];
    match image {
        DynamicImage::ImageLuma16(image) => image.iter().flat_map(|grey| [high(grey); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|pixel| [high(&pixel.0[0]); 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => image.iter().map(high).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|pixel| [0, 1, 2].map(|channel| high(&pixel.0[channel]))).collect()
        }
        other => other.into_rgb8().into_raw(),
    }
}
