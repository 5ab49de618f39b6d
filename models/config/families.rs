//! The keys and defaults of each family. Defaults are those of the family's configuration class in
//! huggingface/transformers (version 5), which published files rely on where they leave a key out.

use half::{bf16, f16};

use super::rope::{self, RopeKeys};
use super::{Activation, DecoderConfig, Family, LayerKind, Norm, NormKind, Positions, Rope};
use crate::error::{Error, Result};
use crate::json::{self, Fields};

/// Largest context that is believed.
pub(super) const MAX_CONTEXT: u32 = 1 << 28;
const MAX_VOCABULARY: u32 = 1 << 24;
const MAX_WIDTH: u32 = 1 << 20;
const MAX_LAYERS: u32 = 1000;
const MAX_HEADS: u32 = 4096;
const MAX_HEAD_DIM: u32 = 4096;

/// The key names of the sizes.
struct SizeKeys {
    hidden: &'static str,
    layers: &'static str,
    heads: &'static str,
    context: &'static str,
    intermediate: &'static str,
}

const CLASSIC: SizeKeys = SizeKeys {
    hidden: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    context: "max_position_embeddings",
    intermediate: "intermediate_size",
};

const GPT2: SizeKeys = SizeKeys {
    hidden: "n_embd",
    layers: "n_layer",
    heads: "n_head",
    context: "n_positions",
    intermediate: "n_inner",
};

/// Sizes of which Gemma 3 files may leave out any: vocabulary, heads, key/value heads, head size, context.
#[derive(Default)]
struct SizeDefaults {
    vocab_size: Option<u32>,
    heads: Option<u32>,
    kv_heads: Option<u32>,
    head_dim: Option<u32>,
    context: Option<u32>,
}

/// Reads the sizes and fills the rest with what a plain gated decoder (Llama) has.
fn read_sizes(
    family: Family,
    fields: &Fields<'_>,
    keys: &SizeKeys,
    defaults: &SizeDefaults,
) -> Result<DecoderConfig> {
    let size = |key: &str, max: u32, default: Option<u32>| match fields.size(key, 1..=max)? {
        Some(value) => Ok(value),
        None => default.map_or_else(|| fields.required_size(key, 1..=max), Ok),
    };
    let vocab_size = size("vocab_size", MAX_VOCABULARY, defaults.vocab_size)?;
    let hidden = size(keys.hidden, MAX_WIDTH, None)?;
    let layers = size(keys.layers, MAX_LAYERS, None)?;
    let heads = size(keys.heads, MAX_HEADS, defaults.heads)?;
    let context = size(keys.context, MAX_CONTEXT, defaults.context)?;
    let default = (keys.intermediate == GPT2.intermediate).then_some(hidden * 4);
    let intermediate = size(keys.intermediate, MAX_VOCABULARY, default)?;
    let kv_heads = fields.size("num_key_value_heads", 1..=MAX_HEADS)?.or(defaults.kv_heads).unwrap_or(heads);
    if kv_heads > heads || !heads.is_multiple_of(kv_heads) {
        return Err(fields.error("num_key_value_heads", &format!("a divisor of {heads} heads"), kv_heads));
    }
    let head_dim = match fields.size("head_dim", 1..=MAX_HEAD_DIM)?.or(defaults.head_dim) {
        Some(head_dim) => head_dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(fields.error(keys.hidden, &format!("a multiple of {heads} heads"), hidden)),
    };
    Ok(DecoderConfig {
        family,
        vocab_size,
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate,
        context,
        norm: Norm { kind: NormKind::Rms, eps: 1e-6, offset: 0.0 },
        activation: Activation::Silu,
        gated: true,
        qkv_bias: false,
        out_bias: false,
        mlp_bias: false,
        qk_norm: false,
        post_norms: false,
        parallel_residual: false,
        positions: Positions::Learned,
        windows: vec![None; layers as usize],
        layer_kinds: vec![LayerKind::Full; layers as usize],
        attention_scale: (1.0 / f64::from(head_dim).sqrt()) as f32,
        attention_softcap: None,
        final_softcap: None,
        embedding_scale: 1.0,
        tied_head: fields.boolean("tie_word_embeddings")?.unwrap_or(false),
        logit_scale: 1.0,
        bos_id: begin_id(fields, vocab_size)?,
        eos_ids: end_ids(fields, vocab_size)?,
    })
}

