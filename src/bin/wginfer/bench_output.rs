//! What the benchmarks share: the device, tables, JSON files, comparisons with an earlier run.

use crate::args::{FormName, GlobalFlags};
use crate::failure::Failure;
use crate::profile::Profiling;
use crate::terminal::{self, expect_folder};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wginfer::bench::{Comparison, Record, Report};
use wginfer::doctor::caps_with_form;
use wginfer::gpu::{Gpu, GpuOptions};
use wginfer::kernel::Form;

/// Flags of all benchmarks.
#[derive(Debug, Args)]
pub(crate) struct MeasureFlags {
    /// Measured runs, of which the median is shown
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = parse_runs)]
    pub(crate) runs: usize,
    /// Form of the kernels [default: the adapter's own]
    #[arg(long, value_enum)]
    form: Option<FormName>,
    /// Run shaders with all run-time checks on (slower); --compare then says by how much
    #[arg(long)]
    checked: bool,
    /// Print JSON in place of tables, or write it to a file besides
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    json: Option<String>,
    /// Put the figures beside those that an earlier run wrote with --json
    #[arg(long, value_name = "OLD.JSON")]
    compare: Option<PathBuf>,
}

fn parse_runs(text: &str) -> Result<usize, String> {
    let runs = text.parse().ok().filter(|runs| (1..=1000).contains(runs));
    runs.ok_or_else(|| "expected a whole number from 1 to 1000".to_owned())
}

impl MeasureFlags {
    /// Opens the device in the form that is asked for.
    pub(crate) fn open(&self, global: &GlobalFlags) -> Result<Gpu, Failure> {
        let gpu = Gpu::open(&GpuOptions { trusted: true, ..global.gpu_options(self.checked) })?;
        let Some(form) = self.form.map(Form::from) else { return Ok(gpu) };
        let caps = caps_with_form(gpu.caps(), form).ok_or_else(|| {
            let name = format!("{form:?}").to_lowercase();
            Failure::Other(format!("this adapter cannot run the form `{name}`: it has no subgroups"))
        })?;
        Ok(gpu.with_caps(caps))
    }

    /// The same, recorded where a profile is asked for.
    pub(crate) fn open_recorded(
        &self,
        global: &GlobalFlags,
        profiling: &mut Profiling,
    ) -> Result<Gpu, Failure> {
        let begin = Instant::now();
        let gpu = self.open(global)?;
        profiling.attach(&gpu, begin);
        Ok(gpu)
    }

    fn prints_json(&self) -> bool {
        self.json.as_deref() == Some("-")
    }
}

/// Writes a file.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

/// The reports of one command.
pub(crate) struct Reports<'a> {
    flags: &'a MeasureFlags,
    old: Option<Record>,
    documents: String,
    records: Vec<Record>,
}

impl<'a> Reports<'a> {
    /// Reads the earlier run, so that what is wrong with it is said before anything is measured.
    pub(crate) fn of<R: Report>(flags: &'a MeasureFlags) -> Result<Self, Failure> {
        let old = flags.compare.as_deref().map(Record::read).transpose()?;
        if let Some(old) = &old {
            old.expect_benchmark(R::WHAT)?;
        }
        if let Some(file) = flags.json.as_deref().filter(|&file| file != "-") {
            expect_folder(Path::new(file))?;
        }
        Ok(Self { flags, old, documents: String::new(), records: Vec::new() })
    }

    /// Prints a report.
    pub(crate) fn show<R: Report>(&mut self, report: &R) -> Result<(), Failure> {
        let document = format!("{}\n", Record::document(report)?);
        let shown = if self.flags.prints_json() { document.clone() } else { report.to_string() };
        terminal::write(&shown)?;
        self.documents.push_str(&document);
        self.records.push(Record::of(report));
        Ok(())
    }

    /// Writes what was asked for besides: the file, the comparison. Beside JSON on standard output
    /// the comparison goes to standard error.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if let Some(file) = self.flags.json.as_deref().filter(|&file| file != "-") {
            write_file(Path::new(file), &self.documents)?;
        }
        let new = Record::joined(self.records).map_err(Failure::Other)?;
        let (Some(old), Some(new)) = (&self.old, &new) else { return Ok(()) };
        let comparison = Comparison::new(old, new)?.to_string();
        if self.flags.prints_json() {
            terminal::note(comparison.trim_end());
            return Ok(());
        }
        terminal::write(&format!("\n{comparison}"))
    }
}
