//! The only folder that names wgpu: device, buffers, pipelines, recording, errors.
//!
//! Everything the device reports (validation, out of memory, lost) becomes an
//! [`Error`] through error scopes and callbacks; nothing here panics on what a device does.

mod adapter;
mod ahead;
mod buffer;
mod cache;
mod pipeline;
mod profile;
mod program;
mod scope;
mod timing;

pub use adapter::{AdapterSummary, GpuOptions};
pub use buffer::Buffer;
pub use program::{Dispatch, Program, Readback, Started};
pub use timing::Elapsed;
/// The version of wgpu whose adapters, devices and queues [`Gpu::from_wgpu`] takes.
pub use wgpu;

use crate::graph::PlannedGraphs;
use crate::kernel::{Caps, Launch};
use crate::profile::Recorder;
use crate::self_check::{SelfChecks, self_check_path};
use crate::{Error, Result};
use ahead::Ahead;
use cache::PipelineCache;
use pipeline::Pipelines;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Objects made and bytes moved so far; steady-state decoding makes no objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Buffers.
    pub buffers: u64,
    /// Bind groups.
    pub bind_groups: u64,
    /// Pipelines.
    pub pipelines: u64,
    /// Submits.
    pub submits: u64,
    /// Bytes written to buffers from the host.
    pub bytes_written: u64,
    /// Bytes of buffers read to the host.
    pub bytes_read: u64,
}

/// A device and its queue, with compiled pipelines. Cheap to clone; clones share all.
#[derive(Debug, Clone)]
pub struct Gpu {
    shared: Arc<Shared>,
    caps: Arc<Caps>,
    checked: bool,
    /// What the self-check found, where there is one.
    self_checks: Option<SelfChecks>,
    /// Whether what runs stays out of records.
    unrecorded: bool,
}

#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    summary: AdapterSummary,
    pipelines: Pipelines,
    /// Where the driver compiles late, and on one thread.
    ahead: Option<Ahead>,
    /// Where the driver keeps what it compiled.
    cache: Option<PipelineCache>,
    lost: Arc<Mutex<Option<String>>>,
    allocated: Arc<AtomicU64>,
    buffers: AtomicU64,
    bind_groups: AtomicU64,
    submits: AtomicU64,
    bytes_written: AtomicU64,
    bytes_read: AtomicU64,
    /// Test hook: allocations until one fails; zero when off.
    failing_allocation: AtomicU64,
    destroyed: AtomicBool,
    /// Bytes written since the last flush.
    staged: AtomicU64,
    /// What is recorded now.
    recorder: Mutex<Option<Recorder>>,
    /// Where sessions add the graphs that they plan.
    planned: Mutex<Option<PlannedGraphs>>,
    /// Test hook: whether timestamps are not used.
    without_timestamps: AtomicBool,
    /// Test hook: part of the kernels and variants that compute nothing.
    broken: Mutex<Option<String>>,
}

impl Gpu {
    fn from_parts(
        device: wgpu::Device,
        queue: wgpu::Queue,
        summary: AdapterSummary,
        caps: Caps,
        checked: bool,
        (ahead, cache): (Option<Ahead>, Option<PipelineCache>),
    ) -> Self {
        let shared = Shared {
            device,
            queue,
            summary,
            pipelines: Pipelines::default(),
            ahead,
            cache,
            lost: Arc::default(),
            allocated: Arc::default(),
            buffers: AtomicU64::new(0),
            bind_groups: AtomicU64::new(0),
            submits: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            failing_allocation: AtomicU64::new(0),
            destroyed: AtomicBool::new(false),
            staged: AtomicU64::new(0),
            recorder: Mutex::default(),
            planned: Mutex::default(),
            without_timestamps: AtomicBool::new(false),
            broken: Mutex::default(),
        };
        let (shared, caps) = (Arc::new(shared), Arc::new(caps));
        Self { shared, caps, checked, self_checks: None, unrecorded: false }
    }

    /// What this device can do.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The same device seen with other capabilities: forms forced, limits lowered, features
    /// left out. For tests and the doctor; claiming more than the device has gives errors.
    #[must_use]
    pub fn with_caps(&self, caps: Caps) -> Self {
        Self { caps: Arc::new(caps), ..self.clone() }
    }

