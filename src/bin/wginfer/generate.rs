//! `wginfer generate`: a prompt in, its continuation out as it comes.

use crate::args::{GenerateArgs, GlobalFlags};
use crate::failure::{Failure, INTERRUPTED};
use crate::interrupt::Interrupt;
use crate::profile::Profiling;
use crate::terminal::{self, note};
use crate::{model, terminal::bytes};
use serde::Serialize;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use wginfer::CancelToken;
use wginfer::gpu::Gpu;
use wginfer::text::{FinishReason, GenerateOptions, Generation, Prompt, SamplingSettings, TextModel};
use wginfer::text::{OnnxTextModel, OnnxTextOptions};

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    adapter: String,
    prompt_ids: &'a [u32],
    ids: &'a [u32],
    text: &'a str,
    finish_reason: FinishReason,
    /// Whether half precision gave logits that are no numbers.
    in_f32: bool,
    seed: u64,
    sampling: SamplingSettings,
    context: usize,
    #[serde(flatten)]
    statistics: Statistics,
}

/// Times and sizes of one generation.
#[derive(Serialize)]
struct Statistics {
    /// Opening the device and loading the model.
    load_s: f64,
    /// From the start of the prompt to the first token.
    first_token_s: f64,
    /// From the start of the process to the first token.
    start_to_first_token_s: f64,
    prompt_tokens: usize,
    prompt_tokens_per_s: f64,
    generated_tokens: usize,
    decode_tokens_per_s: f64,
    gpu_bytes: u64,
    dispatches_per_token: usize,
}

impl std::fmt::Display for Statistics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { load_s, first_token_s, prompt_tokens, generated_tokens, .. } = self;
        write!(f, "loaded in {load_s:.2} s; first token after {first_token_s:.2} s; ")?;
        write!(f, "prompt {prompt_tokens} tokens, {:.1} tokens/s; ", self.prompt_tokens_per_s)?;
        write!(f, "text {generated_tokens} tokens, {:.1} tokens/s; ", self.decode_tokens_per_s)?;
        write!(f, "{} on the GPU", bytes(self.gpu_bytes))
    }
}

