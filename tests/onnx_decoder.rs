//! Decoders of tokens and streams in the ONNX format: what one run leaves on the device is what the
//! next one finds, without a way over the host.

mod common;
#[path = "common/onnx_file.rs"]
mod onnx_file;

use onnx_file::{attribute, bytes, declared, graph, initializer, int, node, tensor};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use wginfer::gpu::Gpu;
use wginfer::kernel::Form;
use wginfer::onnx::{OnnxDecoder, OnnxDecoderOptions, OnnxModel, OnnxOptions, OnnxStream, OnnxTensor};
use wginfer::tensor::Tolerance;

const CLOSE: Tolerance = Tolerance::new(1e-3, 1e-3);

/// A file of ../shared/models.
fn file(path: &str) -> Option<PathBuf> {
    Some(common::shared()?.join("models").join(path))
}

fn load(gpu: &Gpu, path: &Path) -> Arc<OnnxModel> {
    Arc::new(
        OnnxModel::load_with(path, gpu, &OnnxOptions::default()).unwrap_or_else(|error| panic!("{error}")),
    )
}

fn decoder(model: &Arc<OnnxModel>, options: &OnnxDecoderOptions) -> OnnxDecoder {
    OnnxDecoder::new(model.clone(), options).unwrap_or_else(|error| panic!("{error}"))
}

fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    let tensor = |values: &[f32]| wginfer::tensor::Tensor::from_f32([values.len()], values);
    if let Some(mismatch) = CLOSE.mismatch(&tensor(got), &tensor(want)) {
        panic!("{what}: {mismatch}");
    }
}

/// Prompt and all tokens of each case of gpt2_capp, with the logits of all positions but the last.
fn golden_cases(folder: &Path) -> Vec<(Vec<u32>, Vec<u32>, Vec<f32>)> {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |list: &serde_json::Value| -> Vec<u32> {
        list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let cases = golden["cases"].as_array().unwrap().iter().enumerate();
    let logits = |index: usize| common::npz(&folder.join("golden.npz"), &format!("logits_{index}")).unwrap();
    cases.map(|(index, case)| (ids(&case["prompt_ids"]), ids(&case["output_ids"]), logits(index))).collect()
}

/// The largest logit.
fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

/// Tokens of a prompt and the most probable ones after it, with the logits of each step.
fn greedy(decoder: &mut OnnxDecoder, prompt: &[u32], length: usize) -> (Vec<u32>, Vec<Vec<f32>>) {
    let mut all = vec![decoder.prefill(prompt).unwrap()];
    let mut tokens = prompt.to_vec();
    while tokens.len() < length {
        tokens.push(best(&all[all.len() - 1]));
        if tokens.len() < length {
            all.push(decoder.step(tokens[tokens.len() - 1]).unwrap());
        }
    }
    (tokens, all)
}

/// All cases token for token, in each form, with caches that are large enough and with such that
/// grow on the way.
#[test]
fn gpt2_with_caches_on_the_device() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("gpt2_capp")) else { return };
    let forced = |form| gpu.with_caps(gpu.caps().clone().with_form(form));
    for gpu in [gpu.clone(), forced(Form::Subgroup), forced(Form::Plain)] {
        let model = load(&gpu, &folder.join("model.onnx"));
        for capacity in [128, 16] {
            let options = OnnxDecoderOptions { capacity, ..OnnxDecoderOptions::default() };
            let mut decoder = decoder(&model, &options);
            assert_eq!(decoder.context(), 512, "rows of the table of positions");
            let start = Instant::now();
            for (index, (prompt, wanted, logits)) in golden_cases(&folder).iter().enumerate() {
                decoder.reset().unwrap();
                let (tokens, all) = greedy(&mut decoder, prompt, wanted.len());
                assert_eq!(&tokens, wanted, "case {index}");
                for (step, got) in all.iter().enumerate() {
                    let want = &logits[(prompt.len() - 1 + step) * got.len()..][..got.len()];
                    assert_close(&format!("case {index}, step {step}"), got, want);
                }
            }
            assert!(decoder.is_in_place());
            println!(
                "gpt2, {:?}, caches of {}: {} imports, {} dispatches a token, {:.1?}",
                gpu.caps().form(),
                decoder.capacity(),
                decoder.imports(),
                decoder.dispatches_per_token(),
                start.elapsed()
            );
        }
    }
}

