//! Generation with real and golden models: token ids, text, options, slots, cancelling, scoring.
#![cfg(feature = "text")]

mod common;

use futures::StreamExt;
use std::path::{Path, PathBuf};
use wginfer::gpu::Gpu;
use wginfer::kernel::{Caps, Form};
use wginfer::tensor::DType;
use wginfer::text::{
    FinishReason, GenerateOptions, ModelBuilder, Prompt, SamplingSettings, ScoreOptions, TextModel,
};
use wginfer::weights::{FileWeights, Weights};
use wginfer::{CancelToken, Error};

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// The device and a model of ../shared, or `None` where either is absent.
fn shared_model(name: &str) -> Option<(&'static Gpu, PathBuf)> {
    let folder = common::shared()?.join("models").join(name);
    Some((common::gpu()?, folder))
}

fn load(gpu: &Gpu, folder: &Path, change: impl FnOnce(ModelBuilder) -> ModelBuilder) -> TextModel {
    change(TextModel::builder().gpu(gpu)).load(folder.to_str().unwrap()).unwrap()
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { sampling: SamplingSettings::greedy(), max_tokens, ..Default::default() }
}

/// A small random-weight model that is always there; it has no tokenizer.
fn random_model(change: impl FnOnce(ModelBuilder) -> ModelBuilder) -> Option<TextModel> {
    let gpu = common::gpu()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama3");
    Some(load(gpu, &folder, change))
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pretrained/fairy-tales")
}

#[test]
fn shared_stories260k_gives_the_golden_tokens() {
    let Some((gpu, folder)) = shared_model("stories260k") else { return };
    let golden = json(&folder.join("golden.json"));
    let plain = Caps { subgroups: false, ..gpu.caps().clone().with_form(Form::Plain) };
    let variants: [(&str, Caps, usize); 4] = [
        ("as chosen", gpu.caps().clone(), 512),
        ("prompt in pieces of 8", gpu.caps().clone(), 8),
        ("subgroup form", gpu.caps().clone().with_form(Form::Subgroup), 512),
        ("plain form", plain, 512),
    ];
    for (name, caps, chunk) in variants {
        let model = load(&gpu.with_caps(caps), &folder, |builder| builder.prompt_chunk(chunk));
        // The GPU forms are slow on a software adapter: two cases are enough for them.
        let cases = if name.contains("form") { 2 } else { usize::MAX };
        for case in golden["cases"].as_array().unwrap().iter().take(cases) {
            let prompt = case["prompt"].as_str().unwrap();
            let (prompt_ids, want) = (ids(&case["prompt_ids"]), ids(&case["output_ids"]));
            let count = want.len() - prompt_ids.len();
            let done = model.generate_with(prompt, &greedy(count), |_| {}).unwrap();
            assert_eq!(done.prompt_ids, prompt_ids, "{name}, {prompt:?}");
            assert_eq!(done.ids, want[prompt_ids.len()..], "{name}, {prompt:?}");
            let whole = format!("{prompt}{}", done.text);
            assert_eq!(whole.trim(), case["text"].as_str().unwrap().trim(), "{name}");
        }
    }
}

/// Logits of all positions of a sequence.
fn all_logits(model: &TextModel, ids: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    let keep = |_: usize, row: &[f32]| {
        all.extend_from_slice(row);
        Ok(())
    };
    model.engine().logits(0, ids, 0, &CancelToken::new(), keep).unwrap();
    all
}

fn worst_difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn shared_stories260k_logits() {
    let Some((gpu, folder)) = shared_model("stories260k") else { return };
    let model = load(gpu, &folder, |builder| builder);
    let golden = json(&folder.join("golden.json"));
    let logits = folder.join("golden_logits.npz");
    for (index, case) in golden["cases"].as_array().unwrap().iter().enumerate() {
        let got = all_logits(&model, &ids(&case["prompt_ids"]));
        let want = common::npz(&logits, &format!("first_step_logits_{index}")).unwrap();
        let worst = worst_difference(&got[got.len() - want.len()..], &want);
        assert!(worst <= 2e-4, "case {index}: the first step's logits differ by {worst:e}");
    }
    let want = common::npz(&logits, "full_logits_1").unwrap();
    let sequence = ids(&golden["cases"][1]["output_ids"]);
    let rows = want.len() / 512;
    let got = all_logits(&model, &sequence[..rows.min(sequence.len())]);
    let worst = worst_difference(&got, &want[..got.len()]);
    assert!(worst <= 2e-4, "logits of a whole text differ by {worst:e}");
}

