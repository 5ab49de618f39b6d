//! Every model family against small random-weight models of the `transformers` library
//! (tests/goldens): logits of all positions, greedy tokens, and that each special rule matters.
#![cfg(feature = "text")]

mod common;

use std::path::PathBuf;
use wginfer::cancel::CancelToken;
use wginfer::checkpoint::Checkpoint;
use wginfer::gpu::Gpu;
use wginfer::kernel::Form;
use wginfer::models::config::{Activation, DecoderConfig, Family, Positions, Rope, RopeScaling};
use wginfer::models::decoder::{Decoder, find_root};
use wginfer::nn::Cache;
use wginfer::ops::SampleRow;
use wginfer::tensor::Tensor;
use wginfer::text::engine::{DecodeRow, Engine, EngineOptions};
use wginfer::weights::{FileWeights, MemoryWeights, Weights};

const FAMILIES: [&str; 15] = [
    "llama2",
    "llama3",
    "llama_bias",
    "llama_linear",
    "mistral",
    "qwen2",
    "qwen2_window",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi3",
    "phi3_longrope",
    "gpt2",
    "gpt_neox",
    "gpt_neox_serial",
];

/// Largest difference from the golden logits, relative to the position's largest |logit|.
const TOLERANCE: f64 = 1e-4;

struct Golden {
    folder: PathBuf,
    ids: Vec<u32>,
    vocab: usize,
    logits: Vec<f64>,
    greedy: Vec<u32>,
    hidden: Vec<Vec<f64>>,
}

fn golden(family: &str, file: &str) -> Golden {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(family);
    let tensors = FileWeights::open(&folder.join(file)).unwrap();
    let values = |name: &str| tensors.get(name).unwrap().to_tensor().to_f64();
    let ids = |name: &str| values(name).into_iter().map(|id| id as u32).collect();
    let vocab = tensors.spec("logits").unwrap().shape.dims()[1];
    let layers = tensors
        .names()
        .iter()
        .filter(|name| name.starts_with("hidden.") && !name.ends_with("normed"))
        .count();
    let hidden = (0..layers).map(|layer| values(&format!("hidden.{layer}"))).collect();
    Golden {
        ids: ids("input_ids"),
        vocab,
        logits: values("logits"),
        greedy: ids("greedy_ids"),
        hidden,
        folder,
    }
}

/// `checked`: every tensor must be used and in shape.
fn engine(gpu: &Gpu, config: DecoderConfig, weights: &dyn Weights, cache: Cache, checked: bool) -> Engine {
    let root = find_root(&config, |name| weights.spec(name).is_some());
    let checkpoint = Checkpoint::new(weights, "golden", None);
    let decoder = Decoder::new(config, root, cache);
    let options = EngineOptions { prompt_rows: 512, first_prompt: 0, memory_budget: None };
    let graphs = Engine::first_graphs(&decoder, &checkpoint, options.prompt_rows).unwrap();
    if checked {
        checkpoint.check(graphs.iter().map(|(_, graph)| graph), root, &decoder.head_name()).unwrap();
    }
    Engine::new(gpu, decoder, graphs, &checkpoint, options, &mut |_, _| {}).unwrap()
}

/// Largest relative difference of the logits, and the position where it is.
fn worst_logit(engine: &mut Engine, golden: &Golden) -> (f64, usize) {
    let mut worst = (0.0, 0);
    let cancel = CancelToken::new();
    engine
        .logits(0, &golden.ids, 0, &cancel, |row, logits| {
            let want = &golden.logits[row * golden.vocab..][..golden.vocab];
            let largest = want.iter().fold(0.0f64, |most, logit| most.max(logit.abs()));
            for (got, want) in logits.iter().zip(want) {
                let difference = (f64::from(*got) - want).abs() / largest;
                // NaN counts as the worst.
                if difference > worst.0 || difference.is_nan() {
                    worst = (if difference.is_nan() { f64::INFINITY } else { difference }, row);
                }
            }
            Ok(())
        })
        .unwrap();
    worst
}

