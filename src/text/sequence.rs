//! A text in the making: its tokens, the text that they make, and when it ends.

use super::detokenizer::StreamDecoder;
use super::generate::{FinishReason, GenerateOptions, Generation, Piece, Timing};
use super::stop::StopMatcher;
use super::tokenizer::Tokenizer;
use crate::Result;
use std::sync::Arc;

/// A text in the making.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) ids: Vec<u32>,
    pub(super) prompt_length: usize,
    pub(super) options: GenerateOptions,
    end_tokens: Vec<u32>,
    decoder: Option<StreamDecoder<Arc<Tokenizer>>>,
    stop: StopMatcher,
    pub(super) text: String,
    pub(super) finished: Option<FinishReason>,
    pub(super) timing: Timing,
}

impl Sequence {
    /// A text that begins with a prompt.
    ///
    /// # Errors
    /// [`Error::Request`](crate::Error::Request) for bad options.
    pub(super) fn new(
        ids: Vec<u32>,
        options: &GenerateOptions,
        end_tokens: &[u32],
        tokenizer: Option<Arc<Tokenizer>>,
    ) -> Result<Self> {
        let decoder = tokenizer.map(|tokenizer| StreamDecoder::after(tokenizer, true, &ids)).transpose()?;
        Ok(Self {
            prompt_length: ids.len(),
            ids,
            end_tokens: options.end_tokens.clone().unwrap_or_else(|| end_tokens.to_vec()),
            decoder,
            stop: StopMatcher::new(options.stop.clone()),
            options: options.clone(),
            text: String::new(),
            finished: None,
            timing: Timing::default(),
        })
    }

    /// The text; as cancelled where it is not finished. `in_f32` says how its logits were computed.
    pub(super) fn into_generation(self, in_f32: bool) -> Generation {
        Generation {
            prompt_ids: self.ids[..self.prompt_length].to_vec(),
            ids: self.ids[self.prompt_length..].to_vec(),
            text: self.text,
            finish_reason: self.finished.unwrap_or(FinishReason::Cancelled),
            timing: self.timing,
            in_f32,
        }
    }

    pub(super) fn generated(&self) -> usize {
        self.ids.len() - self.prompt_length
    }

    pub(super) fn is_pending(&self) -> bool {
        self.generated() == 0 && self.finished.is_none()
    }

    /// Whether a token follows the next one, unless that ends the text.
    pub(super) fn may_go_on(&self, context: usize) -> bool {
        self.generated() + 1 < self.options.max_tokens && self.ids.len() < context
    }

    pub(super) fn step(&self) -> u32 {
        u32::try_from(self.generated()).unwrap_or(u32::MAX)
    }

    /// Takes a sampled token and returns the text that became whole.
    pub(super) fn accept(&mut self, token: u32, context: usize) -> Result<Piece> {
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
    pub(super) fn end(&mut self, reason: FinishReason) -> Result<Option<Piece>> {
        self.finished = Some(reason);
        let text = self.rest()?;
        self.text.push_str(&text);
        Ok((!text.is_empty()).then_some(Piece { token: None, text }))
    }
}
