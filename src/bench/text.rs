//! The speed of a language model: prompts, decoding, the first token.

use super::{Measurement, ModelShape, RandomWeights, Report, Spread, Surroundings, timed};
use crate::cancel::CancelToken;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::models::decoder::Decoder;
use crate::nn::Cache;
use crate::ops::SampleRow;
use crate::session::default_budget;
use crate::tensor::DType;
use crate::text::engine::{DecodeRow, EngineOptions};
use crate::text::{Engine, ModelBuilder};
use crate::{Error, Result};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Lengths of the measured prompts, and numbers of tokens before the measured steps of decoding.
const LENGTHS: [usize; 3] = [16, 128, 512];

/// Measured steps of decoding in one run.
const STEPS: usize = 32;

/// What is measured of a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRuns {
    /// How often each length is measured.
    pub runs: usize,
    /// The only length of prompts and contexts; 16, 128 and 512 where there is none.
    pub length: Option<usize>,
}
/// Most rows of a piece of a prompt.
const PROMPT_ROWS: usize = 512;

/// Speed of processing a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PromptSpeed {
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Tokens per second, the first sampled token included in the time.
    pub speed: Spread,
    /// Tokens per second of processor time, where the system tells.
    pub per_processor_second: Option<f64>,
}

/// Speed of decoding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DecodeSpeed {
    /// Tokens before the first measured one.
    pub context: usize,
    /// Tokens per second.
    pub speed: Spread,
    /// Tokens per second of processor time, where the system tells.
    pub per_processor_second: Option<f64>,
    /// Weights read, in GB/s at the median speed.
    pub weights_read: f64,
    /// That, as a part of the copy bandwidth of the same run.
    pub part_of_copy: f64,
    /// That, as a part of the bandwidth of reading in a shader in the same run.
    pub part_of_read: f64,
}

/// What was measured of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextReport {
    /// The model.
    pub model: String,
    /// Where it ran.
    pub surroundings: Surroundings,
    /// Seconds to load it, from an open device on.
    pub load_seconds: f64,
    /// Seconds from the start of the process, as the caller gave it, to the first token after the
    /// shortest of the prompts: with the compilation of its shaders.
    pub first_token_seconds: f64,
    /// Prompts.
    pub prompt: Vec<PromptSpeed>,
    /// Decoding.
    pub decode: Vec<DecodeSpeed>,
    /// What follows the shortest prompt most probably, then what is decoded from token 1 on in
    /// that place: to compare with other programs on the same weights.
    pub tokens: Vec<u32>,
    /// Dispatches of a decoded token.
    pub dispatches_per_token: usize,
    /// Submits of a decoded token.
    pub submits_per_token: f64,
    /// Distinct shaders of all runs.
    pub pipelines: u64,
    /// Bytes of all buffers on the device.
    pub gpu_bytes: u64,
    /// Bytes of weights that a decoded token reads.
    pub weight_bytes_per_token: u64,
}

/// Measures a model folder or repository. `started` is when the process began.
///
/// # Errors
/// Those of loading, [`Error::Request`] for a context that no length fits into, or what the device
/// says.
pub fn measure_model(
    builder: ModelBuilder,
    model: &str,
    runs: TextRuns,
    started: Instant,
) -> Result<TextReport> {
    let loading = Instant::now();
    let loaded = builder.load(model)?;
    let load_time = loading.elapsed();
    measure(&mut loaded.engine(), model.to_owned(), runs, started, load_time)
}

/// Measures a shape with random weights in `dtype`. `started` is when the process began.
///
/// # Errors
/// [`Error::Budget`], or what the device says.
pub fn measure_shape(
    gpu: &Gpu,
    shape: ModelShape,
    dtype: DType,
    runs: TextRuns,
    started: Instant,
) -> Result<TextReport> {
    let loading = Instant::now();
    let cache = Cache { slots: 1, context: shape.context as usize };
    let decoder = Decoder::new(shape.config()?, "model", cache);
    let options =
        EngineOptions { prompt_rows: PROMPT_ROWS, first_prompt: 0, memory_budget: default_budget(gpu) };
    let graphs = Engine::first_graphs(&decoder, &dtype, options.prompt_rows)?;
    let mut engine = Engine::new(gpu, decoder, graphs, &RandomWeights, options, &mut |_, _| {})?;
    let name = format!("{} {} (random weights)", shape.name, dtype.name());
    measure(&mut engine, name, runs, started, loading.elapsed())
}