/// Which layer's input is off first; for the message only.
fn first_bad_layer(engine: &mut Engine, golden: &Golden) -> String {
    let states = engine.hidden_states(&golden.ids).unwrap();
    for (layer, (got, want)) in states.iter().zip(&golden.hidden).enumerate() {
        let largest = want.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let worst = got.to_f64().iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        if worst > 1e-4 * largest {
            return format!("input of layer {layer} differs by {:.1e} of its largest value", worst / largest);
        }
    }
    "all layers agree, the head differs".into()
}

fn greedy(engine: &mut Engine, golden: &Golden, slot: usize, chunk: usize) -> Vec<u32> {
    let cancel = CancelToken::new();
    let mut position = 0;
    let mut token = 0;
    for piece in golden.ids.chunks(chunk) {
        token = engine.prompt(slot, piece, position, SampleRow::GREEDY, &cancel).unwrap();
        position += piece.len();
    }
    let mut tokens = vec![token];
    while tokens.len() < golden.greedy.len() {
        let sampling = SampleRow { step: u32::try_from(tokens.len()).unwrap(), ..SampleRow::GREEDY };
        let row = DecodeRow { slot, token, position, sampling };
        token = engine.decode(&[row], true, &cancel).unwrap()[0];
        tokens.push(token);
        position += 1;
    }
    tokens
}

fn check(gpu: &Gpu, family: &str, file: &str, context: usize) -> Result<(), String> {
    let golden = golden(family, file);
    let config = DecoderConfig::load(&golden.folder).unwrap();
    let weights = FileWeights::open(&golden.folder).unwrap();
    let mut engine = engine(gpu, config, &weights, Cache { slots: 2, context }, true);
    let (worst, row) = worst_logit(&mut engine, &golden);
    if worst > TOLERANCE {
        let layer = first_bad_layer(&mut engine, &golden);
        return Err(format!("{family}: logits of position {row} differ by {worst:.1e}; {layer}"));
    }
    for (slot, chunk) in [(0, 512), (1, 5)] {
        let tokens = greedy(&mut engine, &golden, slot, chunk);
        if tokens != golden.greedy {
            return Err(format!("{family}: greedy tokens {tokens:?}, want {:?}", golden.greedy));
        }
    }
    Ok(())
}

fn check_all(gpu: &Gpu) {
    let mut failures: Vec<String> = Vec::new();
    for family in FAMILIES {
        let context = if family == "gpt2" { 56 } else { 64 };
        failures.extend(check(gpu, family, "golden.safetensors", context).err());
    }
    failures.extend(check(gpu, "phi3_longrope", "golden_short.safetensors", 32).err());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    let Some(gpu) = common::gpu() else { return };
    check_all(gpu);
}

#[test]
fn gpu_forms_give_the_same() {
    let Some(gpu) = common::gpu() else { return };
    for form in [Form::Subgroup, Form::Plain] {
        check_all(&gpu.with_caps(gpu.caps().clone().with_form(form)));
    }
}

/// The published and the newest form of config.json, and of GPT-2's names, mean the same model.
#[test]
fn other_published_forms_are_read_alike() {
    for family in ["llama3", "gemma3", "phi3", "phi3_longrope"] {
        let folder = golden(family, "golden.safetensors").folder;
        let classic = DecoderConfig::load(&folder).unwrap();
        assert_eq!(classic, DecoderConfig::from_file(&folder.join("config_v5.json")).unwrap(), "{family}");
    }
    let Some(gpu) = common::gpu() else { return };
    let golden = golden("gpt2", "golden.safetensors");
    let weights = FileWeights::open(&golden.folder.join("model_prefixed.safetensors")).unwrap();
    let mut engine = engine(
        gpu,
        DecoderConfig::load(&golden.folder).unwrap(),
        &weights,
        Cache { slots: 1, context: 56 },
        true,
    );
    assert!(worst_logit(&mut engine, &golden).0 <= TOLERANCE);
}

