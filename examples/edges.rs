//! Finds the edges in a photo with two convolutions on the GPU, and writes them as a PNG file.
//!
//! `cargo run --release --example edges -- photo.jpg edges.png`

use std::path::Path;
use std::time::Instant;
use wginfer::gpu::Gpu;
use wginfer::vision::{Image, sobel_edges};

fn main() -> wginfer::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let photo = arguments.next().unwrap_or_else(|| "models/pretrained/digit-boxes/scene.png".into());
    let output = arguments.next().unwrap_or_else(|| "edges.png".into());

    let gpu = Gpu::new()?;
    let image = Image::open(Path::new(&photo))?;
    let started = Instant::now();
    let edges = sobel_edges(&gpu, &image)?;
    let (width, height, milliseconds) = (image.width(), image.height(), started.elapsed().as_millis());
    eprintln!("{width}x{height} pixels in {milliseconds} ms on {}", gpu.adapter());
    edges.write_png(Path::new(&output))
}