#[test]
fn shared_batches_give_the_same_text_as_single_runs() {
    let Some((gpu, folder)) = shared_model("stories260k") else { return };
    let golden = json(&folder.join("golden.json"));
    let cases: Vec<&serde_json::Value> = golden["cases"].as_array().unwrap().iter().take(4).collect();
    let model = load(gpu, &folder, |builder| builder.slots(4));
    let prompts: Vec<Prompt> = cases.iter().map(|case| case["prompt"].as_str().unwrap().into()).collect();
    let done = model.generate_batch(&prompts, &greedy(64)).unwrap();
    for (case, done) in cases.iter().zip(done) {
        let want = ids(&case["output_ids"]);
        let start = done.prompt_ids.len();
        assert_eq!(done.ids, want[start..(start + 64).min(want.len())]);
    }
}

#[test]
fn shared_gpt2_capp_gives_the_golden_tokens() {
    let Some((gpu, folder)) = shared_model("gpt2_capp") else { return };
    let golden = json(&folder.join("golden.json"));
    for dtype in [DType::F32, DType::F16] {
        let model = load(gpu, &folder, |builder| builder.dtype(dtype));
        for case in golden["cases"].as_array().unwrap() {
            let (prompt, want) = (ids(&case["prompt_ids"]), ids(&case["output_ids"]));
            let done = model.generate_with(prompt.clone(), &greedy(100), |_| {}).unwrap();
            assert_eq!(done.ids, want[prompt.len()..], "{dtype}");
            assert_eq!(done.finish_reason, FinishReason::EndToken);
        }
    }
}

