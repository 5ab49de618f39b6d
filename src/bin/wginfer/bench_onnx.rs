//! `wginfer bench onnx`: the speed of ONNX models.

use crate::args::GlobalFlags;
use crate::bench_output::{MeasureFlags, Reports};
use crate::failure::Failure;
use crate::npy::{self, Archive};
use crate::onnx_inputs::{InputFlags, collect_or_random};
use crate::profile::{ProfileFlags, Profiling};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use wginfer::Error;
use wginfer::bench::{OnnxSpeed, OnnxSubject, measure_onnx};
use wginfer::onnx::{OnnxModel, OnnxOptions, OnnxTensor};
use wginfer::tensor::Tolerance;

#[derive(Debug, Args)]
pub(crate) struct OnnxArgs {
    /// The .onnx files
    #[arg(value_name = "MODEL.onnx", required = true)]
    models: Vec<PathBuf>,
    #[command(flatten)]
    inputs: InputFlags,
    /// Compare the outputs with the arrays of an .npz archive before anything is timed
    #[arg(long, value_name = "FILE.npz")]
    golden: Option<PathBuf>,
    /// Part of the array names of an .npz archive, for example case0
    #[arg(long, value_name = "CASE", default_value = "case0")]
    case: String,
    /// Absolute and relative tolerance of --golden
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-3)]
    tolerance: f64,
    #[command(flatten)]
    measure: MeasureFlags,
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,
}

/// Runs the command. `started` is when the process began.
pub(crate) fn run(
    args: &OnnxArgs,
    global: &GlobalFlags,
    started: Instant,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    let (mut started, mut wrong) = (started, false);
    let mut reports = Reports::of::<OnnxSpeed>(&args.measure)?;
    for path in &args.models {
        // Each model gets a device of its own, so that its first result compiles its shaders.
        let report = measure(path, (args, profiling), global, started)?;
        wrong |= !report.mismatches.is_empty();
        reports.show(&report)?;
        started = Instant::now();
    }
    reports.finish()?;
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(
    path: &Path,
    (args, profiling): (&OnnxArgs, &mut Profiling),
    global: &GlobalFlags,
    started: Instant,
) -> Result<OnnxSpeed, Failure> {
    let loading = Instant::now();
    let gpu = args.measure.open_recorded(global, profiling)?;
    let model = OnnxModel::load_with(path, &gpu, &OnnxOptions::default())?;
    let load_seconds = loading.elapsed().as_secs_f64();
    let inputs = collect_or_random(&model.inputs(), &args.inputs, &args.case)?;
    let wanted = match &args.golden {
        Some(file) => wanted(&model, file, &args.case)?,
        None => Vec::new(),
    };
    let subject = OnnxSubject {
        name: path.display().to_string(),
        model: &model,
        inputs,
        wanted,
        tolerance: Tolerance::new(args.tolerance, args.tolerance),
        load_seconds,
    };
    Ok(measure_onnx(&gpu, &subject, args.measure.runs, started)?)
}

/// The outputs that an archive has arrays for.
fn wanted(model: &OnnxModel, file: &Path, case: &str) -> Result<Vec<(String, OnnxTensor)>, Failure> {
    let mut archive = Archive::open(file)?;
    let mut found = Vec::new();
    for output in model.outputs() {
        if let Some(tensor) = archive.output(&output.name, case)? {
            let tensor = npy::converted(tensor, output.element).map_err(|message| {
                Failure::Other(format!("{}: output `{}`: {message}", file.display(), output.name))
            })?;
            found.push((output.name, tensor));
        }
    }
    if found.is_empty() {
        let names = archive.names().join(", ");
        return Err(
            Error::file(file, format!("no output has an array of its name; there are {names}")).into()
        );
    }
    Ok(found)
}
