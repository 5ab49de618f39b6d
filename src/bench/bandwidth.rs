//! The bandwidth of the adapter's memory: what speeds are compared with.

use super::Spread;
use crate::Result;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::ops::{Reduce, ReduceFn};
use crate::session::Session;
use crate::tensor::{Spec, Tensor};
use serde::Serialize;
use std::time::Instant;

/// Bytes that are copied or read at a time: more than caches hold, less than every device's limits.
const BYTES: usize = 64 << 20;

/// Passes over the bytes in one measurement.
const PASSES: usize = 4;

/// Bandwidth in GB/s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bandwidth {
    /// Copying between buffers, bytes read and written counted.
    pub copy: Spread,
    /// Reading in a shader: sums of rows in vectors of four.
    pub read: Spread,
}

/// Measures the bandwidth `runs` times.
///
/// # Errors
/// What the device says.
pub fn measure_bandwidth(gpu: &Gpu, runs: usize) -> Result<Bandwidth> {
    Ok(Bandwidth { copy: copy_bandwidth(gpu, runs)?, read: read_bandwidth(gpu, runs)? })
}

fn copy_bandwidth(gpu: &Gpu, runs: usize) -> Result<Spread> {
    let (from, to) = (gpu.buffer("copied", BYTES as u64)?, gpu.buffer("copy", BYTES as u64)?);
    gpu.copy(&from, &to, 1)?;
    let mut speeds = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        gpu.copy(&from, &to, PASSES)?;
        speeds.push(gigabytes_per_second(2 * PASSES * BYTES, started));
    }
    Ok(Spread::of(&speeds))
}

fn read_bandwidth(gpu: &Gpu, runs: usize) -> Result<Spread> {
    let (cols, mut graph) = (4096, Graph::new());
    let rows = BYTES / 4 / cols;
    // A state, as it needs no upload.
    let input = graph.state("read", Spec::f32([rows, cols]));
    for pass in 0..PASSES {
        let sums =
            graph.add_one(Reduce { function: ReduceFn::Sum, axes: vec![1], keep_dims: false }, &[input])?;
        graph.output(format!("sums.{pass}"), sums);
    }
    let mut session = Session::new(gpu, None);
    let plan = session.add_as_is(graph)?;
    // Memory that was never written may be no memory at all.
    session.write_state("read", &Tensor::from_f32([rows, cols], &vec![1.0; rows * cols]))?;
    session.run(plan, &[], &["sums.0"], &|| false)?;
    let mut speeds = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        session.run(plan, &[], &["sums.0"], &|| false)?;
        speeds.push(gigabytes_per_second(PASSES * BYTES, started));
    }
    Ok(Spread::of(&speeds))
}

fn gigabytes_per_second(bytes: usize, started: Instant) -> f64 {
    bytes as f64 / started.elapsed().as_secs_f64() / 1e9
}