/// Runs the command.
pub(crate) fn run(
    args: &GenerateArgs,
    global: &GlobalFlags,
    started: Instant,
    profiling: &mut Profiling,
) -> Result<ExitCode, Failure> {
    let by_flag = args.prompt_ids.is_some().then_some("--prompt-ids");
    let (name, text) = model::split_words(&args.model_and_prompt, by_flag, "the prompt")?;
    let seed = random_seed();
    check_sampling(&args.sampling.over(SamplingSettings::default(), seed))?;
    let prompt = match (&args.prompt_ids, text) {
        (Some(ids), _) => Prompt::Ids(ids.clone()),
        (None, text) => Prompt::Text(prompt_text(text.unwrap_or_default())?),
    };
    let path = model::find(name.as_deref(), global)?;
    let interrupt = Interrupt::install()?;
    let loading = Instant::now();
    let gpu = model::open_recorded(global, args.model.checked, args.json, profiling)?;
    let (mut model, path) = Model::load(path, &gpu, (args, &prompt), global)?;
    let load_s = loading.elapsed().as_secs_f64();
    let options = options_over(args, model.default_options(), seed, interrupt.working());
    let (generation, first_token) = model.stream(&prompt, &options, !args.json)?;
    let timing = &generation.timing;
    let statistics = Statistics {
        load_s,
        first_token_s: timing.prompt.as_secs_f64(),
        start_to_first_token_s: (first_token - started).as_secs_f64(),
        prompt_tokens: timing.prompt_tokens,
        prompt_tokens_per_s: timing.prompt_speed(),
        generated_tokens: generation.ids.len(),
        decode_tokens_per_s: timing.decode_speed(),
        gpu_bytes: gpu.allocated_bytes(),
        dispatches_per_token: model.dispatches_per_token(),
    };
    if args.json {
        terminal::write_json(&Report {
            model: path.display().to_string(),
            adapter: gpu.adapter().to_string(),
            prompt_ids: &generation.prompt_ids,
            ids: &generation.ids,
            text: &generation.text,
            finish_reason: generation.finish_reason,
            in_f32: generation.in_f32,
            seed: options.sampling.seed,
            sampling: options.sampling,
            context: model.context(),
            statistics,
        })?;
    } else {
        end_text(&generation, model.has_tokenizer())?;
        if !global.quiet {
            note(&statistics.to_string());
        }
    }
    let cancelled = generation.finish_reason == FinishReason::Cancelled;
    Ok(if cancelled { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The flags over what the model recommends.
fn options_over(
    args: &GenerateArgs,
    defaults: GenerateOptions,
    seed: u64,
    cancel: CancelToken,
) -> GenerateOptions {
    GenerateOptions {
        sampling: args.sampling.over(defaults.sampling, seed),
        max_tokens: args.max_tokens.unwrap_or(defaults.max_tokens),
        stop: [defaults.stop.as_slice(), &args.stop].concat(),
        cancel,
        ..defaults
    }
}

/// A language model in one of the formats.
enum Model {
    Text(Box<TextModel>),
    Onnx(Box<OnnxTextModel>),
}

impl Model {
    /// Loads a model and says where it is.
    fn load(
        path: PathBuf,
        gpu: &Gpu,
        (args, prompt): (&GenerateArgs, &Prompt),
        global: &GlobalFlags,
    ) -> Result<(Self, PathBuf), Failure> {
        let Some(file) = model::onnx_file(&path) else {
            let folder = model::folder_of(path)?;
            return Ok((
                Self::Text(Box::new(model::load(&folder, gpu, &args.model, Some(prompt), global)?)),
                folder,
            ));
        };
        if args.model.dtype.is_some() {
            let message = format!("--dtype: {} is computed in the types that it says", file.display());
            return Err(Failure::Usage(message));
        }
        let options = OnnxTextOptions { context: args.model.ctx, memory_budget: args.model.memory_budget };
        Ok((Self::Onnx(Box::new(OnnxTextModel::load(&file, gpu, &options)?)), file))
    }

    fn default_options(&self) -> GenerateOptions {
        match self {
            Self::Text(model) => model.default_options(),
            Self::Onnx(model) => model.default_options(),
        }
    }

    fn context(&self) -> usize {
        match self {
            Self::Text(model) => model.context(),
            Self::Onnx(model) => model.context(),
        }
    }

    fn dispatches_per_token(&self) -> usize {
        match self {
            Self::Text(model) => model.engine().dispatches_per_token(),
            Self::Onnx(model) => model.dispatches_per_token(),
        }
    }

    fn has_tokenizer(&self) -> bool {
        match self {
            Self::Text(model) => model.tokenizer().is_some(),
            Self::Onnx(model) => model.tokenizer().is_some(),
        }
    }

    /// Generates, showing pieces as they come; also says when the first token was there.
    fn stream(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        show: bool,
    ) -> Result<(Generation, Instant), Failure> {
        let model = match self {
            Self::Text(model) => {
                say_settings(&options.sampling, model);
                return stream(model, prompt, options, show);
            }
            Self::Onnx(model) => model,
        };
        log::info!("{:?}, context {} tokens", options.sampling, model.context());
        let (mut first_token, mut shown) = (None, Ok(()));
        let generation = model.generate_with(prompt.clone(), options, |piece| {
            first_token.get_or_insert_with(Instant::now);
            if show && !piece.text.is_empty() {
                shown = terminal::write(&piece.text);
            }
            if shown.is_err() { Err(wginfer::Error::Cancelled) } else { Ok(()) }
        });
        shown?;
        Ok((generation?, first_token.unwrap_or_else(Instant::now)))
    }
}

/// The prompt as given, or standard input for `-`.
fn prompt_text(given: String) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given);
    }
    let mut text = terminal::read_text("-")?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// Refuses settings out of range before a model is loaded for them.
pub(crate) fn check_sampling(settings: &SamplingSettings) -> Result<(), Failure> {
    settings.validate().map_err(|error| Failure::Usage(error.to_string()))
}

/// A seed that JSON readers keep exactly, from the randomness that the standard library's maps get.
pub(crate) fn random_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

/// With -v: what the generation works with.
pub(crate) fn say_settings(settings: &SamplingSettings, model: &TextModel) {
    log::info!("{settings:?}");
    log::info!(
        "context {} tokens, {} dispatches per token, {} shader pipelines",
        model.context(),
        model.engine().dispatches_per_token(),
        model.gpu().counts().pipelines
    );
}

/// Generates, showing pieces as they come; also says when the first token was there.
fn stream(
    model: &TextModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    show: bool,
) -> Result<(Generation, Instant), Failure> {
    let mut stream = model.generate(prompt.clone(), options)?;
    let mut first_token = None;
    for piece in &mut stream {
        let piece = piece?;
        first_token.get_or_insert_with(Instant::now);
        if show && !piece.text.is_empty() {
            terminal::write(&piece.text)?;
        }
    }
    Ok((stream.into_generation(), first_token.unwrap_or_else(Instant::now)))
}

/// Ends the line of text; a model without tokenizer gives its ids.
fn end_text(generation: &Generation, has_tokenizer: bool) -> Result<(), Failure> {
    if has_tokenizer {
        return terminal::write(if generation.text.ends_with('\n') { "" } else { "\n" });
    }
    let ids: Vec<String> = generation.ids.iter().map(u32::to_string).collect();
    terminal::write(&format!("{}\n", ids.join(",")))
}
