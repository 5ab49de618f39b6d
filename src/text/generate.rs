//! The generation loop: prompts in slots, one batch of tokens a step, text as it becomes whole.

use super::engine::DecodeRow;
use super::model::{SlotGuard, TextModel};
use super::sampling::SamplingSettings;
use super::sequence::Sequence;
use crate::cancel::CancelToken;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a generation starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Text, tokenised with the special tokens that the model wants around it. A BOS token that is
    /// written at its start, as chat templates do, is not doubled.
    Text(String),
    /// Token ids, used as they are.
    Ids(Vec<u32>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(ids: Vec<u32>) -> Self {
        Self::Ids(ids)
    }
}

/// How a text is generated.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How each token is chosen.
    pub sampling: SamplingSettings,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// Strings that end the text; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the text; the model's own where `None`.
    pub end_tokens: Option<Vec<u32>>,
    /// Stops the generation from another thread.
    pub cancel: CancelToken,
    /// Starts from what a slot's cache already holds of the prompt (a conversation's earlier
    /// turns). Rounding may then differ from a run from the start. Off where penalties are on.
    pub reuse_prefix: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingSettings::default(),
            max_tokens: 256,
            stop: Vec::new(),
            end_tokens: None,
            cancel: CancelToken::default(),
            reuse_prefix: false,
        }
    }
}

impl GenerateOptions {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<()> {
        self.sampling.validate()?;
        match self.max_tokens {
            0 => Err(Error::Request("max_tokens must be at least 1, got 0".into())),
            _ => Ok(()),
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model produced an end token.
    EndToken,
    /// A stop string appeared.
    StopString,
    /// `max_tokens` were generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The `CancelToken` was cancelled.
    Cancelled,
}

/// One generated token, and the text that became whole with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The token; `None` for text that was held back until the end.
    pub token: Option<u32>,
    /// Text, complete in UTF-8; may be empty.
    pub text: String,
}

/// Times of a generation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timing {
    /// Time from the start of the prompt to the first token.
    pub prompt: Duration,
    /// Time of all further tokens.
    pub decode: Duration,
    /// Prompt tokens that were processed (not those found in the cache).
    pub prompt_tokens: usize,
    /// Tokens after the first.
    pub decode_tokens: usize,
}

impl Timing {
    /// Prompt tokens a second.
    pub fn prompt_speed(&self) -> f64 {
        self.prompt_tokens as f64 / self.prompt.as_secs_f64().max(1e-9)
    }

    /// Decoded tokens a second.
    pub fn decode_speed(&self) -> f64 {
        self.decode_tokens as f64 / self.decode.as_secs_f64().max(1e-9)
    }
}

/// A finished text.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The prompt's tokens.
    pub prompt_ids: Vec<u32>,
    /// The generated tokens, the end token included.
    pub ids: Vec<u32>,
    /// The generated text, without stop strings and end tokens.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// How long it took.
    pub timing: Timing,
    /// Whether logits were NaN or infinite in half precision, now or earlier, so that it was
    /// computed in f32.
    pub in_f32: bool,
}

/// Several texts generated together: each step decodes one token of every unfinished one.
#[derive(Debug)]
pub struct Batch {
    model: TextModel,
    /// Those that the sequences use, in their order.
    slots: Vec<SlotGuard>,
    sequences: Vec<Sequence>,
}

impl Batch {
    /// An empty batch on a model's slots.
    pub fn new(model: &TextModel) -> Self {
        Self { model: model.clone(), slots: Vec::new(), sequences: Vec::new() }
    }

    /// Adds a text to generate and returns its index.
    ///
    /// # Errors
    /// [`Error::Request`] for bad options, an empty prompt or when all slots are in use;
    /// [`Error::ContextOverflow`] for a prompt that leaves no room.
    pub fn add(&mut self, prompt: &Prompt, options: &GenerateOptions) -> Result<usize> {
        options.validate()?;
        let ids = self.model.prompt_ids(prompt)?;
        let context = self.model.context();
        if ids.len() > context {
            return Err(Error::ContextOverflow { needed: ids.len(), context });
        }
        let slot = self.model.take_slot(if options.reuse_prefix { &ids } else { &[] })?;
        let tokenizer = self.model.shared_tokenizer();
        self.sequences.push(Sequence::new(ids, options, self.model.end_tokens(), tokenizer)?);
        self.slots.push(slot);
        Ok(self.sequences.len() - 1)
    }