/// A step writes its inputs and reads its logits, and makes nothing on the device.
#[test]
fn a_step_moves_no_caches() {
    let (Some(_), Some(folder)) = (common::gpu(), file("gpt2_capp")) else { return };
    // A device of its own: others may work on the shared one meanwhile.
    let gpu = common::own_gpu();
    let model = load(&gpu, &folder.join("model.onnx"));
    let mut decoder = decoder(&model, &OnnxDecoderOptions { capacity: 512, ..OnnxDecoderOptions::default() });
    let mut token = best(&decoder.prefill(&[2, 8, 14, 17, 22, 25, 49]).unwrap());
    token = best(&decoder.step(token).unwrap());
    let (before, imports) = (gpu.counts(), decoder.imports());
    let steps = 40;
    let start = Instant::now();
    for _ in 0..steps {
        token = best(&decoder.step(token).unwrap());
    }
    println!("{steps} tokens in {:.1?}", start.elapsed());
    let after = gpu.counts();
    assert_eq!(decoder.imports(), imports);
    assert_eq!(
        [before.buffers, before.bind_groups, before.pipelines],
        [after.buffers, after.bind_groups, after.pipelines]
    );
    assert_eq!(after.submits - before.submits, steps);
    // The mask of 512 rows, a token, its position and its row; 53 logits.
    assert_eq!(after.bytes_written - before.bytes_written, steps * (512 + 3) * 4);
    assert_eq!(after.bytes_read - before.bytes_read, steps * 53 * 4);
}

/// Tokens that come in pieces give what they give at once; a context that is full is said.
#[test]
fn texts_are_continued_up_to_the_context() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("gpt2_capp")) else { return };
    let model = load(gpu, &folder.join("model.onnx"));
    let options = OnnxDecoderOptions { context: 20, capacity: 16, ..OnnxDecoderOptions::default() };
    let mut decoder = decoder(&model, &options);
    let text: Vec<u32> = (0..20).map(|i| i * 7 % 53).collect();
    let whole = decoder.prefill(&text).unwrap();
    assert_eq!((decoder.position(), decoder.capacity()), (20, 20));
    decoder.reset().unwrap();
    for piece in [&text[..5], &text[5..6], &text[6..15], &text[15..19]] {
        decoder.prefill(piece).unwrap();
    }
    assert_close("pieces", &decoder.step(text[19]).unwrap(), &whole);
    let full = decoder.step(1).unwrap_err().to_string();
    assert!(full.contains("21") && full.contains("20"), "{full}");
    decoder.reset().unwrap();
    assert!(decoder.prefill(&[]).is_err());
    assert!(decoder.prefill(&[0; 21]).is_err());
    assert_close("again", &decoder.prefill(&text).unwrap(), &whole);
}

