//! When each kernel of a run took place on the device.

use super::element::OnnxTensor;
use super::kept::Keeping;
use super::model::OnnxModel;
use super::trace::{Data, Step};
use crate::session::StepTime;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// A graph that was run, or a value that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfiledStep {
    /// What it is: `graph 0`, `value float[1]`.
    pub name: String,
    /// From the start of the run, on the host.
    pub start: Duration,
    /// How long it took, on the host, without profiling.
    pub duration: Duration,
    /// The kernels of a graph, timed by the device, each alone.
    pub kernels: Vec<StepTime>,
}

/// The steps of a run in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OnnxProfile {
    /// The steps.
    pub steps: Vec<ProfiledStep>,
}

impl OnnxProfile {
    /// Time of all kernels.
    pub fn gpu_time(&self) -> Duration {
        self.steps.iter().flat_map(|step| &step.kernels).map(|kernel| kernel.time.duration).sum()
    }
}

impl OnnxModel {
    /// Runs the model once to plan it, and once more to see what takes how long.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), and [`Error::Unsupported`] where the device has no timestamps.
    pub fn profile(&self, inputs: &[(&str, OnnxTensor)]) -> Result<OnnxProfile> {
        self.run(inputs)?;
        let given = self.given(inputs)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let traces = state.traces.find(&(Self::signature(&given), Keeping::default())).to_vec();
        'traces: for trace in traces {
            let session = &mut state.session;
            let mut data = Data { given: &given, slots: HashMap::new() };
            let mut profile = OnnxProfile::default();
            let mut now = Duration::ZERO;
            for step in &trace.steps {
                let begin = Instant::now();
                if !data.execute(step, session, &|| false)? {
                    continue 'traces;
                }
                let (start, duration) = (now, begin.elapsed());
                now += duration;
                let (name, kernels) = match step {
                    Step::Run { plan, .. } => {
                        (format!("graph {}", profile.steps.len()), session.profile(*plan)?)
                    }
                    Step::Expect { element, tensor, .. } => {
                        (format!("value {element}{:?}", tensor.dims()), Vec::new())
                    }
                };
                profile.steps.push(ProfiledStep { name, start, duration, kernels });
            }
            return Ok(profile);
        }
        Err(Error::op("profile", "the values that decide what is computed differ from run to run"))
    }
}
