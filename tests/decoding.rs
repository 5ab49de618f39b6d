//! Steps of decoding that are submitted before the tokens of those before them are read: the same
//! tokens as one step at a time, whatever ends, mixes or fails meanwhile.

mod common;

use std::path::Path;
use wginfer::gpu::Gpu;
use wginfer::kernel::{Caps, Form};
use wginfer::text::engine::DecodeRow;
use wginfer::text::{Batch, FinishReason, GenerateOptions, Prompt, SamplingSettings, TextModel};
use wginfer::{CancelToken, Error};

/// A small model with random weights and two or more slots.
fn model(gpu: &Gpu, slots: usize) -> TextModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama3");
    TextModel::builder().gpu(gpu).slots(slots).load(folder.to_str().unwrap()).unwrap()
}

/// Every setting of the sampler that looks at what came before.
fn sampling(seed: u64) -> SamplingSettings {
    SamplingSettings {
        temperature: 1.2,
        top_p: 0.9,
        repetition_penalty: 1.1,
        frequency_penalty: 0.5,
        presence_penalty: 0.5,
        seed,
        ..Default::default()
    }
}

fn options(seed: u64, max_tokens: usize) -> GenerateOptions {
    GenerateOptions { sampling: sampling(seed), max_tokens, end_tokens: Some(vec![]), ..Default::default() }
}

/// The tokens after a prompt, step by step.
fn decoded(model: &TextModel, slot: usize, seed: u64, count: usize, ahead: bool) -> Vec<u32> {
    let (mut engine, cancel, prompt) = (model.engine(), CancelToken::new(), [5, 6, 7]);
    let row = |step: usize| sampling(seed).row(u32::try_from(step).unwrap());
    engine.reset_counts(slot).unwrap();
    let mut tokens = vec![engine.prompt(slot, &prompt, 0, row(0), &cancel).unwrap()];
    while tokens.len() < count {
        let (step, token) = (tokens.len(), tokens[tokens.len() - 1]);
        let row = DecodeRow { slot, token, position: prompt.len() + step - 1, sampling: row(step) };
        tokens.push(engine.decode(&[row], ahead, &cancel).unwrap()[0]);
    }
    tokens
}

#[test]
fn steps_ahead_give_the_same_tokens() {
    let Some(gpu) = common::gpu() else { return };
    let plain = Caps { subgroups: false, ..gpu.caps().clone().with_form(Form::Plain) };
    for caps in [gpu.caps().clone(), gpu.caps().clone().with_form(Form::Subgroup), plain] {
        let model = model(&gpu.with_caps(caps), 2);
        for seed in [1, 2] {
            let want = decoded(&model, 0, seed, 30, false);
            assert_eq!(decoded(&model, 1, seed, 30, true), want);
            // What the last step computed ahead is not taken for the same steps of another text.
            assert_eq!(decoded(&model, 1, seed, 30, true), want);
        }
        assert_ne!(decoded(&model, 0, 1, 30, false), decoded(&model, 0, 2, 30, false));
    }
}

#[test]
fn wrong_steps_are_errors() {
    let Some(gpu) = common::gpu() else { return };
    let (model, cancel) = (model(gpu, 2), CancelToken::new());
    let row = DecodeRow { slot: 1, token: 5, position: 0, sampling: sampling(1).row(0) };
    let decode = |rows: &[DecodeRow]| model.engine().decode(rows, true, &cancel).unwrap_err().to_string();
    assert!(decode(&[row, row]).contains("slot 1 is asked for a token twice"));
    assert!(decode(&[row, DecodeRow { slot: 0, token: 1 << 20, ..row }]).contains("outside the vocabulary"));
    let rows: Vec<DecodeRow> = (0..3).map(|slot| DecodeRow { slot, ..row }).collect();
    assert!(decode(&rows).contains("3 sequences at a time, there are 2 slots"));
}

/// Texts of one batch that end at different steps, by their length and by an end token.
#[test]
fn texts_of_a_batch_end_at_different_steps() {
    let Some(gpu) = common::gpu() else { return };
    let model = model(gpu, 4);
    let alone = |seed: u64, length: usize| {
        model.generate_with(vec![5, 6, 7], &options(seed, length), |_| {}).unwrap().ids
    };
    let lengths = [9, 3, 17, 30];
    let wanted: Vec<Vec<u32>> = (1..5).zip(lengths).map(|(seed, length)| alone(seed, length)).collect();
    let mut batch = Batch::new(&model);
    for (seed, length) in (1..5).zip(lengths) {
        batch.add(&Prompt::Ids(vec![5, 6, 7]), &options(seed, length)).unwrap();
    }
    while !batch.is_finished() {
        batch.step().unwrap();
    }
    let ids: Vec<Vec<u32>> = batch.into_generations().into_iter().map(|done| done.ids).collect();
    assert_eq!(ids, wanted);
    let end = wanted[3][12];
    let first = wanted[3].iter().position(|&id| id == end).unwrap();
    let ended = GenerateOptions { end_tokens: Some(vec![end]), ..options(4, 30) };
    let done = model.generate_with(vec![5, 6, 7], &ended, |_| {}).unwrap();
    assert_eq!((done.finish_reason, &done.ids[..]), (FinishReason::EndToken, &wanted[3][..=first]));
}