/// All chunks of a recording; the network's state stays on the device.
#[test]
fn voice_activity_with_its_state_on_the_device() {
    let (Some(_), Some(folder)) = (common::gpu(), file("onnx_zoo/silero_vad_16k")) else { return };
    let stream_file = folder.join("stream.npz");
    let audio = common::npz(&stream_file, "audio").unwrap();
    let wanted = common::npz(&stream_file, "speech_prob").unwrap();
    let gpu = common::own_gpu();
    let model = load(&gpu, &folder.join("model.onnx"));
    let mut stream = OnnxStream::new(model, &[("state", "stateN")]).unwrap();
    let rate = OnnxTensor::from_i64([], &[16_000]);
    let silence = [("input", OnnxTensor::from_f32([1, 576], &[0.0; 576])), ("sr", rate.clone())];
    let error = stream.run(&silence).unwrap_err().to_string();
    assert_eq!(error, "input `state` must be set before the first run");
    stream.set("state", OnnxTensor::from_f32([2, 1, 128], &[0.0; 256])).unwrap();
    for run in 0..2 {
        let mut context = vec![0.0; 64];
        let mut before = gpu.counts();
        let start = Instant::now();
        for (index, (chunk, want)) in audio.as_chunks::<512>().0.iter().zip(&wanted).enumerate() {
            let input = OnnxTensor::from_f32([1, 576], &[&context[..], chunk].concat());
            context = chunk[512 - 64..].to_vec();
            let outputs = stream.run(&[("input", input), ("sr", rate.clone())]).unwrap();
            assert_eq!(outputs.len(), 1, "the state is kept");
            assert_close(&format!("chunk {index}"), &outputs[0].1.to_f32(), &[*want]);
            if index == 0 {
                before = gpu.counts();
            }
        }
        println!("{} chunks in {:.1?}", wanted.len(), start.elapsed());
        let (after, runs) = (gpu.counts(), wanted.len() as u64 - 1);
        assert_eq!((stream.imports(), after.buffers), (1, before.buffers), "run {run}");
        // The samples and their rate; the probability.
        assert_eq!(after.bytes_written - before.bytes_written, runs * 577 * 4);
        assert_eq!(after.bytes_read - before.bytes_read, runs * 4);
        stream.reset().unwrap();
    }
}

#[test]
fn streams_refuse_what_does_not_fit() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("onnx_zoo/silero_vad_16k")) else { return };
    let model = load(gpu, &folder.join("model.onnx"));
    let error = |pairs: &[(&str, &str)]| OnnxStream::new(model.clone(), pairs).unwrap_err().to_string();
    assert_eq!(error(&[("states", "stateN")]), "there is no input `states`");
    assert_eq!(error(&[("state", "stateM")]), "there is no output `stateM`");
    assert!(error(&[("state", "stateN"), ("input", "stateN")]).ends_with("is named twice"));
    let mut stream = OnnxStream::new(model.clone(), &[("state", "stateN")]).unwrap();
    let floats = |dims: &[usize]| OnnxTensor::from_f32(dims, &vec![0.0; dims.iter().product()]);
    let message = stream.set("input", floats(&[1, 576])).unwrap_err().to_string();
    assert_eq!(message, "input `input` is not kept; kept are state");
    let message = stream.set("state", OnnxTensor::from_i64([1], &[0])).unwrap_err().to_string();
    assert_eq!(message, "input `state` must be float, got int64[1]");
    // A state of another shape is a new one; the model says that it does not fit.
    stream.set("state", floats(&[2, 1, 128])).unwrap();
    stream.set("state", floats(&[2, 1, 64])).unwrap();
    let inputs = [("input", floats(&[1, 576])), ("sr", OnnxTensor::from_i64([], &[16_000]))];
    assert!(stream.run(&inputs).is_err());
    stream.set("state", floats(&[2, 1, 128])).unwrap();
    stream.run(&inputs).unwrap();
    let message = stream.run(&[("state", floats(&[2, 1, 128]))]).unwrap_err().to_string();
    assert_eq!(message, "input `state` is kept on the device: `set` changes it");
    let no_decoder = OnnxDecoder::new(model, &OnnxDecoderOptions::default()).unwrap_err().to_string();
    assert!(
        no_decoder.ends_with("a decoder without inputs `past_key_values.*` and outputs `present.*`"),
        "{no_decoder}"
    );
}

/// The operator that attends to past and new tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Attends {
    /// The standard's, of operator set 23.
    Attention,
    MultiHead,
    /// With rotary positions, which it takes from the length of the sequence.
    GroupQuery,
}

/// Where a decoder takes the positions of tokens from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Positions {
    /// It does not.
    None,
    Input,
    /// From the number of rows of the past, although there is an input.
    Past,
}

fn integer(name: &str, value: i64) -> Vec<u8> {
    attribute(name, int(3, value), 2)
}

