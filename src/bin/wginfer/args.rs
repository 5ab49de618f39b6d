//! The commands and flags.

use crate::bench::BenchArgs;
use crate::check::CheckArgs;
use crate::classify::ClassifyArgs;
use crate::conformance::ConformanceArgs;
use crate::convert::ConvertArgs;
use crate::detect::DetectArgs;
use crate::graph::GraphArgs;
use crate::network::{PreprocessFlags, parse_architecture};
use crate::profile::ProfileFlags;
use crate::run::RunArgs;
use crate::tune::TuneArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use wginfer::gpu::GpuOptions;
use wginfer::kernel::Form;
use wginfer::tensor::DType;
use wginfer::text::{Fallback, SamplingSettings};
use wginfer::vision::Architecture;

/// Neural-network inference on any GPU that Vulkan, Metal or DirectX 12 reaches.
#[derive(Debug, Parser)]
#[command(name = "wginfer", version, propagate_version = true, after_help = TOP_EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: GlobalFlags,
}

const TOP_EXAMPLES: &str = "\
Examples:
  wginfer generate \"Once upon a time\"
  wginfer generate ./my-model \"The capital of France is\" --max-tokens 20 --temperature 0
  wginfer chat ./my-model
  wginfer classify ./mobilenet_v2 parrot.jpg
  wginfer doctor";

/// Flags of all commands.
#[derive(Debug, Args)]
pub(crate) struct GlobalFlags {
    /// Index of the adapter, or part of its name (see `wginfer adapters`)
    #[arg(long, global = true, env = "WGINFER_ADAPTER", hide_env_values = true, value_name = "INDEX|NAME")]
    pub(crate) adapter: Option<String>,
    /// Say more: -v shows what is done, -vv details. RUST_LOG sets levels by module instead
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Nothing on standard error but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Use kernels without comparing them with their references when an adapter first needs them
    /// (WGINFER_SELF_CHECK=off does so too)
    #[arg(long, global = true)]
    pub(crate) no_self_check: bool,
    /// Leave alone which kernels `wginfer tune` measured as fastest (WGINFER_TUNING=off does so too)
    #[arg(long, global = true)]
    pub(crate) no_tuning: bool,
}

