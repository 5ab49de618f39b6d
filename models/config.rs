//! The published `config.json` of text decoders, read into one plain [`DecoderConfig`].
//! Both the classic form (`rope_theta`, `rope_scaling`) and the newest one (`rope_parameters`) are read.
//! Knows nothing of weights, graphs or devices.

mod families;
mod rope;

use std::path::Path;

use crate::error::{Error, Result};
use crate::json::{self, Fields};

pub use crate::nn::{Norm, NormKind};

pub use rope::{LayerKind, Rope, RopeParameters, RopeScaling};

/// Architecture family of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Llama 1 to 3 and everything published under the same keys.
    Llama,
    /// Mistral: Llama with a sliding window on every layer.
    Mistral,
    /// Qwen 2 and 2.5: biases on the query, key and value projections.
    Qwen2,
    /// Qwen 3: query and key heads are normalised.
    Qwen3,
    /// Gemma 2: four norms per layer, soft caps, alternating windows.
    Gemma2,
    /// Gemma 3, text part: query and key norms, two rotary bases.
    Gemma3,
    /// Phi 3 and 4 mini: fused projections, longrope.
    Phi3,
    /// GPT-2: learned positions, layer norms.
    Gpt2,
    /// GPT-NeoX and Pythia: parallel residual, partial rotary.
    GptNeox,
}

impl Family {
    /// `model_type` and the class in `architectures` of each family, as published.
    const NAMES: [(&str, &str, Self); 10] = [
        ("llama", "LlamaForCausalLM", Self::Llama),
        ("mistral", "MistralForCausalLM", Self::Mistral),
        ("qwen2", "Qwen2ForCausalLM", Self::Qwen2),
        ("qwen3", "Qwen3ForCausalLM", Self::Qwen3),
        ("gemma2", "Gemma2ForCausalLM", Self::Gemma2),
        ("gemma3_text", "Gemma3ForCausalLM", Self::Gemma3),
        ("gemma3", "Gemma3ForConditionalGeneration", Self::Gemma3),
        ("phi3", "Phi3ForCausalLM", Self::Phi3),
        ("gpt2", "GPT2LMHeadModel", Self::Gpt2),
        ("gpt_neox", "GPTNeoXForCausalLM", Self::GptNeox),
    ];

    /// The `model_type` names that can be read.
    pub fn supported() -> Vec<&'static str> {
        Self::NAMES.iter().map(|(name, _, _)| *name).collect()
    }

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, _, family)| *family == self);
        found.map_or("unknown", |(name, _, _)| name)
    }

    /// Finds the family by `model_type`, or by `architectures` where that is absent.
    fn detect(fields: &Fields<'_>) -> Result<Self> {
        let model_type = fields.string("model_type")?;
        let architectures = fields.strings("architectures")?.unwrap_or_default();
        let found = Self::NAMES.iter().find(|(name, class, _)| match model_type {
            Some(model_type) => model_type == *name,
            None => architectures.contains(class),
        });
        found.map(|(_, _, family)| *family).ok_or_else(|| {
            let got = match (model_type, architectures.first()) {
                (Some(name), _) => format!("model_type `{name}`"),
                (None, Some(class)) => format!("architecture `{class}`"),
                (None, None) => "a config without `model_type` and `architectures`".to_owned(),
            };
            let supported = Self::supported().join(", ");
            Error::Unsupported(format!("{}: {got}; supported are {supported}", fields.path().display()))
        })
    }
}

/// Activation function of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
    /// GELU with the error function.
    Gelu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// Name that the kernels use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_tanh",
            Self::Gelu => "gelu",
            Self::Relu => "relu",
        }
    }

    /// Reads the published name under `key`; absent means `default`.
    fn read(fields: &Fields<'_>, key: &str, default: Self) -> Result<Self> {
        match fields.string(key)? {
            None => Ok(default),
            Some("silu" | "swish") => Ok(Self::Silu),
            Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_python_tanh") => Ok(Self::GeluTanh),
            Some("gelu" | "gelu_python") => Ok(Self::Gelu),
            Some("relu") => Ok(Self::Relu),
            Some(other) => {
                let expected = "one of silu, swish, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu";
                Err(fields.error(key, expected, format!("{other:?}")))
            }
        }
    }
}

/// How a token's position enters the model.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A learned table `[context, hidden]` is added to the embeddings.
    Learned,
    /// Query and key heads are rotated, element i with element i + rotary_dim / 2.
    Rope(Rope),
}

