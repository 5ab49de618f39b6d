//! Preprocessing on a device: crop and resize of a photo, and the start of a network's graph.

use super::Image;
use crate::gpu::Gpu;
use crate::graph::{Graph, ValueId};
use crate::kernel::Caps;
use crate::models::preprocess::{Channels, Preprocess};
use crate::ops::{Concat, Resample, Taps, Transpose, UnpackPixels};
use crate::session::{NoWeights, PlanId, Session};
use crate::tensor::Spec;
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Photo sizes for which plans are kept; photos of one camera have one or two.
const KEPT_SIZES: usize = 4;

/// A photo in the size that a network takes: a word a pixel, `0x00BBGGRR`, `[height, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Number of rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// The words' bytes.
    pub bytes: Vec<u8>,
}

impl Pixels {
    /// The pixels as an image. Of a network that takes grey, all channels are equal.
    ///
    /// # Errors
    /// [`Error::Request`] when there are none.
    pub fn to_image(&self) -> Result<Image> {
        let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let rgb = self.bytes.as_chunks::<4>().0.iter().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]);
        Image::from_rgb(side(self.width), side(self.height), rgb.collect())
    }
}

/// Crops and resizes photos on a device.
#[derive(Debug)]
pub struct Preprocessor {
    gpu: Gpu,
    preprocess: Preprocess,
    budget: Option<u64>,
    /// Plans by the photo's height and width, the last used at the end.
    plans: Vec<([usize; 2], Resizing)>,
}

/// The plan for one size of photos.
#[derive(Debug)]
struct Resizing {
    session: Session,
    plan: PlanId,
    /// The photo's columns that are read.
    cols: Range<usize>,
    /// The photo's rows that are read, in parts that a binding can see.
    parts: Vec<(String, Range<usize>)>,
    outputs: [usize; 2],
}

impl Preprocessor {
    /// Makes ready; `budget` bounds all bytes on the device.
    pub fn new(gpu: &Gpu, preprocess: Preprocess, budget: Option<u64>) -> Self {
        Self { gpu: gpu.clone(), preprocess, budget, plans: Vec::new() }
    }

    /// The steps.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Crops and resizes a photo.
    ///
    /// # Errors
    /// [`Error::Request`] for a photo that is too narrow, [`Error::Budget`], or what the device
    /// says.
    pub fn run(&mut self, photo: &Image, cancelled: &dyn Fn() -> bool) -> Result<Pixels> {
        let size = [photo.height() as usize, photo.width() as usize];
        if let Some(place) = self.plans.iter().position(|(known, _)| *known == size) {
            self.plans[place..].rotate_left(1);
        } else {
            if self.plans.len() == KEPT_SIZES {
                self.plans.remove(0);
            }
            let plan = Resizing::new(&self.gpu, &self.preprocess, size, self.budget)?;
            self.plans.push((size, plan));
        }
        let (_, resizing) = self.plans.last_mut().expect("the plan stands at the end now");
        let gray = self.preprocess.channels == Channels::Gray;
        let words: Vec<Vec<u8>> = resizing
            .parts
            .iter()
            .map(|(_, rows)| words(photo, rows.clone(), resizing.cols.clone(), gray))
            .collect();
        let inputs: Vec<(&str, &[u8])> = resizing
            .parts
            .iter()
            .zip(&words)
            .map(|((name, _), words)| (name.as_str(), words.as_slice()))
            .collect();
        let result = resizing.session.run(resizing.plan, &inputs, &["pixels"], cancelled)?;
        let [height, width] = resizing.outputs;
        Ok(Pixels { height, width, bytes: result[0].bytes().to_vec() })
    }
}

