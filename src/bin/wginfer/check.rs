//! `wginfer check`: what of an ONNX model can run, from its file alone.

use crate::args::GlobalFlags;
use crate::failure::Failure;
use crate::onnx_inputs::parse_shape;
use crate::terminal::{self, bytes, note, printable, table};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use wginfer::Error;
use wginfer::gpu::Gpu;
use wginfer::kernel::Caps;
use wginfer::onnx::{NodeNote, OnnxLimits, OnnxReport, check_model};

const EXAMPLES: &str = "\
Exit codes: 0 the model runs, 1 it does not (with --strict: not without host steps), 2 wrong usage.

Examples:
  wginfer check model.onnx
  wginfer check model.onnx --shape input=1x3x640x480 --strict --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The .onnx file
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Shape of an input [default: as the file declares it, 1 where it leaves a size open]
    #[arg(long, value_name = "NAME=1x3x224x224", value_parser = parse_shape)]
    shape: Vec<(String, Vec<usize>)>,
    /// Refuse nodes that read values back to the host
    #[arg(long)]
    strict: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    /// The adapter that the figures are for; null where there is none and they are for the least
    /// that WebGPU guarantees.
    adapter: Option<String>,
    runs: bool,
    #[serde(flatten)]
    report: &'a OnnxReport,
}

/// Runs the command.
pub(crate) fn run(args: &CheckArgs, global: &GlobalFlags) -> Result<ExitCode, Failure> {
    let gpu = match Gpu::open(&global.gpu_options(false)) {
        Ok(gpu) => Some(gpu),
        Err(Error::NoAdapter(message)) if global.adapter.is_none() => {
            note(&format!("note: {message}; figures are for the least that WebGPU guarantees"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let caps = gpu.as_ref().map_or_else(Caps::webgpu_minimum, |gpu| gpu.caps().clone());
    let shapes = args.shape.iter().cloned().collect();
    let report = check_model(&args.model, &shapes, OnnxLimits::default(), &caps)?;
    let runs = report.is_good(args.strict);
    let model = args.model.display().to_string();
    let adapter = gpu.as_ref().map(|gpu| gpu.adapter().to_string());
    if args.json {
        terminal::write_json(&Report { model, adapter, runs, report: &report })?;
    } else {
        let verdict = match (runs, report.is_good(false)) {
            (true, _) if report.host_steps.is_empty() => "runs on the GPU",
            (true, _) => "runs, with host steps",
            (false, true) => "runs, but not without host steps",
            (false, false) => "does not run",
        };
        terminal::write(&describe(&report, &model, adapter.as_deref()))?;
        terminal::write(&format!("{verdict}\n"))?;
    }
    Ok(if runs { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(report: &OnnxReport, model: &str, adapter: Option<&str>) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), printable(&value)]);
    row("model", model.to_owned());
    let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    let opsets = report.opsets.iter().map(|(name, version)| format!("{} {version}", domain(name)));
    row("operator sets", opsets.collect::<Vec<_>>().join(", "));
    let nodes: usize = report.operators.values().sum();
    let operators = report.operators.iter().map(|(name, count)| format!("{count} {name}"));
    row("nodes", format!("{nodes}: {}", operators.collect::<Vec<_>>().join(", ")));
    row("inputs", report.inputs.join(", "));
    if !report.assumed.is_empty() {
        row("taken as 1", format!("{} (--shape says otherwise)", report.assumed.join(", ")));
    }
    row("adapter", adapter.unwrap_or("none").to_owned());
    let (weights, buffers) = (report.memory_weights, report.memory_buffers);
    let total = bytes(weights + buffers);
    let more = if report.memory_is_complete { "" } else { "more than " };
    row("memory", format!("{more}{total}: weights {}, buffers {}", bytes(weights), bytes(buffers)));
    row("dispatches", report.dispatches.to_string());
    let limit = bytes(report.binding_limit);
    if report.over_limit.is_empty() {
        row("over the limit", format!("no tensor is over the binding limit of {limit}"));
    }
    for tensor in &report.over_limit {
        let how = match tensor.parts {
            1 if tensor.bytes <= report.binding_limit => {
                format!("over the {} that WebGPU guarantees", bytes(report.webgpu_binding_limit))
            }
            1 => "which it cannot be split for".to_owned(),
            parts => format!("split in {parts} parts"),
        };
        row("over the limit", format!("{}: {} of {limit}, {how}", tensor.name, bytes(tensor.bytes)));
    }
    let mut text = table(&rows);
    let lists =
        [("cannot run", &report.unsupported), ("wrong", &report.wrong), ("host step", &report.host_steps)];
    for (what, notes) in lists {
        for NodeNote { node, operator, reason } in notes {
            text += &printable(&format!("{what}: {operator} `{node}`: {reason}"));
            text.push('\n');
        }
    }
    if let [first, ..] = &report.unchecked[..] {
        let count = report.unchecked.len();
        let named =
            format!("not checked: {count} nodes behind these, from {} `{}`", first.operator, first.node);
        text += &printable(&format!("{named} (--json lists them)"));
        text.push('\n');
    }
    text
}
