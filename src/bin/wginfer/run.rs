//! `wginfer run`: an ONNX model, or one converted from it, on arrays.

use crate::args::{GlobalFlags, parse_bytes};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::model;
use crate::npy::{self, Archive};
use crate::onnx_inputs::{InputFlags, collect};
use crate::profile::{ProfileFlags, Profiling};
use crate::runnable::Runnable;
use crate::terminal::{self, bytes, note, printable, table};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use wginfer::Error;
use wginfer::onnx::{NodeDifference, OnnxTensor, difference};
use wginfer::tensor::Tolerance;

const EXAMPLES: &str = "\
Examples:
  wginfer run model.onnx --input x=x.npy --output results
  wginfer run model.onnx --shape x=1x3x224x224 --profile trace.json
  wginfer run model.onnx --input golden.npz --compare golden.npz --nodes

An .npz archive gives the inputs that have an array of their name: NAME, in.NAME, or CASE.in.NAME
with --case CASE; a converted model's inputs that nothing gives are random. --compare looks for NAME, out.NAME, CASE.out.NAME. The exit code is 1 if an
output is outside of the tolerance. Traces open in Perfetto (ui.perfetto.dev) and chrome://tracing.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The .onnx file, or a file of a model that `wginfer convert` wrote
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    inputs: InputFlags,
    /// Write each output to DIR/NAME.npy
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Compare the outputs with the arrays of an .npz archive
    #[arg(long, value_name = "FILE.npz")]
    compare: Option<PathBuf>,
    /// Part of the array names of an .npz archive, for example case0
    #[arg(long, value_name = "CASE", default_value = "case0")]
    case: String,
    /// Absolute part of the tolerance of --compare
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-3)]
    atol: f64,
    /// Part of the tolerance relative to the wanted value
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-3)]
    rtol: f64,
    /// Compare what each node computes with the reference of its operators too (slow)
    #[arg(long)]
    nodes: bool,
    /// Runs, of which the time of the fastest is shown; the first one plans
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = crate::args::parse_count)]
    runs: usize,
    /// Run shaders with all run-time checks on (slower)
    #[arg(long)]
    checked: bool,
    /// Most bytes to use on the GPU, for example 512M or 4G
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_budget: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    adapter: String,
    inputs: Vec<String>,
    outputs: Vec<OutputRow>,
    /// Differences of operators from their references, where they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<NodeDifference>>,
    load_s: f64,
    /// From the start of the program to the first result.
    first_result_s: f64,
    /// The fastest run.
    run_s: f64,
    /// Sum of the kernels' times in the last run, where they were profiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu_s: Option<f64>,
    gpu_bytes: u64,
}

#[derive(Serialize)]
struct OutputRow {
    name: String,
    element: &'static str,
    dims: Vec<usize>,
    /// Smallest, largest and mean value; null where there are none.
    range: Option<[f64; 3]>,
    file: Option<PathBuf>,
    #[serde(flatten)]
    compared: Option<Compared>,
}

/// An output beside the one that is wanted.
#[derive(Serialize)]
struct Compared {
    /// Largest difference of a value; null where shapes or types differ.
    largest_difference: Option<f64>,
    passed: bool,
    /// In what it differs by more than the tolerance.
    mismatch: Option<String>,
}

