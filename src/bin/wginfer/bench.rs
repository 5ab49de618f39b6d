//! `wginfer bench`: the speed of models and kernels on this adapter.

use crate::args::{DTypeName, GlobalFlags};
use crate::failure::Failure;
use crate::model;
use crate::terminal;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use wginfer::bench::{ImageShape, ModelShape, TextReport, VisionReport};
use wginfer::bench::{
    measure_image_model, measure_image_shape, measure_kernels, measure_model, measure_shape,
};
use wginfer::gpu::{Gpu, GpuOptions};
use wginfer::tensor::DType;
use wginfer::text::TextModel;

const EXAMPLES: &str = "\
Examples:
  wginfer bench text
  wginfer bench text --shape 15m --dtype f16
  wginfer bench vision
  wginfer bench vision --shape resnet50 --dtype f16
  wginfer bench kernels --only linear";

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
    /// Speed of single kernels at shapes of real models
    Kernels(KernelsArgs),
}

#[derive(Debug, Args)]
struct TextArgs {
    /// The model; left out, it is WGINFER_MODEL or the bundled one
    #[arg(conflicts_with = "shape")]
    model: Option<String>,
    /// A shape with random weights in place of a model: 15m or 124m
    #[arg(long)]
    shape: Option<String>,
    /// Dtype of the matrices on the GPU [default: that of the files; f32 for a shape]
    #[arg(long, value_enum)]
    dtype: Option<DTypeName>,
    /// Measured runs, of which the median is shown
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = parse_runs)]
    runs: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
    /// Measured runs, of which the median is shown
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = parse_runs)]
    runs: usize,
    /// Print one JSON object for each network, a line each
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct KernelsArgs {
    /// Measure only kernels whose name contains this
    #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
    only: String,
    /// Measured runs, of which the median is shown
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = parse_runs)]
    runs: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_runs(text: &str) -> Result<usize, String> {
    let runs = text.parse().ok().filter(|runs| (1..=1000).contains(runs));
    runs.ok_or_else(|| "expected a whole number from 1 to 1000".to_owned())
}

/// Runs the command. `started` is when the process began.
pub(crate) fn run(args: &BenchArgs, global: &GlobalFlags, started: Instant) -> Result<ExitCode, Failure> {
    match &args.what {
        What::Text(args) => {
            show(&text(args, global, started)?, args.json)?;
            Ok(ExitCode::SUCCESS)
        }
        What::Vision(args) => {
            vision(args, global, started)?;
            Ok(ExitCode::SUCCESS)
        }
        What::Kernels(args) => {
            let report = measure_kernels(&open(global)?, args.runs, &args.only)?;
            show(&report, args.json)?;
            let wrong = report.rows.iter().any(|row| row.mismatch.is_some());
            Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

fn show(report: &(impl Serialize + Display), json: bool) -> Result<(), Failure> {
    if json { terminal::write_json(report) } else { terminal::write(&report.to_string()) }
}

fn open(global: &GlobalFlags) -> Result<Gpu, Failure> {
    Ok(Gpu::open(&GpuOptions { adapter: global.adapter.clone(), checked: false })?)
}

fn vision(args: &VisionArgs, global: &GlobalFlags, started: Instant) -> Result<(), Failure> {
    let dtype: Option<DType> = args.dtype.map(Into::into);
    if let Some(model) = &args.model {
        let report = measure_image_model(&open(global)?, model, dtype, args.runs, started)?;
        return show(&report, args.json);
    }
    let shapes = match &args.shape {
        Some(name) => {
            vec![ImageShape::named(name).map_err(|error| Failure::Usage(error.to_string()))?]
        }
        None => ImageShape::ALL.to_vec(),
    };
    let mut started = started;
    for shape in shapes {
        // Each network gets a device of its own, so that its first output compiles its shaders.
        let dtype = dtype.unwrap_or(DType::F32);
        let report: VisionReport = measure_image_shape(&open(global)?, shape, dtype, args.runs, started)?;
        show(&report, args.json)?;
        started = Instant::now();
    }
    Ok(())
}

fn text(args: &TextArgs, global: &GlobalFlags, started: Instant) -> Result<TextReport, Failure> {
    let dtype: Option<DType> = args.dtype.map(Into::into);
    if let Some(name) = &args.shape {
        let shape = ModelShape::named(name).map_err(|error| Failure::Usage(error.to_string()))?;
        return Ok(measure_shape(&open(global)?, shape, dtype.unwrap_or(DType::F32), args.runs, started)?);
    }
    let folder = model::find_folder(args.model.as_deref(), global)?;
    let mut builder = TextModel::builder().gpu(&open(global)?);
    if let Some(dtype) = dtype {
        builder = builder.dtype(dtype);
    }
    let name = folder
        .to_str()
        .ok_or_else(|| Failure::Other(format!("{}: the path of a model must be UTF-8", folder.display())))?;
    Ok(measure_model(builder, name, args.runs, started)?)
}
