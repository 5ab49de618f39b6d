//! What can be said of a model without loading it: from its configuration, the headers of its
//! weights, and plans that are made without a device.

use super::chat::{ChatTemplate, Fallback};
use super::config::GenerationConfig;
use super::engine::Engine;
use super::model::{DEFAULT_PROMPT_ROWS, context_for, end_tokens, load_tokenizer};
use crate::checkpoint::Checkpoint;
use crate::graph::{Graph, Plan, PlannedWeight, WeightData, count_parameters, lower, optimise};
use crate::kernel::Caps;
use crate::models::config::DecoderConfig;
use crate::models::decoder::{Decoder, LogitRows, find_root};
use crate::nn::Cache;
use crate::session::PlannedMemory;
use crate::tensor::DType;
use crate::weights::{FileWeights, StoredDtype, Weights};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How the model would be loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct InfoOptions {
    /// Tokens of prompt and text together; without it what loading would take.
    pub context: Option<usize>,
    /// Sequences at a time; 1 without it.
    pub slots: Option<usize>,
    /// Dtype of the matrices on the device; without it the files' own.
    pub dtype: Option<DType>,
}

/// A weight that is over the device's binding limit and is split by rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitWeight {
    /// The tensors that it is made of.
    pub tensors: Vec<String>,
    /// Its bytes on the device.
    pub bytes: u64,
    /// Number of row parts.
    pub parts: usize,
}

/// The tokenizer of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizerInfo {
    /// Size of the vocabulary with added tokens.
    pub tokens: usize,
    /// Token that begins a text.
    pub bos: Option<u32>,
}

/// Bytes that a model needs on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryInfo {
    /// Weights and constants.
    pub weights: u64,
    /// The cache of keys and values, and counts of tokens.
    pub cache: u64,
    /// Values between the steps, inputs and outputs.
    pub buffers: u64,
    /// All of them.
    pub total: u64,
}

/// What is known of a model before it is loaded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelInfo {
    /// Its folder.
    pub folder: PathBuf,
    /// Family, by its published `model_type`.
    pub family: &'static str,
    /// Elements of all tensors that the model uses; a head that is the embedding counts once.
    pub parameters: u64,
    /// Number of layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Query heads of a layer.
    pub heads: u32,
    /// Key and value heads of a layer.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Rows of the embedding.
    pub vocab_size: u32,
    /// Tokens that the model was trained for or has positions for.
    pub trained_context: u32,
    /// The dtypes in the files.
    pub stored: Vec<StoredDtype>,
    /// The tokenizer, where the folder has one.
    pub tokenizer: Option<TokenizerInfo>,
    /// Whether there is a chat template.
    pub chat_template: bool,
    /// Tokens that end a text.
    pub end_tokens: Vec<u32>,
    /// Context that the figures below are for.
    pub context: usize,
    /// Sequences at a time that they are for.
    pub slots: usize,
    /// Dtypes of the matrices on the device.
    pub device_dtypes: Vec<&'static str>,
    /// Bytes on the device.
    pub memory: MemoryInfo,
    /// Dispatches of one decoding step.
    pub dispatches_per_token: usize,
    /// Most bytes that one binding can see there.
    pub binding_limit: u64,
    /// Weights over that limit.
    pub split: Vec<SplitWeight>,
    /// Missing, extra and misshapen tensors, where there are any.
    pub problem: Option<String>,
}

