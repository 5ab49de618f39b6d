//! Published ONNX models (../shared/models) with what other runtimes computed for them.

mod common;
#[path = "common/onnx_arrays.rs"]
mod onnx_arrays;

use onnx_arrays::{arrays, case};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wginfer::doctor::caps_with_form;
use wginfer::gpu::Gpu;
use wginfer::kernel::Form;
use wginfer::onnx::{ElementType, OnnxModel, OnnxOptions, OnnxTensor};
use wginfer::tensor::{Tensor, Tolerance};

const CLOSE: Tolerance = Tolerance::new(1e-3, 1e-3);

/// A file of ../shared/models.
fn file(path: &str) -> Option<PathBuf> {
    Some(common::shared()?.join("models").join(path))
}

fn load(gpu: &Gpu, path: &Path) -> OnnxModel {
    OnnxModel::load_with(path, gpu, &OnnxOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The device in the form that fits it, and in those of ordinary GPUs.
fn devices(gpu: &Gpu) -> Vec<Gpu> {
    let forced =
        [Form::Subgroup, Form::Plain].into_iter().filter_map(|form| caps_with_form(gpu.caps(), form));
    std::iter::once(gpu.clone()).chain(forced.map(|caps| gpu.with_caps(caps))).collect()
}

fn run(model: &OnnxModel, inputs: &[(&str, OnnxTensor)]) -> BTreeMap<String, OnnxTensor> {
    model.run(inputs).unwrap_or_else(|error| panic!("{error}")).into_iter().collect()
}

fn assert_close(what: &str, tolerance: Tolerance, got: &OnnxTensor, want: &OnnxTensor) {
    assert_eq!(got.element(), want.element(), "{what}");
    if let Some(mismatch) = tolerance.mismatch(got.tensor(), want.tensor()) {
        panic!("{what}: {mismatch}");
    }
}

/// Elements `start..end` of the first axis.
fn rows(tensor: &OnnxTensor, start: usize, end: usize) -> OnnxTensor {
    let mut dims = tensor.dims().to_vec();
    let row: usize = dims[1..].iter().product();
    dims[0] = end - start;
    let all = tensor.tensor();
    let size = all.dtype().size() * row;
    let spec = wginfer::tensor::Spec::new(all.dtype(), dims);
    let part = Tensor::from_bytes(spec, all.bytes()[start * size..end * size].to_vec());
    OnnxTensor::new(tensor.element(), &part).unwrap()
}

/// Runs a case and compares all outputs.
fn check_case(what: &str, model: &OnnxModel, arrays: &BTreeMap<String, OnnxTensor>, prefix: &str) {
    let [inputs, wanted] = case(arrays, prefix);
    assert!(!wanted.is_empty(), "{what} has no {prefix}");
    let got = run(model, &inputs);
    assert_eq!(got.len(), wanted.len(), "{what} {prefix}");
    for (name, want) in wanted {
        assert_close(&format!("{what} {prefix} {name}"), CLOSE, &got[name], &want);
    }
}

fn check_zoo(name: &str) {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("onnx_zoo")) else { return };
    let folder = folder.join(name);
    let arrays = arrays(&folder.join("golden.npz"));
    for gpu in devices(gpu) {
        let model = load(&gpu, &folder.join("model.onnx"));
        let prefixes = (0..).map(|index| format!("case{index}"));
        let cases = prefixes.take_while(|prefix| arrays.keys().any(|name| name.starts_with(prefix)));
        let start = std::time::Instant::now();
        let cases: Vec<String> = cases.collect();
        for prefix in &cases {
            check_case(name, &model, &arrays, prefix);
        }
        println!(
            "{name}, {:?}: {} cases in {:.1?}, {} dispatches",
            gpu.caps().form(),
            cases.len(),
            start.elapsed(),
            model.dispatches()
        );
    }
}

#[test]
fn faces_found_by_yunet() {
    check_zoo("yunet_320");
}

#[test]
fn faces_found_by_ultraface() {
    check_zoo("ultraface_rfb_320");
}

#[test]
fn objects_found_by_fastestdet() {
    check_zoo("fastestdet");
}

#[test]
fn super_resolution() {
    check_zoo("super_resolution_x3");
}

#[test]
fn voice_activity() {
    check_zoo("silero_vad_16k");
}

#[test]
fn noise_suppression() {
    check_zoo("dtln_model_2");
}

#[test]
fn upscaling() {
    check_zoo("waifu2x_upconv7_photo");
}

/// All 120 chunks of a recording, each with the end of the one before it and the state after it.
#[test]
fn voice_activity_of_a_whole_recording() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("onnx_zoo/silero_vad_16k")) else { return };
    let stream = arrays(&folder.join("stream.npz"));
    let (audio, wanted) = (stream["audio"].to_f32(), stream["speech_prob"].to_f32());
    for gpu in devices(gpu) {
        let model = load(&gpu, &folder.join("model.onnx"));
        let start = std::time::Instant::now();
        let mut state = OnnxTensor::from_f32([2, 1, 128], &[0.0; 256]);
        let mut context = vec![0.0; 64];
        for (chunk, want) in audio.as_chunks::<512>().0.iter().zip(&wanted) {
            let input = OnnxTensor::from_f32([1, 576], &[&context[..], chunk].concat());
            context = chunk[512 - 64..].to_vec();
            let rate = OnnxTensor::from_i64([], &[16_000]);
            let mut outputs = run(&model, &[("input", input), ("state", state), ("sr", rate)]);
            assert_close("probability", CLOSE, &outputs["output"], &OnnxTensor::from_f32([1, 1], &[*want]));
            state = outputs.remove("stateN").unwrap();
        }
        println!("{} chunks in {:.1?}, {} dispatches", wanted.len(), start.elapsed(), model.dispatches());
    }
}

