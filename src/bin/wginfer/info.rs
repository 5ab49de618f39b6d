//! `wginfer info`: what a model is and needs, from its headers.

use crate::args::{GlobalFlags, InfoArgs, NetworkInfoFlags};
use crate::failure::Failure;
use crate::model;
use crate::terminal::{self, bytes, note, printable, table};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use wginfer::Error;
use wginfer::gpu::Gpu;
use wginfer::kernel::Caps;
use wginfer::saved::{PortInfo, SavedFiles, SavedInfo};
use wginfer::session::default_budget;
use wginfer::text::{InfoOptions, ModelInfo};
use wginfer::vision::{self, NetworkInfo, NetworkInfoOptions};
use wginfer::weights::StoredDtype;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a, T> {
    /// The adapter that the figures are for; null where there is none and they are for the
    /// least that Vulkan guarantees.
    adapter: Option<String>,
    memory_budget: Option<u64>,
    #[serde(flatten)]
    info: &'a T,
}

/// Runs the command.
pub(crate) fn run(args: &InfoArgs, global: &GlobalFlags) -> Result<ExitCode, Failure> {
    if let Some(path) = args.model_name.as_deref().map(Path::new).filter(|path| SavedFiles::are_at(path)) {
        let (caps, adapter, memory_budget) = device(global)?;
        let info = SavedInfo::read(path, &caps)?;
        return show(&Report { adapter, memory_budget, info: &info }, None, args.json, describe_saved);
    }
    let path = model::find(args.model_name.as_deref(), global)?;
    let recognised = vision::is_network(&path);
    if args.network.arch.is_none() && matches!(recognised, Ok(false)) && !has_config(&path) {
        let path = path.display();
        let message =
            format!("{path}: no config.json, and the tensors' names fit no known network for images");
        return Err(Failure::Other(message));
    }
    let is_network = args.network.arch.is_some() || recognised.unwrap_or(false);
    let path = if is_network { path } else { model::folder_of(path)? };
    let (caps, adapter, memory_budget) = device(global)?;
    let dtype = args.dtype.map(Into::into);
    if is_network {
        let NetworkInfoFlags { arch, batch, labels, preprocess } = &args.network;
        let options = NetworkInfoOptions {
            architecture: *arch,
            changes: preprocess.changes(),
            labels: labels.clone(),
            dtype,
            batch: Some(*batch),
        };
        let info = NetworkInfo::read(&path, &options, &caps)?;
        let report = Report { adapter, memory_budget, info: &info };
        return show(&report, info.problem.as_ref(), args.json, describe_network);
    }
    let options = InfoOptions { context: args.ctx, slots: Some(args.slots), dtype };
    let info = ModelInfo::read(&path, options, &caps)?;
    show(&Report { adapter, memory_budget, info: &info }, info.problem.as_ref(), args.json, describe)
}