/// Everything that shapes a text decoder, independent of the family's key names.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Family: decides the names and the fusing of weights, and the order of norms.
    pub family: Family,
    /// Rows of the embedding and of the head.
    pub vocab_size: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Number of layers.
    pub layers: u32,
    /// Query heads per layer.
    pub heads: u32,
    /// Key and value heads per layer; divides `heads`.
    pub kv_heads: u32,
    /// Elements of one head; heads * head_dim may differ from `hidden`.
    pub head_dim: u32,
    /// Width of the feed-forward part.
    pub intermediate: u32,
    /// Positions that the model was made for (`max_position_embeddings`).
    pub context: u32,
    /// The norms.
    pub norm: Norm,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// The feed-forward part is down(act(gate(x)) * up(x)); else down(act(up(x))).
    pub gated: bool,
    /// Query, key and value projections have biases.
    pub qkv_bias: bool,
    /// The projection after attention has a bias.
    pub out_bias: bool,
    /// Feed-forward projections have biases.
    pub mlp_bias: bool,
    /// Each query and key head is normalised before the rotation.
    pub qk_norm: bool,
    /// Norms after attention and after the feed-forward part, before their residual addition.
    pub post_norms: bool,
    /// Attention and feed-forward part read the same residual input and are added together.
    pub parallel_residual: bool,
    /// Positions.
    pub positions: Positions,
    /// Per layer, how many positions a token sees, itself included; `None` sees all.
    pub windows: Vec<Option<u32>>,
    /// Per layer, which rotary parameters apply.
    pub layer_kinds: Vec<LayerKind>,
    /// Factor of the attention scores.
    pub attention_scale: f32,
    /// Scores become cap * tanh(score / cap) before masking.
    pub attention_softcap: Option<f32>,
    /// Logits become cap * tanh(logit / cap).
    pub final_softcap: Option<f32>,
    /// Factor of the embeddings, rounded to the dtype of the published weights as transformers does.
    pub embedding_scale: f32,
    /// The head is the embedding.
    pub tied_head: bool,
    /// Factor of the logits.
    pub logit_scale: f32,
    /// Id of the token that begins a sequence, where the config names one within the vocabulary.
    pub bos_id: Option<u32>,
    /// Ids of the tokens that end a sequence, those within the vocabulary.
    pub eos_ids: Vec<u32>,
}

impl DecoderConfig {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// A missing or broken file, a key with a wrong type or out of range ([`Error::File`] naming the key), and
    /// a family, rotary scaling or option that is not supported ([`Error::Unsupported`]).
    pub fn load(folder: &Path) -> Result<Self> {
        Self::from_file(&folder.join("config.json"))
    }

    /// Reads a config file of any name. Errors as in [`DecoderConfig::load`].
    pub fn from_file(path: &Path) -> Result<Self> {
        let map = json::read_object(path)?.ok_or_else(|| Error::file(path, "no such file"))?;
        Self::from_fields(&Fields::new(path, &map))
    }

    /// Reads the text of a config; `path` is named in errors. Errors as in [`DecoderConfig::load`].
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let map = json::parse_object(path, bytes)?;
        Self::from_fields(&Fields::new(path, &map))
    }

    fn from_fields(outer: &Fields<'_>) -> Result<Self> {
        let family = Family::detect(outer)?;
        let inner = outer.object("text_config")?;
        let fields = inner.as_ref().unwrap_or(outer);
        let mut config = families::read(family, fields)?;
        if inner.is_some() && config.eos_ids.is_empty() {
            config.eos_ids = families::end_ids(outer, config.vocab_size)?;
        }
        Ok(config)
    }

    /// Rotary inverse frequencies `[rotary_dim / 2]` of a kind of layer for a sequence of `length` tokens, and the
    /// factor of cosine and sine. Empty with learned positions. See [`RopeScaling`] for the formulas.
    pub fn inverse_frequencies(&self, kind: LayerKind, length: u32) -> (Vec<f64>, f64) {
        match &self.positions {
            Positions::Learned => (Vec::new(), 1.0),
            Positions::Rope(rope) => rope.inverse_frequencies(kind, length),
        }
    }

    /// Elements of each head that are rotated; 0 with learned positions.
    pub fn rotary_dim(&self) -> u32 {
        match &self.positions {
            Positions::Learned => 0,
            Positions::Rope(rope) => rope.rotary_dim,
        }
    }
}
