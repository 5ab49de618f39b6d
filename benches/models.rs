//! Speed of language models and of networks for images with random weights; see also
//! `wginfer bench text` and `wginfer bench vision`.
//!
//! `cargo bench --bench models`

use std::time::Instant;
use wginfer::bench::{ImageShape, ModelShape, TextRuns, measure_image_shape, measure_shape};
use wginfer::gpu::Gpu;
use wginfer::tensor::DType;

fn main() -> wginfer::Result<()> {
    let runs = TextRuns { runs: 5, length: None };
    for shape in ModelShape::ALL {
        // Each shape gets a device of its own, so that its first token compiles its shaders.
        let started = Instant::now();
        println!("{}", measure_shape(&Gpu::new()?, shape, DType::F32, runs, started)?);
    }
    for shape in ImageShape::ALL {
        let started = Instant::now();
        println!("{}", measure_image_shape(&Gpu::new()?, shape, DType::F32, 5, started)?);
    }
    Ok(())
}
