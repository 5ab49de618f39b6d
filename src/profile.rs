//! What a run took: spans of work on the host, and every dispatch on the device with what it
//! computed. A [`Recorder`] collects them, a [`Profile`] is what it has so far: its `Display` is the
//! table of the costliest kernels, [`Profile::to_trace_json`] a timeline for Perfetto.
//!
//! ```no_run
//! # fn main() -> wginfer::Result<()> {
//! use wginfer::{gpu::Gpu, profile::Recorder};
//!
//! let (gpu, recorder) = (Gpu::new()?, Recorder::new());
//! gpu.record(Some(&recorder));
//! // Load a model on this device and run it: a `TextModel`, a `Classifier`, a `Session`, ...
//! gpu.record(None);
//! let profile = recorder.profile();
//! print!("{profile}");
//! # let _ = profile.to_trace_json();
//! # Ok(())
//! # }
//! ```
//!
//! Recording disturbs what it measures a little: each dispatch runs in a pass of its own (and is
//! submitted alone where the device has no timestamps), submits are waited for one by one, and
//! results are read in a submit of their own. What is computed stays the same.

mod ceilings;
mod recorder;
mod table;
mod trace;

pub use ceilings::{Bound, Ceilings};
pub use recorder::{Recorder, Span};
pub use table::KernelTotal;

use crate::kernel::Selected;
use crate::ops::Applied;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A node of a plan with its dispatches.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// The operator that it applies.
    pub applied: Arc<Applied>,
    /// What was picked for it where there was a choice, and why.
    pub selected: Arc<[Selected]>,
    /// Its dispatches in order.
    pub kernels: Vec<KernelInfo>,
}

/// A kernel in a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// Its name.
    pub kernel: &'static str,
    /// Its template variables: "elem=f32 rows=16".
    pub variant: String,
}

/// When a dispatch ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DispatchTime {
    /// When it began, on the host's clock: dispatches of a submit are placed as if the first of
    /// them began when they were submitted.
    pub begin: Instant,
    /// How long it ran.
    pub duration: Duration,
    /// Whether its pipeline was never dispatched before.
    pub first: bool,
}

/// One dispatch of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatched {
    /// The node that it belongs to.
    pub node: Arc<NodeInfo>,
    /// Which of the node's dispatches it is.
    pub index: usize,
    /// When it began: since the start of the record, or of the run that was asked for.
    pub start: Duration,
    /// How long it ran.
    pub duration: Duration,
    /// Whether its pipeline was never dispatched before: some drivers compile then.
    pub first: bool,
}

impl Dispatched {
    /// Its kernel.
    pub fn kernel(&self) -> &KernelInfo {
        &self.node.kernels[self.index]
    }
}

/// Something that took time on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSpan {
    /// What it is.
    pub name: &'static str,
    /// Details: numbers and names.
    pub details: Vec<(&'static str, Value)>,
    /// Number of the thread, 0 for the first that recorded anything.
    pub thread: usize,
    /// When it began, since the start of the record.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// What was recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// Adapter with its driver's version; empty where nothing was attached.
    pub adapter: String,
    /// Whether dispatches are timed by the device; else each is submitted alone, and timed by the
    /// clock around that.
    pub timestamps: bool,
    /// Work on the host, by its start; that inside of other work comes after it.
    pub spans: Vec<HostSpan>,
    /// Dispatches in order.
    pub dispatches: Vec<Dispatched>,
    /// Spans and dispatches that were left out because there were too many.
    pub dropped: usize,
    /// What the device can do at best, where it was measured.
    pub ceilings: Option<Ceilings>,
}

impl Profile {
    /// The same with what kernels are compared with.
    #[must_use]
    pub fn with_ceilings(mut self, ceilings: Ceilings) -> Self {
        self.ceilings = Some(ceilings);
        self
    }

    /// Time of all dispatches.
    pub fn device_time(&self) -> Duration {
        self.dispatches.iter().map(|dispatch| dispatch.duration).sum()
    }

    /// The dispatches of each run of a node.
    fn node_runs(&self) -> impl Iterator<Item = &[Dispatched]> {
        self.dispatches.chunk_by(|before, next| next.index > 0 && Arc::ptr_eq(&before.node, &next.node))
    }
}

/// Speed of a node of known cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Multiplications and additions of sums of products.
    pub gigaflops: f64,
    /// Bytes read and written, each value once.
    pub gigabytes: f64,
    /// The least time by the ceilings as a part of the time it took, and which ceiling that is.
    pub part_of_ceiling: Option<(f64, Bound)>,
}

impl Rates {
    /// Of a node that took so long; none where no time passed, or its cost depends on values.
    fn of(applied: &Applied, time: Duration, ceilings: Option<&Ceilings>) -> Option<Self> {
        let (cost, seconds) = (applied.cost.as_ref()?, time.as_secs_f64());
        let part = |ceilings: &Ceilings| {
            let (least, bound) = ceilings.least_seconds(cost);
            (least / seconds, bound)
        };
        (seconds > 0.0).then(|| Self {
            gigaflops: cost.flops as f64 / seconds / 1e9,
            gigabytes: cost.bytes() as f64 / seconds / 1e9,
            part_of_ceiling: ceilings.map(part),
        })
    }
}
