//! `config.json` of text decoders: published files of every family, both forms, and files that must fail.

mod common;

use std::path::{Path, PathBuf};

use wginfer::models::config::{Activation, DecoderConfig, Family, LayerKind, NormKind, Positions};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn load(name: &str) -> DecoderConfig {
    DecoderConfig::from_file(&golden(name)).unwrap()
}

fn parse(text: &str) -> wginfer::Result<DecoderConfig> {
    DecoderConfig::from_bytes(Path::new("config.json"), text.as_bytes())
}

#[test]
fn both_published_forms_read_equal() {
    for family in ["llama3", "gemma3", "phi3", "phi3_longrope"] {
        let classic = load(&format!("{family}/config.json"));
        assert_eq!(classic, load(&format!("{family}/config_v5.json")), "{family}");
    }
}

#[test]
fn families_read_as_published() {
    let llama = load("llama3/config.json");
    assert_eq!((llama.family, llama.heads, llama.kv_heads, llama.head_dim), (Family::Llama, 6, 2, 16));
    assert_eq!((llama.attention_scale, llama.tied_head), (0.25, true));
    assert_eq!((llama.bos_id, llama.eos_ids), (Some(1), vec![2, 3]));
    let biased = load("llama_bias/config.json");
    assert!(biased.qkv_bias && biased.out_bias && biased.mlp_bias);
    let qwen = load("qwen2/config.json");
    assert!(qwen.qkv_bias && !qwen.out_bias && qwen.windows == [None, None]);
    assert_eq!(load("qwen2_window/config.json").windows, [None, Some(8)]);
    assert!(load("qwen3/config.json").qk_norm);
    assert_eq!(load("mistral/config.json").windows, [Some(8), Some(8)]);
    let gemma = load("gemma2/config.json");
    assert_eq!((gemma.norm.offset, gemma.embedding_scale, gemma.tied_head), (1.0, 6.0, true));
    assert_eq!((gemma.attention_softcap, gemma.final_softcap), (Some(2.0), Some(3.0)));
    assert_eq!(gemma.windows, [Some(8), None, Some(8), None]);
    assert_eq!((gemma.activation, gemma.attention_scale), (Activation::GeluTanh, 1.0 / 5f32.sqrt()));
    let gemma = load("gemma3/config.json");
    assert_eq!(gemma.windows, [Some(8), Some(8), None, Some(8)]);
    assert_eq!(gemma.layer_kinds[2..], [LayerKind::Full, LayerKind::Sliding]);
    assert!(gemma.qk_norm && gemma.post_norms && gemma.attention_softcap.is_none());
    let phi = load("phi3/config.json");
    assert_eq!((phi.rotary_dim(), phi.windows), (6, vec![Some(16); 2]));
    assert_eq!(load("phi3_longrope/config.json").windows, [None, None]);
    let gpt = load("gpt2/config.json");
    assert_eq!((gpt.hidden, gpt.intermediate, gpt.norm.kind), (40, 88, NormKind::Layer));
    assert!(gpt.positions == Positions::Learned && !gpt.gated && gpt.mlp_bias && gpt.tied_head);
    let neox = load("gpt_neox/config.json");
    assert_eq!((neox.rotary_dim(), neox.parallel_residual, neox.activation), (4, true, Activation::Gelu));
    assert!(!load("gpt_neox_serial/config.json").parallel_residual);
}