#[test]
fn shared_texts_are_scored() {
    let Some((gpu, folder)) = shared_model("stories260k") else { return };
    let golden = json(&folder.join("../text/golden_tokens.json"));
    let model = load(gpu, &folder, |builder| builder);
    for entry in golden.as_array().unwrap() {
        let all = ids(&entry["stories260k_ids"]);
        let score = model.score(all[..512].to_vec(), &ScoreOptions::default()).unwrap();
        let want = entry["stories260k_mean_nll_first_512"].as_f64().unwrap();
        assert!((score.mean_nll() - want).abs() < 1e-3, "mean {} instead of {want}", score.mean_nll());
        for (got, want) in score.nll.iter().zip(entry["nll_first_8"].as_array().unwrap()) {
            assert!((got - want.as_f64().unwrap()).abs() < 1e-3, "{got} instead of {want}");
        }
        let long = model.score(all.clone(), &ScoreOptions::default()).unwrap();
        assert_eq!(long.nll.len(), all.len() - 1, "each token is counted once");
        assert_eq!(long.nll[..511], score.nll[..]);
        // Windows of 64 with a stride of 32: as the whole until the first window ends, then with less memory.
        let narrow = load(gpu, &folder, |builder| builder.context(64));
        let options = ScoreOptions { stride: Some(32), ..Default::default() };
        let narrow = narrow.score(all[..512].to_vec(), &options).unwrap();
        assert_eq!(narrow.nll.len(), 511);
        assert!(narrow.nll[..63].iter().zip(&score.nll).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!(narrow.nll[63..].iter().zip(&score.nll[63..]).any(|(a, b)| (a - b).abs() > 1e-2));
    }
}

#[test]
fn bundled_model_gives_its_golden_tokens() {
    let Some(gpu) = common::gpu() else { return };
    let golden = json(&bundled().join("golden.json"));
    let model = load(gpu, &bundled(), |builder| builder.dtype(DType::F32));
    for case in golden["cases"].as_array().unwrap() {
        let want = ids(&case["greedy_ids"]);
        let done =
            model.generate_with(case["prompt"].as_str().unwrap(), &greedy(want.len()), |_| {}).unwrap();
        assert_eq!(done.prompt_ids, ids(&case["prompt_ids"]));
        assert_eq!(done.ids, want);
    }
}

#[test]
fn same_seed_same_text() {
    let Some(gpu) = common::gpu() else { return };
    let model = load(gpu, &bundled(), |builder| builder.slots(3));
    let with_seed = |seed: u64| {
        let sampling = SamplingSettings { temperature: 0.9, top_p: 0.95, seed, ..Default::default() };
        let options = GenerateOptions { sampling, max_tokens: 40, ..Default::default() };
        model.generate_with("The old king", &options, |_| {}).unwrap().ids
    };
    assert_eq!(with_seed(1), with_seed(1));
    assert_ne!(with_seed(1), with_seed(2));
    let sampling = SamplingSettings { temperature: 0.9, top_p: 0.95, seed: 1, ..Default::default() };
    let options = GenerateOptions { sampling, max_tokens: 40, ..Default::default() };
    let batch = model.generate_batch(&["The old king".into(), "Once".into()], &options).unwrap();
    assert_eq!(batch[0].ids, with_seed(1), "a neighbour in the batch changes nothing");
}

#[test]
fn pieces_join_to_the_text_and_stop_strings_end_it() {
    let Some(gpu) = common::gpu() else { return };
    let model = load(gpu, &bundled(), |builder| builder);
    let mut joined = String::new();
    let whole =
        model.generate_with("Once upon a time", &greedy(60), |piece| joined.push_str(&piece.text)).unwrap();
    assert_eq!(joined, whole.text);
    assert_eq!(whole.finish_reason, FinishReason::MaxTokens);
    assert_eq!(whole.ids.len(), 60);
    // A stop string from the middle of the text, over a token boundary.
    let start = whole.text.char_indices().nth(whole.text.chars().count() / 2).unwrap().0;
    let stop: String = whole.text[start..].chars().take(7).collect();
    let options = GenerateOptions { stop: vec!["never there".into(), stop.clone()], ..greedy(60) };
    let stopped = model.generate_with("Once upon a time", &options, |_| {}).unwrap();
    assert_eq!(stopped.finish_reason, FinishReason::StopString);
    assert_eq!(stopped.text, whole.text[..whole.text.find(&stop).unwrap()]);
}

/// What generation_config.json recommends is what a generation does by default.
#[test]
fn recommended_options_are_used() {
    let Some(gpu) = common::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(bundled().join(name), folder.path().join(name)).unwrap();
    }
    let generate = |stop_strings: &[&str]| {
        let recommended =
            serde_json::json!({"do_sample": false, "max_new_tokens": 12, "stop_strings": stop_strings});
        std::fs::write(folder.path().join("generation_config.json"), recommended.to_string()).unwrap();
        let model = load(gpu, folder.path(), |builder| builder);
        model.generate_with("The old king", &model.default_options(), |_| {}).unwrap()
    };
    let whole = generate(&[]);
    assert_eq!((whole.finish_reason, whole.ids.len()), (FinishReason::MaxTokens, 12));
    let word = whole.text.split_whitespace().nth(3).unwrap();
    let stopped = generate(&[word]);
    let until = &whole.text[..whole.text.find(word).unwrap()];
    assert_eq!((stopped.finish_reason, stopped.text.as_str()), (FinishReason::StopString, until));
}

#[test]
fn penalties_change_the_text() {
    let Some(model) = random_model(|builder| builder) else { return };
    let run = |sampling: SamplingSettings| {
        let options =
            GenerateOptions { sampling, max_tokens: 30, end_tokens: Some(vec![]), ..Default::default() };
        model.generate_with(vec![5, 6, 7], &options, |_| {}).unwrap().ids
    };
    let plain = run(SamplingSettings::greedy());
    let most = |ids: &[u32]| ids.iter().map(|id| ids.iter().filter(|other| *other == id).count()).max();
    let presence =
        run(SamplingSettings { presence_penalty: 2.0, frequency_penalty: 2.0, ..SamplingSettings::greedy() });
    let repetition = run(SamplingSettings { repetition_penalty: 5.0, ..SamplingSettings::greedy() });
    assert_eq!(plain, run(SamplingSettings::greedy()), "counts are cleared between texts");
    assert!(most(&repetition) <= most(&plain) && repetition != plain, "{plain:?} {repetition:?}");
    assert!(most(&presence) <= most(&plain), "{plain:?} {presence:?}");
}

