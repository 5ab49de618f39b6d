//! Text generation with a decoder in the ONNX format: tokenizer and settings from the files beside
//! it, tokens drawn on the host from the logits.

use super::config::GenerationConfig;
use super::generate::{FinishReason, GenerateOptions, Generation, Piece, Prompt};
use super::model::prompt_ids;
use super::sampling::draw;
use super::sequence::Sequence;
use super::tokenizer::Tokenizer;
use crate::gpu::Gpu;
use crate::json::{self, Fields};
use crate::onnx::{OnnxDecoder, OnnxDecoderOptions, OnnxModel, OnnxOptions};
use crate::ops::sample::IN_PROMPT;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Keys of config.json that say for how many tokens a model is made.
const CONTEXT_KEYS: [&str; 4] = ["max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"];

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnnxTextOptions {
    /// Tokens of prompt and text together; without it the model's own limit, at most 4096.
    pub context: Option<usize>,
    /// Bound of the bytes on the device.
    pub memory_budget: Option<u64>,
}

/// A language model in the ONNX format on a device, for one text at a time.
#[derive(Debug)]
pub struct OnnxTextModel {
    decoder: OnnxDecoder,
    tokenizer: Option<Arc<Tokenizer>>,
    generation: GenerationConfig,
    end_tokens: Vec<u32>,
}

/// What config.json says, where there is one.
#[derive(Debug, Default)]
struct Settings {
    context: Option<usize>,
    vocabulary: Option<u32>,
    bos: Option<u32>,
    ends: Vec<u32>,
}

impl Settings {
    fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let Some(map) = json::read_object(&path)? else { return Ok(Self::default()) };
        let fields = Fields::new(&path, &map);
        let vocabulary = fields.size("vocab_size", 1..=u32::MAX)?;
        let ids = |key: &str| {
            let ids = fields.token_ids(key)?;
            Ok::<_, Error>(json::ids_in_vocabulary(&path, key, ids, vocabulary.unwrap_or(u32::MAX)))
        };
        let mut context = None;
        for key in CONTEXT_KEYS {
            context = context.or(fields.size(key, 1..=u32::MAX)?);
        }
        let bos = ids("bos_token_id")?.first().copied();
        Ok(Self {
            context: context.map(|tokens| tokens as usize),
            vocabulary,
            bos,
            ends: ids("eos_token_id")?,
        })
    }
}

impl OnnxTextModel {
    /// Loads an .onnx file, and what lies beside it: config.json, generation_config.json and
    /// tokenizer.json, each of which may be missing.
    ///
    /// # Errors
    /// [`Error::File`] naming what is wrong with a file, [`Error::Unsupported`] for a model that is
    /// not a decoder of tokens, [`Error::Request`] for a context that is too long for it.
    pub fn load(path: &Path, gpu: &Gpu, options: &OnnxTextOptions) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let settings = Settings::load(folder)?;
        let generation = GenerationConfig::load(folder, settings.vocabulary.unwrap_or(u32::MAX))?;
        let mut tokenizer = None;
        if folder.join("tokenizer.json").exists() {
            let mut loaded = Tokenizer::load(folder)?;
            let eos = generation.eos_ids.first().or(settings.ends.first()).copied();
            loaded.fill_special_ids(generation.bos_id.or(settings.bos), eos, generation.pad_id);
            tokenizer = Some(Arc::new(loaded));
        }
        let mut end_tokens =
            if generation.eos_ids.is_empty() { settings.ends } else { generation.eos_ids.clone() };
        if end_tokens.is_empty() {
            end_tokens.extend(tokenizer.as_deref().and_then(Tokenizer::eos_id));
        }
        let load = OnnxOptions { budget: options.memory_budget, ..OnnxOptions::default() };
        let model = Arc::new(OnnxModel::load_with(path, gpu, &load)?);
        let limit = settings.context.unwrap_or(usize::MAX);
        let default = OnnxDecoderOptions::default();
        let context = options.context.unwrap_or_else(|| default.context.min(limit));
        let decoder = OnnxDecoder::new(model, &OnnxDecoderOptions { context, ..default })?;
        let limit = limit.min(decoder.context());
        if options.context.is_some_and(|context| context > limit) {
            let message =
                format!("a context of {context} tokens was asked for, the model has positions for {limit}");
            return Err(Error::Request(message));
        }
        Ok(Self { decoder, tokenizer, generation, end_tokens })
    }

    /// All that the model's authors recommend: sampling, most tokens, stop strings.
    pub fn default_options(&self) -> GenerateOptions {
        self.generation.options()
    }

    /// The tokenizer, where the model has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_deref()
    }

    /// Tokens of prompt and text together.
    pub fn context(&self) -> usize {
        self.decoder.context()
    }

    /// The decoder below, for token-level work.
    pub fn decoder(&mut self) -> &mut OnnxDecoder {
        &mut self.decoder
    }

    /// Dispatches of a token; 0 before the second one.
    pub fn dispatches_per_token(&self) -> usize {
        self.decoder.dispatches_per_token()
    }

    /// Generates a text and calls back for each piece. Each text is computed from its start:
    /// `reuse_prefix` has no effect.
    ///
    /// # Errors
    /// [`Error::Request`] for bad options or an empty prompt, [`Error::ContextOverflow`], what the
    /// device says, or the callback.
    pub fn generate_with(
        &mut self,
        prompt: impl Into<Prompt>,
        options: &GenerateOptions,
        mut callback: impl FnMut(&Piece) -> Result<()>,
    ) -> Result<Generation> {
        options.validate()?;
        let ids = prompt_ids(self.tokenizer(), &prompt.into())?;
        let mut sequence = Sequence::new(ids, options, &self.end_tokens, self.tokenizer.clone())?;
        self.decoder.reset()?;
        let mut counts = Vec::new();
        while sequence.finished.is_none() {
            match self.next(&mut sequence, &mut counts) {
                Ok(piece) => callback(&piece)?,
                Err(Error::Cancelled) => {
                    if let Some(piece) = sequence.end(FinishReason::Cancelled)? {
                        callback(&piece)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sequence.into_generation(false))
    }

    /// Draws the next token; `counts` are those of the tokens so far.
    fn next(&mut self, sequence: &mut Sequence, counts: &mut Vec<u32>) -> Result<Piece> {
        let started = Instant::now();
        let options = &sequence.options;
        if options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let new = &sequence.ids[self.decoder.position()..];
        let logits = self.decoder.extend(new, &|| options.cancel.is_cancelled())?;
        if sequence.is_pending() {
            *counts = vec![0; logits.len()];
            for &id in &sequence.ids {
                if let Some(count) = counts.get_mut(id as usize) {
                    *count |= IN_PROMPT;
                }
            }
        }
        let token = draw(&logits, counts, &options.sampling.row(sequence.step()))?;
        if sequence.is_pending() {
            sequence.timing.prompt = started.elapsed();
            sequence.timing.prompt_tokens = sequence.prompt_length;
        } else {
            sequence.timing.decode += started.elapsed();
            sequence.timing.decode_tokens += 1;
        }
        sequence.accept(token, self.decoder.context())
    }
}
