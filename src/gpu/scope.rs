//! Error scopes: what the device objects to becomes an [`Error`].

use super::Gpu;
use crate::{Error, Result};

impl Gpu {
    /// Runs `body` and returns what the device objected to meanwhile, if anything.
    /// `bytes` is the size of the allocation that is made, for the message.
    pub(super) fn guarded<T>(&self, what: &str, bytes: u64, body: impl FnOnce() -> T) -> Result<T> {
        self.check_alive()?;
        let device = &self.shared.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let value = body();
        let errors = [
            pollster::block_on(validation.pop()),
            pollster::block_on(internal.pop()),
            pollster::block_on(memory.pop()),
        ];
        match errors.into_iter().flatten().next() {
            None => Ok(value),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Error::OutOfMemory { what: what.to_owned(), needed: bytes })
            }
            Some(wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. }) => {
                self.check_alive()?;
                Err(Error::Device { what: what.to_owned(), message: description })
            }
        }
    }
}
