//! A `tokenizer.json` with the special tokens of its model. Files are checked before they are loaded, and a panic of
//! the tokenizers crate becomes an error.

use std::path::Path;

use serde_json::Value;

use super::config::TokenizerConfig;
use super::tokenizer_checks;
use crate::error::{Error, Result, contained};
use crate::json;

/// Largest `tokenizer.json` in bytes; the largest published ones have about 40 million.
const MAX_BYTES: u64 = 128 << 20;

/// Text to token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<Special>,
    eos: Option<Special>,
    pad: Option<Special>,
    unk: Option<Special>,
    /// BOS is asked for and the post-processor does not add it.
    prepend_bos: bool,
    /// Tokens such as `<0x0A>` stand for bytes.
    byte_fallback: bool,
    /// An ordinary token, as context where a text is decoded from the middle.
    anchor: Option<u32>,
}

/// A special token: its id and text.
#[derive(Debug, Clone)]
struct Special {
    id: u32,
    text: String,
}

impl Tokenizer {
    /// Loads `tokenizer.json` of a model folder with `tokenizer_config.json` and `special_tokens_map.json`.
    ///
    /// # Errors
    /// A missing, oversized or broken file ([`Error::File`] naming the field, [`Error::Io`]).
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = json::read_bytes(&path, MAX_BYTES)?;
        let bytes = bytes.ok_or_else(|| Error::file(&path, "no such file"))?;
        Self::from_bytes(&path, &bytes, &TokenizerConfig::load(folder)?)
    }

    /// Loads the text of a `tokenizer.json`; `path` is named in errors. Truncation, padding and dropout that the file
    /// asks for are switched off. Errors as in [`Tokenizer::load`].
    pub fn from_bytes(path: &Path, bytes: &[u8], config: &TokenizerConfig) -> Result<Self> {
        let mut map = tokenizer_checks::parse(path, bytes)?;
        let mut inner = if drop_dropout(&mut map) {
            let text = serde_json::to_vec(&map).map_err(|error| Error::file(path, error.to_string()))?;
            build(path, &text)?
        } else {
            build(path, bytes)?
        };
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::file(path, error.to_string()))?;
        let special = |text: &Option<String>, key: &str| {
            let text = text.clone()?;
            let id = inner.token_to_id(&text);
            if id.is_none() {
                log::warn!("{}: {key} {text:?} is not in the vocabulary, ignored", path.display());
            }
            id.map(|id| Special { id, text })
        };
        let bos = special(&config.bos_token, "bos_token");
        let eos = special(&config.eos_token, "eos_token");
        let pad = special(&config.pad_token, "pad_token");
        let unk = special(&config.unk_token, "unk_token");
        let byte_fallback = has_byte_fallback(map.get("decoder"));
        let mut tokenizer =
            Self { inner, bos, eos, pad, unk, prepend_bos: false, byte_fallback, anchor: None };
        tokenizer.anchor = tokenizer.find_anchor();
        tokenizer.set_prepend_bos(config.add_bos_token == Some(true))?;
        Ok(tokenizer)
    }

    /// Sets special tokens by id where the tokenizer's own files name none, for example from
    /// `generation_config.json`. Ids outside the vocabulary are ignored.
    pub fn fill_special_ids(&mut self, bos: Option<u32>, eos: Option<u32>, pad: Option<u32>) {
        for (slot, id) in [(&mut self.bos, bos), (&mut self.eos, eos), (&mut self.pad, pad)] {
            if slot.is_none() {
                *slot = id.and_then(|id| Some(Special { id, text: self.inner.id_to_token(id)? }));
            }
        }
    }

    /// Decides whether [`Tokenizer::encode`] with special tokens begins with BOS although the file's post-processor
    /// does not add it; `add_bos_token` of `tokenizer_config.json` is the default. Without a known BOS token,
    /// or where the post-processor adds it, this changes nothing.
    ///
    /// # Errors
    /// Encoding a probe failed ([`Error::Request`]).
    pub fn set_prepend_bos(&mut self, prepend: bool) -> Result<()> {
        self.prepend_bos = false;
        if let Some(bos) = &self.bos {
            let first = self.encode_raw("a", true)?.first().copied();
            self.prepend_bos = prepend && first != Some(bos.id);
        }
        Ok(())
    }

    /// Encodes text. With `special`, the tokens that the model wants around a text are added (BOS, `[CLS]` ...): what
    /// the file's post-processor says, and BOS where `add_bos_token` asks for it. BOS is not doubled where
    /// the text begins with it, as chat templates do. Special tokens inside the text are recognised always.
    ///
    /// # Errors
    /// The text holds something that the vocabulary cannot say, or the tokenizer failed ([`Error::Request`]).
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let mut ids = self.encode_raw(text, special)?;
        if let (true, Some(bos)) = (special, &self.bos) {
            if self.prepend_bos {
                ids.insert(0, bos.id);
            }
            if text.starts_with(&bos.text) && ids.starts_with(&[bos.id, bos.id]) {
                ids.remove(0);
            }
        }
        Ok(ids)
    }

    fn encode_raw(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = guarded(|| self.inner.encode_fast(text, special));
        let encoding = encoding.map_err(|message| Error::Request(format!("encoding text: {message}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Decodes ids; those outside the vocabulary are left out, and special tokens too with `skip_special`.
    ///
    /// # Errors
    /// The tokenizer failed ([`Error::Request`]).
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        guarded(|| self.inner.decode(ids, skip_special))
            .map_err(|message| Error::Request(format!("decoding {} ids: {message}", ids.len())))
    }

    /// Size of the vocabulary with added tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of a token's text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Text of a token as it stands in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Tells whether an id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.id_to_token(id).is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// Id of the token that begins a sequence.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos.as_ref().map(|token| token.id)
    }

    /// Id of the token that ends a sequence.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos.as_ref().map(|token| token.id)
    }

    /// Id of the token that fills up.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad.as_ref().map(|token| token.id)
    }

    /// Id of the token for what the vocabulary cannot say.
    pub fn unk_id(&self) -> Option<u32> {
        self.unk.as_ref().map(|token| token.id)
    }

    /// Text of BOS for chat templates, empty if there is none.
    pub fn bos_token(&self) -> &str {
        self.bos.as_ref().map_or("", |token| &token.text)
    }

    /// Text of EOS for chat templates, empty if there is none.
    pub fn eos_token(&self) -> &str {
        self.eos.as_ref().map_or("", |token| &token.text)
    }

    /// The byte that a token stands for when it is decoded.
    pub(super) fn fallback_byte(&self, id: u32) -> Option<u8> {
        if !self.byte_fallback {
            return None;
        }
        let token = self.id_to_token(id)?;
        let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
        if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
    }

    pub(super) fn anchor(&self) -> Option<u32> {
        self.anchor
    }

    /// Finds an ordinary token whose text is one plain letter or digit.
    fn find_anchor(&self) -> Option<u32> {
        let plain = ('a'..='z').chain('A'..='Z').chain('0'..='9');
        plain
            .filter_map(|letter| self.token_to_id(letter.encode_utf8(&mut [0; 4])))
            .find(|id| !self.is_special(*id))
    }
}

/// Builds the crate's tokenizer of a checked file.
fn build(path: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    guarded(|| tokenizers::Tokenizer::from_bytes(bytes))
        .map_err(|message| Error::file(path, format!("not a usable tokenizer: {message}")))
}

/// Runs code of the tokenizers crate; its errors and its panics become text.
fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    contained("the tokenizer", run)?.map_err(|error| error.to_string())
}

/// Takes out the dropout of merges, which is for training: it would make encoding random.
fn drop_dropout(map: &mut serde_json::Map<String, Value>) -> bool {
    let dropout = map.get_mut("model").and_then(|model| model.get_mut("dropout"));
    match dropout {
        Some(dropout) if !dropout.is_null() => {
            *dropout = Value::Null;
            true
        }
        _ => false,
    }
}

/// Tells whether a decoder, or one inside a sequence, turns tokens such as `<0x0A>` into bytes.
fn has_byte_fallback(decoder: Option<&Value>) -> bool {
    let Some(decoder) = decoder else { return false };
    let inner = decoder.get("decoders").and_then(Value::as_array);
    decoder.get("type").and_then(Value::as_str) == Some("ByteFallback")
        || inner.is_some_and(|inner| inner.iter().any(|decoder| has_byte_fallback(Some(decoder))))
}