/// Values of `ROPE_INIT_FUNCTIONS` in transformers 5.23 for the same files.
#[test]
fn inverse_frequencies_equal_the_published_code() {
    let half = LayerKind::Full;
    let llama = [1.0, 0.2374897, 0.03118546, 0.01215616, 0.00559017, 0.002570714, 0.001182177, 0.0005436398];
    let short = [1.0, 0.3226851, 0.1007937, 0.02981424, 0.009070862, 0.00281727];
    let long = [1.0, 0.2366358, 0.05039684, 0.01118034, 0.002645668, 0.0006260599];
    let full = [0.25, 0.07043172, 0.01984251, 0.00559017, 0.001574901, 0.0004436921];
    let sliding = [1.0, 0.5210007, 0.2714418, 0.1414214, 0.07368063, 0.03838766];
    let table: [(&str, LayerKind, u32, &[f64], f64); 8] = [
        ("llama3", half, 37, &llama, 1.0),
        ("llama_linear", half, 37, &[0.25, 0.05286856, 0.01118034, 0.002364354], 1.0),
        ("phi3_longrope", half, 32, &short, 1.18321596),
        ("phi3_longrope", half, 33, &long, 1.18321596),
        ("gemma3", half, 37, &full, 1.0),
        ("gemma3", LayerKind::Sliding, 37, &sliding, 1.0),
        ("gpt_neox", half, 37, &[1.0, 0.04472136], 1.0),
        ("phi3", LayerKind::Sliding, 37, &[1.0, 0.1259921, 0.01587401], 1.0),
    ];
    for (name, kind, length, want, want_factor) in table {
        let (got, factor) = load(&format!("{name}/config.json")).inverse_frequencies(kind, length);
        assert_eq!(got.len(), want.len(), "{name}");
        assert!((factor - want_factor).abs() < 1e-8, "{name}: {factor}");
        for (got, want) in got.iter().zip(want) {
            assert!((got / want - 1.0).abs() < 1e-6, "{name}: {got} {want}");
        }
    }
}

#[test]
fn real_configs_in_shared() {
    let Some(shared) = common::shared() else { return };
    let stories = DecoderConfig::load(&shared.join("models/stories260k")).unwrap();
    assert_eq!((stories.hidden, stories.kv_heads, stories.tied_head), (64, 4, true));
    let gpt = DecoderConfig::load(&shared.join("models/gpt2_capp")).unwrap();
    assert_eq!((gpt.bos_id, gpt.eos_ids, gpt.intermediate), (None, vec![51], 256));
}

/// Gemma 3 files of larger models leave out what equals the defaults.
#[test]
fn gemma3_with_text_config_and_defaults() {
    let config = parse(
        r#"{"model_type": "gemma3", "eos_token_id": [1, 106], "text_config": {"model_type": "gemma3_text",
            "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024,
            "torch_dtype": "bfloat16", "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}}"#,
    );
    let config = config.unwrap();
    assert_eq!((config.vocab_size, config.heads, config.kv_heads, config.head_dim), (262_208, 8, 4, 256));
    assert_eq!((config.eos_ids.as_slice(), config.embedding_scale), ([1, 106].as_slice(), 50.5));
    assert_eq!(config.windows.iter().filter(|window| window.is_none()).count(), 5);
}

const LLAMA: &str = r#""model_type": "llama", "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 32, "max_position_embeddings": 64"#;