/// Convolutions without padding: a part of the image gives that part of the result.
#[test]
fn one_load_runs_images_of_several_sizes() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("onnx_zoo/waifu2x_upconv7_photo")) else { return };
    let arrays = arrays(&folder.join("golden.npz"));
    let [inputs, outputs] = case(&arrays, "case0");
    let model = load(gpu, &folder.join("model.onnx"));
    for (batch, height, width) in [(1, 114, 114), (1, 40, 57), (2, 33, 20)] {
        let input = corner(&inputs[0].1, batch, height, width);
        let got = run(&model, &[("Input1", input)]);
        let want = corner(&outputs[0].1, batch, 2 * height - 28, 2 * width - 28);
        assert_close(&format!("{batch} x {height} x {width}"), CLOSE, &got["Eltwise4"], &want);
    }
}

/// The upper left corner of an image of three channels, several times.
fn corner(image: &OnnxTensor, batch: usize, height: usize, width: usize) -> OnnxTensor {
    let row = image.dims()[3];
    let plane = image.dims()[2] * row;
    let all = image.to_f32();
    let mut values = Vec::new();
    for channel in 0..3 {
        for y in 0..height {
            values.extend_from_slice(&all[channel * plane + y * row..][..width]);
        }
    }
    OnnxTensor::from_f32([batch, 3, height, width], &values.repeat(batch))
}

/// The photos of a classifier's folder as its input, and the logits wanted.
fn photos(folder: &Path, value: impl Fn(&[u8; 3], usize) -> f32) -> [OnnxTensor; 2] {
    let golden = folder.join("golden.npz");
    let bytes = common::npz_u8(&golden, "input_u8");
    let count = common::npz_strings(&golden, "names").len();
    let logits = common::npz(&golden, "logits").unwrap();
    let pixels: &[[u8; 3]] = bytes.as_chunks().0;
    let plane = pixels.len() / count;
    let side = plane.isqrt();
    let planes = pixels.chunks_exact(plane).flat_map(|image| (0..3).map(move |channel| (image, channel)));
    let values: Vec<f32> = planes
        .flat_map(|(image, channel)| image.iter().map(|pixel| value(pixel, channel)).collect::<Vec<_>>())
        .collect();
    [
        OnnxTensor::from_f32([count, 3, side, side], &values),
        OnnxTensor::from_f32([count, logits.len() / count], &logits),
    ]
}

/// Runs the photos in batches of these sizes and compares their logits.
fn check_batches(gpu: &Gpu, path: &Path, input: &str, [images, logits]: &[OnnxTensor; 2], batches: &[usize]) {
    let model = load(gpu, path);
    let start = std::time::Instant::now();
    let mut first = 0;
    for &batch in batches {
        let got = run(&model, &[(input, rows(images, first, first + batch))]);
        let want = rows(logits, first, first + batch);
        assert_close(&format!("{} x {batch}", path.display()), CLOSE, &got["logits"], &want);
        first += batch;
    }
    println!(
        "{}, {:?}: {batches:?} in {:.1?}, {} dispatches",
        path.display(),
        gpu.caps().form(),
        start.elapsed(),
        model.dispatches()
    );
}

