//! Recording what runs: spans on the host, times of single dispatches.

use super::program::{PreparedStep, Program, record};
use super::{Gpu, Readback};
use crate::profile::{DispatchTime, Recorder, Span};
use crate::{Error, Result};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Dispatches timed in one submit: two timestamps each, at most 4096 in a set.
const DISPATCHES_PER_SUBMIT: usize = 2048;

impl Gpu {
    /// Records what runs on this device from now on, or ends that; see [`crate::profile`].
    pub fn record(&self, recorder: Option<&Recorder>) {
        if let Some(recorder) = recorder {
            recorder.attach(self.adapter().to_string(), self.has_timestamps());
        }
        *self.shared.recorder.lock().unwrap_or_else(PoisonError::into_inner) = recorder.cloned();
    }

    /// The record in the making, if there is one.
    pub fn recorder(&self) -> Option<Recorder> {
        if self.unrecorded {
            return None;
        }
        self.shared.recorder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a span of the record in the making, if there is one.
    pub fn span(&self, name: &'static str) -> Span {
        self.recorder().map_or_else(Span::none, |recorder| recorder.span(name))
    }

    /// Runs a program, each dispatch in a pass of its own, and returns when each ran. Passes cost
    /// a little, so the sum is above the time of an ordinary run. Where the device has no
    /// timestamps each dispatch is submitted alone, and the time is that until the host knows of
    /// its end. `cancelled` is asked between submits.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::DeviceLost`], or what the device says.
    pub fn run_timed(&self, program: &Program, cancelled: &dyn Fn() -> bool) -> Result<Vec<DispatchTime>> {
        self.await_shaders(program);
        let timestamps = self.has_timestamps();
        let most = if timestamps { DISPATCHES_PER_SUBMIT } else { 1 };
        let mut times = Vec::with_capacity(program.len());
        for steps in self.pieces(&program.steps).into_iter().flat_map(|piece| piece.chunks(most)) {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            if timestamps {
                times.extend(self.run_stamped(program, steps)?);
            } else {
                times.push(self.run_clocked(program, steps)?);
            }
        }
        Ok(times)
    }

    /// Runs steps in one submit, timed by the device.
    fn run_stamped(&self, program: &Program, steps: &[PreparedStep]) -> Result<Vec<DispatchTime>> {
        let nanoseconds = f64::from(self.shared.queue.get_timestamp_period());
        let firsts: Vec<bool> = steps.iter().map(PreparedStep::is_first).collect();
        let (submitted, stamps) = self.timestamps(program, steps)?;
        let begin = stamps.first().copied().unwrap_or(0);
        let time = |ticks: u64| Duration::from_nanos((ticks as f64 * nanoseconds) as u64);
        let dispatch = |(pair, first): (&[u64], bool)| DispatchTime {
            begin: submitted + time(pair[0].saturating_sub(begin)),
            duration: time(pair[1].saturating_sub(pair[0])),
            first,
        };
        Ok(stamps.chunks_exact(2).zip(firsts).map(dispatch).collect())
    }

    /// Runs one step, timed by the clock.
    fn run_clocked(&self, program: &Program, step: &[PreparedStep]) -> Result<DispatchTime> {
        let first = step.iter().any(PreparedStep::is_first);
        let begin = Instant::now();
        let submission = self.submit(program, step, &[], &self.readback(0)?)?;
        self.wait(submission)?;
        Ok(DispatchTime { begin, duration: begin.elapsed(), first })
    }

    /// When steps were submitted, and start and end of each in ticks of the device.
    fn timestamps(&self, program: &Program, steps: &[PreparedStep]) -> Result<(Instant, Vec<u64>)> {
        let queries = u32::try_from(steps.len() * 2).expect("bounded by DISPATCHES_PER_SUBMIT");
        let bytes = u64::from(queries) * 8;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.raw_buffer("timestamps", bytes, usage)?;
        let readback: Readback = self.readback(bytes)?;
        self.shared.submits.fetch_add(1, Ordering::Relaxed);
        let (submitted, submission) = self.guarded("a profile", 0, || {
            let device = &self.shared.device;
            let set = device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: queries,
            });
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (index, step) in steps.iter().enumerate() {
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
            let commands = encoder.finish();
            (Instant::now(), self.shared.queue.submit([commands]))
        })?;
        let bytes = self.map(&readback, bytes, submission)?;
        Ok((submitted, bytes.as_chunks().0.iter().map(|ticks| u64::from_le_bytes(*ticks)).collect()))
    }
}