/// Two texts whose steps take turns, one of which is dropped in its middle, and slots that are
/// used again with what their caches hold.
#[test]
fn texts_take_turns_and_leave_their_slots_clean() {
    let Some(gpu) = common::gpu() else { return };
    let model = model(gpu, 2);
    let wanted: Vec<Vec<u32>> = [1, 2].map(|seed| decoded(&model, 0, seed, 20, false)).to_vec();
    let start = |seed| model.generate(vec![5, 6, 7], &options(seed, 20)).unwrap();
    let (mut one, mut two) = (start(1), start(2));
    for _ in 0..10 {
        one.next().unwrap().unwrap();
        two.next().unwrap().unwrap();
    }
    drop(two);
    let two = start(2);
    for text in [one, two] {
        let mut text = text;
        while text.next().transpose().unwrap().is_some() {}
        let ids = text.into_generation().ids;
        assert!(wanted.contains(&ids), "{ids:?}");
    }
    // A conversation goes on from the cache of a text that was cancelled with a step ahead.
    let greedy = GenerateOptions {
        sampling: SamplingSettings::greedy(),
        max_tokens: 12,
        end_tokens: Some(vec![]),
        reuse_prefix: true,
        ..Default::default()
    };
    let mut text = model.generate(vec![9, 8, 7], &greedy).unwrap();
    (0..6).for_each(|_| drop(text.next().unwrap().unwrap()));
    let begun = text.into_generation().ids;
    let prompt: Vec<u32> = [9, 8, 7].into_iter().chain(begun.iter().copied()).chain([3]).collect();
    let fresh = GenerateOptions { reuse_prefix: false, ..greedy.clone() };
    let again = model.generate_with(prompt.clone(), &greedy, |_| {}).unwrap();
    assert!(again.timing.prompt_tokens < prompt.len());
    assert_eq!(again.ids, model.generate_with(prompt, &fresh, |_| {}).unwrap().ids);
}

/// While tokens are decoded, nothing is made and nothing written: one submit a token.
#[test]
fn steady_decoding_only_submits_and_reads() {
    if common::gpu().is_none() {
        return;
    }
    let gpu = common::own_gpu();
    let model = model(&gpu, 1);
    let mut text = model.generate(vec![5, 6, 7], &options(1, 60)).unwrap();
    (0..3).for_each(|_| drop(text.next().unwrap().unwrap()));
    let before = gpu.counts();
    (0..20).for_each(|_| drop(text.next().unwrap().unwrap()));
    let after = gpu.counts();
    let made = |counts: wginfer::gpu::Counts| (counts.buffers, counts.bind_groups, counts.pipelines);
    assert_eq!(made(after), made(before));
    assert_eq!(after.bytes_written, before.bytes_written);
    assert_eq!((after.submits - before.submits, after.bytes_read - before.bytes_read), (20, 80));
}

/// Logits that are no numbers, as the hook has it, are computed again in f32, and the text says so.
#[test]
fn doubtful_logits_are_computed_again() {
    let Some(gpu) = common::gpu() else { return };
    let greedy =
        |max_tokens| GenerateOptions { sampling: SamplingSettings::greedy(), ..options(0, max_tokens) };
    let want = model(gpu, 2).generate_with(vec![5, 6, 7], &greedy(20), |_| {}).unwrap();
    assert!(!want.in_f32);
    for doubted in [0, 1, 7] {
        let model = model(gpu, 2);
        let mut text = model.generate(vec![5, 6, 7], &greedy(20)).unwrap();
        for step in 0..20 {
            if step == doubted {
                model.engine().doubt_next_token();
            }
            text.next().unwrap().unwrap();
        }
        let done = text.into_generation();
        assert_eq!((done.ids, done.in_f32), (want.ids.clone(), true), "token {doubted}");
        // In f32 already, there is nothing else to try.
        model.engine().doubt_next_token();
        assert_eq!(model.generate_with(vec![5, 6, 7], &greedy(4), |_| {}).unwrap().ids, want.ids[..4]);
    }
}

/// Logits that are no numbers in f32 either are an error.
#[test]
fn logits_that_stay_no_numbers_are_an_error() {
    let Some(gpu) = common::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama3");
    for entry in std::fs::read_dir(&golden).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    // A final norm whose products with the head leave the range of f32.
    let file = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let data = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let norm = &header["model.norm.weight"];
    assert_eq!(norm["dtype"], "F32");
    let offset = |end: usize| data + usize::try_from(norm["data_offsets"][end].as_u64().unwrap()).unwrap();
    for gain in bytes[offset(0)..offset(1)].as_chunks_mut::<4>().0 {
        *gain = 3e38f32.to_le_bytes();
    }
    std::fs::write(&file, bytes).unwrap();
    let model = TextModel::builder().gpu(gpu).load(folder.path().to_str().unwrap()).unwrap();
    let error = model.generate_with(vec![5, 6, 7], &options(1, 4), |_| {}).unwrap_err();
    assert!(matches!(&error, Error::Request(message) if message.contains("NaN")), "{error}");
}
