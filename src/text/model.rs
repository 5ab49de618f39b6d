//! A language model ready for use: files, tokenizer, engine, slots.

use super::chat::{ChatMessage, ChatTemplate, Fallback};
use super::config::GenerationConfig;
use super::engine::{Engine, EngineOptions};
use super::generate::{Batch, GenerateOptions, Generation, Piece, Prompt, TextStream};
use super::sampling::SamplingSettings;
use super::tokenizer::Tokenizer;
use crate::checkpoint::Checkpoint;
use crate::gpu::Gpu;
use crate::models::config::{DecoderConfig, Positions};
use crate::models::decoder::{Decoder, find_root};
use crate::nn::Cache;
use crate::session::default_budget;
use crate::tensor::DType;
use crate::weights::hub::resolve_model;
use crate::weights::{FileWeights, Weights};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Context length used where none is asked for and the model allows more.
const DEFAULT_CONTEXT: usize = 4096;

/// Most prompt tokens in one run where nothing else is asked for.
pub(super) const DEFAULT_PROMPT_ROWS: usize = 512;

/// Calls back while weights are uploaded: bytes done and in all.
pub type LoadProgress = Box<dyn FnMut(u64, u64) + Send>;

/// Settings of loading; [`load`](Self::load) does it.
#[derive(Default)]
pub struct ModelBuilder {
    gpu: Option<Gpu>,
    dtype: Option<DType>,
    context: Option<usize>,
    slots: Option<usize>,
    prompt_rows: Option<usize>,
    memory_budget: Option<u64>,
    first_prompt: Option<Prompt>,
    progress: Option<LoadProgress>,
}

impl std::fmt::Debug for ModelBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelBuilder")
            .field("dtype", &self.dtype)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl ModelBuilder {
    /// The device to use; without it the best adapter is opened.
    #[must_use]
    pub fn gpu(mut self, gpu: &Gpu) -> Self {
        self.gpu = Some(gpu.clone());
        self
    }

    /// Dtype of the matrices on the device (f32, f16 or bf16); without it the files' own.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Tokens of prompt and text together; without it the model's own limit, at most 4096.
    /// For Phi 3's longrope this also selects the short or the long factors.
    #[must_use]
    pub fn context(mut self, tokens: usize) -> Self {
        self.context = Some(tokens);
        self
    }

    /// Sequences at a time; 1 without it.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Most prompt tokens in one run; 512 without it.
    #[must_use]
    pub fn prompt_chunk(mut self, tokens: usize) -> Self {
        self.prompt_rows = Some(tokens);
        self
    }

    /// Bound of the bytes on the device. Without it physical memory on adapters that share it,
    /// none elsewhere.
    #[must_use]
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// The first prompt, where it is known before loading: what it needs is compiled while weights
    /// are uploaded.
    #[must_use]
    pub fn first_prompt(mut self, prompt: impl Into<Prompt>) -> Self {
        self.first_prompt = Some(prompt.into());
        self
    }

    /// Called while weights are uploaded.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(u64, u64) + Send + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Loads a model folder, or a repository `ORG/NAME` from the local Hugging Face hub cache.
    ///
    /// # Errors
    /// [`Error::File`] naming what is wrong with a file, [`Error::Budget`] before anything is
    /// uploaded, [`Error::NoAdapter`], or what the device says.
    pub fn load(self, model: &str) -> Result<TextModel> {
        self.load_folder(&resolve_model(model)?)
    }

    /// [`load`](Self::load) on a thread of its own, for callers that must not block.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub async fn load_async(self, model: &str) -> Result<TextModel> {
        let (sender, receiver) = futures::channel::oneshot::channel();
        let model = model.to_owned();
        std::thread::spawn(move || {
            // The receiver is gone only when the caller has dropped the future.
            let _ = sender.send(self.load(&model));
        });
        receiver.await.unwrap_or(Err(Error::Cancelled))
    }

    fn load_folder(mut self, folder: &Path) -> Result<TextModel> {
        let started = Instant::now();
        let _span = self.gpu.as_ref().map(|gpu| gpu.span("load"));
        let config = DecoderConfig::load(folder)?;
        let generation = GenerationConfig::load(folder, config.vocab_size)?;
        let tokenizer = load_tokenizer(folder, &config, &generation)?;
        let weights = FileWeights::open(folder)?;
        let gpu = self.gpu.take().map_or_else(Gpu::new, Ok)?;
        let cache = Cache { slots: self.checked_slots()?, context: context_for(&config, self.context)? };
        let root = find_root(&config, |name| weights.spec(name).is_some());
        let end_tokens = end_tokens(&config, &generation, tokenizer.as_deref());
        let checkpoint = Checkpoint::new(&weights, folder, self.dtype);
        let decoder = Decoder::new(config, root, cache);
        let options = EngineOptions {
            prompt_rows: self.prompt_rows.unwrap_or(DEFAULT_PROMPT_ROWS).max(1),
            first_prompt: self.first_prompt_length(tokenizer.as_deref(), cache.context),
            memory_budget: self.memory_budget.or_else(|| default_budget(&gpu)),
        };
        let graphs = Engine::first_graphs(&decoder, &checkpoint, options.prompt_rows)?;
        checkpoint.check(graphs.iter().map(|(_, graph)| graph), root, &decoder.head_name())?;
        let mut progress = self.progress.take().unwrap_or_else(|| Box::new(|_, _| {}));
        let engine = Engine::new(&gpu, decoder, graphs, &checkpoint, options, &mut *progress)?;
        let report = checkpoint.report();
        if report.nan_or_inf > 0 {
            let count = report.nan_or_inf;
            return Err(Error::file(
                folder,
                format!("{count} weights are NaN or infinite: the file is broken"),
            ));
        }
        if report.overflowed > 0 {
            log::warn!("{}: {} weights overflow in this dtype", folder.display(), report.overflowed);
        }
        let slots = (0..cache.slots).map(|_| SlotState::default()).collect();
        let inner = Inner {
            engine: Mutex::new(engine),
            slots: Mutex::new(slots),
            folder: folder.to_owned(),
            tokenizer,
            generation,
            end_tokens,
            cache,
            gpu,
            load_time: started.elapsed(),
        };
        Ok(TextModel(Arc::new(inner)))
    }

    /// Tokens of the first prompt. One that cannot be used fails when it is given.
    fn first_prompt_length(&self, tokenizer: Option<&Tokenizer>, context: usize) -> usize {
        let ids = self.first_prompt.as_ref().and_then(|prompt| prompt_ids(tokenizer, prompt).ok());
        ids.map_or(0, |ids| ids.len()).min(context)
    }

    fn checked_slots(&self) -> Result<usize> {
        match self.slots.unwrap_or(1) {
            slots @ 1..=32 => Ok(slots),
            slots => Err(Error::Request(format!("slots must be 1 to 32, got {slots}"))),
        }
    }
}