/// Switches a special rule off; a family that has no such rule stays as it is.
type Rule = (&'static str, fn(&mut DecoderConfig));

const RULES: [Rule; 18] = [
    ("eps of the norms", |config| config.norm.eps = 1e-6),
    ("1 added to norm weights", |config| config.norm.offset = 0.0),
    ("sliding window", |config| config.windows.fill(None)),
    ("soft-cap of scores", |config| config.attention_softcap = None),
    ("soft-cap of logits", |config| config.final_softcap = None),
    ("scale of scores", |config| {
        config.attention_scale = 1.0 / (config.hidden as f32 / config.heads as f32).sqrt();
    }),
    ("scale of embeddings", |config| config.embedding_scale = 1.0),
    ("norms of query and key heads", |config| config.qk_norm = false),
    ("norms behind attention and feed-forward", |config| config.post_norms = false),
    ("parallel residual", |config| {
        if config.family == Family::GptNeox {
            config.parallel_residual = !config.parallel_residual;
        }
    }),
    ("bias of queries, keys, values", |config| config.qkv_bias = false),
    ("bias behind attention", |config| config.out_bias = false),
    ("bias of feed-forward", |config| config.mlp_bias = false),
    ("kind of activation", |config| {
        config.activation = match config.activation {
            Activation::Gelu => Activation::GeluTanh,
            _ => Activation::Gelu,
        }
    }),
    ("base of the rotation", |config| with_rope(config, |rope| rope.full.theta = 10_000.0)),
    ("scaling of the rotation", |config| with_rope(config, |rope| rope.full.scaling = RopeScaling::Default)),
    ("own rotation of sliding layers", |config| with_rope(config, |rope| rope.sliding = None)),
    ("tied head", |config| {
        // The other way round there is no head to read.
        if !config.tied_head {
            config.tied_head = true;
        }
    }),
];

fn with_rope(config: &mut DecoderConfig, change: impl FnOnce(&mut Rope)) {
    if let Positions::Rope(rope) = &mut config.positions {
        change(rope);
    }
}

/// The goldens must bite: without any one of its rules a family's logits leave the tolerance.
#[test]
fn each_special_rule_matters() {
    let Some(gpu) = common::gpu() else { return };
    let mut failures = Vec::new();
    let mut tried = 0;
    for family in FAMILIES {
        let golden = golden(family, "golden.safetensors");
        let config = DecoderConfig::load(&golden.folder).unwrap();
        let weights = FileWeights::open(&golden.folder).unwrap();
        let cache = Cache { slots: 1, context: if family == "gpt2" { 56 } else { 64 } };
        for (rule, switch_off) in RULES {
            let mut without = config.clone();
            switch_off(&mut without);
            if without == config {
                continue;
            }
            tried += 1;
            let (worst, _) = worst_logit(&mut engine(gpu, without, &weights, cache, false), &golden);
            if worst <= TOLERANCE {
                failures.push(format!("{family} without `{rule}` differs by {worst:.1e} only"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(tried > 60, "only {tried} rules were tried");
}

/// The same for what lies in the weights: norms are not at 1, positions not at 0.
#[test]
fn each_kind_of_weight_matters() {
    let Some(gpu) = common::gpu() else { return };
    let mut failures = Vec::new();
    for family in FAMILIES {
        let golden = golden(family, "golden.safetensors");
        let config = DecoderConfig::load(&golden.folder).unwrap();
        let weights = FileWeights::open(&golden.folder).unwrap();
        let cache = Cache { slots: 1, context: if family == "gpt2" { 56 } else { 64 } };
        for part in ["norm", "ln_", "wpe", "q_norm", "k_norm", "bias"] {
            let named = |name: &str| name.contains(part) && weights.spec(name).is_some();
            if !weights.names().into_iter().any(named) {
                continue;
            }
            let neutral = if part == "norm" || part == "ln_" || part.ends_with("_norm") {
                1.0 - config.norm.offset
            } else {
                0.0
            };
            let changed: MemoryWeights = weights
                .names()
                .into_iter()
                .filter(|name| weights.spec(name).is_some())
                .map(|name| {
                    let tensor = weights.get(name).unwrap().to_tensor();
                    let is_part = named(name) && (part == "bias" || !name.ends_with("bias"));
                    if !is_part {
                        return (name.to_owned(), tensor);
                    }
                    let values = vec![f64::from(neutral); tensor.spec().elements()];
                    (name.to_owned(), Tensor::from_f64(tensor.dtype(), tensor.dims(), &values))
                })
                .collect();
            let (worst, _) = worst_logit(&mut engine(gpu, config.clone(), &changed, cache, false), &golden);
            if worst <= TOLERANCE {
                failures.push(format!("{family} with neutral `{part}` differs by {worst:.1e} only"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
