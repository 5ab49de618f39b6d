//! What a device can do at best: the ceilings that kernels are measured by.

use super::measurement::{Measurement, Report};
use super::probes::{self, Probe};
use super::{Spread, system_load};
use crate::gpu::{Buffer, Dispatch, Gpu, Program};
use crate::kernel::Caps;
use crate::profile::Ceilings;
use crate::{Error, Result};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds that a measured run should take at least, so that the submit hardly counts.
const RUN_SECONDS: f64 = 0.02;

/// Most dispatches of a measured run.
const MOST_DISPATCHES: f64 = 1000.0;

/// Dispatches of the runs that measure the cost of one.
const DISPATCHES: usize = 256;

/// Times that a submit is measured, for each run of the others.
const SUBMITS: usize = 10;

/// Bytes of the measured readback.
const READBACK: u64 = 4096;

/// The ceilings of one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limits {
    /// Adapter with its driver's version.
    pub adapter: String,
    /// Mean number of running processes in the last minute, where the system tells.
    pub load: Option<f64>,
    /// Whether times are the device's own, or the clock's around a submit.
    pub timestamps: bool,
    /// GFLOP/s of f32 multiply-adds in registers: the best of 4, 8 and 16 independent sums.
    pub multiply_add: Spread,
    /// GFLOP/s of f16 multiply-adds, where the device has them.
    pub multiply_add_f16: Option<Spread>,
    /// Products of matrices that the device lists, as rows x columns x depth, type of the factors and
    /// of the sums.
    pub matrices: Vec<String>,
    /// GFLOP/s of matrix units, f16 with f32 sums, where the device has them.
    pub matrix_multiply: Option<Spread>,
    /// Billions of f32 exponentials per second.
    pub exponential: Spread,
    /// GB/s of a kernel that copies, bytes read and written counted.
    pub copy: Spread,
    /// GB/s of copies between buffers without a kernel, counted likewise.
    pub copy_buffer: Spread,
    /// GB/s of a kernel that reads.
    pub read: Spread,
    /// GB/s of a kernel that reads f16 by sixteen bytes and unpacks them to f32.
    pub read_f16_packed: Spread,
    /// GB/s of a kernel that reads f16 as vectors of four, where the device has them.
    pub read_f16: Option<Spread>,
    /// GB/s of reading workgroup memory.
    pub workgroup_read: Spread,
    /// Nanoseconds of a barrier of 256 invocations, with a load or a store of workgroup memory.
    pub barrier: Spread,
    /// Microseconds of a dispatch beside others that it does not depend on.
    pub dispatch: Spread,
    /// Microseconds of a dispatch that needs what the one before wrote.
    pub dependent_dispatch: Spread,
    /// Microseconds from the submit of one dispatch until the host knows of its end.
    pub submit: Spread,
    /// Microseconds of the same with 4 KiB read to the host.
    pub readback: Spread,
}

/// Measures the ceilings, `runs` times each.
///
/// # Errors
/// [`Error::Device`] where a measured kernel gives a wrong result, or what the device says.
pub fn measure_limits(gpu: &Gpu, runs: usize) -> Result<Limits> {
    let caps = gpu.caps();
    let rate = |probe: Probe| rate(gpu, &probe, runs).map(|rate| rate.scaled(1e-9));
    let best_of = |probes| best_of(gpu, probes, runs);
    let half = caps.f16.then(|| probes::multiply_add(caps, 8, true));
    let [dispatch, dependent_dispatch] = [DISPATCHES, 1].map(|buffers| dispatch(gpu, buffers, runs));
    let [submit, readback] = [0, READBACK].map(|bytes| submit(gpu, bytes, runs * SUBMITS));
    Ok(Limits {
        adapter: gpu.adapter().to_string(),
        load: system_load(),
        timestamps: gpu.has_timestamps(),
        multiply_add: best_of(multiply_adds(caps).into())?,
        multiply_add_f16: half.map(rate).transpose()?,
        matrices: gpu.adapter().matrices.clone(),
        matrix_multiply: probes::matrix_multiply(caps).map(rate).transpose()?,
        exponential: rate(probes::exponential(caps))?,
        copy: rate(probes::copy(caps))?,
        copy_buffer: copy_buffer(gpu, runs)?,
        read: best_of(probes::reads(caps))?,
        read_f16_packed: rate(probes::read_f16(caps, true))?,
        read_f16: caps.f16.then(|| rate(probes::read_f16(caps, false))).transpose()?,
        workgroup_read: rate(probes::workgroup_read(caps))?,
        barrier: self::rate(gpu, &probes::barrier(caps), runs)?.inverted().scaled(1e9),
        dispatch: dispatch?,
        dependent_dispatch: dependent_dispatch?,
        submit: submit?,
        readback: readback?,
    })
}

