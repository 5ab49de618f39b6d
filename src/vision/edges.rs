//! Brightness and edges of images, computed by the convolution kernels.
//!
//! Large images are computed in bands of rows, so that no buffer is over what a binding can see.

use super::Image;
use crate::gpu::Gpu;
use crate::graph::{Graph, ValueId};
use crate::kernel::Caps;
use crate::ops::{Conv, PixelChannel, Transpose, UnaryFn, UnpackPixels, Window};
use crate::session::{NoWeights, Session};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};
use std::sync::Arc;

/// Shares of red, green and blue in the brightness (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Sobel's windows, right less left and lower less upper neighbours, such that a step from 0 to 1
/// gives 1 (Sobel and Feldman 1968).
const SOBEL: [f32; 18] = [
    -0.25, 0.0, 0.25, -0.5, 0.0, 0.5, -0.25, 0.0, 0.25, //
    -0.25, -0.5, -0.25, 0.0, 0.0, 0.0, 0.25, 0.5, 0.25,
];

/// Pixels of a band at most, so that large images take little memory.
const BAND_PIXELS: u64 = 1 << 22;

/// Brightness of colours: f32 `[n, 3, height, width]` to `[n, 1, height, width]`, 0.299 red +
/// 0.587 green + 0.114 blue (ITU-R BT.601), as a 1x1 convolution.
///
/// # Errors
/// [`Error::Op`] when x has not three channels.
pub fn luma(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    conv(graph, x, "luma weights", ([1, 3, 1, 1], &LUMA), UnaryFn::Identity)
}

/// Strength of edges: f32 `[n, 1, height, width]` to `[n, 1, height - 2, width - 2]`, the length of
/// the gradient by Sobel's windows; 1 at a step from 0 to 1 along an axis, at most the root of 2.
///
/// # Errors
/// [`Error::Op`] when x has several channels or fewer than three rows or columns.
pub fn sobel(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
    let squares = conv(graph, x, "sobel windows", ([2, 1, 3, 3], &SOBEL), UnaryFn::Square)?;
    conv(graph, squares, "sobel sum", ([1, 2, 1, 1], &[1.0, 1.0]), UnaryFn::Sqrt)
}

fn conv(
    graph: &mut Graph,
    x: ValueId,
    name: &str,
    (dims, weights): ([usize; 4], &[f32]),
    activation: UnaryFn,
) -> Result<ValueId> {
    let weights = graph.constant(name, Arc::new(Tensor::from_f32(dims, weights)));
    let op = Conv { activation, ..Conv::new(Window::new([dims[2], dims[3]])) };
    graph.add_one(op, &[x, weights])
}

/// The image's brightness, in all three channels; see [`luma`].
///
/// # Errors
/// [`Error::Op`] for a row that is over the device's binding limit, or what the device says.
pub fn grayscale(gpu: &Gpu, image: &Image) -> Result<Image> {
    filter(gpu, image, 0, luma)
}

/// The image's edges, white on black, in all three channels; see [`sobel`]. Pixels at the border
/// are taken to go on beyond it; edges stronger than 1 are white.
///
/// # Errors
/// [`Error::Op`] for a row that is over the device's binding limit, or what the device says.
pub fn sobel_edges(gpu: &Gpu, image: &Image) -> Result<Image> {
    filter(gpu, image, 1, |graph, x| {
        let brightness = luma(graph, x)?;
        sobel(graph, brightness)
    })
}

/// Runs a network of one output channel, 0 to 1, that takes `border` pixels more on all sides.
fn filter(
    gpu: &Gpu,
    image: &Image,
    border: usize,
    network: impl FnOnce(&mut Graph, ValueId) -> Result<ValueId>,
) -> Result<Image> {
    let (height, width) = (image.height() as usize, image.width() as usize);
    let rows = band_rows(height, width, border, gpu.caps())?;
    let mut graph = Graph::new();
    let pixels = graph.input("pixels", Spec::u32([1, rows + 2 * border, width + 2 * border]));
    let channel = |byte| PixelChannel { byte, scale: 1.0 / 255.0, offset: 0.0 };
    let unpacked = graph.add_one(UnpackPixels { channels: [0, 1, 2].map(channel).to_vec() }, &[pixels])?;
    let planes = graph.add_one(Transpose { permutation: vec![0, 3, 1, 2] }, &[unpacked])?;
    let output = network(&mut graph, planes)?;
    graph.output("output", output);
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph], &NoWeights, &mut |_, _| {})?[0];
    let mut bytes = Vec::with_capacity(height * width * 3);
    while bytes.len() < height * width * 3 {
        // The last band begins early enough to be whole; what is known of it is left out.
        let (done, first) = (bytes.len() / (width * 3), (bytes.len() / (width * 3)).min(height - rows));
        let inputs = words(image, first, rows, border);
        let output = session.run(plan, &[("pixels", &inputs)], &["output"], &|| false)?.remove(0);
        let byte = |value: &f32| (value * 255.0).round() as u8;
        bytes.extend(output.to_f32()[(done - first) * width..].iter().flat_map(|value| [byte(value); 3]));
    }
    Image::from_rgb(image.width(), image.height(), bytes)
}

/// Rows that are computed at a time.
fn band_rows(height: usize, width: usize, border: usize, caps: &Caps) -> Result<usize> {
    // The largest values are the three channels in f32; sizes of buffers are rounded up.
    let row_bytes = 12 * (width + 2 * border) as u64;
    let limit = caps.max_binding_bytes.min(caps.max_buffer_bytes);
    let fitting = (limit / 16 * 16 / row_bytes).saturating_sub(2 * border as u64);
    if fitting == 0 {
        let message = format!("a row of {width} pixels is over the device's binding limit of {limit} bytes");
        return Err(Error::op("filter", message));
    }
    let most = fitting.min((BAND_PIXELS / width as u64).max(1));
    Ok(usize::try_from(most).unwrap_or(usize::MAX).min(height))
}

/// Rows of an image as words `0x00BBGGRR`, with the border repeated on all sides.
fn words(image: &Image, first: usize, rows: usize, border: usize) -> Vec<u8> {
    let (height, width) = (image.height() as usize, image.width() as usize);
    let inside = |place: usize, length: usize| place.saturating_sub(border).min(length - 1);
    let mut words = Vec::with_capacity((rows + 2 * border) * (width + 2 * border) * 4);
    for row in first..first + rows + 2 * border {
        for col in 0..width + 2 * border {
            let start = (inside(row, height) * width + inside(col, width)) * 3;
            words.extend_from_slice(&image.pixels()[start..start + 3]);
            words.push(0);
        }
    }
    words
}