    /// The same device with all of naga's run-time checks in the shaders on or off.
    #[must_use]
    pub fn with_checks(&self, checked: bool) -> Self {
        Self { checked, ..self.clone() }
    }

    /// The same device with the self-check of kernels (see
    /// [`Session::add`](crate::session::Session::add)), and without the kernels that failed it
    /// before: what was found is kept by adapter, driver and version of this crate in the user's
    /// cache folder.
    #[must_use]
    pub fn self_checked(&self) -> Self {
        let adapter = self.adapter().to_string();
        self.with_self_checks(SelfChecks::load(self_check_path(&adapter), &adapter))
    }

    /// The same with what was found kept elsewhere.
    #[must_use]
    pub fn with_self_checks(&self, checks: SelfChecks) -> Self {
        let mut caps = self.caps().clone();
        let failed = checks.demotions().into_iter().map(|demotion| (demotion.family, demotion.choice));
        caps.overrides.demoted.extend(failed);
        Self { self_checks: Some(checks), ..self.with_caps(caps) }
    }

    /// What the self-check found on this adapter, where there is one.
    pub fn self_checks(&self) -> Option<&SelfChecks> {
        self.self_checks.as_ref()
    }

    /// The same device, whose work is in no record.
    pub(crate) fn unrecorded(&self) -> Self {
        Self { unrecorded: true, ..self.clone() }
    }

    /// Has sessions on this device add the graphs that they plan to a list, or no longer.
    pub fn list_graphs(&self, planned: Option<&PlannedGraphs>) {
        *self.shared.planned.lock().unwrap_or_else(PoisonError::into_inner) = planned.cloned();
    }

    /// Where sessions add the graphs that they plan, if anywhere.
    pub(crate) fn listed_graphs(&self) -> Option<PlannedGraphs> {
        self.shared.planned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.shared.summary
    }

    /// Bytes of all buffers that exist now.
    pub fn allocated_bytes(&self) -> u64 {
        self.shared.allocated.load(Ordering::Relaxed)
    }

    /// Objects made and bytes moved so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            buffers: read(&self.shared.buffers),
            bind_groups: read(&self.shared.bind_groups),
            pipelines: self.shared.pipelines.len() as u64,
            submits: read(&self.shared.submits),
            bytes_written: read(&self.shared.bytes_written),
            bytes_read: read(&self.shared.bytes_read),
        }
    }

    /// Test hook: the `n`-th allocation from now fails as if the device were out of memory.
    #[doc(hidden)]
    pub fn fail_allocation(&self, n: u64) {
        self.shared.failing_allocation.store(n, Ordering::Relaxed);
    }

    /// Test hook: kernels whose name or variant contains `part` compute nothing in what is prepared
    /// from now on, as a driver's miscompilation might.
    #[doc(hidden)]
    pub fn break_kernels(&self, part: &str) {
        *self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(part.to_owned());
    }

    /// Whether a launch computes nothing by [`break_kernels`](Self::break_kernels).
    fn is_broken(&self, launch: &Launch) -> bool {
        let broken = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let text = || format!("{} {}", launch.kernel, launch.variant_text());
        broken.as_ref().is_some_and(|part| text().contains(part))
    }

    /// Test hook: times are the clock's from now on, as on a device without timestamps.
    #[doc(hidden)]
    pub fn ignore_timestamps(&self) {
        self.shared.without_timestamps.store(true, Ordering::Relaxed);
    }

    /// Test hook: destroys the device, as a driver reset would.
    #[doc(hidden)]
    pub fn destroy(&self) {
        self.shared.device.destroy();
        self.shared.destroyed.store(true, Ordering::Relaxed);
    }

    /// Notes that the device is lost, where no callback told.
    fn lose(&self, message: String) {
        let mut lost = self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert(message);
    }

    /// Fails when the device was lost.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] with the driver's words.
    pub fn check_alive(&self) -> Result<()> {
        let lost = self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner);
        match &*lost {
            Some(message) => Err(Error::DeviceLost(message.clone())),
            None if self.shared.destroyed.load(Ordering::Relaxed) => {
                Err(Error::DeviceLost("destroyed".into()))
            }
            None => Ok(()),
        }
    }
}