/// The context to use where `asked` is asked for.
pub(super) fn context_for(config: &DecoderConfig, asked: Option<usize>) -> Result<usize> {
    let limit = config.context as usize;
    match asked {
        Some(0) => Err(Error::Request("the context must be at least 1 token, got 0".into())),
        Some(context) if context > limit => {
            let why =
                if config.positions == Positions::Learned { "has positions for" } else { "was trained for" };
            Err(Error::Request(format!(
                "a context of {context} tokens was asked for, the model {why} {limit}"
            )))
        }
        Some(context) => Ok(context),
        None => Ok(limit.min(DEFAULT_CONTEXT)),
    }
}

/// The tokenizer, where the folder has one; special tokens that it does not name come from the
/// configuration.
pub(super) fn load_tokenizer(
    folder: &Path,
    config: &DecoderConfig,
    generation: &GenerationConfig,
) -> Result<Option<Arc<Tokenizer>>> {
    if !folder.join("tokenizer.json").exists() {
        return Ok(None);
    }
    let mut tokenizer = Tokenizer::load(folder)?;
    let bos = generation.bos_id.or(config.bos_id);
    let eos = generation.eos_ids.first().or(config.eos_ids.first()).copied();
    tokenizer.fill_special_ids(bos, eos, generation.pad_id);
    Ok(Some(Arc::new(tokenizer)))
}

/// Tokens that end a text: generation_config.json's, else config.json's, else the tokenizer's.
pub(super) fn end_tokens(
    config: &DecoderConfig,
    generation: &GenerationConfig,
    tokenizer: Option<&Tokenizer>,
) -> Vec<u32> {
    if !generation.eos_ids.is_empty() {
        return generation.eos_ids.clone();
    }
    if !config.eos_ids.is_empty() {
        return config.eos_ids.clone();
    }
    tokenizer.and_then(Tokenizer::eos_id).into_iter().collect()
}

/// The ids of a prompt, at least one.
pub(super) fn prompt_ids(tokenizer: Option<&Tokenizer>, prompt: &Prompt) -> Result<Vec<u32>> {
    let missing = || Error::Request("the model has no tokenizer.json: give token ids instead of text".into());
    let ids = match prompt {
        Prompt::Text(text) => tokenizer.ok_or_else(missing)?.encode(text, true)?,
        Prompt::Ids(ids) => ids.clone(),
    };
    if ids.is_empty() {
        let message = "the prompt has no token, and the model has no token that begins a text";
        return Err(Error::Request(message.into()));
    }
    Ok(ids)
}

/// What the cache of a slot holds, and whether a sequence uses it.
#[derive(Debug, Default)]
struct SlotState {
    busy: bool,
    ids: Vec<u32>,
}

#[derive(Debug)]
struct Inner {
    engine: Mutex<Engine>,
    slots: Mutex<Vec<SlotState>>,
    folder: PathBuf,
    tokenizer: Option<Arc<Tokenizer>>,
    generation: GenerationConfig,
    end_tokens: Vec<u32>,
    cache: Cache,
    gpu: Gpu,
    load_time: Duration,
}

/// A language model on a device. Cheap to clone; clones share all, and may be used from
/// several threads.
#[derive(Debug, Clone)]
pub struct TextModel(Arc<Inner>);