/// The graphs of a shape in `dtype`: decoding one token, and pieces of a prompt of every size.
///
/// # Errors
/// When the sizes do not fit each other.
pub fn shape_graphs(shape: ModelShape, dtype: DType) -> Result<Vec<Graph>> {
    let cache = Cache { slots: 1, context: shape.context as usize };
    Engine::all_graphs(&Decoder::new(shape.config()?, "model", cache), &dtype, PROMPT_ROWS)
}

fn measure(
    engine: &mut Engine,
    model: String,
    TextRuns { runs, length }: TextRuns,
    started: Instant,
    load_time: Duration,
) -> Result<TextReport> {
    let lengths = lengths(engine.context(), length)?;
    let first = prompt(engine, lengths[0])?;
    let first_token_seconds = started.elapsed().as_secs_f64();
    let surroundings = Surroundings::measure(engine.gpu(), runs)?;
    let prompts = lengths.iter().map(|&tokens| measure_prompt(engine, tokens, runs));
    let prompts = prompts.collect::<Result<_>>()?;
    let decodes = lengths.iter().map(|&context| measure_decode(engine, context, runs, &surroundings));
    let decodes = decodes.collect::<Result<_>>()?;
    let submits = engine.gpu().counts().submits;
    let decoded = decode(engine, lengths[0], STEPS)?;
    let submits_per_token = (engine.gpu().counts().submits - submits) as f64 / decoded.len() as f64;
    Ok(TextReport {
        model,
        surroundings,
        load_seconds: load_time.as_secs_f64(),
        first_token_seconds,
        prompt: prompts,
        decode: decodes,
        tokens: std::iter::once(first).chain(decoded).collect(),
        dispatches_per_token: engine.dispatches_per_token(),
        submits_per_token,
        pipelines: engine.gpu().counts().pipelines,
        gpu_bytes: engine.gpu().allocated_bytes(),
        weight_bytes_per_token: engine.weight_bytes_per_token(),
    })
}

/// The measured lengths that leave room for a token in a context.
fn lengths(context: usize, only: Option<usize>) -> Result<Vec<usize>> {
    let wanted = only.map_or(LENGTHS.to_vec(), |length| vec![length]);
    let least = wanted[0] + 1;
    if least > context {
        return Err(Error::Request(format!("measuring takes a context of at least {least}, got {context}")));
    }
    Ok(wanted.into_iter().filter(|&length| length < context).collect())
}

fn measure_prompt(engine: &mut Engine, tokens: usize, runs: usize) -> Result<PromptSpeed> {
    prompt(engine, tokens)?;
    let mut clock = SpeedClock::default();
    for _ in 0..runs {
        clock.time(|| prompt(engine, tokens).map(|_| tokens))?;
    }
    Ok(PromptSpeed { tokens, speed: clock.speed(), per_processor_second: clock.per_processor_second() })
}

fn measure_decode(
    engine: &mut Engine,
    context: usize,
    runs: usize,
    surroundings: &Surroundings,
) -> Result<DecodeSpeed> {
    prompt(engine, context)?;
    decode(engine, context, 2)?;
    let mut clock = SpeedClock::default();
    for _ in 0..runs {
        clock.time(|| decode(engine, context, STEPS).map(|tokens| tokens.len()))?;
    }
    let speed = clock.speed();
    let weights_read = speed.median * engine.weight_bytes_per_token() as f64 / 1e9;
    Ok(DecodeSpeed {
        context,
        speed,
        per_processor_second: clock.per_processor_second(),
        weights_read,
        part_of_copy: weights_read / surroundings.bandwidth.copy.median,
        part_of_read: weights_read / surroundings.bandwidth.read.median,
    })
}

/// Processes a prompt of made-up tokens in slot 0 and returns the one that follows.
fn prompt(engine: &mut Engine, tokens: usize) -> Result<u32> {
    let vocab = engine.config().vocab_size;
    let ids: Vec<u32> = (0..tokens).map(|index| (index as u32).wrapping_mul(7919) % vocab).collect();
    engine.prompt(0, &ids, 0, SampleRow::GREEDY, &CancelToken::new())
}