/// Measures only what kernels are compared with, `runs` times each.
///
/// # Errors
/// [`Error::Device`] where a measured kernel gives a wrong result, or what the device says.
pub fn measure_ceilings(gpu: &Gpu, runs: usize) -> Result<Ceilings> {
    let caps = gpu.caps();
    Ok(Ceilings {
        multiply_add: best_of(gpu, multiply_adds(caps).into(), runs)?.most,
        exponential: rate(gpu, &probes::exponential(caps), runs)?.most / 1e9,
        copy: rate(gpu, &probes::copy(caps), runs)?.most / 1e9,
        read: read_bandwidth(gpu, runs)?.most,
    })
}

/// Multiply-adds of 4, 8 and 16 independent sums.
fn multiply_adds(caps: &Caps) -> [Probe; 3] {
    [4, 8, 16].map(|chains| probes::multiply_add(caps, chains, false))
}

/// GB/s of a kernel that reads.
pub(super) fn read_bandwidth(gpu: &Gpu, runs: usize) -> Result<Spread> {
    best_of(gpu, probes::reads(gpu.caps()), runs)
}

/// The best rate of several probes, in billions a second.
fn best_of(gpu: &Gpu, probes: Vec<Probe>, runs: usize) -> Result<Spread> {
    let rates = probes.iter().map(|probe| rate(gpu, probe, runs)).collect::<Result<Vec<_>>>()?;
    let best = rates.into_iter().max_by(|a, b| a.most.total_cmp(&b.most));
    Ok(best.unwrap_or(Spread::of(&[])).scaled(1e-9))
}

/// What a probe does in a second.
fn rate(gpu: &Gpu, probe: &Probe, runs: usize) -> Result<Spread> {
    let program = probe.prepare(gpu)?;
    let first = gpu.time(&program, 1)?.best().as_secs_f64();
    let times = (RUN_SECONDS / first).clamp(1.0, MOST_DISPATCHES) as usize;
    let rate = |time: Duration| probe.amount * times as f64 / time.as_secs_f64();
    let rates: Vec<f64> =
        (0..runs).map(|_| Ok(rate(gpu.time(&program, times)?.best()))).collect::<Result<_>>()?;
    Ok(Spread::of(&rates))
}

/// GB/s of copies between buffers; on the clock, as they are in no pass.
pub(super) fn copy_buffer(gpu: &Gpu, runs: usize) -> Result<Spread> {
    const BYTES: u64 = 64 << 20;
    const PASSES: usize = 4;
    let (from, to) = (gpu.buffer("copied", BYTES)?, gpu.buffer("copy", BYTES)?);
    gpu.copy(&from, &to, 1)?;
    let mut speeds = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        gpu.copy(&from, &to, PASSES)?;
        speeds.push((2 * PASSES as u64 * BYTES) as f64 / started.elapsed().as_secs_f64() / 1e9);
    }
    Ok(Spread::of(&speeds))
}

/// Microseconds of one of many dispatches that take turns with so many buffers.
fn dispatch(gpu: &Gpu, buffers: usize, runs: usize) -> Result<Spread> {
    let (program, first) = increments(gpu, DISPATCHES, buffers)?;
    let bytes = u64::from(probes::INCREMENTED) * 4;
    let got = gpu.run(&program, &[(&first, 0, bytes)], &gpu.readback(bytes)?, &|| false)?;
    let want = (DISPATCHES / buffers) as f32;
    if let Some(got) = got.as_chunks().0.iter().map(|got| f32::from_le_bytes(*got)).find(|&got| got != want) {
        let message = format!("{DISPATCHES} dispatches that each add 1: expected {want}, got {got}");
        return Err(Error::Device { what: "the measurement `increment`".into(), message });
    }
    let seconds: Vec<f64> =
        (0..runs).map(|_| Ok(gpu.time(&program, 1)?.best().as_secs_f64())).collect::<Result<_>>()?;
    Ok(Spread::of(&seconds).scaled(1e6 / DISPATCHES as f64))
}

/// Dispatches that add 1 to a few values in one of so many buffers, and the first buffer.
fn increments(gpu: &Gpu, dispatches: usize, buffers: usize) -> Result<(Program, Arc<Buffer>)> {
    let bytes = u64::from(probes::INCREMENTED) * 4;
    let buffers = (0..buffers).map(|_| gpu.buffer("values", bytes)).collect::<Result<Vec<_>>>()?;
    let launch = probes::increment();
    let dispatch =
        |buffer: &Arc<Buffer>| Dispatch { launch: &launch, buffers: vec![(buffer.clone(), bytes)] };
    let steps: Vec<Dispatch<'_>> = buffers.iter().cycle().take(dispatches).map(dispatch).collect();
    Ok((gpu.prepare(&steps)?, buffers[0].clone()))
}

