//! Runs a decoder: token ids in, next tokens or logits out, with the cache of keys and values on
//! the device. Knows slots and positions, no text.

mod steps;

use super::sampling::sampled_token;
use crate::cancel::CancelToken;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::models::config::DecoderConfig;
use crate::models::decoder::{Decoder, LogitRows, Run};
use crate::nn::WeightTypes;
use crate::ops::{INACTIVE, SampleRow};
use crate::session::{NoWeights, PlanId, Progress, Session, WeightRows};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use steps::Steps;

/// Row counts of the plans that process prompts.
const PROMPT_ROWS: [usize; 5] = [1, 8, 32, 128, 512];

/// Row counts of the plans that decode several sequences.
const DECODE_ROWS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Most bytes of logits that one run makes when all rows are wanted.
const LOGITS_BYTES: usize = 64 << 20;

/// How an engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Most prompt tokens in one run.
    pub prompt_rows: usize,
    /// Tokens of the first prompt, where they are known (0 else): what it needs is compiled while
    /// weights are uploaded.
    pub first_prompt: usize,
    /// Bound of the bytes on the device.
    pub memory_budget: Option<u64>,
}

/// One token of a sequence to decode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeRow {
    /// Slot of the sequence.
    pub slot: usize,
    /// Its last token.
    pub token: u32,
    /// Position of that token.
    pub position: usize,
    /// How the next one is chosen.
    pub sampling: SampleRow,
}

/// A decoder on a device.
#[derive(Debug)]
pub struct Engine {
    session: Session,
    decoder: Decoder,
    types: HashMap<String, DType>,
    options: EngineOptions,
    plans: HashMap<Run, PlanId>,
    weight_bytes_per_token: u64,
    steps: Steps,
    /// Whether half precision gave logits that are no numbers, so that all is computed in f32.
    in_f32: bool,
    /// Test hook: the next sampled word is taken for one of such logits.
    doubted: bool,
}

/// The dtypes that graphs found for their matrices, so that later graphs find the same.
impl WeightTypes for HashMap<String, DType> {
    fn matrix(&self, tensor: &str) -> DType {
        self.get(tensor).copied().unwrap_or(DType::F32)
    }
}

const fn run(rows: usize, one_sequence: bool, logits: LogitRows, sampled: bool) -> Run {
    Run {
        rows,
        one_sequence,
        logits,
        sampled,
        counted: one_sequence && !matches!(logits, LogitRows::All),
        hidden: false,
    }
}

impl Engine {
    /// The graphs that every engine needs at once: decoding one token, and the largest piece
    /// of a prompt. Others are added when they are first used.
    ///
    /// # Errors
    /// When the configuration's sizes do not fit each other.
    pub fn first_graphs(
        decoder: &Decoder,
        types: &dyn WeightTypes,
        prompt_rows: usize,
    ) -> Result<Vec<(Run, Graph)>> {
        let cache = decoder.cache();
        let rows = prompt_rows.min(cache.context);
        let largest = PROMPT_ROWS.into_iter().find(|&count| count >= rows).unwrap_or(512);
        let decoding = DECODE_ROWS.into_iter().find(|&count| count >= cache.slots).unwrap_or(32);
        let mut runs = vec![run(largest, true, LogitRows::Last, true), run(1, false, LogitRows::All, true)];
        if decoding > 1 {
            runs.push(run(decoding, false, LogitRows::All, true));
        }
        runs.into_iter().map(|run| Ok((run, decoder.graph(types, run)?))).collect()
    }

    /// The graphs of decoding one token and of pieces of a prompt of every size: all that texts are
    /// usually generated with.
    ///
    /// # Errors
    /// When the configuration's sizes do not fit each other.
    pub fn all_graphs(decoder: &Decoder, types: &dyn WeightTypes, prompt_rows: usize) -> Result<Vec<Graph>> {
        let first = Self::first_graphs(decoder, types, prompt_rows)?;
        let largest = first.iter().map(|(run, _)| run.rows).max().unwrap_or(1);
        let piece = |rows| decoder.graph(types, run(rows, true, LogitRows::Last, true));
        let mut graphs: Vec<Graph> = first.into_iter().map(|(_, graph)| graph).collect();
        for rows in PROMPT_ROWS.into_iter().filter(|&rows| rows < largest) {
            graphs.push(piece(rows)?);
        }
        Ok(graphs)
    }