/// Reads `bos_token_id`; one outside the vocabulary is logged and ignored.
fn begin_id(fields: &Fields<'_>, vocab_size: u32) -> Result<Option<u32>> {
    let ids = fields.token_ids("bos_token_id")?;
    Ok(json::ids_in_vocabulary(fields.path(), "bos_token_id", ids, vocab_size).first().copied())
}

/// Reads `eos_token_id`, one or a list; those outside the vocabulary are logged and ignored.
pub(super) fn end_ids(fields: &Fields<'_>, vocab_size: u32) -> Result<Vec<u32>> {
    let ids = fields.token_ids("eos_token_id")?;
    Ok(json::ids_in_vocabulary(fields.path(), "eos_token_id", ids, vocab_size))
}

/// Reads the config of a family.
pub(super) fn read(family: Family, fields: &Fields<'_>) -> Result<DecoderConfig> {
    let config = match family {
        Family::Llama => read_llama(fields)?,
        Family::Mistral => read_mistral(fields)?,
        Family::Qwen2 | Family::Qwen3 => read_qwen(family, fields)?,
        Family::Gemma2 | Family::Gemma3 => read_gemma(family, fields)?,
        Family::Phi3 => read_phi3(fields)?,
        Family::Gpt2 => read_gpt2(fields)?,
        Family::GptNeox => read_gpt_neox(fields)?,
    };
    Ok(config)
}

/// Reads what the Llama-like families share: sizes, root mean square norm, activation and rotation.
fn read_rotary_decoder(
    family: Family,
    fields: &Fields<'_>,
    defaults: &SizeDefaults,
    keys: &RopeKeys,
) -> Result<DecoderConfig> {
    let mut config = read_sizes(family, fields, &CLASSIC, defaults)?;
    config.norm.eps = epsilon(fields, "rms_norm_eps", 1e-6)?;
    config.activation = Activation::read(fields, "hidden_act", Activation::Silu)?;
    config.positions = Positions::Rope(rope::read(fields, keys, config.head_dim, config.context)?);
    Ok(config)
}

fn epsilon(fields: &Fields<'_>, key: &str, default: f64) -> Result<f32> {
    Ok(fields.positive(key)?.unwrap_or(default) as f32)
}

fn read_llama(fields: &Fields<'_>) -> Result<DecoderConfig> {
    let mut config =
        read_rotary_decoder(Family::Llama, fields, &SizeDefaults::default(), &RopeKeys::default())?;
    config.qkv_bias = fields.boolean("attention_bias")?.unwrap_or(false);
    config.out_bias = config.qkv_bias;
    config.mlp_bias = fields.boolean("mlp_bias")?.unwrap_or(false);
    Ok(config)
}

fn read_mistral(fields: &Fields<'_>) -> Result<DecoderConfig> {
    let mut config =
        read_rotary_decoder(Family::Mistral, fields, &SizeDefaults::default(), &RopeKeys::default())?;
    let window = read_window(fields, Some(4096))?;
    set_windows(&mut config, window, |_| true);
    Ok(config)
}

fn read_qwen(family: Family, fields: &Fields<'_>) -> Result<DecoderConfig> {
    let head_dim = (family == Family::Qwen3).then_some(128);
    let defaults = SizeDefaults { head_dim, ..SizeDefaults::default() };
    let mut config = read_rotary_decoder(family, fields, &defaults, &RopeKeys::default())?;
    if family == Family::Qwen2 {
        config.qkv_bias = true;
    } else {
        config.qk_norm = true;
        config.qkv_bias = fields.boolean("attention_bias")?.unwrap_or(false);
        config.out_bias = config.qkv_bias;
    }
    let first = fields.size("max_window_layers", 0..=u32::MAX)?.unwrap_or(28) as usize;
    let window = match fields.boolean("use_sliding_window")? {
        Some(true) => read_window(fields, Some(4096))?,
        _ => None,
    };
    let types = layer_types(fields, config.layers)?;
    set_windows(&mut config, window, |layer| types.as_ref().map_or(layer >= first, |types| types[layer]));
    Ok(config)
}