impl Resizing {
    fn new(gpu: &Gpu, preprocess: &Preprocess, size: [usize; 2], budget: Option<u64>) -> Result<Self> {
        let axes = preprocess.axes(size)?;
        let ((row_taps, rows), (col_taps, cols)) =
            (axes[0].taps(preprocess.filter), axes[1].taps(preprocess.filter));
        let parts: Vec<(String, Range<usize>)> = row_parts(rows, cols.len(), gpu.caps())?
            .into_iter()
            .enumerate()
            .map(|(index, part)| (format!("rows {index}"), part))
            .collect();
        let graph = resize_graph(&parts, cols.len(), &row_taps, &col_taps)?;
        let mut session = Session::new(gpu, budget);
        let plan = session.add(vec![graph], &NoWeights, &mut |_, _| {})?;
        Ok(Self { session, plan: plan[0], cols, parts, outputs: [axes[0].outputs, axes[1].outputs] })
    }
}

/// The horizontal pass over each part of the rows, then the vertical one over all.
fn resize_graph(
    parts: &[(String, Range<usize>)],
    cols: usize,
    row_taps: &[Taps],
    col_taps: &[Taps],
) -> Result<Graph> {
    let mut graph = Graph::new();
    let col_table = graph.constant("columns", Arc::new(Taps::table(col_taps)));
    let row_table = graph.constant("rows", Arc::new(Taps::table(row_taps)));
    let mut narrow = Vec::with_capacity(parts.len());
    for (name, rows) in parts {
        let pixels = graph.input(name.clone(), Spec::u32([rows.len(), cols]));
        narrow.push(graph.add_one(Resample { axis: 1 }, &[pixels, col_table])?);
    }
    let narrow = match narrow[..] {
        [only] => only,
        _ => graph.add_one(Concat { axis: 0 }, &narrow)?,
    };
    let pixels = graph.add_one(Resample { axis: 0 }, &[narrow, row_table])?;
    graph.output("pixels", pixels);
    Ok(graph)
}

/// Splits rows of so many pixels into parts that a binding can see.
fn row_parts(rows: Range<usize>, cols: usize, caps: &Caps) -> Result<Vec<Range<usize>>> {
    let limit = caps.max_binding_bytes.min(caps.max_buffer_bytes);
    let most = usize::try_from(limit / (4 * cols as u64)).unwrap_or(usize::MAX);
    if most == 0 {
        let message = format!("a row of {cols} pixels is over the device's binding limit of {limit} bytes");
        return Err(Error::op("resample", message));
    }
    let end = rows.end;
    Ok(rows.step_by(most).map(|start| start..end.min(start + most)).collect())
}

/// A part of a photo as words `0x00BBGGRR`, or with the brightness in all three bytes.
fn words(photo: &Image, rows: Range<usize>, cols: Range<usize>, gray: bool) -> Vec<u8> {
    let row_bytes = photo.width() as usize * 3;
    let mut words = Vec::with_capacity(rows.len() * cols.len() * 4);
    for row in photo.pixels().chunks_exact(row_bytes).skip(rows.start).take(rows.len()) {
        for &[red, green, blue] in row[cols.start * 3..cols.end * 3].as_chunks::<3>().0 {
            if gray {
                words.extend([brightness(red, green, blue); 3]);
                words.push(0);
            } else {
                words.extend([red, green, blue, 0]);
            }
        }
    }
    words
}

/// Brightness by ITU-R BT.601 in 16 fractional bits, rounded as the Python Imaging Library does.
fn brightness(red: u8, green: u8, blue: u8) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// Puts the start of a network in a graph: the input "pixels" of `n` resized photos (words
/// `[n, height, width]`, see [`Pixels`]) as f32 `[n, channels, height, width]`.
///
/// # Errors
/// [`Error::Op`] for sizes that cannot be.
pub fn network_input(
    graph: &mut Graph,
    preprocess: &Preprocess,
    n: usize,
    size: [usize; 2],
) -> Result<ValueId> {
    graph.scope("preprocess", |graph| {
        let pixels = graph.input("pixels", Spec::u32([n, size[0], size[1]]));
        let last = graph.add_one(UnpackPixels { channels: preprocess.pixel_channels() }, &[pixels])?;
        graph.add_one(Transpose { permutation: vec![0, 3, 1, 2] }, &[last])
    })
}