impl TextModel {
    /// Settings of loading.
    pub fn builder() -> ModelBuilder {
        ModelBuilder::default()
    }

    /// Loads a model with default settings.
    ///
    /// # Errors
    /// Those of [`ModelBuilder::load`].
    pub fn load(model: &str) -> Result<Self> {
        Self::builder().load(model)
    }

    /// Generates a text as an iterator of pieces.
    ///
    /// # Errors
    /// [`Error::Request`] for bad options or an empty prompt, [`Error::ContextOverflow`].
    pub fn generate(&self, prompt: impl Into<Prompt>, options: &GenerateOptions) -> Result<TextStream> {
        TextStream::new(self, &prompt.into(), options)
    }

    /// Generates a text and calls back for each piece.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate), or what the device says.
    pub fn generate_with(
        &self,
        prompt: impl Into<Prompt>,
        options: &GenerateOptions,
        mut callback: impl FnMut(&Piece),
    ) -> Result<Generation> {
        let mut stream = self.generate(prompt, options)?;
        for piece in &mut stream {
            callback(&piece?);
        }
        Ok(stream.into_generation())
    }

    /// Generates several texts in one batch; there must be a slot for each.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate), or what the device says.
    pub fn generate_batch(&self, prompts: &[Prompt], options: &GenerateOptions) -> Result<Vec<Generation>> {
        let mut batch = Batch::new(self);
        for prompt in prompts {
            batch.add(prompt, options)?;
        }
        while !batch.is_finished() {
            batch.step()?;
        }
        Ok(batch.into_generations())
    }

    /// Renders a conversation with the model's chat template, ready to be answered; `fallback`
    /// says what to do for a model without one.
    ///
    /// # Errors
    /// [`Error::File`] for a broken template, or what the template raises.
    pub fn render_chat(&self, messages: &[ChatMessage], fallback: Fallback) -> Result<Prompt> {
        let chat = ChatTemplate::load(&self.0.folder, fallback)?;
        let (bos, eos) = self.tokenizer().map_or(("", ""), |known| (known.bos_token(), known.eos_token()));
        chat.render(messages, true, bos, eos).map(Prompt::Text)
    }

    /// The ids of a prompt.
    ///
    /// # Errors
    /// [`Error::Request`] when there is not a single token, or text is given to a model without
    /// tokenizer.
    pub fn prompt_ids(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let _span = self.gpu().span("tokenize");
        prompt_ids(self.tokenizer(), prompt)
    }

    /// Sampling settings that the model's authors recommend (generation_config.json).
    pub fn default_sampling(&self) -> SamplingSettings {
        self.0.generation.sampling()
    }

    /// Most tokens of a text that the model's authors recommend (generation_config.json).
    pub fn default_max_tokens(&self) -> Option<usize> {
        self.0.generation.max_tokens()
    }

    /// All that the model's authors recommend: sampling, most tokens, stop strings.
    pub fn default_options(&self) -> GenerateOptions {
        self.0.generation.options()
    }

    /// The tokenizer, where the model has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.0.tokenizer.as_deref()
    }

    /// Tokens that end a text.
    pub fn end_tokens(&self) -> &[u32] {
        &self.0.end_tokens
    }

    /// Tokens of prompt and text together.
    pub fn context(&self) -> usize {
        self.0.cache.context
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.0.load_time
    }

    /// The engine below, for token-level work. Steps of others wait meanwhile.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        self.0.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tokenizer to share.
    pub(super) fn shared_tokenizer(&self) -> Option<Arc<Tokenizer>> {
        self.0.tokenizer.clone()
    }

    fn slot_states(&self) -> MutexGuard<'_, Vec<SlotState>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the free slot whose cache begins with most of `ids`.
    pub(super) fn take_slot(&self, ids: &[u32]) -> Result<SlotGuard> {
        let mut states = self.slot_states();
        let common = |state: &SlotState| state.ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let free = (0..states.len()).filter(|&index| !states[index].busy);
        let Some(index) = free.max_by_key(|&index| (common(&states[index]), std::cmp::Reverse(index))) else {
            let slots = states.len();
            return Err(Error::Request(format!(
                "all {slots} slots are in use; the builder's `slots` makes more"
            )));
        };
        states[index].busy = true;
        let common = common(&states[index]);
        Ok(SlotGuard { model: self.clone(), index, common })
    }
}

/// A slot in use; given back when dropped.
#[derive(Debug)]
pub(super) struct SlotGuard {
    model: TextModel,
    index: usize,
    common: usize,
}

impl SlotGuard {
    /// Its index.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Leading tokens that its cache held when it was taken.
    pub(super) fn common(&self) -> usize {
        self.common
    }

    /// Notes the tokens that its cache holds now.
    pub(super) fn cached(&self, ids: &[u32]) {
        let mut states = self.model.slot_states();
        let known = &mut states[self.index].ids;
        // Mostly one token more than last time.
        if known.len() < ids.len() && ids.starts_with(known) {
            known.extend_from_slice(&ids[known.len()..]);
        } else {
            ids.clone_into(known);
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.model.slot_states()[self.index].busy = false;
    }
}