impl GlobalFlags {
    /// How the adapter is opened.
    pub(crate) fn gpu_options(&self, checked: bool) -> GpuOptions {
        let (trusted, untuned) = (self.no_self_check, self.no_tuning);
        GpuOptions { adapter: self.adapter.clone(), checked, trusted, untuned }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a text
    Generate(GenerateArgs),
    /// Talk with a model
    Chat(ChatArgs),
    /// Measure how well a model predicts a text: log-likelihood and perplexity
    Score(ScoreArgs),
    /// Say what photos show: their most probable classes
    Classify(ClassifyArgs),
    /// Find objects in a photo and draw boxes around them
    Detect(DetectArgs),
    /// Run an ONNX model, or a converted one, on arrays, and compare or profile it
    Run(RunArgs),
    /// Convert an ONNX model for some input shapes to files that load without importing it
    Convert(ConvertArgs),
    /// Say what of an ONNX model cannot run, or not on the GPU, and the memory it needs
    Check(CheckArgs),
    /// Print the graph of an ONNX model
    Graph(GraphArgs),
    /// Run backend cases of ONNX operators
    Conformance(ConformanceArgs),
    /// Show what a model is and the memory it needs, without loading it
    Info(InfoArgs),
    /// List the adapters, best first
    Adapters(AdaptersArgs),
    /// Check every kernel on this adapter against its reference
    Doctor(DoctorArgs),
    /// Measure the speed of models and kernels
    Bench(BenchArgs),
    /// Measure which kernels are fastest for a model on this adapter, and use them from now on
    Tune(TuneArgs),
}

/// What MODEL may be, at the end of help texts.
const MODEL_HELP: &str = "\
MODEL is a folder in the Hugging Face layout (config.json, model.safetensors, tokenizer.json),
or ORG/NAME[@REVISION] in the local hub cache. Left out, it is WGINFER_MODEL, or else the
bundled model of fairy tales.";

/// How a model is loaded.
#[derive(Debug, Args)]
pub(crate) struct ModelFlags {
    /// Dtype of the matrices on the GPU [default: that of the files]
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DTypeName>,
    /// Context: tokens of prompt and text together [default: the model's own, at most 4096]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) ctx: Option<usize>,
    /// Run shaders with all run-time checks on (slower)
    #[arg(long)]
    pub(crate) checked: bool,
    /// Most bytes to use on the GPU, for example 512M or 4G [default: physical memory where the
    /// GPU shares it]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) memory_budget: Option<u64>,
}

/// How tokens are chosen; what is left out comes from the model's generation_config.json.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling (left out: as the model's generation_config.json says)")]
pub(crate) struct SamplingFlags {
    /// Randomness: 0 always takes the most probable token
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    temperature: Option<f32>,
    /// Draw only from this many of the most probable tokens; 0 is off
    #[arg(long, value_name = "COUNT")]
    top_k: Option<u32>,
    /// Draw only from the most probable tokens that together reach this probability
    #[arg(long, allow_negative_numbers = true, value_name = "0..1")]
    top_p: Option<f32>,
    /// Draw only from tokens at least this fraction as probable as the most probable one
    #[arg(long, allow_negative_numbers = true, value_name = "0..1")]
    min_p: Option<f32>,
    /// Make tokens of prompt and text less probable; 1 is off
    #[arg(long, alias = "repetition-penalty", allow_negative_numbers = true, value_name = "NUMBER")]
    repeat_penalty: Option<f32>,
    /// Lower a token's logit by this each time it was generated
    #[arg(long, allow_negative_numbers = true, value_name = "-2..2")]
    frequency_penalty: Option<f32>,
    /// Lower a token's logit by this if it was generated
    #[arg(long, allow_negative_numbers = true, value_name = "-2..2")]
    presence_penalty: Option<f32>,
    /// Same seed, same text on one device [default: random]
    #[arg(long)]
    seed: Option<u64>,
}

impl SamplingFlags {
    /// These flags over what the model recommends.
    pub(crate) fn over(&self, model: SamplingSettings, random_seed: u64) -> SamplingSettings {
        SamplingSettings {
            temperature: self.temperature.unwrap_or(model.temperature),
            top_k: self.top_k.unwrap_or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            min_p: self.min_p.unwrap_or(model.min_p),
            repetition_penalty: self.repeat_penalty.unwrap_or(model.repetition_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(model.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(model.presence_penalty),
            seed: self.seed.unwrap_or(random_seed),
        }
    }
}

#[derive(Debug, Args)]
#[command(override_usage = "wginfer generate [OPTIONS] [MODEL] PROMPT")]
#[command(after_help = format!("{GENERATE_EXAMPLES}\n\n{MODEL_HELP}"))]
pub(crate) struct GenerateArgs {
    /// The prompt, with the model before it if it is not the bundled one; the prompt `-` is read
    /// from standard input (one newline at its end is left out)
    #[arg(value_name = "MODEL PROMPT", num_args = 0..=2)]
    pub(crate) model_and_prompt: Vec<String>,
    /// Token ids in place of the prompt's text
    #[arg(long, value_name = "ID,ID,...", value_delimiter = ',', value_parser = parse_id)]
    pub(crate) prompt_ids: Option<Vec<u32>>,
    /// Most tokens to generate [default: as the model's generation_config.json says, else 256]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) max_tokens: Option<usize>,
    /// Text that ends the output, not part of it (may be given several times)
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Print one JSON object at the end in place of the text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    #[command(flatten)]
    pub(crate) sampling: SamplingFlags,
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,
}

const GENERATE_EXAMPLES: &str = "\
Examples:
  wginfer generate \"Once upon a time\"
  wginfer generate ./my-model \"def fibonacci(n):\" --temperature 0 --stop \"\\n\\n\"
  echo \"Dear Sir,\" | wginfer generate ./my-model - --seed 7 --json
  wginfer generate ./my-model --prompt-ids 1,9,14
  wginfer generate \"Once upon a time\" --profile trace.json --top
  wginfer generate ./my-model/model.onnx --prompt-ids 1,9,14

A decoder in the ONNX format (past_key_values.* in, present.* out) is a .onnx file, or a folder with
model.onnx and no model.safetensors.";

#[derive(Debug, Args)]
#[command(after_help = format!("{CHAT_EXAMPLES}\n\n{MODEL_HELP}"))]
pub(crate) struct ChatArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    pub(crate) model_name: Option<String>,
    /// First message, with instructions for the model
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// What to do for a model without chat template
    #[arg(long, value_enum, default_value_t = FallbackName::Refuse)]
    pub(crate) fallback: FallbackName,
    /// Most tokens of one answer [default: as the model's generation_config.json says, else 1024]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    pub(crate) max_tokens: Option<usize>,
    /// Text that ends an answer, not part of it (may be given several times)
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    #[command(flatten)]
    pub(crate) sampling: SamplingFlags,
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,
}

const CHAT_EXAMPLES: &str = "\
Type a message and Enter. /reset forgets the conversation; /exit or Ctrl-D ends; Ctrl-C stops an
answer.

Examples:
  wginfer chat ./my-model --system \"You answer in one sentence.\"
  wginfer chat ./base-model --fallback plain";

#[derive(Debug, Args)]
#[command(override_usage = "wginfer score [OPTIONS] [MODEL] FILE")]
#[command(after_help = format!("{SCORE_EXAMPLES}\n\n{MODEL_HELP}"))]
pub(crate) struct ScoreArgs {
    /// The text's file (`-` is standard input), with the model before it if it is not the
    /// bundled one
    #[arg(value_name = "MODEL FILE", num_args = 0..=2)]
    pub(crate) model_and_file: Vec<String>,
    /// Token ids in place of a file
    #[arg(long, value_name = "ID,ID,...", value_delimiter = ',', value_parser = parse_id)]
    pub(crate) prompt_ids: Option<Vec<u32>>,
    /// Tokens from one window to the next, for a text longer than the context [default: half the
    /// context]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) stride: Option<usize>,
    /// Show the negative log-likelihood of each token
    #[arg(long)]
    pub(crate) tokens: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,
}

const SCORE_EXAMPLES: &str = "\
Examples:
  wginfer score ./my-model book.txt
  wginfer score ./my-model book.txt --ctx 512 --stride 256 --json";

#[derive(Debug, Args)]
#[command(after_help = format!("{MODEL_HELP}\nA network for images needs model.safetensors only."))]
pub(crate) struct InfoArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    pub(crate) model_name: Option<String>,
    /// Dtype of the matrices on the GPU [default: that of the files]
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DTypeName>,
    /// Context to plan for: tokens of prompt and text together
    #[arg(long, value_name = "TOKENS")]
    pub(crate) ctx: Option<usize>,
    /// Sequences at a time to plan for
    #[arg(long, default_value_t = 1, value_parser = parse_slots)]
    pub(crate) slots: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) network: NetworkInfoFlags,
}