/// Runs the command.
pub(crate) fn run(
    args: &RunArgs,
    global: &GlobalFlags,
    started: Instant,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    args.output.as_deref().map_or(Ok(()), terminal::expect_folder_of)?;
    let mut golden = args.compare.as_deref().map(Archive::open).transpose()?;
    let interrupt = Interrupt::install()?;
    let loading = Instant::now();
    let gpu = model::open_recorded(global, args.checked, args.json, profiling)?;
    let model = Runnable::load(&args.model, &gpu, args.memory_budget)?;
    let inputs = collect(&model.inputs(), &model.graphs(), &args.inputs, &args.case)?;
    let given: Vec<(&str, OnnxTensor)> =
        inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let load_s = loading.elapsed().as_secs_f64();
    let cancel = interrupt.working();
    let (mut outputs, mut run_s, mut first_result_s) = (Vec::new(), f64::INFINITY, 0.0);
    let mut gpu_s = None;
    for run in 0..args.runs {
        let (begin, device_before) = (Instant::now(), profiling.device_time());
        outputs = model.run_until(&given, &|| cancel.is_cancelled())?;
        run_s = run_s.min(begin.elapsed().as_secs_f64());
        gpu_s = profiling.device_time().zip(device_before).map(|(end, begin)| (end - begin).as_secs_f64());
        if run == 0 {
            first_result_s = started.elapsed().as_secs_f64();
        }
    }
    let mut rows = Vec::new();
    for (name, tensor) in &outputs {
        let file = args.output.as_deref().map(|folder| save(folder, name, tensor)).transpose()?;
        let wanted = golden.as_mut().map(|golden| golden.output(name, &args.case)).transpose()?.flatten();
        rows.push(OutputRow::new(name, tensor, file, wanted, Tolerance::new(args.atol, args.rtol)));
    }
    if let (Some(golden), true) = (&golden, rows.iter().all(|row| row.compared.is_none())) {
        let names = golden.names().join(", ");
        return Err(Failure::Other(format!("no output has an array of its name; there are {names}")));
    }
    // What compares single nodes is no run of the model.
    gpu.record(None);
    let nodes = if args.nodes { Some(model.compare_nodes(&given)?) } else { None };
    let failed = rows.iter().filter_map(|row| row.compared.as_ref()).any(|compared| !compared.passed);
    let report = Report {
        model: args.model.display().to_string(),
        adapter: gpu.adapter().to_string(),
        inputs: inputs.iter().map(|(name, tensor)| format!("{name} {tensor}")).collect(),
        outputs: rows,
        nodes,
        load_s,
        first_result_s,
        run_s,
        gpu_s,
        gpu_bytes: gpu.allocated_bytes(),
    };
    show(&report, args.json, global)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(report: &Report, json: bool, global: &GlobalFlags) -> Result<(), Failure> {
    if json {
        return terminal::write_json(report);
    }
    terminal::write(&describe(report))?;
    if !global.quiet {
        let gpu =
            report.gpu_s.map_or(String::new(), |seconds| format!(", {:.1} ms in kernels", 1e3 * seconds));
        note(&format!(
            "loaded in {:.2} s; first result after {:.2} s; a run takes {:.1} ms{gpu}; {} on the GPU",
            report.load_s,
            report.first_result_s,
            1e3 * report.run_s,
            bytes(report.gpu_bytes)
        ));
    }
    Ok(())
}

/// Writes an output to a file of its name.
fn save(folder: &Path, name: &str, tensor: &OnnxTensor) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let is_plain = |letter: char| letter.is_alphanumeric() || "._-+".contains(letter);
    let plain: String = name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    // Without dots at the start: not the folder itself or the one around it.
    let file = folder.join(format!("{}.npy", plain.trim_start_matches('.')));
    std::fs::write(&file, npy::write(tensor)?).map_err(|error| Error::io(&file, error))?;
    Ok(file)
}

impl OutputRow {
    fn new(
        name: &str,
        tensor: &OnnxTensor,
        file: Option<PathBuf>,
        wanted: Option<OnnxTensor>,
        tolerance: Tolerance,
    ) -> Self {
        Self {
            name: name.to_owned(),
            element: tensor.element().name(),
            dims: tensor.dims().to_vec(),
            range: npy::range(tensor.tensor()),
            file,
            compared: wanted.map(|wanted| Compared::of(tensor, wanted, tolerance)),
        }
    }
}

impl Compared {
    fn of(got: &OnnxTensor, wanted: OnnxTensor, tolerance: Tolerance) -> Self {
        let wanted = match npy::converted(wanted, Some(got.element())) {
            Ok(wanted) => wanted,
            Err(message) => return Self { largest_difference: None, passed: false, mismatch: Some(message) },
        };
        let mismatch = difference(got, &wanted, tolerance);
        let pairs = got.tensor().to_f64().into_iter().zip(wanted.tensor().to_f64());
        let differences = pairs.filter(|(got, want)| got != want).map(|(got, want)| (got - want).abs());
        let largest = differences.fold(0.0, f64::max);
        Self {
            largest_difference: (got.dims() == wanted.dims()).then_some(largest),
            passed: mismatch.is_none(),
            mismatch,
        }
    }
}

fn describe(report: &Report) -> String {
    let mut rows =
        vec![["output", "type", "smallest", "largest", "mean", "difference"].map(str::to_owned).to_vec()];
    for row in &report.outputs {
        let number = |index: usize| row.range.map_or("-".to_owned(), |range| format!("{:.6}", range[index]));
        let mut cells = vec![printable(&row.name), format!("{}{:?}", row.element, row.dims)];
        cells.extend([number(0), number(1), number(2)]);
        let largest = row.compared.as_ref().and_then(|compared| compared.largest_difference);
        cells.extend(largest.map(|largest| format!("{largest:.3e}")));
        rows.push(cells);
    }
    if report.outputs.iter().all(|row| row.compared.is_none()) {
        rows[0].pop();
    }
    let mut text = table(&rows);
    for row in &report.outputs {
        if let Some(mismatch) = row.compared.as_ref().and_then(|compared| compared.mismatch.as_ref()) {
            text += &printable(&format!("{}: {mismatch}", row.name));
            text.push('\n');
        }
    }
    if let Some(nodes) = &report.nodes {
        let mut rows = vec![["node", "output", "difference", "largest value"].map(str::to_owned).to_vec()];
        rows.extend(nodes.iter().map(|node| {
            let numbers = [node.largest_difference, node.largest_value].map(|value| format!("{value:.3e}"));
            [printable(&node.node), node.output.clone()].into_iter().chain(numbers).collect()
        }));
        text += &format!("\n{}", table(&rows));
    }
    text
}
