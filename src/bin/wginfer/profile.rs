//! `--profile`, `--top` and `--explain`: what a command's runs took, kernel by kernel, and why they
//! are these kernels.

use crate::failure::Failure;
use crate::terminal::{expect_writable, note};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use wginfer::Error;
use wginfer::bench::measure_ceilings;
use wginfer::gpu::Gpu;
use wginfer::graph::{PlannedGraphs, explain};
use wginfer::profile::Recorder;
use wginfer::session::plan_graph;

/// Runs that measure what the adapter can do at best.
const CEILING_RUNS: usize = 3;

/// Flags of all commands that run a model.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProfileFlags {
    /// Write when everything ran, on the host and on the GPU, to a file of trace events for
    /// Perfetto (ui.perfetto.dev) or chrome://tracing
    #[arg(long, value_name = "TRACE.json")]
    pub(crate) profile: Option<PathBuf>,
    /// Print the N kernels that took longest to standard error [N left out: 10]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "10", value_parser = crate::args::parse_count)]
    pub(crate) top: Option<usize>,
    /// Print which kernel computes each operator, and why, to standard error
    #[arg(long)]
    pub(crate) explain: bool,
}

/// A profile in the making; nothing where none is asked for.
#[derive(Debug)]
pub(crate) struct Profiling {
    flags: ProfileFlags,
    recorder: Option<Recorder>,
    gpu: Option<Gpu>,
    /// What was planned, where it is to be explained.
    planned: Option<PlannedGraphs>,
}

impl ProfileFlags {
    /// Runs a command, recorded where that is asked for; `started` is when times begin.
    pub(crate) fn around(
        &self,
        started: Instant,
        command: impl FnOnce(&mut Profiling) -> Result<ExitCode, Failure>,
    ) -> Result<ExitCode, Failure> {
        let mut profiling = self.start(started)?;
        let exit = command(&mut profiling)?;
        profiling.finish()?;
        Ok(exit)
    }

    /// Checks that the file can be written, before anything is run for it.
    fn start(&self, started: Instant) -> Result<Profiling, Failure> {
        if let Some(file) = &self.profile {
            expect_writable(file)?;
        }
        let wanted = self.profile.is_some() || self.top.is_some();
        let recorder = wanted.then(|| Recorder::since(started));
        let planned = self.explain.then(PlannedGraphs::new);
        Ok(Profiling { flags: self.clone(), recorder, gpu: None, planned })
    }
}

impl Profiling {
    /// Records what runs on a device from now on; opening it counts from `begin`.
    pub(crate) fn attach(&mut self, gpu: &Gpu, begin: Instant) {
        if let Some(recorder) = &self.recorder {
            recorder.ended_span("open the adapter", begin);
            gpu.record(Some(recorder));
        }
        gpu.list_graphs(self.planned.as_ref());
        self.gpu = Some(gpu.clone());
    }

    /// Time of all dispatches so far, where they are recorded.
    pub(crate) fn device_time(&self) -> Option<Duration> {
        self.recorder.as_ref().map(Recorder::device_time)
    }

    /// Ends the record, measures what the adapter can do at best, and writes what is asked for.
    fn finish(self) -> Result<(), Failure> {
        let Some(gpu) = self.gpu else { return Ok(()) };
        if let Some(planned) = self.planned {
            let plans = planned.take().into_iter().map(|graph| plan_graph(graph, gpu.caps()));
            note(explain(&plans.collect::<wginfer::Result<Vec<_>>>()?).trim_end());
        }
        let Some(recorder) = self.recorder else { return Ok(()) };
        gpu.record(None);
        let mut profile = recorder.profile();
        match measure_ceilings(&gpu, CEILING_RUNS) {
            Ok(ceilings) => profile = profile.with_ceilings(ceilings),
            Err(error) => log::warn!("no part of the ceiling is shown: {error}"),
        }
        if let Some(file) = &self.flags.profile {
            std::fs::write(file, profile.to_trace_json()).map_err(|error| Error::io(file, error))?;
        }
        if let Some(most) = self.flags.top {
            note(profile.table(most).trim_end());
        }
        Ok(())
    }
}