fn stored(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    initializer(tensor(
        name,
        1,
        dims,
        &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
    ))
}

fn integers(name: &str, dims: &[i64], values: &[i64]) -> Vec<u8> {
    initializer(tensor(
        name,
        7,
        dims,
        &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
    ))
}

/// A decoder of 11 tokens: embedding, one layer of attention with two heads of four, logits.
fn small_decoder(attends: Attends, positions: Positions) -> Vec<u8> {
    const HEADS: i64 = 2;
    let microsoft = |node: Vec<u8>| [node, bytes(7, "com.microsoft")].concat();
    let cast = |to: i64| integer("to", to);
    let mut random = 1_u32;
    let mut weights = |name: &str, dims: &[i64]| {
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..dims.iter().product::<i64>()).map(|_| next()).collect();
        stored(name, dims, &values)
    };
    let mut stored: Vec<u8> = [("embedding", [11, 8]), ("wq", [8, 8]), ("wk", [8, 8]), ("wv", [8, 8])]
        .into_iter()
        .chain([("head", [8, 11]), ("table", [64, 8]), ("cosines", [64, 2]), ("sines", [64, 2])])
        .flat_map(|(name, dims)| weights(name, &dims))
        .collect();
    for (name, dims, values) in [
        ("mask_shape", &[4][..], &[1, 1, 1, -1][..]),
        ("one", &[], &[1]),
        ("two", &[], &[2]),
        ("axis", &[1], &[1]),
    ] {
        stored.extend(integers(name, dims, values));
    }
    let mut nodes = vec![node("Gather", &["embedding", "input_ids"], &["tokens"], &[])];
    let x = match positions {
        Positions::None => "tokens",
        Positions::Input | Positions::Past => {
            nodes.extend([
                node("Shape", &["past_key_values.0.key"], &["past_shape"], &[]),
                node("Gather", &["past_shape", "two"], &["start"], &[]),
                node("Shape", &["input_ids"], &["shape"], &[]),
                node("Gather", &["shape", "one"], &["count"], &[]),
                node("Add", &["start", "count"], &["end"], &[]),
                node("Range", &["start", "end", "one"], &["places"], &[]),
                node(
                    "Gather",
                    &["table", if positions == Positions::Input { "position_ids" } else { "places" }],
                    &["turned"],
                    &[],
                ),
                node("Add", &["tokens", "turned"], &["x"], &[]),
            ]);
            "x"
        }
    };
    for part in ["q", "k", "v"] {
        nodes.push(node("MatMul", &[x, &format!("w{part}")], &[part], &[]));
    }
    let past = ["past_key_values.0.key", "past_key_values.0.value"];
    let outputs = ["y", "present.0.key", "present.0.value"];
    match attends {
        Attends::Attention => {
            nodes.push(node("Cast", &["attention_mask"], &["seen"], &[cast(9)]));
            nodes.push(node("Reshape", &["seen", "mask_shape"], &["mask"], &[]));
            let heads =
                [integer("q_num_heads", HEADS), integer("kv_num_heads", HEADS), integer("is_causal", 1)];
            nodes.push(node("Attention", &["q", "k", "v", "mask", past[0], past[1]], &outputs, &heads));
        }
        Attends::MultiHead => {
            nodes.push(node("Cast", &["attention_mask"], &["mask"], &[cast(6)]));
            let attributes = [integer("num_heads", HEADS), integer("unidirectional", 1)];
            let inputs = ["q", "k", "v", "", "mask", "", past[0], past[1]];
            nodes.push(microsoft(node("MultiHeadAttention", &inputs, &outputs, &attributes)));
        }
        Attends::GroupQuery => {
            nodes.extend([
                node("ReduceSum", &["attention_mask", "axis"], &["sums"], &[integer("keepdims", 0)]),
                node("Sub", &["sums", "one"], &["last"], &[]),
                node("Cast", &["last"], &["ends"], &[cast(6)]),
                node("Shape", &["attention_mask"], &["mask_dims"], &[]),
                node("Gather", &["mask_dims", "one"], &["rows"], &[]),
                node("Cast", &["rows"], &["total"], &[cast(6)]),
            ]);
            let attributes = [
                integer("num_heads", HEADS),
                integer("kv_num_heads", HEADS),
                integer("do_rotary", 1),
                integer("local_window_size", 9),
            ];
            let inputs = ["q", "k", "v", past[0], past[1], "ends", "total", "cosines", "sines"];
            nodes.push(microsoft(node("GroupQueryAttention", &inputs, &outputs, &attributes)));
        }
    }
    nodes.push(node("MatMul", &["y", "head"], &["logits"], &[]));
    let cache = |name: &str, length: &str| {
        let dim = |text: &str| match text.parse::<i64>() {
            Ok(size) => bytes(1, int(1, size)),
            Err(_) => bytes(1, bytes(2, text)),
        };
        let shape = ["batch", "2", length, "4"].map(dim).concat();
        [bytes(1, name), bytes(2, bytes(1, [int(1, 1), bytes(2, shape)].concat()))].concat()
    };
    let mut inputs = vec![declared("input_ids", 7, &[1, -1]), declared("attention_mask", 7, &[1, -2])];
    if positions != Positions::None {
        inputs.push(declared("position_ids", 7, &[1, -1]));
    }
    inputs.extend(past.map(|name| cache(name, "past_length")));
    let mut results = vec![declared("logits", 1, &[1, -1, 11])];
    results.extend(["present.0.key", "present.0.value"].map(|name| cache(name, "all_length")));
    let opsets = [bytes(8, int(2, 23)), bytes(8, [bytes(1, "com.microsoft"), int(2, 1)].concat())].concat();
    [int(1, 10), bytes(7, graph(&nodes, &inputs, &results, &stored)), opsets].concat()
}