#[test]
fn decoding_makes_no_device_objects() {
    let Some(gpu) = common::gpu() else { return };
    let gpu = common::own_gpu().with_caps(gpu.caps().clone());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama3");
    let model = load(&gpu, &folder, |builder| builder);
    let mut stream =
        model.generate(vec![5, 6, 7], &GenerateOptions { end_tokens: Some(vec![]), ..greedy(50) }).unwrap();
    stream.next().unwrap().unwrap();
    stream.next().unwrap().unwrap();
    let before = gpu.counts();
    for _ in 0..20 {
        stream.next().unwrap().unwrap();
    }
    let after = gpu.counts();
    assert_eq!(after.submits - before.submits, 20, "one submit a token");
    assert_eq!(
        (after.buffers, after.bind_groups, after.pipelines),
        (before.buffers, before.bind_groups, before.pipelines)
    );
}

#[test]
fn cancelling_keeps_what_was_generated() {
    let Some(gpu) = common::gpu() else { return };
    let model = load(gpu, &bundled(), |builder| builder);
    let options = greedy(400);
    let mut pieces = 0;
    let done = model
        .generate_with("Once upon a time", &options, |_| {
            pieces += 1;
            if pieces == 5 {
                options.cancel.cancel();
            }
        })
        .unwrap();
    assert_eq!(done.finish_reason, FinishReason::Cancelled);
    assert!(done.ids.len() == 5 && !done.text.is_empty());
    // The slot is free and clean again.
    let again = model.generate_with("Once upon a time", &greedy(5), |_| {}).unwrap();
    assert_eq!(again.ids, done.ids);
    // Cancelled before the prompt: no text, no error.
    let cancelled = greedy(5);
    cancelled.cancel.cancel();
    let done = model.generate_with("Once upon a time", &cancelled, |_| {}).unwrap();
    assert_eq!((done.finish_reason, done.ids.len()), (FinishReason::Cancelled, 0));
}

#[test]
fn asynchronous_streams_give_the_same_text() {
    let Some(gpu) = common::gpu() else { return };
    let model = load(gpu, &bundled(), |builder| builder);
    let want = model.generate_with("The old king", &greedy(20), |_| {}).unwrap().text;
    let stream = model.stream("The old king", &greedy(20)).unwrap();
    let pieces: Vec<_> = pollster::block_on(stream.collect());
    let text: String = pieces.into_iter().map(|piece| piece.unwrap().text).collect();
    assert_eq!(text, want);
    let loaded = pollster::block_on(TextModel::builder().gpu(gpu).load_async(bundled().to_str().unwrap()));
    assert_eq!(loaded.unwrap().context(), model.context());
}

#[test]
fn a_conversation_continues_from_its_cache() {
    let Some(model) = random_model(|builder| builder.slots(2)) else { return };
    let turn: Vec<u32> = (3..40).collect();
    let first = model.generate_with(turn.clone(), &greedy(4), |_| {}).unwrap();
    let longer: Vec<u32> = turn.iter().chain(&first.ids[..3]).copied().chain([9, 10]).collect();
    let fresh = model.generate_with(longer.clone(), &greedy(4), |_| {}).unwrap();
    let options = GenerateOptions { reuse_prefix: true, ..greedy(4) };
    let reused = model.generate_with(longer.clone(), &options, |_| {}).unwrap();
    assert_eq!(reused.ids, fresh.ids);
    assert!(reused.timing.prompt_tokens < longer.len() && fresh.timing.prompt_tokens == longer.len());
}