    /// Uploads a decoder whose [`first_graphs`](Self::first_graphs) are given.
    ///
    /// # Errors
    /// [`Error::Budget`] before anything is uploaded, those of `weights`, or what the device says.
    pub fn new(
        gpu: &Gpu,
        decoder: Decoder,
        graphs: Vec<(Run, Graph)>,
        weights: &dyn WeightRows,
        options: EngineOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self> {
        let types: HashMap<String, DType> =
            graphs.iter().flat_map(|(_, graph)| matrix_dtypes(graph)).collect();
        let (graphs, ready) = with_first_prompt(graphs, &decoder, &types, options)?;
        let (runs, graphs): (Vec<Run>, Vec<Graph>) = graphs.into_iter().unzip();
        let decoding = runs.iter().position(|run| !run.one_sequence);
        let weight_bytes_per_token = decoding.map_or(0, |index| matrix_bytes(&graphs[index]));
        let mut session = Session::new(gpu, options.memory_budget);
        let ids = session.add_ready(graphs, ready, weights, progress)?;
        let plans = runs.into_iter().zip(ids).collect();
        let (steps, in_f32, doubted) = (Steps::default(), false, false);
        Ok(Self { session, decoder, types, options, plans, weight_bytes_per_token, steps, in_f32, doubted })
    }

    /// The decoder's configuration.
    pub fn config(&self) -> &DecoderConfig {
        self.decoder.config()
    }

    /// Sequences at a time.
    pub fn slots(&self) -> usize {
        self.decoder.cache().slots
    }

    /// Tokens of each sequence.
    pub fn context(&self) -> usize {
        self.decoder.cache().context
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        self.session.gpu()
    }

    /// Dispatches of one decoding step of one sequence.
    pub fn dispatches_per_token(&self) -> usize {
        let plan = self.plans.get(&run(1, false, LogitRows::All, true));
        plan.map_or(0, |&plan| self.session.dispatches(plan))
    }

    /// Bytes of the matrices that one decoding step reads whole.
    pub fn weight_bytes_per_token(&self) -> u64 {
        self.weight_bytes_per_token
    }

    fn plan(&mut self, run: Run) -> Result<PlanId> {
        if let Some(&plan) = self.plans.get(&run) {
            return Ok(plan);
        }
        let graph = self.decoder.graph(&self.types, run)?;
        let plan = self.session.add(vec![graph], &NoWeights, &mut |_, _| {})?[0];
        self.plans.insert(run, plan);
        Ok(plan)
    }

    /// Forgets what a slot's penalties count; its cache is overwritten by the next prompt.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn reset_counts(&mut self, slot: usize) -> Result<()> {
        self.steps.forget(slot);
        self.session.clear_state_slot("counts", slot)
    }

    /// Whether logits were NaN or infinite, were computed again in f32, and all is since then.
    pub fn fell_back_to_f32(&self) -> bool {
        self.in_f32
    }

    /// Test hook: takes the next sampled token for one of logits that are no numbers.
    #[doc(hidden)]
    pub fn doubt_next_token(&mut self) {
        self.doubted = true;
    }

    /// Makes plans without half precision from now on; says whether they may differ from those so
    /// far.
    fn fall_back_to_f32(&mut self) -> bool {
        if self.in_f32 {
            return false;
        }
        log::warn!(
            "the logits contain NaN or infinity: they are computed again in f32, and all that follows"
        );
        self.in_f32 = true;
        self.session.use_caps(self.gpu().caps().clone().without_half_precision());
        // Plans so far keep the weights resident.
        self.plans.clear();
        true
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.config().vocab_size;
        match ids.iter().find(|&&id| id >= vocab) {
            Some(id) => {
                Err(Error::Request(format!("token id {id} is outside the vocabulary of {vocab} tokens")))
            }
            None => Ok(()),
        }
    }

