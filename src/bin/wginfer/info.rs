//! `wginfer info`: what a model is and needs, from its headers.

use crate::args::{GlobalFlags, InfoArgs};
use crate::failure::Failure;
use crate::model;
use crate::terminal::{self, bytes, note, table};
use serde::Serialize;
use std::process::ExitCode;
use wginfer::Error;
use wginfer::gpu::{Gpu, GpuOptions};
use wginfer::kernel::Caps;
use wginfer::session::default_budget;
use wginfer::text::{InfoOptions, ModelInfo};

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// The adapter that the figures are for; null where there is none and they are for the
    /// least that Vulkan guarantees.
    adapter: Option<String>,
    memory_budget: Option<u64>,
    #[serde(flatten)]
    info: &'a ModelInfo,
}

/// Runs the command.
pub(crate) fn run(args: &InfoArgs, global: &GlobalFlags) -> Result<ExitCode, Failure> {
    let folder = model::find_folder(args.model_name.as_deref(), global)?;
    let gpu = match Gpu::open(&GpuOptions { adapter: global.adapter.clone(), checked: false }) {
        Ok(gpu) => Some(gpu),
        Err(Error::NoAdapter(message)) if global.adapter.is_none() => {
            note(&format!("note: {message}; figures are for the least that Vulkan guarantees"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let caps = gpu.as_ref().map_or_else(Caps::webgpu_minimum, |gpu| gpu.caps().clone());
    let options =
        InfoOptions { context: args.ctx, slots: Some(args.slots), dtype: args.dtype.map(Into::into) };
    let info = ModelInfo::read(&folder, options, &caps)?;
    let report = Report {
        adapter: gpu.as_ref().map(|gpu| gpu.adapter().to_string()),
        memory_budget: gpu.as_ref().and_then(default_budget),
        info: &info,
    };
    if args.json {
        terminal::write_json(&report)?;
    } else {
        terminal::write(&describe(&report))?;
    }
    match &info.problem {
        Some(problem) if !args.json => Err(Failure::Other(problem.clone())),
        Some(_) => Ok(ExitCode::FAILURE),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn describe(report: &Report<'_>) -> String {
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
    for stored in &info.stored {
        let (tensors, size) = (stored.tensors, bytes(stored.bytes));
        row("stored as", format!("{}: {tensors} tensors, {size}", stored.dtype));
    }
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
