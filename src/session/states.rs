//! States that are made, cleared and freed while a session lives, besides those that plans make.

use super::Session;
use crate::Result;
use crate::graph::buffer_bytes;
use crate::tensor::Tensor;

impl Session {
    /// Sets a state from the host; makes it where there is none of this name yet.
    ///
    /// # Errors
    /// [`Error::Request`](crate::Error::Request) where it has another spec, or what the device says.
    pub fn set_state(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        if !self.states.contains_key(name) {
            let buffer = self.gpu.buffer(name, buffer_bytes(tensor.spec()))?;
            self.states.insert(name.to_owned(), (tensor.spec().clone(), buffer));
        }
        self.write_state(name, tensor)
    }

    /// Sets a state to zero; one that is not made yet is so already.
    ///
    /// # Errors
    /// What the device says.
    pub fn clear_state(&mut self, name: &str) -> Result<()> {
        match self.states.get(name) {
            Some((_, buffer)) => self.gpu.clear(buffer, 0, buffer.bytes()),
            None => Ok(()),
        }
    }

    /// Forgets a state. Its buffer is freed with the last plan that uses it.
    pub fn remove_state(&mut self, name: &str) {
        self.states.remove(name);
    }
}