/// How a network for images would be read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Networks for images")]
pub(crate) struct NetworkInfoFlags {
    /// Architecture, where config.json does not say and the tensors fit several
    #[arg(long, value_name = "NAME", value_parser = parse_architecture)]
    pub(crate) arch: Option<Architecture>,
    /// File of labels, one a line, or a JSON file with id2label [default: the model's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Photos that are computed together, to plan for
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = parse_count)]
    pub(crate) batch: usize,
    #[command(flatten)]
    pub(crate) preprocess: PreprocessFlags,
}

#[derive(Debug, Args)]
pub(crate) struct AdaptersArgs {
    /// Print a JSON list
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Form of kernels to check (may be given several times) [default: the adapter's own]
    #[arg(long, value_enum)]
    pub(crate) form: Vec<FormName>,
    /// Check only operators whose name contains this
    #[arg(long, value_name = "OP")]
    pub(crate) only: Option<String>,
    /// Run shaders with all run-time checks on (slower)
    #[arg(long)]
    pub(crate) checked: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  wginfer doctor
  wginfer doctor --form subgroup --form plain --only attention";

/// Dtypes of matrices on the GPU.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DTypeName {
    F32,
    F16,
    Bf16,
}

impl From<DTypeName> for DType {
    fn from(name: DTypeName) -> Self {
        match name {
            DTypeName::F32 => Self::F32,
            DTypeName::F16 => Self::F16,
            DTypeName::Bf16 => Self::BF16,
        }
    }
}

/// Forms of kernels.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FormName {
    /// For software adapters: no barriers, no workgroup memory
    Software,
    /// For GPUs with subgroup operations
    Subgroup,
    /// For GPUs without them
    Plain,
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Software => Self::Software,
            FormName::Subgroup => Self::Subgroup,
            FormName::Plain => Self::Plain,
        }
    }
}

/// What stands in for a missing chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FallbackName {
    /// Say so and end
    Refuse,
    /// Lines of `User:` and `Assistant:`, for base models
    Plain,
    /// ChatML: <|im_start|>role ... <|im_end|>
    Chatml,
}

impl From<FallbackName> for Fallback {
    fn from(name: FallbackName) -> Self {
        match name {
            FallbackName::Refuse => Self::Refuse,
            FallbackName::Plain => Self::Plain,
            FallbackName::Chatml => Self::ChatMl,
        }
    }
}

fn parse_id(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("expected token ids such as 1,9,14, got `{text}`"))
}

pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|&count| count > 0)
        .ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

fn parse_slots(text: &str) -> Result<usize, String> {
    let slots = text.parse().ok().filter(|slots| (1..=32).contains(slots));
    slots.ok_or_else(|| "expected a whole number from 1 to 32".to_owned())
}

/// Reads a number of bytes, with K, M, G or T for powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let expected = || "expected bytes, for example 800000000, 512M or 1.5G".to_owned();
    let upper = text.trim().to_ascii_uppercase();
    let upper = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let found = units.iter().find_map(|(unit, power)| Some((upper.strip_suffix(unit)?, *power)));
    let (number, power) = found.unwrap_or((upper, 0));
    let number: f64 = number.trim().parse().map_err(|_| expected())?;
    let bytes = number * 2_f64.powi(power);
    // Below 2^63 so that the conversion is exact in range.
    if (1.0..9.2e18).contains(&bytes) { Ok(bytes as u64) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        let good = [
            ("1", 1),
            ("512M", 512 << 20),
            ("1.5G", 3 << 29),
            ("2gib", 2 << 30),
            ("1T", 1 << 40),
            ("7kB", 7168),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "0", "G", "1X", "nan", "inf", "1e40"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
