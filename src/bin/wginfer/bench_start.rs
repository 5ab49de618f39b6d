//! `wginfer bench start`: a command in processes of its own, with empty and with filled caches.

use crate::args::parse_count;
use crate::failure::Failure;
use crate::terminal;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use wginfer::Error;

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Pairs of processes
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = parse_count)]
    runs: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A command of this program with its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Seconds of whole processes, sorted.
#[derive(Debug, Serialize)]
struct Report {
    command: Vec<String>,
    /// With empty caches: Mesa's of shaders, and this program's.
    cold_s: Vec<f64>,
    /// Each with the caches that a cold one filled.
    warm_s: Vec<f64>,
}

/// Runs the command.
pub(crate) fn run(args: &StartArgs) -> Result<ExitCode, Failure> {
    let mut report = Report { command: args.command.clone(), cold_s: Vec::new(), warm_s: Vec::new() };
    for run in 0..args.runs {
        let caches = Caches::new(run)?;
        report.cold_s.push(seconds(&args.command, &caches.0)?);
        report.warm_s.push(seconds(&args.command, &caches.0)?);
    }
    report.cold_s.sort_by(f64::total_cmp);
    report.warm_s.sort_by(f64::total_cmp);
    if args.json {
        terminal::write_json(&report)?;
    } else {
        let line = |name: &str, times: &[f64]| {
            let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
            format!("{name} {median:.2} s [{least:.2}-{most:.2}]\n")
        };
        let (cold, warm) = (line("empty caches ", &report.cold_s), line("filled caches", &report.warm_s));
        terminal::write(&format!("{cold}{warm}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder for the caches of two processes; removed with all that is in it.
struct Caches(PathBuf);

impl Caches {
    fn new(run: usize) -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("wginfer-start-{}-{run}", std::process::id()));
        std::fs::create_dir(&folder).map_err(|error| Error::io(&folder, error))?;
        Ok(Self(folder))
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            log::warn!("{}: {error}", self.0.display());
        }
    }
}

/// How long a process takes from its start to its end.
fn seconds(command: &[String], caches: &Path) -> Result<f64, Failure> {
    let fail = |message: String| Failure::Other(format!("`{}`: {message}", command.join(" ")));
    let program = std::env::current_exe().map_err(|error| fail(error.to_string()))?;
    let started = Instant::now();
    let done = Command::new(program)
        .args(command)
        .env("MESA_SHADER_CACHE_DIR", caches)
        .env("WGINFER_CACHE", caches)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| fail(error.to_string()))?;
    let seconds = started.elapsed().as_secs_f64();
    if !done.status.success() {
        return Err(fail(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    Ok(seconds)
}
