//! A program: dispatches with their pipelines and bind groups made once, recorded at each run.

use super::pipeline::Pipeline;
use super::{Buffer, Gpu};
use crate::kernel::{DeviceKind, Launch};
use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// One dispatch to prepare: the launch, and the buffers it binds with the bytes of each.
#[derive(Debug)]
pub struct Dispatch<'a> {
    /// The launch.
    pub launch: &'a Launch,
    /// Buffers in the order of the shader's bindings.
    pub buffers: Vec<(Arc<Buffer>, u64)>,
}

#[derive(Debug)]
pub(super) struct PreparedStep {
    pipeline: Arc<Pipeline>,
    storage: wgpu::BindGroup,
    params: Vec<u8>,
    /// Offset of the parameters in the program's uniform, where they are no immediates.
    params_offset: u32,
    workgroups: [u32; 3],
    work: u64,
}

impl PreparedStep {
    /// Whether its pipeline was never dispatched.
    pub(super) fn is_first(&self) -> bool {
        !self.pipeline.used.load(Ordering::Relaxed)
    }
}

/// Prepared dispatches. Keeps its buffers alive.
#[derive(Debug, Default)]
pub struct Program {
    pub(super) steps: Vec<PreparedStep>,
    pub(super) params: Option<wgpu::BindGroup>,
    /// Its pipelines, each once.
    pipelines: Vec<Arc<Pipeline>>,
    /// Whether its shaders were waited for.
    ready: AtomicBool,
}

impl Program {
    /// Number of dispatches.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Host-visible memory that results are copied to; made once and used for many runs.
#[derive(Debug)]
pub struct Readback {
    pub(super) raw: wgpu::Buffer,
    bytes: u64,
}

impl Readback {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A program that was submitted, and the memory that its results come to.
#[derive(Debug)]
pub struct Started {
    submission: wgpu::SubmissionIndex,
    readback: Readback,
    total: u64,
}

/// Bytes between the parameters of two steps: a multiple of every device's offset alignment.
const PARAMS_STRIDE: usize = 256;

impl Gpu {
    /// Compiles pipelines and makes bind groups.
    ///
    /// # Errors
    /// [`Error::Shader`], or what the device says.
    pub fn prepare(&self, dispatches: &[Dispatch<'_>]) -> Result<Program> {
        let launches: Vec<&Launch> = dispatches.iter().map(|dispatch| dispatch.launch).collect();
        let pipelines = self.pipelines(&launches)?;
        let mut steps = Vec::with_capacity(dispatches.len());
        for (index, dispatch) in dispatches.iter().enumerate() {
            let pipeline = self.pipeline(dispatch.launch)?;
            let storage = self.storage_group(&pipeline, dispatch)?;
            steps.push(PreparedStep {
                pipeline,
                storage,
                params: dispatch.launch.params.bytes.clone(),
                params_offset: u32::try_from(index * PARAMS_STRIDE)
                    .expect("a program has fewer than 2^24 steps"),
                workgroups: if self.is_broken(dispatch.launch) { [0; 3] } else { dispatch.launch.workgroups },
                work: dispatch.launch.work,
            });
        }
        let params = self.params_group(&steps)?;
        Ok(Program { steps, params, pipelines, ready: AtomicBool::new(false) })
    }

    /// Waits until the program's shaders are compiled, where the driver would do so one after the
    /// other.
    pub(super) fn await_shaders(&self, program: &Program) {
        if let Some(ahead) = &self.shared.ahead
            && !program.ready.swap(true, Ordering::Relaxed)
        {
            ahead.add(&program.pipelines, true);
            ahead.wait(&program.pipelines);
        }
    }

    fn storage_group(&self, pipeline: &Pipeline, dispatch: &Dispatch<'_>) -> Result<wgpu::BindGroup> {
        let entries: Vec<wgpu::BindGroupEntry<'_>> = pipeline
            .shader
            .info
            .bindings
            .iter()
            .zip(&dispatch.buffers)
            .map(|(&(binding, _), (buffer, bytes))| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffer.raw,
                    offset: 0,
                    size: wgpu::BufferSize::new(*bytes),
                }),
            })
            .collect();
        self.bind_group(dispatch.launch.kernel, &pipeline.storage_layout, &entries)
    }

    fn bind_group(
        &self,
        name: &str,
        layout: &wgpu::BindGroupLayout,
        entries: &[wgpu::BindGroupEntry<'_>],
    ) -> Result<wgpu::BindGroup> {
        let descriptor = wgpu::BindGroupDescriptor { label: Some(name), layout, entries };
        let group = self.guarded(name, 0, || self.shared.device.create_bind_group(&descriptor))?;
        self.shared.bind_groups.fetch_add(1, Ordering::Relaxed);
        Ok(group)
    }

    /// The uniform with the parameters of all steps, for devices without immediates.
    fn params_group(&self, steps: &[PreparedStep]) -> Result<Option<wgpu::BindGroup>> {
        let Some(layout) = steps.iter().find_map(|step| step.pipeline.params_layout.as_ref()) else {
            return Ok(None);
        };
        let mut bytes = vec![0; steps.len() * PARAMS_STRIDE];
        for (index, step) in steps.iter().enumerate() {
            bytes[index * PARAMS_STRIDE..][..step.params.len()].copy_from_slice(&step.params);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = self.raw_buffer("parameters", bytes.len() as u64, usage)?;
        self.guarded("parameters", 0, || self.shared.queue.write_buffer(&buffer, 0, &bytes))?;
        let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &buffer,
            offset: 0,
            size: wgpu::BufferSize::new(PARAMS_STRIDE as u64),
        });
        self.bind_group("parameters", layout, &[wgpu::BindGroupEntry { binding: 0, resource }]).map(Some)
    }