    fn check_context(&self, needed: usize) -> Result<()> {
        let context = self.context();
        if needed > context { Err(Error::ContextOverflow { needed, context }) } else { Ok(()) }
    }

    /// Processes the tokens of one sequence from position `start` on, and samples the token that
    /// follows the last of them. If the logits are no numbers, once more in f32.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`], [`Error::Request`] for ids outside the vocabulary,
    /// [`Error::Cancelled`], or what the device says. The slot's positions from `start` on are
    /// undefined then, and what lies before is as it was.
    pub fn prompt(
        &mut self,
        slot: usize,
        ids: &[u32],
        start: usize,
        sampling: SampleRow,
        cancel: &CancelToken,
    ) -> Result<u32> {
        self.check_ids(ids)?;
        self.check_context(start + ids.len())?;
        let _span = self.gpu().span("prompt").with("tokens", ids.len());
        self.steps.forget(slot);
        let word = self.prompt_word(slot, ids, start, sampling, cancel)?;
        let is_valid = sampled_token(word).is_ok() && !std::mem::take(&mut self.doubted);
        if is_valid || !self.fall_back_to_f32() {
            return sampled_token(word);
        }
        sampled_token(self.prompt_word(slot, ids, start, sampling, cancel)?)
    }

    /// The sampled word after a prompt.
    fn prompt_word(
        &mut self,
        slot: usize,
        ids: &[u32],
        start: usize,
        sampling: SampleRow,
        cancel: &CancelToken,
    ) -> Result<u32> {
        let mut done = 0;
        loop {
            let rows = piece_rows(ids.len() - done, self.options.prompt_rows);
            let piece = &ids[done..(done + rows).min(ids.len())];
            let inputs = PieceInputs::new(slot, piece, start + done, rows);
            done += piece.len();
            if done < ids.len() {
                let plan = self.plan(run(rows, true, LogitRows::None, false))?;
                self.session.run(plan, &inputs.given(), &[], &|| cancel.is_cancelled())?;
                continue;
            }
            let plan = self.plan(run(rows, true, LogitRows::Last, true))?;
            let last = [as_u32(piece.len() - 1)];
            let (slot, settings) = ([as_u32(slot)], sampling.to_words());
            let mut given = inputs.given();
            given.extend([
                ("last", bytemuck::cast_slice(&last)),
                ("sampled_slot", bytemuck::cast_slice(&slot)),
                ("settings", bytemuck::cast_slice(&settings)),
            ]);
            let next = self.session.run(plan, &given, &["next"], &|| cancel.is_cancelled())?;
            return Ok(next[0].to_u32()[0]);
        }
    }

    /// Logits of every token of a sequence, f32 `[vocab]` each, given to `each` with its index.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt), and those of `each`.
    pub fn logits(
        &mut self,
        slot: usize,
        ids: &[u32],
        start: usize,
        cancel: &CancelToken,
        mut each: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        self.check_ids(ids)?;
        self.check_context(start + ids.len())?;
        self.steps.forget(slot);
        let _span = self.gpu().span("logits").with("tokens", ids.len());
        let vocab = self.config().vocab_size as usize;
        let most = LOGITS_BYTES / (vocab * 4);
        let mut done = 0;
        while done < ids.len() {
            let rows = piece_rows(ids.len() - done, most.min(self.options.prompt_rows));
            let piece = &ids[done..(done + rows).min(ids.len())];
            let inputs = PieceInputs::new(slot, piece, start + done, rows);
            let plan = self.plan(run(rows, true, LogitRows::All, false))?;
            let logits = self.session.run(plan, &inputs.given(), &["logits"], &|| cancel.is_cancelled())?;
            let logits = logits[0].to_f32();
            let broken = logits.iter().any(|logit| !logit.is_finite() && *logit != f32::NEG_INFINITY);
            if broken && self.fall_back_to_f32() {
                continue;
            }
            for (index, row) in logits.chunks_exact(vocab).take(piece.len()).enumerate() {
                each(done + index, row)?;
            }
            done += piece.len();
        }
        Ok(())
    }

