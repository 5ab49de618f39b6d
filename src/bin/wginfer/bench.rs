//! `wginfer bench`: the speed of models and kernels on this adapter.

use crate::args::{DTypeName, GlobalFlags};
use crate::bench_onnx::{self, OnnxArgs};
use crate::bench_output::{MeasureFlags, Reports, write_file};
use crate::bench_start::{self, StartArgs};
use crate::failure::Failure;
use crate::model;
use crate::profile::{ProfileFlags, Profiling};
use crate::terminal::expect_folder;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use wginfer::bench::{ImageShape, KernelReport, Limits, ModelShape, TextReport, TextRuns, VisionReport};
use wginfer::bench::{measure_image_model, measure_image_shape, measure_kernels};
use wginfer::bench::{measure_limits, measure_model, measure_shape, roofline};
use wginfer::tensor::DType;
use wginfer::text::TextModel;

const EXAMPLES: &str = "\
Examples:
  wginfer bench text
  wginfer bench text --shape 15m --dtype f16
  wginfer bench vision
  wginfer bench vision --shape resnet50 --dtype f16
  wginfer bench onnx model.onnx --shape x=1x3x224x224
  wginfer bench kernels --only gemm --plot roofline.svg
  wginfer bench kernels --json=before.json
  wginfer bench kernels --compare before.json
  wginfer bench limits
  wginfer bench start generate models/pretrained/fairy-tales Once --max-tokens 1";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Speed of a language model: prompts, decoding, the first token, memory
    Text(TextArgs),
    /// Speed of a network for images: one image, batches, each layer, memory between layers
    Vision(VisionArgs),
    /// Speed of ONNX models: a run, the first result, dispatches, memory
    Onnx(OnnxArgs),
    /// Speed of single kernels at shapes of real models, as a part of what the adapter can do
    Kernels(KernelsArgs),
    /// What the adapter can do at best: arithmetic, memory, dispatches, submits
    Limits(LimitsArgs),
    /// Time of a command of this program in new processes, with empty and with filled caches of shaders
    Start(StartArgs),
}

#[derive(Debug, Args)]
struct TextArgs {
    /// The model; left out, it is WGINFER_MODEL or the bundled one
    #[arg(conflicts_with = "shape")]
    model: Option<String>,
    /// A shape with random weights in place of a model: 15m, 124m or 1b
    #[arg(long)]
    shape: Option<String>,
    /// Dtype of the matrices on the GPU [default: that of the files; f32 for a shape]
    #[arg(long, value_enum)]
    dtype: Option<DTypeName>,
    /// The only length of prompts and contexts [default: 16, 128 and 512]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    length: Option<u32>,
    #[command(flatten)]
    measure: MeasureFlags,
    #[command(flatten)]
    profile: ProfileFlags,
}

#[derive(Debug, Args)]
struct VisionArgs {
    /// Folder or file of a model; left out, it is the shapes with random weights
    #[arg(conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Only this shape with random weights: squeezenet1_1, mobilenet_v2 or resnet50
    #[arg(long)]
    shape: Option<String>,
    /// Dtype of the weights on the GPU [default: that of the files; f32 for a shape]
    #[arg(long, value_enum)]
    dtype: Option<DTypeName>,
    #[command(flatten)]
    measure: MeasureFlags,
    #[command(flatten)]
    profile: ProfileFlags,
}

#[derive(Debug, Args)]
struct KernelsArgs {
    /// Measure only kernels whose name or family contains this
    #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
    only: String,
    /// Draw the kernels under the adapter's ceilings (a roofline), as SVG
    #[arg(long, value_name = "OUT.SVG")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    measure: MeasureFlags,
}

#[derive(Debug, Args)]
struct LimitsArgs {
    #[command(flatten)]
    measure: MeasureFlags,
}

/// Runs the command. `started` is when the process began.
pub(crate) fn run(args: &BenchArgs, global: &GlobalFlags, started: Instant) -> Result<ExitCode, Failure> {
    match &args.what {
        What::Text(args) => args.profile.around(started, |profiling| text(args, global, started, profiling)),
        What::Vision(args) => {
            args.profile.around(started, |profiling| vision(args, global, started, profiling))
        }
        What::Kernels(args) => kernels(args, global),
        What::Limits(args) => {
            let mut reports = Reports::of::<Limits>(&args.measure)?;
            reports.show(&measure_limits(&args.measure.open(global)?, args.measure.runs)?)?;
            reports.finish()?;
            Ok(ExitCode::SUCCESS)
        }
        What::Start(args) => bench_start::run(args),
        What::Onnx(args) => {
            args.profile.around(started, |profiling| bench_onnx::run(args, global, started, profiling))
        }
    }
}

fn kernels(args: &KernelsArgs, global: &GlobalFlags) -> Result<ExitCode, Failure> {
    let mut reports = Reports::of::<KernelReport>(&args.measure)?;
    if let Some(file) = &args.plot {
        expect_folder(file)?;
    }
    let report = measure_kernels(&args.measure.open(global)?, args.measure.runs, &args.only)?;
    reports.show(&report)?;
    reports.finish()?;
    if let Some(file) = &args.plot {
        write_file(file, &roofline(&report))?;
    }
    let wrong = report.rows.iter().any(|row| row.mismatch.is_some());
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn vision(
    args: &VisionArgs,
    global: &GlobalFlags,
    started: Instant,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    let (dtype, measure) = (args.dtype.map(DType::from), &args.measure);
    let shapes = match (&args.model, &args.shape) {
        (Some(_), _) => Vec::new(),
        (None, Some(name)) => {
            vec![ImageShape::named(name).map_err(|error| Failure::Usage(error.to_string()))?]
        }
        (None, None) => ImageShape::ALL.to_vec(),
    };
    let mut reports = Reports::of::<VisionReport>(measure)?;
    if let Some(model) = &args.model {
        let gpu = measure.open_recorded(global, profiling)?;
        reports.show(&measure_image_model(&gpu, model, dtype, measure.runs, started)?)?;
    }
    let mut started = started;
    for shape in shapes {
        // Each network gets a device of its own, so that its first output compiles its shaders.
        let gpu = measure.open_recorded(global, profiling)?;
        let dtype = dtype.unwrap_or(DType::F32);
        reports.show(&measure_image_shape(&gpu, shape, dtype, measure.runs, started)?)?;
        started = Instant::now();
    }
    reports.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn text(
    args: &TextArgs,
    global: &GlobalFlags,
    started: Instant,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    let dtype = args.dtype.map(DType::from);
    let runs = TextRuns { runs: args.measure.runs, length: args.length.map(|length| length as usize) };
    let shape = args.shape.as_deref().map(ModelShape::named).transpose();
    let shape = shape.map_err(|error| Failure::Usage(error.to_string()))?;
    let mut reports = Reports::of::<TextReport>(&args.measure)?;
    if let Some(shape) = shape {
        let gpu = args.measure.open_recorded(global, profiling)?;
        reports.show(&measure_shape(&gpu, shape, dtype.unwrap_or(DType::F32), runs, started)?)?;
    } else {
        let folder = model::find_folder(args.model.as_deref(), global)?;
        let mut builder = TextModel::builder().gpu(&args.measure.open_recorded(global, profiling)?);
        if let Some(dtype) = dtype {
            builder = builder.dtype(dtype);
        }
        let name = folder.to_str().ok_or_else(|| {
            Failure::Other(format!("{}: the path of a model must be UTF-8", folder.display()))
        })?;
        reports.show(&measure_model(builder, name, runs, started)?)?;
    }
    reports.finish()?;
    Ok(ExitCode::SUCCESS)
}
