//! Storage buffers on the device, counted.

use super::{Gpu, Shared};
use crate::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A storage buffer. Its bytes are zero at first.
#[derive(Debug)]
pub struct Buffer {
    pub(super) raw: wgpu::Buffer,
    bytes: u64,
    allocated: Arc<AtomicU64>,
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.allocated.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Most bytes that wait in staging memory during an upload.
const UPLOAD_CHUNK: u64 = 32 << 20;

impl Shared {
    /// Whether the test hook asks this allocation to fail.
    fn allocation_fails(&self) -> bool {
        let counter = &self.failing_allocation;
        counter.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1)
    }
}

impl Gpu {
    /// Makes a zeroed storage buffer.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or [`Error::DeviceLost`].
    pub fn buffer(&self, what: &str, bytes: u64) -> Result<Arc<Buffer>> {
        use wgpu::BufferUsages as Usage;
        let raw = self.raw_buffer(what, bytes, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC)?;
        self.shared.allocated.fetch_add(bytes, Ordering::Relaxed);
        Ok(Arc::new(Buffer { raw, bytes, allocated: self.shared.allocated.clone() }))
    }

    pub(super) fn raw_buffer(
        &self,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        let limit = self.caps().max_buffer_bytes;
        if bytes > limit {
            let message = format!("needs {bytes} bytes in one buffer, the device's limit is {limit}");
            return Err(Error::Device { what: what.to_owned(), message });
        }
        if self.shared.allocation_fails() {
            return Err(Error::OutOfMemory { what: what.to_owned(), needed: bytes });
        }
        let descriptor =
            wgpu::BufferDescriptor { label: Some(what), size: bytes, usage, mapped_at_creation: false };
        let buffer = self.guarded(what, bytes, || self.shared.device.create_buffer(&descriptor))?;
        self.shared.buffers.fetch_add(1, Ordering::Relaxed);
        Ok(buffer)
    }

    /// Writes to a buffer before the next run; offset and length are multiples of 4.
    ///
    /// # Errors
    /// [`Error::Device`] when the range does not fit, or [`Error::DeviceLost`].
    pub fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.shared.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.guarded("an upload", bytes.len() as u64, || {
            self.shared.queue.write_buffer(&buffer.raw, offset, bytes);
        })
    }

    /// Writes a large buffer in pieces that `next_piece(offset, length)` makes, and waits
    /// between them, so that little waits in staging memory.
    ///
    /// # Errors
    /// Those of `next_piece` and of the device.
    pub fn upload(
        &self,
        buffer: &Buffer,
        total: u64,
        granularity: u64,
        mut next_piece: impl FnMut(u64, u64) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let step = (UPLOAD_CHUNK / granularity).max(1) * granularity;
        let mut offset = 0;
        while offset < total {
            let length = step.min(total - offset);
            let mut piece = next_piece(offset, length)?;
            piece.resize(piece.len().next_multiple_of(4), 0);
            self.write(buffer, offset, &piece)?;
            self.staged(piece.len() as u64)?;
            offset += length;
        }
        Ok(())
    }

    /// Flushes staged uploads once they add up to a chunk.
    fn staged(&self, bytes: u64) -> Result<()> {
        let waiting = self.shared.staged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting >= UPLOAD_CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    /// Submits staged uploads and waits for them.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn flush(&self) -> Result<()> {
        self.shared.staged.store(0, Ordering::Relaxed);
        let index = self.guarded("an upload", 0, || self.shared.queue.submit([]))?;
        self.wait(index)
    }

    /// Sets a range of a buffer to zero; offset and length are multiples of 4.
    ///
    /// # Errors
    /// [`Error::Device`] when the range does not fit, or [`Error::DeviceLost`].
    pub fn clear(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<()> {
        self.guarded("clearing a buffer", bytes, || {
            let mut encoder =
                self.shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.clear_buffer(&buffer.raw, offset, Some(bytes));
            self.shared.queue.submit([encoder.finish()]);
        })
    }

    /// Copies a buffer to another of the same size `times` times, and waits: a measure of the
    /// memory's bandwidth.
    ///
    /// # Errors
    /// [`Error::Device`] when the sizes differ, or [`Error::DeviceLost`].
    pub fn copy(&self, from: &Buffer, to: &Buffer, times: usize) -> Result<()> {
        let index = self.guarded("copying a buffer", from.bytes, || {
            let mut encoder =
                self.shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for _ in 0..times {
                encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, from.bytes);
            }
            self.shared.queue.submit([encoder.finish()])
        })?;
        self.wait(index)
    }

    /// Waits for a submission; never longer than the device lives. Without a timeout: wgpu 30
    /// may panic when one expires while another thread submits.
    pub(super) fn wait(&self, index: wgpu::SubmissionIndex) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index: Some(index), timeout: None };
        // wgpu 30 panics when the device is lost while it waits, and knows no submission that a
        // lost device refused. Only our own devices tell of a loss by their callback.
        let polled = catch_unwind(AssertUnwindSafe(|| self.shared.device.poll(poll)));
        self.check_alive()?;
        match polled {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => self.lose(error.to_string()),
            Err(_) => self.lose("while waiting for a submission".into()),
        }
        self.check_alive()
    }
}