#[test]
fn contexts_overflow_clearly() {
    let Some(model) = random_model(|builder| builder.context(32)) else { return };
    let long: Vec<u32> = (0..33).map(|i| i % 100 + 3).collect();
    let error = model.generate(long.clone(), &greedy(4)).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { needed: 33, context: 32 }), "{error}");
    let options = GenerateOptions { end_tokens: Some(vec![]), ..greedy(100) };
    let done = model.generate_with(long[..30].to_vec(), &options, |_| {}).unwrap();
    assert_eq!((done.finish_reason, done.ids.len()), (FinishReason::ContextFull, 3));
}

#[test]
fn wrong_requests_are_errors() {
    let Some(model) = random_model(|builder| builder) else { return };
    let message = |prompt: Prompt, options: &GenerateOptions| {
        let result = model.generate(prompt, options).and_then(|mut text| text.next().unwrap());
        result.unwrap_err().to_string()
    };
    assert!(message(Prompt::Ids(vec![]), &greedy(4)).contains("no token"));
    assert!(
        message(Prompt::Ids(vec![4, 131]), &greedy(4))
            .contains("token id 131 is outside the vocabulary of 131")
    );
    assert!(message("text".into(), &greedy(4)).contains("no tokenizer.json"));
    assert!(message(Prompt::Ids(vec![4]), &greedy(0)).contains("max_tokens must be at least 1"));
    let cold = SamplingSettings { temperature: -1.0, ..Default::default() };
    assert!(
        message(Prompt::Ids(vec![4]), &GenerateOptions { sampling: cold, ..greedy(4) })
            .contains("temperature")
    );
    let mut streams = vec![model.generate(vec![4], &greedy(4)).unwrap()];
    let error = model.generate(vec![4], &greedy(4)).unwrap_err().to_string();
    assert!(error.contains("all 1 slots are in use"), "{error}");
    streams.clear();
    assert!(model.generate(vec![4], &greedy(4)).is_ok(), "a dropped text gives its slot back");
}

#[test]
fn every_failing_allocation_while_loading_is_an_error() {
    if common::gpu().is_none() {
        return;
    }
    let gpu = common::own_gpu();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama3");
    let folder = folder.to_str().unwrap();
    let mut failures = 0;
    for n in (1..).step_by(7) {
        gpu.fail_allocation(n);
        let loaded = TextModel::builder().gpu(&gpu).load(folder);
        match loaded.and_then(|model| model.generate_with(vec![4, 5], &greedy(3), |_| {})) {
            Err(Error::OutOfMemory { .. }) => failures += 1,
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
    }
    gpu.fail_allocation(0);
    assert!(failures > 5, "{failures} failures");
    assert_eq!(gpu.allocated_bytes(), 0, "nothing leaks");
    let model = TextModel::builder().gpu(&gpu).load(folder).unwrap();
    assert_eq!(model.generate_with(vec![4, 5], &greedy(3), |_| {}).unwrap().ids.len(), 3);
}

#[test]
fn a_lost_device_ends_a_generation_with_an_error() {
    if common::gpu().is_none() {
        return;
    }
    let gpu = common::own_gpu();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama3");
    let model = load(&gpu, &folder, |builder| builder);
    let mut text =
        model.generate(vec![4, 5], &GenerateOptions { end_tokens: Some(vec![]), ..greedy(50) }).unwrap();
    text.next().unwrap().unwrap();
    gpu.destroy();
    assert!(matches!(text.next(), Some(Err(Error::DeviceLost(_)))));
    assert!(text.next().is_none());
}

/// Weights over the binding limit are split into row parts; the logits are the same bit for bit.
#[test]
fn row_parts_change_no_bit() {
    let Some(gpu) = common::gpu() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama3");
    let tokens: Vec<u32> = (3..40).collect();
    let logits = |max_binding_bytes: u64| {
        let caps = Caps { max_binding_bytes, ..gpu.caps().clone() };
        let model = load(&gpu.with_caps(caps), &folder, |builder| builder.prompt_chunk(8).context(64));
        all_logits(&model, &tokens)
    };
    let largest = FileWeights::open(&folder).unwrap().spec("model.embed_tokens.weight").unwrap().bytes();
    assert_eq!(logits(largest * 2), logits(largest * 2 / 3));
}