fn read_gemma(family: Family, fields: &Fields<'_>) -> Result<DecoderConfig> {
    if fields.boolean("use_bidirectional_attention")? == Some(true) {
        return Err(unsupported(fields, "`use_bidirectional_attention`: true"));
    }
    let is_third = family == Family::Gemma3;
    let third = |value: u32| is_third.then_some(value);
    let defaults = SizeDefaults {
        vocab_size: third(262_208),
        heads: third(8),
        kv_heads: Some(4),
        head_dim: Some(256),
        context: third(131_072),
    };
    let mut config = read_sizes(family, fields, &CLASSIC, &defaults)?;
    config.norm = Norm { kind: NormKind::Rms, eps: epsilon(fields, "rms_norm_eps", 1e-6)?, offset: 1.0 };
    config.activation = Activation::read(fields, "hidden_activation", Activation::GeluTanh)?;
    config.qkv_bias = fields.boolean("attention_bias")?.unwrap_or(false);
    config.out_bias = config.qkv_bias;
    config.post_norms = true;
    config.qk_norm = is_third;
    config.tied_head = fields.boolean("tie_word_embeddings")?.unwrap_or(true);
    config.embedding_scale = rounded_root(fields, config.hidden)?;
    let scalar = fields.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    config.attention_scale = (1.0 / scalar.sqrt()) as f32;
    config.attention_softcap = softcap(fields, "attn_logit_softcapping", (!is_third).then_some(50.0))?;
    config.final_softcap = softcap(fields, "final_logit_softcapping", (!is_third).then_some(30.0))?;
    config.positions = Positions::Rope(if is_third {
        rope::read_by_layer_kind(fields, config.head_dim, config.context)?
    } else {
        rope::read(fields, &RopeKeys::default(), config.head_dim, config.context)?
    });
    let pattern = if is_third { gemma3_pattern(fields)? } else { 2 };
    let window = read_window(fields, Some(4096))?;
    let types = layer_types(fields, config.layers)?;
    set_windows(&mut config, window, |layer| {
        types.as_ref().map_or((layer + 1) % pattern != 0, |types| types[layer])
    });
    Ok(config)
}

/// Every how many layers of Gemma 3 one is full.
fn gemma3_pattern(fields: &Fields<'_>) -> Result<usize> {
    for key in ["sliding_window_pattern", "_sliding_window_pattern"] {
        if let Some(pattern) = fields.size(key, 1..=MAX_LAYERS)? {
            return Ok(pattern as usize);
        }
    }
    Ok(6)
}

fn read_phi3(fields: &Fields<'_>) -> Result<DecoderConfig> {
    let keys = RopeKeys { default_original: Some(4096), yarn_is_longrope: true, ..RopeKeys::default() };
    let mut config = read_rotary_decoder(Family::Phi3, fields, &SizeDefaults::default(), &keys)?;
    config.norm.eps = epsilon(fields, "rms_norm_eps", 1e-5)?;
    let window = read_window(fields, None)?;
    set_windows(&mut config, window, |_| true);
    Ok(config)
}

fn read_gpt2(fields: &Fields<'_>) -> Result<DecoderConfig> {
    for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        if fields.boolean(key)? == Some(true) {
            return Err(unsupported(fields, &format!("`{key}`: true")));
        }
    }
    let mut config = read_sizes(Family::Gpt2, fields, &GPT2, &SizeDefaults::default())?;
    config.norm =
        Norm { kind: NormKind::Layer, eps: epsilon(fields, "layer_norm_epsilon", 1e-5)?, offset: 0.0 };
    config.activation = Activation::read(fields, "activation_function", Activation::GeluTanh)?;
    config.gated = false;
    (config.qkv_bias, config.out_bias, config.mlp_bias) = (true, true, true);
    config.tied_head = fields.boolean("tie_word_embeddings")?.unwrap_or(true);
    if fields.boolean("scale_attn_weights")? == Some(false) {
        config.attention_scale = 1.0;
    }
    Ok(config)
}