#[test]
fn mobilenets() {
    let Some(gpu) = common::gpu() else { return };
    for (name, batches) in [("mobilenet_v1_025_128", &[1, 3, 10][..]), ("mobilenet_v2", &[1, 2])] {
        let Some(folder) = file(name) else { return };
        let photos = photos(&folder, |pixel, channel| (f32::from(pixel[channel]) - 128.0) / 128.0);
        for gpu in devices(gpu) {
            check_batches(&gpu, &folder.join("model.onnx"), "input", &photos, batches);
        }
    }
}

#[test]
fn residual_network() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("resnet20_cifar10")) else { return };
    let golden = folder.join("golden.npz");
    let (input, logits) = (common::npz(&golden, "input").unwrap(), common::npz(&golden, "logits").unwrap());
    let photos = [OnnxTensor::from_f32([12, 3, 32, 32], &input), OnnxTensor::from_f32([12, 10], &logits)];
    for gpu in devices(gpu) {
        check_batches(&gpu, &folder.join("model.onnx"), "input", &photos, &[1, 4, 7]);
    }
}

fn squeezenet_photos(folder: &Path) -> [OnnxTensor; 2] {
    const MEAN: [f32; 3] = [104.0, 117.0, 123.0];
    photos(folder, |pixel, channel| f32::from(pixel[2 - channel]) - MEAN[channel])
}

#[test]
fn squeezenet() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("squeezenet1_1")) else { return };
    let photos = squeezenet_photos(&folder);
    for gpu in devices(gpu) {
        check_batches(&gpu, &folder.join("model.onnx"), "data", &photos, &[1, 2]);
    }
}

/// The whole graph is of f16; compared with what the graph of f32 gives.
#[test]
fn squeezenet_of_half_precision() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("squeezenet1_1")) else { return };
    let [images, logits] = squeezenet_photos(&folder);
    let model = load(gpu, &folder.join("model_fp16.onnx"));
    for photo in 0..images.dims()[0] {
        let image = OnnxTensor::new(ElementType::Float16, rows(&images, photo, photo + 1).tensor()).unwrap();
        let got = run(&model, &[("data", image)])["logits"].to_f32();
        let want = rows(&logits, photo, photo + 1).to_f32();
        let worst = got.iter().zip(&want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
        assert!(worst <= 0.05, "photo {photo}: {worst}");
        let (best, gap) = top(&want);
        assert!(gap <= 0.1 || top(&got).0 == best, "photo {photo}");
    }
}

/// The largest logit, and how much larger it is than the next.
fn top(logits: &[f32]) -> (usize, f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    (order[0], logits[order[0]] - logits[order[1]])
}

/// Sentences in batches of three sizes; both exports of the model.
#[test]
fn sentence_embeddings() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("all_minilm_l6_v2")) else { return };
    let golden = arrays(&folder.join("golden.npz"));
    let lengths: Vec<usize> =
        golden["attention_mask"].to_i64().chunks(54).map(|mask| mask.iter().sum::<i64>() as usize).collect();
    for gpu in devices(gpu) {
        for name in ["model_dynamo.onnx", "model_torchscript.onnx"] {
            let model = load(&gpu, &folder.join(name));
            let start = std::time::Instant::now();
            for (first, end) in [(0, 1), (1, 5), (0, 20)] {
                let length = lengths[first..end].iter().max().copied().unwrap();
                let inputs = ["input_ids", "attention_mask", "token_type_ids"].map(|name| {
                    let all = golden[name].to_i64();
                    let rows = all.chunks(54).skip(first).take(end - first);
                    let ids: Vec<i64> = rows.flat_map(|row| row[..length].to_vec()).collect();
                    (name, OnnxTensor::from_i64([end - first, length], &ids))
                });
                let got = run(&model, &inputs);
                let what = format!("{name}, {} x {length}", end - first);
                let want = rows(&golden["embeddings"], first, end);
                assert_close(&what, CLOSE, &got["sentence_embedding"], &want);
                if first == 0 {
                    let hidden = rows(&got["last_hidden_state"], 0, 1);
                    let hidden =
                        OnnxTensor::from_f32([lengths[0], 384], &hidden.to_f32()[..lengths[0] * 384]);
                    assert_close(&what, CLOSE, &hidden, &golden["last_hidden_row0"]);
                }
            }
            println!(
                "{name}, {:?}: {:.1?}, {} dispatches",
                gpu.caps().form(),
                start.elapsed(),
                model.dispatches()
            );
        }
    }
}