/// Decodes up to `steps` tokens from token 1 on after `context` others in slot 0.
fn decode(engine: &mut Engine, context: usize, steps: usize) -> Result<Vec<u32>> {
    let steps = steps.min(engine.context() - context);
    let mut tokens = Vec::with_capacity(steps);
    for step in 0..steps {
        let token = tokens.last().copied().unwrap_or(1);
        let sampling = SampleRow { step: u32::try_from(step).unwrap_or(u32::MAX), ..SampleRow::GREEDY };
        let row = DecodeRow { slot: 0, token, position: context + step, sampling };
        tokens.push(engine.decode(&[row], step + 1 < steps, &CancelToken::new())?[0]);
    }
    Ok(tokens)
}

/// Collects the speeds of repeated runs.
#[derive(Debug, Default)]
struct SpeedClock {
    speeds: Vec<f64>,
    tokens: usize,
    processor: Option<Duration>,
}

impl SpeedClock {
    fn time(&mut self, body: impl FnOnce() -> Result<usize>) -> Result<()> {
        let (tokens, wall, processor) = timed(body)?;
        self.speeds.push(tokens as f64 / wall.as_secs_f64());
        self.tokens += tokens;
        self.processor = processor.map(|time| time + self.processor.unwrap_or_default());
        Ok(())
    }

    fn speed(&self) -> Spread {
        Spread::of(&self.speeds)
    }

    fn per_processor_second(&self) -> Option<f64> {
        let seconds = self.processor?.as_secs_f64();
        (seconds > 0.0).then(|| self.tokens as f64 / seconds)
    }
}

impl Report for TextReport {
    const WHAT: &'static str = "text";

    fn adapter(&self) -> &str {
        &self.surroundings.adapter
    }

    fn measurements(&self) -> Vec<Measurement> {
        let speed =
            |what: String, speed| Measurement::rate(format!("{}: {what}", self.model), "tokens/s", speed);
        let once = |what: &str, seconds: f64| {
            Measurement::time(format!("{}: {what}", self.model), "s", Spread::of(&[seconds]))
        };
        let mut rows = vec![once("load", self.load_seconds), once("first token", self.first_token_seconds)];
        rows.extend(self.prompt.iter().map(|row| speed(format!("prompt {}", row.tokens), row.speed)));
        rows.extend(self.decode.iter().map(|row| speed(format!("decode at {}", row.context), row.speed)));
        rows
    }
}

impl std::fmt::Display for TextReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "model             {}", self.model)?;
        write!(f, "{}", self.surroundings)?;
        writeln!(f, "load              {:.2} s", self.load_seconds)?;
        writeln!(f, "first token       {:.2} s from the start of the process", self.first_token_seconds)?;
        writeln!(f, "GPU memory        {:.1} MB", self.gpu_bytes as f64 / 1e6)?;
        let megabytes = self.weight_bytes_per_token as f64 / 1e6;
        let (dispatches, submits) = (self.dispatches_per_token, self.submits_per_token);
        writeln!(
            f,
            "a decoded token   {dispatches} dispatches, {submits} submits, {megabytes:.1} MB of weights"
        )?;
        writeln!(f, "shaders           {}", self.pipelines)?;
        writeln!(f, "{:18}{:24}{:>13}  weights read", "", "tokens/s", "per CPU s")?;
        let per_processor = |speed: Option<f64>| speed.map_or("-".to_owned(), |speed| format!("{speed:.1}"));
        let mut row = |what: String, speed: Spread, processor: Option<f64>, rest: String| {
            writeln!(f, "{what:18}{:24}{:>13}  {rest}", speed.to_string(), per_processor(processor))
        };
        for prompt in &self.prompt {
            let what = format!("prompt {}", prompt.tokens);
            row(what, prompt.speed, prompt.per_processor_second, String::new())?;
        }
        for decode in &self.decode {
            let (gigabytes, copy, read) =
                (decode.weights_read, 100.0 * decode.part_of_copy, 100.0 * decode.part_of_read);
            let rest = format!("{gigabytes:.2} GB/s, {copy:.0}% of copy, {read:.0}% of read");
            row(format!("decode at {}", decode.context), decode.speed, decode.per_processor_second, rest)?;
        }
        Ok(())
    }
}