impl ModelInfo {
    /// Reads a model folder's small files and headers, and plans the model for a device with
    /// these `caps`.
    ///
    /// # Errors
    /// [`Error::File`] naming what is wrong with a file, [`Error::Request`] for a context that
    /// the model does not have. Tensors that do not fit are no error here but a
    /// [`problem`](Self::problem).
    pub fn read(folder: &Path, options: InfoOptions, caps: &Caps) -> Result<Self> {
        let config = DecoderConfig::load(folder)?;
        let generation = GenerationConfig::load(folder, config.vocab_size)?;
        let tokenizer = load_tokenizer(folder, &config, &generation)?;
        let weights = FileWeights::open(folder)?;
        let (context, slots) = (context_for(&config, options.context)?, options.slots.unwrap_or(1));
        let root = find_root(&config, |name| weights.spec(name).is_some());
        let checkpoint = Checkpoint::new(&weights, folder, options.dtype);
        let decoder = Decoder::new(config.clone(), root, Cache { slots, context });
        let runs = Engine::first_graphs(&decoder, &checkpoint, DEFAULT_PROMPT_ROWS)?;
        let check = checkpoint.check(runs.iter().map(|(_, graph)| graph), root, &decoder.head_name());
        let parameters = count_parameters(runs.iter().map(|(_, graph)| graph));
        let is_decoding = |index: usize| runs[index].0.rows == 1 && runs[index].0.logits == LogitRows::All;
        let decoding = (0..runs.len()).position(is_decoding);
        let plans: Vec<Plan> =
            runs.iter().map(|(_, graph)| plan(graph.clone(), caps)).collect::<Result<_>>()?;
        let planned = PlannedMemory::of(&plans, caps);
        let matrices = || plans.iter().flat_map(|plan| &plan.weights).filter(|weight| is_matrix(weight));
        let device_dtypes: BTreeSet<&str> = matrices().map(|weight| weight.spec.dtype.name()).collect();
        Ok(Self {
            folder: folder.to_owned(),
            family: config.family.name(),
            parameters,
            layers: config.layers,
            hidden: config.hidden,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            trained_context: config.context,
            stored: weights.stored_dtypes(),
            end_tokens: end_tokens(&config, &generation, tokenizer.as_deref()),
            tokenizer: tokenizer
                .map(|known| TokenizerInfo { tokens: known.vocab_size(), bos: known.bos_id() }),
            chat_template: has_chat_template(folder)?,
            context,
            slots,
            device_dtypes: device_dtypes.into_iter().collect(),
            memory: MemoryInfo {
                weights: planned.weights,
                cache: planned.states,
                buffers: planned.buffers,
                total: planned.total(),
            },
            dispatches_per_token: decoding.map_or(0, |index| plans[index].steps.len()),
            binding_limit: caps.max_binding_bytes,
            split: split_weights(matrices(), caps),
            problem: check.err().map(|error| error.to_string()),
        })
    }
}

/// The graphs that texts are usually generated with by the model of a folder: decoding one token,
/// and pieces of a prompt of every size.
///
/// # Errors
/// As [`ModelInfo::read`], and [`Error::File`] for tensors that do not fit.
pub fn model_graphs(folder: &Path, options: InfoOptions) -> Result<Vec<Graph>> {
    let config = DecoderConfig::load(folder)?;
    let weights = FileWeights::open(folder)?;
    let cache = Cache { slots: options.slots.unwrap_or(1), context: context_for(&config, options.context)? };
    let root = find_root(&config, |name| weights.spec(name).is_some());
    let checkpoint = Checkpoint::new(&weights, folder, options.dtype);
    let decoder = Decoder::new(config, root, cache);
    let graphs = Engine::all_graphs(&decoder, &checkpoint, DEFAULT_PROMPT_ROWS)?;
    checkpoint.check(&graphs, root, &decoder.head_name())?;
    Ok(graphs)
}

fn plan(mut graph: Graph, caps: &Caps) -> Result<Plan> {
    optimise(&mut graph)?;
    lower(&mut graph, caps)?;
    Plan::new(&graph, caps)
}

/// Whether a weight is a matrix of the model's files, not a vector and no table of ours.
fn is_matrix(weight: &PlannedWeight) -> bool {
    weight.spec.shape.rank() == 2 && matches!(weight.data, WeightData::File(_))
}

fn has_chat_template(folder: &Path) -> Result<bool> {
    match ChatTemplate::load(folder, Fallback::Refuse) {
        Ok(_) => Ok(true),
        Err(Error::Unsupported(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn split_weights<'a>(weights: impl Iterator<Item = &'a PlannedWeight>, caps: &Caps) -> Vec<SplitWeight> {
    let mut split: Vec<SplitWeight> = Vec::new();
    for weight in weights {
        let (parts, WeightData::File(source)) = (weight.part_bytes(caps), &weight.data) else { continue };
        let mut tensors: Vec<String> = source.segments.iter().map(|part| part.tensor.clone()).collect();
        // A reordered matrix names its one tensor once for each piece.
        tensors.dedup();
        let found = SplitWeight { tensors, bytes: parts.iter().sum(), parts: parts.len() };
        if found.parts > 1 && !split.contains(&found) {
            split.push(found);
        }
    }
    split
}