/// Ids of a list in a golden.json.
fn ids(list: &serde_json::Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

fn golden_cases(folder: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

/// Prompts of several lengths, and a whole story.
#[test]
fn stories() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("stories260k")) else { return };
    let golden = arrays(&folder.join("golden_logits.npz"));
    let cases = golden_cases(&folder);
    for gpu in devices(gpu) {
        let model = load(&gpu, &folder.join("model.onnx"));
        let start = std::time::Instant::now();
        for (index, case) in cases.iter().enumerate() {
            let prompt = ids(&case["prompt_ids"]);
            let inputs = [("input_ids", OnnxTensor::from_i64([1, prompt.len()], &prompt))];
            let logits = run(&model, &inputs)["logits"].to_f32();
            let last = OnnxTensor::from_f32([512], &logits[logits.len() - 512..]);
            assert_close(
                &format!("prompt {index}"),
                CLOSE,
                &last,
                &golden[&format!("first_step_logits_{index}")],
            );
        }
        let want = &golden["full_logits_1"];
        let story = ids(&cases[1]["output_ids"])[..want.dims()[0]].to_vec();
        let inputs = [("input_ids", OnnxTensor::from_i64([1, story.len()], &story))];
        let got = run(&model, &inputs)["logits"].to_f32();
        assert_close("story", CLOSE, &OnnxTensor::from_f32(want.dims(), &got), want);
        println!(
            "stories, {:?}: {:.1?}, {} dispatches",
            gpu.caps().form(),
            start.elapsed(),
            model.dispatches()
        );
    }
}

/// A graph with past keys and values as inputs, none at first.
#[test]
fn cached_decoding_of_gpt2() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("gpt2_capp")) else { return };
    let golden = arrays(&folder.join("golden.npz"));
    for gpu in devices(gpu) {
        let model = load(&gpu, &folder.join("model.onnx"));
        let start = std::time::Instant::now();
        check_case("gpt2_capp", &model, &golden, "prefill");
        check_case("gpt2_capp", &model, &golden, "decode");
        println!("gpt2, {:?}: {:.1?}, {} dispatches", gpu.caps().form(), start.elapsed(), model.dispatches());
    }
}

/// Keys and values of each step are those that the next one starts with.
#[test]
fn greedy_decoding_of_gpt2() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("gpt2_capp")) else { return };
    let case = &golden_cases(&folder)[0];
    let (mut text, wanted) = (ids(&case["prompt_ids"]), ids(&case["output_ids"]));
    let model = load(gpu, &folder.join("model.onnx"));
    let start = std::time::Instant::now();
    let names: Vec<String> = model.inputs().into_iter().map(|input| input.name).collect();
    let mut past: BTreeMap<String, OnnxTensor> = BTreeMap::new();
    let mut seen = 0;
    while text.len() < wanted.len() {
        let new = &text[seen..];
        let inputs: Vec<(&str, OnnxTensor)> = names
            .iter()
            .map(|name| {
                let tensor = match name.as_str() {
                    "input_ids" => OnnxTensor::from_i64([1, new.len()], new),
                    "attention_mask" => OnnxTensor::from_i64([1, text.len()], &vec![1; text.len()]),
                    "position_ids" => {
                        let positions: Vec<i64> = (seen as i64..text.len() as i64).collect();
                        OnnxTensor::from_i64([1, new.len()], &positions)
                    }
                    other => past
                        .get(&other.replace("past_key_values", "present"))
                        .cloned()
                        .unwrap_or_else(|| OnnxTensor::from_f32([1, 4, 0, 16], &[])),
                };
                (name.as_str(), tensor)
            })
            .collect();
        past = run(&model, &inputs);
        seen = text.len();
        let logits = past["logits"].to_f32();
        text.push(top(&logits[logits.len() - 53..]).0 as i64);
    }
    assert_eq!(text, wanted);
    println!("gpt2: {} tokens in {:.1?}", text.len(), start.elapsed());
}

/// What was planned for a shape is used again: nothing is made on the device by a second run.
#[test]
fn a_second_run_plans_nothing() {
    let (Some(_), Some(shared)) = (common::gpu(), file("")) else { return };
    // A device of its own: others may make buffers on the shared one meanwhile.
    let gpu = common::own_gpu();
    let folder = shared.join("onnx_zoo/silero_vad_16k");
    let golden = arrays(&folder.join("golden.npz"));
    let model = load(&gpu, &folder.join("model.onnx"));
    check_case("silero", &model, &golden, "case0");
    let before = gpu.counts();
    for prefix in ["case1", "case2", "case3"] {
        check_case("silero", &model, &golden, prefix);
    }
    let after = gpu.counts();
    assert_eq!(
        [before.buffers, before.bind_groups, before.pipelines],
        [after.buffers, after.bind_groups, after.pipelines]
    );
}