/// The capabilities, name and memory budget of the device that figures are for.
fn device(global: &GlobalFlags) -> Result<(Caps, Option<String>, Option<u64>), Failure> {
    let gpu = match Gpu::open(&global.gpu_options(false)) {
        Ok(gpu) => Some(gpu),
        Err(Error::NoAdapter(message)) if global.adapter.is_none() => {
            note(&format!("note: {message}; figures are for the least that Vulkan guarantees"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let caps = gpu.as_ref().map_or_else(Caps::webgpu_minimum, |gpu| gpu.caps().clone());
    let adapter = gpu.as_ref().map(|gpu| gpu.adapter().to_string());
    Ok((caps, adapter, gpu.as_ref().and_then(default_budget)))
}

/// Whether there is a config.json in a folder, or beside a file.
fn has_config(path: &Path) -> bool {
    let folder = if path.is_file() { path.parent().unwrap_or(path) } else { path };
    folder.join("config.json").exists()
}

fn show<T: Serialize>(
    report: &Report<'_, T>,
    problem: Option<&String>,
    json: bool,
    describe: impl Fn(&Report<'_, T>) -> String,
) -> Result<ExitCode, Failure> {
    if json {
        terminal::write_json(report)?;
    } else {
        terminal::write(&describe(report))?;
    }
    match problem {
        Some(problem) if !json => Err(Failure::Other(problem.clone())),
        Some(_) => Ok(ExitCode::FAILURE),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn describe(report: &Report<'_, ModelInfo>) -> String {
    let info = report.info;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("model", info.folder.display().to_string());
    row("family", info.family.to_owned());
    row("parameters", count(info.parameters));
    row(
        "shape",
        format!(
            "{} layers, {} wide, {} heads of {} ({} for keys and values), vocabulary {}",
            info.layers, info.hidden, info.heads, info.head_dim, info.kv_heads, info.vocab_size
        ),
    );
    info.stored.iter().for_each(|stored| row("stored as", describe_stored(stored)));
    row(
        "tokenizer",
        info.tokenizer
            .as_ref()
            .map_or("none: token ids only".to_owned(), |tokenizer| format!("{} tokens", tokenizer.tokens)),
    );
    row("chat template", if info.chat_template { "yes" } else { "none" }.to_owned());
    row("trained context", format!("{} tokens", info.trained_context));
    row("adapter", report.adapter.clone().unwrap_or_else(|| "none".to_owned()));
    let slots = if info.slots == 1 { String::new() } else { format!(", {} sequences", info.slots) };
    let memory = &info.memory;
    row(
        "memory",
        format!(
            "{} at a context of {}{slots}, matrices in {}",
            bytes(memory.total),
            info.context,
            info.device_dtypes.join(" and ")
        ),
    );
    let (weights, cache, buffers) = (bytes(memory.weights), bytes(memory.cache), bytes(memory.buffers));
    row("", format!("weights {weights}, cache {cache}, buffers {buffers}"));
    if let Some(budget) = report.memory_budget {
        row("memory budget", bytes(budget));
    }
    row("dispatches", format!("{} per token", info.dispatches_per_token));
    row("over the limit", describe_split(info));
    table(&rows)
}

fn describe_network(report: &Report<'_, NetworkInfo>) -> String {
    let info = report.info;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("model", info.folder.display().to_string());
    row("architecture", info.family.to_owned());
    let does = match info.task {
        "classify" => "says what photos show",
        "detect" => "finds objects in photos",
        other => other,
    };
    row("task", format!("{does}: {} classes", info.classes));
    row("labels", info.labels.map_or("none: classes are numbered".to_owned(), |labels| labels.to_string()));
    row("parameters", count(info.parameters));
    info.stored.iter().for_each(|stored| row("stored as", describe_stored(stored)));
    row("preprocessing", info.preprocessing.clone());
    row("adapter", report.adapter.clone().unwrap_or_else(|| "none".to_owned()));
    let ([photos, _, height, width], memory) = (info.input, &info.memory);
    let of = if photos == 1 { "a photo".to_owned() } else { format!("{photos} photos") };
    row("memory", format!("{} for {of} of {width}x{height}", bytes(memory.total)));
    row("", format!("weights {}, buffers {}", bytes(memory.weights), bytes(memory.buffers)));
    if let Some(budget) = report.memory_budget {
        row("memory budget", bytes(budget));
    }
    row("dispatches", format!("{} for {of}", info.dispatches));
    table(&rows)
}

fn describe_saved(report: &Report<'_, SavedInfo>) -> String {
    let info = report.info;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), printable(&value)]);
    row("model", info.file.display().to_string());
    let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    let opsets = info.opsets.iter().map(|(name, version)| format!("{} {version}", domain(name)));
    let opsets = opsets.collect::<Vec<_>>().join(", ");
    row("converted", format!("by {} from operator sets {opsets}", info.producer));
    row("parameters", count(info.parameters));
    info.stored.iter().for_each(|stored| row("stored as", describe_stored(stored)));
    row("adapter", report.adapter.clone().unwrap_or_else(|| "none".to_owned()));
    let list = |ports: &[PortInfo]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for (number, graph) in info.graphs.iter().enumerate() {
        row(&format!("graph {number}"), format!("{} to {}", list(&graph.inputs), list(&graph.outputs)));
        let memory = [graph.memory_weights, graph.memory_buffers].map(bytes);
        let (nodes, dispatches) = (graph.nodes, graph.dispatches);
        row(
            "",
            format!("{nodes} nodes, {dispatches} dispatches, weights {}, buffers {}", memory[0], memory[1]),
        );
    }
    table(&rows)
}

fn describe_stored(stored: &StoredDtype) -> String {
    format!("{}: {} tensors, {}", stored.dtype, stored.tensors, bytes(stored.bytes))
}

/// The weights over the binding limit.
fn describe_split(info: &ModelInfo) -> String {
    let limit = bytes(info.binding_limit);
    if info.split.is_empty() {
        return format!("no tensor is over the binding limit of {limit}");
    }
    let parts = info.split.iter().map(|split| {
        format!("{} ({}, {} parts)", split.tensors.join(" + "), bytes(split.bytes), split.parts)
    });
    format!("of {limit}, split by rows: {}", parts.collect::<Vec<_>>().join(", "))
}

/// A count in readable units.
fn count(number: u64) -> String {
    match number as f64 {
        ..1e4 => number.to_string(),
        thousands @ ..1e6 => format!("{:.1} thousand", thousands / 1e3),
        millions @ ..1e9 => format!("{:.1} million", millions / 1e6),
        billions => format!("{:.2} billion", billions / 1e9),
    }
}
