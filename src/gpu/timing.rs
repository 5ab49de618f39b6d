//! The time of a whole program, as the device and as the host see it.

use super::program::{Program, record};
use super::{Gpu, Readback};
use crate::Result;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a program ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed {
    /// From the submit until the host knows of the end.
    pub wall: Duration,
    /// From the start of the first dispatch to the end of the last, where the device has
    /// timestamps.
    pub device: Option<Duration>,
}

impl Elapsed {
    /// What the device says, or else the clock.
    pub fn best(&self) -> Duration {
        self.device.unwrap_or(self.wall)
    }
}

/// Two timestamps of a pass.
struct Stamps {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: Readback,
}

const STAMP_BYTES: u64 = 16;

impl Gpu {
    /// Whether [`time`](Self::time) and [`run_timed`](Self::run_timed) ask the device.
    pub fn has_timestamps(&self) -> bool {
        self.shared.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
            && !self.shared.without_timestamps.load(Ordering::Relaxed)
    }

    /// Runs a program `times` times over, in one pass and one submit, and says how long that took:
    /// a run of a second or more may be ended by the driver.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost), or what the device says.
    pub fn time(&self, program: &Program, times: usize) -> Result<Elapsed> {
        self.await_shaders(program);
        let stamps = if self.has_timestamps() { Some(self.stamps()?) } else { None };
        let started = Instant::now();
        let submission = self.guarded("a measurement", 0, || {
            let device = &self.shared.device;
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let timestamp_writes = stamps.as_ref().map(|stamps| wgpu::ComputePassTimestampWrites {
                    query_set: &stamps.set,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                });
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                for step in (0..times).flat_map(|_| &program.steps) {
                    record(&mut pass, step, program.params.as_ref());
                }
            }
            if let Some(Stamps { set, resolved, readback }) = &stamps {
                encoder.resolve_query_set(set, 0..2, resolved, 0);
                encoder.copy_buffer_to_buffer(resolved, 0, &readback.raw, 0, STAMP_BYTES);
            }
            self.shared.queue.submit([encoder.finish()])
        })?;
        self.wait(submission.clone())?;
        let wall = started.elapsed();
        let device = match &stamps {
            Some(stamps) => self.between(&stamps.readback, submission)?,
            None => None,
        };
        Ok(Elapsed { wall, device })
    }

    fn stamps(&self) -> Result<Stamps> {
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.raw_buffer("timestamps", STAMP_BYTES, usage)?;
        let readback = self.readback(STAMP_BYTES)?;
        let set = self.guarded("timestamps", 0, || {
            self.shared.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            })
        })?;
        Ok(Stamps { set, resolved, readback })
    }

    /// The time between two timestamps; none where the device did not write them in order.
    fn between(&self, readback: &Readback, submission: wgpu::SubmissionIndex) -> Result<Option<Duration>> {
        let bytes = self.map(readback, STAMP_BYTES, submission)?;
        let ticks: Vec<u64> = bytes.as_chunks().0.iter().map(|ticks| u64::from_le_bytes(*ticks)).collect();
        let nanoseconds = f64::from(self.shared.queue.get_timestamp_period());
        let passed = ticks[1].checked_sub(ticks[0]).filter(|&passed| passed > 0);
        Ok(passed.map(|passed| Duration::from_nanos((passed as f64 * nanoseconds) as u64)))
    }
}