#[test]
fn bad_configs_give_errors_that_name_the_key() {
    assert!(parse(&format!("{{{LLAMA}}}")).is_ok());
    let table = [
        (r#""vocab_size": 0"#, "vocab_size"),
        (r#""vocab_size": 1e300"#, "vocab_size"),
        (r#""vocab_size": -5"#, "vocab_size"),
        (r#""vocab_size": null"#, "vocab_size"),
        (r#""hidden_size": "16""#, "hidden_size"),
        (r#""hidden_size": 4294967296"#, "hidden_size"),
        (r#""hidden_size": 18"#, "multiple of 4 heads, got 18"),
        (r#""num_hidden_layers": 1001"#, "num_hidden_layers"),
        (r#""num_attention_heads": 0"#, "num_attention_heads"),
        (r#""num_key_value_heads": 3"#, "a divisor of 4 heads, got 3"),
        (r#""num_key_value_heads": 8"#, "num_key_value_heads"),
        (r#""max_position_embeddings": 0"#, "max_position_embeddings"),
        (r#""intermediate_size": []"#, "a list of 0"),
        (r#""head_dim": 5"#, "even number"),
        (r#""head_dim": 99999"#, "head_dim"),
        (r#""rms_norm_eps": 0"#, "rms_norm_eps"),
        (r#""rms_norm_eps": "tiny""#, "rms_norm_eps"),
        (r#""hidden_act": "tanhshrink""#, "hidden_act"),
        (r#""attention_bias": "no""#, "attention_bias"),
        (r#""rope_theta": -1"#, "rope_theta"),
        (r#""rope_scaling": []"#, "rope_scaling"),
        (r#""rope_scaling": {"type": 5}"#, "rope_scaling.type"),
        (r#""rope_scaling": {"type": "linear"}"#, "rope_scaling.factor"),
        (r#""rope_scaling": {"type": "linear", "factor": 0}"#, "rope_scaling.factor"),
        (r#""rope_scaling": {"type": "yarn", "factor": 4}"#, "type `yarn`; supported"),
        (r#""rope_scaling": {"rope_type": "llama3", "factor": 8}"#, "low_freq_factor"),
        (
            r#""rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}"#,
            "high_freq_factor",
        ),
        (
            r#""rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1], "long_factor": [1, 1]}"#,
            "a list of 2 numbers above 0, got a list of 3",
        ),
        (
            r#""rope_scaling": {"type": "longrope", "short_factor": [1, 1], "long_factor": [1, 0]}"#,
            "long_factor",
        ),
        (
            r#""rope_scaling": {"type": "longrope", "short_factor": [1, 1], "long_factor": [1, 1],
                "original_max_position_embeddings": 1}"#,
            "original_max_position_embeddings",
        ),
        (r#""partial_rotary_factor": 1.5"#, "partial_rotary_factor"),
        (r#""rope_parameters": {"rope_type": "proportional"}"#, "`proportional`"),
        (r#""model_type": "mamba""#, "model_type `mamba`; supported are llama, mistral"),
        (r#""model_type": null, "architectures": ["T5Model"]"#, "architecture `T5Model`"),
        (r#""model_type": null"#, "without `model_type`"),
        (r#""model_type": "gemma2", "layer_types": ["full_attention"]"#, "layer_types"),
        (r#""model_type": "gemma2", "layer_types": ["full_attention", "chunked"]"#, "layer_types"),
        (r#""model_type": "gemma2", "use_bidirectional_attention": true"#, "use_bidirectional_attention"),
        (r#""model_type": "mistral", "sliding_window": 0"#, "sliding_window"),
        (r#""eos_token_id": "2""#, "eos_token_id"),
        (r#""bos_token_id": 1.5"#, "bos_token_id"),
        (r#""text_config": 5"#, "text_config"),
    ];
    for (change, word) in table {
        let text = format!("{{{LLAMA}, {change}}}");
        let error = parse(&text).map(|config| format!("{config:?}")).unwrap_err().to_string();
        assert!(error.starts_with("config.json: ") || error.contains(": config.json: "), "{change}: {error}");
        assert!(error.contains(word), "{change}: {error}");
    }
    for text in ["", "[]", "{", "nul", "{\"model_type\": \"llama\"}", "{\"a\": 1e999}"] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(parse(&"{\"a\":".repeat(100_000)).is_err());
}

#[test]
fn ids_outside_the_vocabulary_are_ignored() {
    let config =
        parse(&format!("{{{LLAMA}, \"bos_token_id\": 32, \"eos_token_id\": [31, 32, -1]}}")).unwrap();
    assert_eq!((config.bos_id, config.eos_ids), (None, vec![31]));
}

#[test]
fn oversized_and_missing_files() {
    let folder = tempfile::tempdir().unwrap();
    let error = DecoderConfig::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json: no such file"), "{error}");
    let file = std::fs::File::create(folder.path().join("config.json")).unwrap();
    file.set_len(100 << 20).unwrap();
    let error = DecoderConfig::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("at most 16777216 bytes"), "{error}");
}
