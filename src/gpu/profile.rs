//! Times of single dispatches, taken by the device.

use super::program::{Program, record};
use super::{Gpu, Readback};
use crate::{Error, Result};
use std::time::Duration;

/// When a dispatch ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DispatchTime {
    /// From the start of the first dispatch to that of this one.
    pub start: Duration,
    /// How long it ran.
    pub duration: Duration,
}

/// Dispatches timed in one submit: two timestamps each, at most 4096 in a set.
const DISPATCHES_PER_SUBMIT: usize = 2048;

impl Gpu {
    /// Runs a program, each dispatch in a pass of its own, and returns when each ran. Passes cost
    /// a little, so the sum is above the time of an ordinary run.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the device has no timestamps, or what the device says.
    pub fn profile(&self, program: &Program) -> Result<Vec<DispatchTime>> {
        if !self.shared.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Unsupported("timestamps on this device".into()));
        }
        let nanoseconds = f64::from(self.shared.queue.get_timestamp_period());
        let mut stamps = Vec::with_capacity(program.len() * 2);
        for first in (0..program.len()).step_by(DISPATCHES_PER_SUBMIT) {
            let count = DISPATCHES_PER_SUBMIT.min(program.len() - first);
            stamps.extend(self.timestamps(program, first, count)?);
        }
        let begin = stamps.first().copied().unwrap_or(0);
        let time = |ticks: u64| Duration::from_nanos((ticks as f64 * nanoseconds) as u64);
        let dispatch = |pair: &[u64]| DispatchTime {
            start: time(pair[0].saturating_sub(begin)),
            duration: time(pair[1].saturating_sub(pair[0])),
        };
        Ok(stamps.chunks_exact(2).map(dispatch).collect())
    }

    /// Start and end of some dispatches in ticks of the device.
    fn timestamps(&self, program: &Program, first: usize, count: usize) -> Result<Vec<u64>> {
        let queries = u32::try_from(count * 2).expect("bounded by DISPATCHES_PER_SUBMIT");
        let bytes = u64::from(queries) * 8;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.raw_buffer("timestamps", bytes, usage)?;
        let readback: Readback = self.readback(bytes)?;
        let submission = self.guarded("a profile", 0, || {
            let device = &self.shared.device;
            let set = device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: queries,
            });
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (index, step) in program.steps[first..first + count].iter().enumerate() {
                let query = 2 * u32::try_from(index).expect("bounded by DISPATCHES_PER_SUBMIT");
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &set,
                        beginning_of_pass_write_index: Some(query),
                        end_of_pass_write_index: Some(query + 1),
                    }),
                });
                record(&mut pass, step, program.params.as_ref());
            }
            encoder.resolve_query_set(&set, 0..queries, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &readback.raw, 0, bytes);
            self.shared.queue.submit([encoder.finish()])
        })?;
        let bytes = self.map(&readback, bytes, submission)?;
        Ok(bytes.as_chunks().0.iter().map(|ticks| u64::from_le_bytes(*ticks)).collect())
    }
}