/// Microseconds of submitting one dispatch, waiting for it, and reading so many bytes.
fn submit(gpu: &Gpu, bytes: u64, runs: usize) -> Result<Spread> {
    let (program, _) = increments(gpu, 1, 1)?;
    let source = gpu.buffer("results", READBACK)?;
    let readback = gpu.readback(bytes)?;
    let reads: &[_] = if bytes > 0 { &[(source.as_ref(), 0, bytes)] } else { &[] };
    gpu.run(&program, reads, &readback, &|| false)?;
    let mut seconds = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        gpu.run(&program, reads, &readback, &|| false)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(Spread::of(&seconds).scaled(1e6))
}

impl Limits {
    /// GFLOP/s that kernels can reach: the best run, as other load only slows it down.
    pub fn arithmetic(&self) -> f64 {
        self.multiply_add.most
    }

    /// GB/s that kernels can reach: the best run of reading or copying.
    pub fn bandwidth(&self) -> f64 {
        self.copy.most.max(self.read.most)
    }

    /// What kernels are compared with: the best runs.
    pub fn ceilings(&self) -> Ceilings {
        Ceilings {
            multiply_add: self.arithmetic(),
            exponential: self.exponential.most,
            copy: self.copy.most,
            read: self.read.most,
        }
    }
}

impl Report for Limits {
    const WHAT: &'static str = "limits";

    fn adapter(&self) -> &str {
        &self.adapter
    }

    fn measurements(&self) -> Vec<Measurement> {
        let rate = |name: &str, unit, rate: Spread| Measurement::rate(name, unit, rate);
        let time = |name: &str, unit, time: Spread| Measurement::time(name, unit, time);
        let mut rows = vec![rate("f32 multiply-adds", "GFLOP/s", self.multiply_add)];
        rows.extend(self.multiply_add_f16.map(|it| rate("f16 multiply-adds", "GFLOP/s", it)));
        rows.extend(self.matrix_multiply.map(|it| rate("matrix units, f16 with f32 sums", "GFLOP/s", it)));
        rows.extend([
            rate("f32 exponentials", "G/s", self.exponential),
            rate("copy in a kernel, read and written", "GB/s", self.copy),
            rate("copy of a buffer, read and written", "GB/s", self.copy_buffer),
            rate("read in a kernel", "GB/s", self.read),
            rate("read f16 by 16 bytes, unpacked", "GB/s", self.read_f16_packed),
        ]);
        rows.extend(self.read_f16.map(|it| rate("read f16 in vectors of four", "GB/s", it)));
        rows.extend([
            rate("read workgroup memory", "GB/s", self.workgroup_read),
            time("barrier of 256, with a load or store", "ns", self.barrier),
            time("dispatch, independent", "us", self.dispatch),
            time("dispatch, dependent", "us", self.dependent_dispatch),
            time("submit one dispatch and wait", "us", self.submit),
            time("the same, with 4 KiB read back", "us", self.readback),
        ]);
        rows
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "adapter           {}", self.adapter)?;
        if let Some(load) = self.load {
            writeln!(f, "load              {load:.1}")?;
        }
        let clock = if self.timestamps { "timestamps of the device" } else { "the clock around a submit" };
        writeln!(f, "times             {clock}; submits, buffer copies by the clock")?;
        for row in self.measurements() {
            writeln!(f, "{:38}{:28}{}", row.name, row.spread.to_string(), row.unit)?;
        }
        if self.matrix_multiply.is_none() {
            writeln!(f, "{:38}this device has none that WGSL can name", "matrix units")?;
        }
        if !self.matrices.is_empty() {
            writeln!(f, "{:38}{}", "matrices it lists", self.matrices.join(", "))?;
        }
        Ok(())
    }
}
#[cfg(test)]
impl Limits {
    /// Every rate and time the same, on a device without f16 and matrix units.
    pub(super) fn all(spread: Spread) -> Self {
        Self {
            adapter: "an adapter".into(),
            load: None,
            timestamps: true,
            multiply_add: spread,
            multiply_add_f16: None,
            matrices: Vec::new(),
            matrix_multiply: None,
            exponential: spread,
            copy: spread,
            copy_buffer: spread,
            read: spread,
            read_f16_packed: spread,
            read_f16: None,
            workgroup_read: spread,
            barrier: spread,
            dispatch: spread,
            dependent_dispatch: spread,
            submit: spread,
            readback: spread,
        }
    }
}