/// Steps give what the whole text gives at once, in place or not.
fn check_small_decoder(attends: Attends, positions: Positions, in_place: bool) {
    let Some(gpu) = common::gpu() else { return };
    let what = format!("{attends:?}, positions {positions:?}");
    let file = small_decoder(attends, positions);
    let model =
        OnnxModel::from_bytes(file, gpu, &OnnxOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let model = Arc::new(model);
    let options = OnnxDecoderOptions { capacity: 8, ..OnnxDecoderOptions::default() };
    let [mut steps, mut whole] = [decoder(&model, &options), decoder(&model, &options)];
    let text: Vec<u32> = (0..21).map(|i| (i * i + 3 * i) % 11).collect();
    for length in 3..=text.len() {
        whole.reset().unwrap();
        let want = whole.prefill(&text[..length]).unwrap_or_else(|error| panic!("{what}: {error}"));
        let got = if length == 3 { steps.prefill(&text[..3]) } else { steps.step(text[length - 1]) };
        assert_close(&format!("{what}, {length} tokens"), &got.unwrap(), &want);
    }
    assert_eq!(steps.is_in_place(), in_place, "{what}");
    // The prompt, and caches of 8, 16 and 32 rows; else each length, and the last token again.
    if in_place {
        assert_eq!(steps.imports(), 4, "{what}");
    }
    assert_eq!(steps.capacity(), 32);
}

#[test]
fn the_standards_attention_decodes_in_place() {
    check_small_decoder(Attends::Attention, Positions::Input, true);
}

#[test]
fn multi_head_attention_decodes_in_place() {
    check_small_decoder(Attends::MultiHead, Positions::Input, true);
}

#[test]
fn group_query_attention_decodes_in_place() {
    check_small_decoder(Attends::GroupQuery, Positions::None, true);
}

#[test]
fn without_positions_each_length_is_planned() {
    check_small_decoder(Attends::Attention, Positions::None, false);
}

/// The model takes the positions from the rows of the past, which the file does not say.
#[test]
fn positions_of_the_past_are_found_out() {
    check_small_decoder(Attends::Attention, Positions::Past, false);
    check_small_decoder(Attends::MultiHead, Positions::Past, false);
}
