//! What runs read and write, and runs that were submitted and are read later.

use super::{PlanId, Prepared, Session, find, split_tensors};
use crate::gpu::{Buffer, Started};
use crate::tensor::{Spec, Tensor};
use crate::{Error, Result};

/// A run that was submitted and not read yet.
#[derive(Debug)]
pub struct StartedRun {
    started: Started,
    wanted: Vec<Spec>,
}

/// Ranges of buffers to read: offset, bytes.
pub(super) type Reads<'a> = Vec<(&'a Buffer, u64, u64)>;

impl Prepared {
    /// Specs of the named outputs, and where they are read.
    pub(super) fn wanted(&self, outputs: &[&str]) -> Result<(Vec<Spec>, Reads<'_>)> {
        let found = outputs.iter().map(|name| {
            let (_, spec, buffer) = find(&self.outputs, name, "output")?;
            Ok((spec.clone(), (buffer.as_ref(), 0, spec.bytes().next_multiple_of(4))))
        });
        Ok(found.collect::<Result<Vec<_>>>()?.into_iter().unzip())
    }
}

impl Session {
    /// Whether a plan takes so little time that it can be started without waiting for it. None is
    /// while runs are recorded, dispatch by dispatch.
    pub fn is_short(&self, plan: PlanId) -> bool {
        self.gpu.recorder().is_none() && self.gpu.is_short(&self.prepared(plan).program)
    }

    /// Starts a short plan and does not wait: what follows it can be recorded while it runs.
    /// [`finish`](Self::finish) returns the named outputs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn start(&mut self, plan: PlanId, inputs: &[(&str, &[u8])], outputs: &[&str]) -> Result<StartedRun> {
        self.write_inputs(plan, inputs)?;
        let prepared = self.plans[plan.0].as_ref().expect("a plan that was not removed");
        let (wanted, reads) = prepared.wanted(outputs)?;
        let total = reads.iter().map(|(_, _, bytes)| bytes).sum();
        let readback = match self.spare.iter().position(|readback| readback.bytes() >= total) {
            Some(index) => self.spare.swap_remove(index),
            None => self.gpu.readback(total)?,
        };
        let started = self.gpu.start(&prepared.program, &reads, readback)?;
        Ok(StartedRun { started, wanted })
    }

    /// Waits for a run and returns its outputs.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the device says.
    pub fn finish(&mut self, run: StartedRun) -> Result<Vec<Tensor>> {
        let (bytes, readback) = self.gpu.finish(run.started)?;
        self.spare.push(readback);
        Ok(split_tensors(&run.wanted, &bytes))
    }

    pub(super) fn write_inputs(&self, plan: PlanId, inputs: &[(&str, &[u8])]) -> Result<()> {
        for (name, bytes) in inputs {
            let (_, spec, buffer) = find(&self.prepared(plan).inputs, name, "input")?;
            if bytes.len() as u64 != spec.bytes() {
                let (want, got) = (spec.bytes(), bytes.len());
                return Err(Error::Request(format!(
                    "input `{name}` is {spec}, {want} bytes; got {got} bytes"
                )));
            }
            let padded = bytes.len().next_multiple_of(4);
            if padded == bytes.len() {
                self.gpu.write(buffer, 0, bytes)?;
            } else {
                let mut copy = bytes.to_vec();
                copy.resize(padded, 0);
                self.gpu.write(buffer, 0, &copy)?;
            }
        }
        Ok(())
    }
}
