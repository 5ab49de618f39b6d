//! `wginfer graph`: the graph of an ONNX model, to be drawn.

use crate::failure::Failure;
use crate::terminal;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use wginfer::onnx::{OnnxLimits, model_dot};

const EXAMPLES: &str = "\
Examples:
  wginfer graph model.onnx --dot > model.dot
  wginfer graph model.onnx --dot | dot -Tsvg -o model.svg";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GraphArgs {
    /// The .onnx file
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// In the DOT language of Graphviz, which is the only form so far
    #[arg(long, required = true)]
    dot: bool,
}

/// Runs the command.
pub(crate) fn run(args: &GraphArgs) -> Result<ExitCode, Failure> {
    terminal::write(&model_dot(&args.model, OnnxLimits::default())?)?;
    Ok(ExitCode::SUCCESS)
}
