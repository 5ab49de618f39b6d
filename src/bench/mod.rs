//! Measures speed: of whole models ([`measure_model`], [`measure_shape`], [`measure_image_model`],
//! [`measure_image_shape`], `measure_onnx`), of single kernels ([`measure_kernels`]), and what a device can do at best
//! ([`measure_limits`]).
//!
//! Returns rows and prints nothing; the reports' `Display` is a table, [`Record`] keeps their
//! figures as JSON, [`Comparison`] puts two runs side by side, and [`roofline()`] draws kernels under
//! the ceilings of their run. Speeds are medians with their range: software adapters share their
//! processors with everything else that runs.

mod compare;
mod convolutions;
mod families;
mod kernels;
mod limits;
mod measurement;
#[cfg(feature = "onnx")]
mod onnx;
mod probes;
mod roofline;
mod rotation;
mod sample;
mod shapes;
mod text;
mod tune;
mod vision;

pub use compare::{ComparedRow, Comparison};
pub use families::Family;
pub use kernels::{KernelReport, KernelRow, measure_kernels};
pub use limits::{Limits, measure_ceilings, measure_limits};
pub use measurement::{Measurement, Record, Report};
#[cfg(feature = "onnx")]
pub use onnx::{OnnxSpeed, OnnxSubject, measure_onnx};
pub use probes::probe_launches;
pub use roofline::roofline;
pub use shapes::{ModelShape, RandomWeights};
pub use text::{DecodeSpeed, PromptSpeed, TextReport, TextRuns, measure_model, measure_shape, shape_graphs};
pub use tune::{TunedRow, tune};
pub use vision::{
    ImageShape, LayerRow, VisionReport, image_model_graph, image_shape_graph, measure_image_model,
    measure_image_shape,
};

use crate::gpu::Gpu;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Median and range of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// How many there were.
    pub count: usize,
}

impl Spread {
    /// Median and range of values; all zero where there are none.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
        let (middle, last) = (sorted.len() / 2, sorted.len().saturating_sub(1));
        let median = if sorted.len() % 2 == 1 { at(middle) } else { (at(middle) + at(last / 2)) / 2.0 };
        Self { median, least: at(0), most: at(last), count: sorted.len() }
    }

    /// The same in another unit: `factor` of each value.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            least: self.least * factor,
            most: self.most * factor,
            count: self.count,
        }
    }

    /// The inverses: times of rates.
    #[must_use]
    pub fn inverted(self) -> Self {
        let Self { median, least, most, count } = self;
        Self { median: 1.0 / median, least: 1.0 / most, most: 1.0 / least, count }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = match self.median {
            ..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        write!(f, "{:.digits$} [{:.digits$}-{:.digits$}]", self.median, self.least, self.most)
    }
}

/// Bandwidth in GB/s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bandwidth {
    /// Copying between buffers, bytes read and written counted.
    pub copy: Spread,
    /// Reading in a kernel.
    pub read: Spread,
}

/// Measures the bandwidth `runs` times.
///
/// # Errors
/// What the device says.
pub fn measure_bandwidth(gpu: &Gpu, runs: usize) -> crate::Result<Bandwidth> {
    Ok(Bandwidth { copy: limits::copy_buffer(gpu, runs)?, read: limits::read_bandwidth(gpu, runs)? })
}

/// Mean number of running processes in the last minute, where the system tells.
fn system_load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Where and in what company a measurement ran.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Surroundings {
    /// Adapter with its driver's version.
    pub adapter: String,
    /// Mean number of running processes in the last minute, where the system tells.
    pub load: Option<f64>,
    /// Bandwidth of the adapter's memory.
    pub bandwidth: Bandwidth,
}

impl Surroundings {
    /// Looks around, and measures the bandwidth.
    ///
    /// # Errors
    /// What the device says.
    pub fn measure(gpu: &Gpu, runs: usize) -> crate::Result<Self> {
        Ok(Self {
            adapter: gpu.adapter().to_string(),
            load: system_load(),
            bandwidth: measure_bandwidth(gpu, runs)?,
        })
    }
}

impl std::fmt::Display for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "adapter           {}", self.adapter)?;
        if let Some(load) = self.load {
            writeln!(f, "load              {load:.1}")?;
        }
        let Bandwidth { copy, read } = self.bandwidth;
        writeln!(f, "copy bandwidth    {copy} GB/s (bytes read and written)")?;
        writeln!(f, "read bandwidth    {read} GB/s (in a kernel)")
    }
}

/// Wall-clock and processor time of `body`.
fn timed<T>(body: impl FnOnce() -> crate::Result<T>) -> crate::Result<(T, Duration, Option<Duration>)> {
    let (before, started) = (processor_time(), Instant::now());
    let value = body()?;
    let wall = started.elapsed();
    let used = before.and_then(|before| processor_time()?.checked_sub(before));
    Ok((value, wall, used))
}

/// Processor time that all threads of this process have used, to a hundredth of a second; a
/// measure that other processes disturb less than the clock.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may hold spaces.
    let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    // Linux counts in hundredths of a second for programs, whatever its own clock is.
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_have_a_middle_and_a_range() {
        let odd = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.least, odd.most, odd.count), (2.0, 1.0, 3.0, 3));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(&[]).median, 0.0);
        assert_eq!(Spread::of(&[5.0]).scaled(2.0).most, 10.0);
        let inverted = Spread::of(&[2.0, 4.0, 5.0]).inverted();
        assert_eq!((inverted.median, inverted.least, inverted.most), (0.25, 0.2, 0.5));
    }
}