    /// Makes host-visible memory for results.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or [`Error::DeviceLost`].
    pub fn readback(&self, bytes: u64) -> Result<Readback> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let bytes = bytes.max(4).next_multiple_of(4);
        Ok(Readback { raw: self.raw_buffer("readback", bytes, usage)?, bytes })
    }

    /// Runs a program and reads ranges (buffer, offset, bytes) of buffers to the host. Long
    /// work is split into several submits; `cancelled` is asked between them.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::DeviceLost`], or what the device says.
    pub fn run(
        &self,
        program: &Program,
        reads: &[(&Buffer, u64, u64)],
        readback: &Readback,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<u8>> {
        self.await_shaders(program);
        let pieces = self.pieces(&program.steps);
        let mut previous: Option<wgpu::SubmissionIndex> = None;
        for (index, steps) in pieces.iter().enumerate() {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let last = index + 1 == pieces.len();
            let submission = self.submit(program, steps, if last { reads } else { &[] }, readback)?;
            // One submit is always queued behind the running one, never more.
            if let Some(previous) = previous.replace(submission) {
                self.wait(previous)?;
            }
        }
        let total: u64 = reads.iter().map(|(_, _, bytes)| bytes).sum();
        match previous {
            Some(submission) if total == 0 => self.wait(submission).map(|()| Vec::new()),
            Some(submission) => self.map(readback, total, submission),
            None => Ok(Vec::new()),
        }
    }

    /// Whether a program takes so little time that it is one submit.
    pub fn is_short(&self, program: &Program) -> bool {
        self.pieces(&program.steps).len() == 1
    }

    /// Submits a short program without waiting for it; [`finish`](Self::finish) reads what it
    /// left in the ranges.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the device says.
    pub fn start(
        &self,
        program: &Program,
        reads: &[(&Buffer, u64, u64)],
        readback: Readback,
    ) -> Result<Started> {
        self.await_shaders(program);
        let submission = self.submit(program, &program.steps, reads, &readback)?;
        let total = reads.iter().map(|(_, _, bytes)| bytes).sum();
        Ok(Started { submission, readback, total })
    }

    /// Waits for what was started, and gives what it read and the memory to read to back.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the device says.
    pub fn finish(&self, started: Started) -> Result<(Vec<u8>, Readback)> {
        let bytes = self.map(&started.readback, started.total, started.submission)?;
        Ok((bytes, started.readback))
    }

    /// Groups of steps that each take a bounded time; one (empty) group where there are no steps.
    pub(super) fn pieces<'a>(&self, steps: &'a [PreparedStep]) -> Vec<&'a [PreparedStep]> {
        let limit = match self.caps().kind {
            DeviceKind::Software => 200_000_000,
            DeviceKind::Integrated | DeviceKind::Virtual => 10_000_000_000,
            DeviceKind::Discrete => 100_000_000_000,
        };
        let mut pieces = Vec::new();
        let (mut start, mut work) = (0, 0u64);
        for (index, step) in steps.iter().enumerate() {
            work = work.saturating_add(step.work);
            if work > limit && index > start {
                pieces.push(&steps[start..index]);
                (start, work) = (index, step.work);
            }
        }
        pieces.push(&steps[start..]);
        pieces
    }

    pub(super) fn submit(
        &self,
        program: &Program,
        steps: &[PreparedStep],
        reads: &[(&Buffer, u64, u64)],
        readback: &Readback,
    ) -> Result<wgpu::SubmissionIndex> {
        self.shared.submits.fetch_add(1, Ordering::Relaxed);
        self.guarded("a run", 0, || {
            let mut encoder =
                self.shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for step in steps {
                    record(&mut pass, step, program.params.as_ref());
                }
            }
            let mut offset = 0;
            for (buffer, from, bytes) in reads {
                encoder.copy_buffer_to_buffer(&buffer.raw, *from, &readback.raw, offset, *bytes);
                offset += bytes;
            }
            self.shared.queue.submit([encoder.finish()])
        })
    }

    pub(super) fn map(
        &self,
        readback: &Readback,
        total: u64,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Vec<u8>> {
        debug_assert!(total <= readback.bytes);
        self.shared.bytes_read.fetch_add(total, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        let slice = readback.raw.slice(..total);
        self.guarded("reading results", 0, || {
            slice.map_async(wgpu::MapMode::Read, move |result| {
                // The receiver is gone only after an error that is already reported.
                let _ = sender.send(result);
            });
        })?;
        self.wait(submission)?;
        let fail = |message: String| Error::Device { what: "reading results".into(), message };
        match receiver.recv_timeout(std::time::Duration::from_secs(10)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.check_alive()?;
                return Err(fail(error.to_string()));
            }
            Err(error) => return Err(fail(error.to_string())),
        }
        let bytes = slice.get_mapped_range().map_err(|error| fail(error.to_string()))?.to_vec();
        readback.raw.unmap();
        Ok(bytes)
    }
}

/// Records a dispatch.
pub(super) fn record(
    pass: &mut wgpu::ComputePass<'_>,
    step: &PreparedStep,
    params: Option<&wgpu::BindGroup>,
) {
    pass.set_pipeline(&step.pipeline.raw);
    pass.set_bind_group(0, &step.storage, &[]);
    if step.pipeline.shader.info.params_immediate {
        pass.set_immediates(0, &step.params);
    } else if step.pipeline.shader.info.params_bytes > 0 {
        pass.set_bind_group(1, params, &[step.params_offset]);
    }
    let [x, y, z] = step.workgroups;
    pass.dispatch_workgroups(x, y, z);
    step.pipeline.used.store(true, Ordering::Relaxed);
}