    /// Whether all texts are finished.
    pub fn is_finished(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.finished.is_some())
    }

    /// Processes one waiting prompt, or else decodes one token of every unfinished text.
    /// Returns what was produced, by index of the text.
    ///
    /// # Errors
    /// What the device says; the texts so far are kept.
    pub fn step(&mut self) -> Result<Vec<(usize, Piece)>> {
        let mut pieces = self.end_cancelled()?;
        if let Some(index) = self.sequences.iter().position(Sequence::is_pending) {
            pieces.extend(self.process_prompt(index)?.map(|piece| (index, piece)));
            return Ok(pieces);
        }
        let active: Vec<usize> =
            (0..self.sequences.len()).filter(|&index| self.sequences[index].finished.is_none()).collect();
        if active.is_empty() {
            return Ok(pieces);
        }
        let started = Instant::now();
        let rows: Vec<DecodeRow> = active.iter().map(|&index| self.decode_row(index)).collect();
        let cancel = self.shared_cancel(&active);
        let context = self.model.context();
        let more = active.iter().any(|&index| self.sequences[index].may_go_on(context));
        let decoded = self.model.engine().decode(&rows, more, &cancel);
        let tokens = match decoded {
            Ok(tokens) => tokens,
            Err(Error::Cancelled) => {
                pieces.extend(self.end_cancelled()?);
                return Ok(pieces);
            }
            Err(error) => return Err(error),
        };
        let elapsed = started.elapsed();
        let _span = self.model.gpu().span("text of tokens");
        for (index, token) in active.into_iter().zip(tokens) {
            let sequence = &mut self.sequences[index];
            sequence.timing.decode += elapsed;
            sequence.timing.decode_tokens += 1;
            self.slots[index].cached(&sequence.ids);
            pieces.push((index, sequence.accept(token, context)?));
        }
        Ok(pieces)
    }

    fn decode_row(&self, index: usize) -> DecodeRow {
        let sequence = &self.sequences[index];
        DecodeRow {
            slot: self.slots[index].index(),
            token: sequence.ids[sequence.ids.len() - 1],
            position: sequence.ids.len() - 1,
            sampling: sequence.options.sampling.row(sequence.step()),
        }
    }

    /// The token that may stop a step in its middle: that of a text that is alone in it.
    fn shared_cancel(&self, active: &[usize]) -> CancelToken {
        match active {
            [index] => self.sequences[*index].options.cancel.clone(),
            _ => CancelToken::new(),
        }
    }

    fn end_cancelled(&mut self) -> Result<Vec<(usize, Piece)>> {
        let mut pieces = Vec::new();
        for (index, sequence) in self.sequences.iter_mut().enumerate() {
            if sequence.finished.is_none() && sequence.options.cancel.is_cancelled() {
                pieces.extend(sequence.end(FinishReason::Cancelled)?.map(|piece| (index, piece)));
            }
        }
        Ok(pieces)
    }

    fn process_prompt(&mut self, index: usize) -> Result<Option<Piece>> {
        let started = Instant::now();
        let context = self.model.context();
        let mut engine = self.model.engine();
        let (sequence, slot_guard) = (&mut self.sequences[index], &self.slots[index]);
        let slot = slot_guard.index();
        let penalties = sequence.options.sampling.has_penalties();
        let start = if penalties { 0 } else { slot_guard.common().min(sequence.ids.len() - 1) };
        engine.reset_counts(slot)?;
        slot_guard.cached(&sequence.ids[..start]);
        let sampling = sequence.options.sampling.row(0);
        let sampled = engine.prompt(slot, &sequence.ids[start..], start, sampling, &sequence.options.cancel);
        drop(engine);
        match sampled {
            Ok(token) => {
                sequence.timing.prompt = started.elapsed();
                sequence.timing.prompt_tokens = sequence.ids.len() - start;
                slot_guard.cached(&sequence.ids);
                sequence.accept(token, context).map(Some)
            }
            Err(Error::Cancelled) => sequence.end(FinishReason::Cancelled),
            Err(error) => Err(error),
        }
    }

    /// The texts, by index. Unfinished ones end as cancelled.
    pub fn into_generations(self) -> Vec<Generation> {
        let in_f32 = self.model.engine().fell_back_to_f32();
        self.sequences.into_iter().map(|sequence| sequence.into_generation(in_f32)).collect()
    }
}

/// One text as an iterator of its pieces.
#[derive(Debug)]
pub struct TextStream {
    batch: Batch,
    waiting: VecDeque<Piece>,
    failed: bool,
}

impl TextStream {
    pub(super) fn new(model: &TextModel, prompt: &Prompt, options: &GenerateOptions) -> Result<Self> {
        let mut batch = Batch::new(model);
        batch.add(prompt, options)?;
        Ok(Self { batch, waiting: VecDeque::new(), failed: false })
    }

    /// The text so far, or the whole of it when the iterator has ended.
    pub fn into_generation(self) -> Generation {
        self.batch.into_generations().remove(0)
    }
}

impl Iterator for TextStream {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        while self.waiting.is_empty() {
            if self.failed || self.batch.is_finished() {
                return None;
            }
            match self.batch.step() {
                Ok(pieces) => self.waiting.extend(pieces.into_iter().map(|(_, piece)| piece)),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        self.waiting.pop_front().map(Ok)
    }
}
