//! The generation loop: prompts in slots, one batch of tokens a step, text as it becomes whole.

use super::detokenizer::StreamDecoder;
use super::engine::DecodeRow;
use super::model::{SlotGuard, TextModel};
use super::sampling::SamplingSettings;
use super::stop::StopMatcher;
use super::tokenizer::Tokenizer;
use crate::cancel::CancelToken;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;
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
}

/// A text in the making.
#[derive(Debug)]
struct Sequence {
    slot: SlotGuard,
    ids: Vec<u32>,
    prompt_length: usize,
    options: GenerateOptions,
    end_tokens: Vec<u32>,
    decoder: Option<StreamDecoder<Arc<Tokenizer>>>,
    stop: StopMatcher,
    text: String,
    finished: Option<FinishReason>,
    timing: Timing,
}

impl Sequence {
    fn generated(&self) -> usize {
        self.ids.len() - self.prompt_length
    }

    fn is_pending(&self) -> bool {
        self.generated() == 0 && self.finished.is_none()
    }

    fn decode_row(&self) -> DecodeRow {
        DecodeRow {
            slot: self.slot.index(),
            token: self.ids[self.ids.len() - 1],
            position: self.ids.len() - 1,
            sampling: self.options.sampling.row(self.step()),
        }
    }

    fn step(&self) -> u32 {
        u32::try_from(self.generated()).unwrap_or(u32::MAX)
    }

    /// Takes a sampled token and returns the text that became whole.
    fn accept(&mut self, token: u32, context: usize) -> Result<Piece> {
        self.ids.push(token);
        let mut text = String::new();
        if self.end_tokens.contains(&token) {
            self.finished = Some(FinishReason::EndToken);
        } else {
            let whole = match &mut self.decoder {
                Some(decoder) => decoder.push(token)?.unwrap_or_default(),
                None => String::new(),
            };
            let output = self.stop.push(&whole);
            text = output.text;
            if output.stop.is_some() {
                self.finished = Some(FinishReason::StopString);
            } else if self.generated() >= self.options.max_tokens {
                self.finished = Some(FinishReason::MaxTokens);
            } else if self.ids.len() > context {
                self.finished = Some(FinishReason::ContextFull);
            }
        }
        if self.finished.is_some() && self.finished != Some(FinishReason::StopString) {
            text.push_str(&self.rest()?);
        }
        self.text.push_str(&text);
        Ok(Piece { token: Some(token), text })
    }

    /// The text that was held back as it might have become a stop string or a character.
    fn rest(&mut self) -> Result<String> {
        let whole = match &mut self.decoder {
            Some(decoder) => decoder.flush()?.unwrap_or_default(),
            None => String::new(),
        };
        let output = self.stop.push(&whole);
        let mut text = output.text;
        if output.stop.is_some() {
            self.finished = Some(FinishReason::StopString);
        } else {
            text.push_str(&self.stop.finish());
        }
        Ok(text)
    }

    /// Ends a sequence early; what was held back is returned.
    fn end(&mut self, reason: FinishReason) -> Result<Option<Piece>> {
        self.finished = Some(reason);
        let text = self.rest()?;
        self.text.push_str(&text);
        Ok((!text.is_empty()).then_some(Piece { token: None, text }))
    }
}

/// Several texts generated together: each step decodes one token of every unfinished one.
#[derive(Debug)]
pub struct Batch {
    model: TextModel,
    sequences: Vec<Sequence>,
}

impl Batch {
    /// An empty batch on a model's slots.
    pub fn new(model: &TextModel) -> Self {
        Self { model: model.clone(), sequences: Vec::new() }
    }

    /// Adds a text to generate and returns its index.
    ///
    /// # Errors
    /// [`Error::Request`] for bad options, an empty prompt or when all slots are in use;
    /// [`Error::ContextOverflow`] for a prompt that leaves no room.
    pub fn add(&mut self, prompt: &Prompt, options: &GenerateOptions) -> Result<usize> {
        options.sampling.validate()?;
        if options.max_tokens == 0 {
            return Err(Error::Request("max_tokens must be at least 1, got 0".into()));
        }
        let ids = self.model.prompt_ids(prompt)?;
        let context = self.model.context();
        if ids.len() > context {
            return Err(Error::ContextOverflow { needed: ids.len(), context });
        }
        let slot = self.model.take_slot(if options.reuse_prefix { &ids } else { &[] })?;
        let end_tokens = options.end_tokens.clone().unwrap_or_else(|| self.model.end_tokens().to_vec());
        self.sequences.push(Sequence {
            slot,
            prompt_length: ids.len(),
            decoder: self.model.stream_decoder(&ids)?,
            ids,
            end_tokens,
            stop: StopMatcher::new(options.stop.clone()),
            options: options.clone(),
            text: String::new(),
            finished: None,
            timing: Timing::default(),
        });
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
        let rows: Vec<DecodeRow> = active.iter().map(|&index| self.sequences[index].decode_row()).collect();
        let cancel = self.shared_cancel(&active);
        let decoded = self.model.engine().decode(&rows, &cancel);
        let tokens = match decoded {
            Ok(tokens) => tokens,
            Err(Error::Cancelled) => {
                pieces.extend(self.end_cancelled()?);
                return Ok(pieces);
            }
            Err(error) => return Err(error),
        };
        let elapsed = started.elapsed();
        let context = self.model.context();
        for (index, token) in active.into_iter().zip(tokens) {
            let sequence = &mut self.sequences[index];
            sequence.timing.decode += elapsed;
            sequence.timing.decode_tokens += 1;
            sequence.slot.cached(&sequence.ids);
            pieces.push((index, sequence.accept(token, context)?));
        }
        Ok(pieces)
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
        let sequence = &mut self.sequences[index];
        let slot = sequence.slot.index();
        let penalties = sequence.options.sampling.has_penalties();
        let start = if penalties { 0 } else { sequence.slot.common().min(sequence.ids.len() - 1) };
        engine.reset_counts(slot)?;
        sequence.slot.cached(&sequence.ids[..start]);
        let sampling = sequence.options.sampling.row(0);
        let sampled = engine.prompt(slot, &sequence.ids[start..], start, sampling, &sequence.options.cancel);
        drop(engine);
        match sampled {
            Ok(token) => {
                sequence.timing.prompt = started.elapsed();
                sequence.timing.prompt_tokens = sequence.ids.len() - start;
                sequence.slot.cached(&sequence.ids);
                sequence.accept(token, context).map(Some)
            }
            Err(Error::Cancelled) => sequence.end(FinishReason::Cancelled),
            Err(error) => Err(error),
        }
    }

    /// The texts, by index. Unfinished ones end as cancelled.
    pub fn into_generations(self) -> Vec<Generation> {
        let finish = |sequence: Sequence| Generation {
            prompt_ids: sequence.ids[..sequence.prompt_length].to_vec(),
            ids: sequence.ids[sequence.prompt_length..].to_vec(),
            text: sequence.text,
            finish_reason: sequence.finished.unwrap_or(FinishReason::Cancelled),
            timing: sequence.timing,
        };
        self.sequences.into_iter().map(finish).collect()
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