fn read_gpt_neox(fields: &Fields<'_>) -> Result<DecoderConfig> {
    let keys = RopeKeys {
        theta: "rotary_emb_base",
        partial: "rotary_pct",
        default_partial: 0.25,
        ..RopeKeys::default()
    };
    let mut config = read_sizes(Family::GptNeox, fields, &CLASSIC, &SizeDefaults::default())?;
    config.norm = Norm { kind: NormKind::Layer, eps: epsilon(fields, "layer_norm_eps", 1e-5)?, offset: 0.0 };
    config.activation = Activation::read(fields, "hidden_act", Activation::Gelu)?;
    config.gated = false;
    config.qkv_bias = fields.boolean("attention_bias")?.unwrap_or(true);
    config.out_bias = config.qkv_bias;
    config.mlp_bias = true;
    config.parallel_residual = fields.boolean("use_parallel_residual")?.unwrap_or(true);
    config.positions = Positions::Rope(rope::read(fields, &keys, config.head_dim, config.context)?);
    Ok(config)
}

fn unsupported(fields: &Fields<'_>, what: &str) -> Error {
    Error::Unsupported(format!("{}: {what}", fields.path().display()))
}

/// Reads `sliding_window`: null is none, absent is the family's default.
fn read_window(fields: &Fields<'_>, default: Option<u32>) -> Result<Option<u32>> {
    let key = "sliding_window";
    if fields.has(key) { fields.size(key, 1..=u32::MAX) } else { Ok(default) }
}

/// Reads a soft cap: null is none, absent is the family's default.
fn softcap(fields: &Fields<'_>, key: &str, default: Option<f32>) -> Result<Option<f32>> {
    if fields.has(key) { Ok(fields.positive(key)?.map(|cap| cap as f32)) } else { Ok(default) }
}

/// Reads `layer_types`: per layer, whether it slides.
fn layer_types(fields: &Fields<'_>, layers: u32) -> Result<Option<Vec<bool>>> {
    let key = "layer_types";
    let Some(types) = fields.strings(key)? else { return Ok(None) };
    let expected = format!("a list of {layers} names, full_attention or sliding_attention");
    if types.len() as u64 != u64::from(layers) {
        return Err(fields.error(key, &expected, format!("a list of {}", types.len())));
    }
    let slides = |name: &&str| match *name {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        other => Err(fields.error(key, &expected, format!("{other:?}"))),
    };
    types.iter().map(slides).collect::<Result<_>>().map(Some)
}

/// Sets kinds and windows of the layers. A window of at least the context changes nothing and is left out.
fn set_windows(config: &mut DecoderConfig, window: Option<u32>, slides: impl Fn(usize) -> bool) {
    let window = window.filter(|window| *window < config.context);
    let own_rotation = matches!(&config.positions, Positions::Rope(Rope { sliding: Some(_), .. }));
    for layer in 0..config.layers as usize {
        if slides(layer) {
            config.windows[layer] = window;
            if window.is_some() || own_rotation {
                config.layer_kinds[layer] = LayerKind::Sliding;
            }
        }
    }
}

/// The square root of the hidden size as transformers multiplies it: in the dtype of the published weights.
fn rounded_root(fields: &Fields<'_>, hidden: u32) -> Result<f32> {
    let dtype = match fields.string("dtype")? {
        Some(dtype) => Some(dtype),
        None => fields.string("torch_dtype")?,
    };
    let root = f64::from(hidden).sqrt();
    Ok(match dtype {
        Some("bfloat16") => bf16::from_f64(root).to_f32(),
        Some("float16") => f16::from_f64(root).to_f32(),
        _ => root as f32,
    })
}