    /// The hidden states before each layer and after the last, f32 `[tokens, hidden]`, of a short
    /// sequence: for comparing a model layer by layer.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt).
    pub fn hidden_states(&mut self, ids: &[u32]) -> Result<Vec<Tensor>> {
        self.check_ids(ids)?;
        self.check_context(ids.len())?;
        self.steps.forget(0);
        let plan = self.plan(Run { hidden: true, ..run(ids.len(), true, LogitRows::All, false) })?;
        let inputs = PieceInputs::new(0, ids, 0, ids.len());
        let names: Vec<String> = (0..=self.config().layers).map(|layer| format!("hidden.{layer}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.session.run(plan, &inputs.given(), &names, &|| false)
    }
}

/// Rows of the next piece of a prompt: the smallest plan of at most `most` rows that holds the rest
/// without much waste, else the largest that the rest fills.
fn piece_rows(left: usize, most: usize) -> usize {
    let allowed = || PROMPT_ROWS.into_iter().filter(move |&rows| rows <= most.max(1));
    let holding = allowed().find(|&rows| rows >= left && rows <= left + left / 3 + 6);
    holding.or_else(|| allowed().rfind(|&rows| rows <= left)).unwrap_or(1)
}

/// The graphs with those of the first prompt before them, and how many these are.
fn with_first_prompt(
    mut graphs: Vec<(Run, Graph)>,
    decoder: &Decoder,
    types: &HashMap<String, DType>,
    options: EngineOptions,
) -> Result<(Vec<(Run, Graph)>, usize)> {
    let (mut left, mut count) = (options.first_prompt, 0);
    while left > 0 {
        let rows = piece_rows(left, options.prompt_rows);
        left -= rows.min(left);
        let run = match left {
            0 => run(rows, true, LogitRows::Last, true),
            _ => run(rows, true, LogitRows::None, false),
        };
        match graphs.iter().position(|(known, _)| *known == run) {
            Some(place) if place < count => continue,
            Some(place) => graphs.swap(place, count),
            None => graphs.insert(count, (run, decoder.graph(types, run)?)),
        }
        count += 1;
    }
    Ok((graphs, count))
}

/// The inputs of one piece of a prompt, padded with inactive rows.
struct PieceInputs {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    slots: Vec<u32>,
}

impl PieceInputs {
    fn new(slot: usize, piece: &[u32], start: usize, rows: usize) -> Self {
        let active = |row: usize| row < piece.len();
        Self {
            tokens: (0..rows).map(|row| piece.get(row).copied().unwrap_or(0)).collect(),
            positions: (0..rows).map(|row| if active(row) { as_u32(start + row) } else { 0 }).collect(),
            slots: (0..rows).map(|row| if active(row) { as_u32(slot) } else { INACTIVE }).collect(),
        }
    }

    fn given(&self) -> Vec<(&str, &[u8])> {
        vec![
            ("tokens", bytemuck::cast_slice(&self.tokens)),
            ("positions", bytemuck::cast_slice(&self.positions)),
            ("slots", bytemuck::cast_slice(&self.slots)),
        ]
    }
}

fn as_u32(value: usize) -> u32 {
    u32::try_from(value).expect("positions and slots are below the context, which is a u32")
}

/// Names and device dtypes of a graph's matrices.
fn matrix_dtypes(graph: &Graph) -> Vec<(String, DType)> {
    let mut seen = HashSet::new();
    let mut dtypes = Vec::new();
    for (_, value) in graph.values() {
        if let crate::graph::Source::Weight(source) = &value.source {
            for part in source.segments.iter().filter(|_| value.spec.shape.rank() == 2) {
                if seen.insert(part.tensor.clone()) {
                    dtypes.push((part.tensor.clone(), value.spec.dtype));
                }
            }
        }
    }
    dtypes
}

/// Bytes of the matrices that the linear layers of a graph read.
fn matrix_bytes(graph: &Graph) -> u64 {
    let linear = graph.nodes().iter().filter(|node| node.op.name() == "linear");
    linear.map(|node| graph.spec(node.inputs[1]).bytes()).sum()
}
