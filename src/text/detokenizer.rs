//! Token ids to text, one at a time. A token's text depends on its neighbours (leading spaces, characters split over
//! tokens), so a short window of tokens is decoded anew with each one and the difference is returned.

use super::tokenizer::Tokenizer;
use crate::error::Result;
use std::ops::Deref;

/// Tokens in the window before it is cut.
const WINDOW: usize = 12;
/// Tokens kept as context when the window is cut.
const CONTEXT: usize = 4;
/// Byte tokens in a row that are held back until their run ends.
const MAX_RUN: usize = 32;

/// Turns a stream of token ids into text that is complete up to a character.
///
/// The pieces joined are [`Tokenizer::decode`] of all ids. Tokens for bytes (`<0xE2>`) decode as a run: one invalid
/// byte makes the whole run invalid. So a run is held back until it ends, or until it has 32 bytes; in longer
/// runs, valid characters in front of an invalid byte stay valid. The cost per token does not grow with the text.
#[derive(Debug)]
pub struct StreamDecoder<T> {
    /// The tokenizer, borrowed or shared.
    tokenizer: T,
    skip_special: bool,
    window: Vec<u32>,
    /// The part of the window's text that was returned, or stands for context.
    sent: String,
    /// Byte tokens at the end of the window.
    run: Vec<u8>,
    /// The present run has an invalid byte and was returned as such.
    run_is_invalid: bool,
}

impl<T: Deref<Target = Tokenizer> + Clone> StreamDecoder<T> {
    /// Begins a text. With `skip_special`, special tokens give no text.
    pub fn new(tokenizer: T, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            window: Vec::new(),
            sent: String::new(),
            run: Vec::new(),
            run_is_invalid: false,
        }
    }

    /// Goes on after a prompt: the end of the prompt serves as context, so that the text keeps a space at its beginning.
    ///
    /// # Errors
    /// The tokenizer failed ([`crate::Error::Request`]).
    pub fn after(tokenizer: T, skip_special: bool, prompt: &[u32]) -> Result<Self> {
        let mut decoder = Self::new(tokenizer.clone(), skip_special);
        let mut tail: Vec<u32> =
            prompt.iter().rev().copied().filter(|id| decoder.has_text(*id)).take(WINDOW).collect();
        tail.reverse();
        while tail.first().is_some_and(|id| tokenizer.fallback_byte(*id).is_some()) {
            tail.remove(0);
        }
        if tail.is_empty() && prompt.iter().any(|id| decoder.has_text(*id)) {
            tail.extend(tokenizer.anchor());
        }
        decoder.sent = tokenizer.decode(&tail, skip_special)?;
        decoder.window = tail;
        Ok(decoder)
    }

    /// Adds a token and returns the text that is complete by it, if there is any.
    ///
    /// # Errors
    /// The tokenizer failed ([`crate::Error::Request`]).
    pub fn push(&mut self, id: u32) -> Result<Option<String>> {
        if !self.has_text(id) {
            return Ok(None);
        }
        let Some(byte) = self.tokenizer.fallback_byte(id) else {
            self.run.clear();
            self.run_is_invalid = false;
            self.window.push(id);
            return self.advance();
        };
        if self.run_is_invalid {
            return Ok(Some(char::REPLACEMENT_CHARACTER.to_string()));
        }
        self.window.push(id);
        self.run.push(byte);
        if self.run.len() < MAX_RUN { Ok(None) } else { self.cut_run() }
    }

    /// Ends the text: returns what was held back. Ready for the next text.
    ///
    /// # Errors
    /// The tokenizer failed ([`crate::Error::Request`]).
    pub fn flush(&mut self) -> Result<Option<String>> {
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        let rest = self.unsent(&text);
        *self = Self::new(self.tokenizer.clone(), self.skip_special);
        Ok(rest)
    }

    /// Special tokens that are skipped and ids outside the vocabulary have no text.
    fn has_text(&self, id: u32) -> bool {
        self.tokenizer.id_to_token(id).is_some() && !(self.skip_special && self.tokenizer.is_special(id))
    }

    /// Returns what is new and complete in the window's text. A replacement character at the end may be the beginning of
    /// a character and waits.
    fn advance(&mut self) -> Result<Option<String>> {
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        let complete = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(&text);
        let new = self.unsent(complete);
        if new.is_some() {
            self.sent = complete.to_owned();
        }
        if self.window.len() >= WINDOW {
            self.cut_window(&text)?;
        }
        Ok(new)
    }

    /// The text beyond what was sent. A decoder that changes earlier text loses that change.
    fn unsent(&self, text: &str) -> Option<String> {
        let pairs = text.char_indices().zip(self.sent.chars());
        let same: usize = pairs.take_while(|((_, a), b)| a == b).map(|((_, a), _)| a.len_utf8()).sum();
        let rest = &text[same..];
        (!rest.is_empty()).then(|| rest.to_owned())
    }

    /// Shortens the window to a few tokens of context, if the text of these is the end of the window's text.
    fn cut_window(&mut self, text: &str) -> Result<()> {
        let mut start = self.window.len() - CONTEXT;
        while start > 0 && self.tokenizer.fallback_byte(self.window[start]).is_some() {
            start -= 1;
        }
        let tail = self.tokenizer.decode(&self.window[start..], self.skip_special)?;
        let waiting = text.strip_prefix(self.sent.as_str());
        let context = waiting.and_then(|waiting| tail.strip_suffix(waiting));
        if let Some(context) = context.filter(|context| start > 0 && !context.is_empty()) {
            self.sent = context.to_owned();
            self.window.drain(..start);
        } else if start > 0 && self.window.len() >= 4 * WINDOW {
            self.sent = tail;
            self.window.drain(..start);
        }
        Ok(())
    }

    /// Returns a long run of byte tokens without waiting for its end.
    fn cut_run(&mut self) -> Result<Option<String>> {
        let kept = match std::str::from_utf8(&self.run) {
            Ok(_) => 0,
            Err(error) if error.error_len().is_none() => self.run.len() - error.valid_up_to(),
            Err(_) => {
                self.run_is_invalid = true;
                0
            }
        };
        let rest = self.window.split_off(self.window.len() - kept);
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        let new = self.unsent(&text);
        self.run.drain(..self.run.len() - kept);
        self.window = self.tokenizer.anchor().into_iter().collect();
        self.sent = self.tokenizer.decode(&self.window, self.skip_special)?;
        self.window.extend(rest);
        Ok(new)
    }
}
