//! Converted models compute what the ONNX models compute, bit for bit.

mod common;
#[path = "common/onnx_arrays.rs"]
mod onnx_arrays;
#[path = "common/onnx_file.rs"]
mod onnx_file;

use onnx_arrays::{arrays, case};
use onnx_file::{declared, floats, graph, initializer, looping_model, model, node, small_model, tensor};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wginfer::gpu::Gpu;
use wginfer::onnx::{ElementType, InputShapes, OnnxLimits, OnnxModel, OnnxOptions, OnnxTensor, convert};
use wginfer::ops::cases::Random;
use wginfer::saved::{SavedModel, SavedOptions};
use wginfer::tensor::Tolerance;

const CLOSE: Tolerance = Tolerance::new(1e-3, 1e-3);

type Inputs<'a> = Vec<(&'a str, OnnxTensor)>;

/// A file of ../shared/models.
fn file(path: &str) -> Option<PathBuf> {
    Some(common::shared()?.join("models").join(path))
}

fn shapes(inputs: &[(&str, OnnxTensor)]) -> InputShapes {
    inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.dims().to_vec())).collect()
}

/// Converts a model for these inputs and compares what it computes with what the model computes. Shows
/// how long loading and a first run take in a second session, when all pipelines are there.
fn check(gpu: &Gpu, path: &Path, sets: &[Inputs<'_>]) -> Vec<Vec<(String, OnnxTensor)>> {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("converted.safetensors");
    let all: Vec<InputShapes> = sets.iter().map(|inputs| shapes(inputs)).collect();
    let done = convert(path, &to, &all, OnnxLimits::default()).unwrap_or_else(|error| panic!("{error}"));
    let saved = || SavedModel::load_with(&to, gpu, SavedOptions::default()).unwrap();
    let original = OnnxModel::load_with(path, gpu, &OnnxOptions::default()).unwrap();
    let converted = saved();
    let mut outputs = Vec::new();
    for inputs in sets {
        let got = converted.run(inputs).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(got, original.run(inputs).unwrap(), "{}", path.display());
        assert_eq!(got, converted.run(inputs).unwrap(), "{}: a second run", path.display());
        outputs.push(got);
    }
    assert_eq!(converted.dispatches(), original.dispatches());
    let inputs = &sets[0];
    drop((converted, original));
    let time = |run: &dyn Fn() -> Duration| {
        let begin = Instant::now();
        let loaded = run();
        (loaded, begin.elapsed())
    };
    let (load_onnx, run_onnx) = time(&|| {
        let begin = Instant::now();
        let model = OnnxModel::load_with(path, gpu, &OnnxOptions::default()).unwrap();
        let loaded = begin.elapsed();
        model.run(inputs).unwrap();
        loaded
    });
    let (load_saved, run_saved) = time(&|| {
        let begin = Instant::now();
        let model = saved();
        let loaded = begin.elapsed();
        model.run(inputs).unwrap();
        loaded
    });
    println!(
        "{}: {} tensors, {} bytes; ONNX loads in {load_onnx:.1?}, with its first run {run_onnx:.1?}; \
         converted {load_saved:.1?}, {run_saved:.1?}",
        path.display(),
        done.tensor_count,
        done.tensor_bytes
    );
    outputs
}

fn check_zoo(name: &str) {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("onnx_zoo")) else { return };
    let folder = folder.join(name);
    let arrays = arrays(&folder.join("golden.npz"));
    let [inputs, wanted] = case(&arrays, "case0");
    let outputs = check(gpu, &folder.join("model.onnx"), &[inputs]).remove(0);
    for (name, want) in wanted {
        let got = outputs.iter().find(|(known, _)| known == name).map(|(_, got)| got).unwrap();
        assert_eq!(CLOSE.mismatch(got.tensor(), want.tensor()), None, "{name}");
    }
}

#[test]
fn published_models_for_images() {
    for name in
        ["yunet_320", "ultraface_rfb_320", "fastestdet", "super_resolution_x3", "waifu2x_upconv7_photo"]
    {
        check_zoo(name);
    }
}

#[test]
fn published_models_for_sound() {
    check_zoo("dtln_model_2");
    check_zoo("silero_vad_16k");
}

fn random(element: ElementType, dims: &[usize], seed: u64) -> OnnxTensor {
    OnnxTensor::new(element, &Random::new(seed).f32(dims)).unwrap()
}

#[test]
fn classifiers_in_two_batch_sizes() {
    let Some(gpu) = common::gpu() else { return };
    let table: [(&str, &str, ElementType, usize, &[usize]); 5] = [
        ("mobilenet_v1_025_128/model.onnx", "input", ElementType::Float, 128, &[1, 3]),
        ("mobilenet_v2/model.onnx", "input", ElementType::Float, 224, &[1]),
        ("resnet20_cifar10/model.onnx", "input", ElementType::Float, 32, &[4, 1]),
        ("squeezenet1_1/model.onnx", "data", ElementType::Float, 227, &[1]),
        ("squeezenet1_1/model_fp16.onnx", "data", ElementType::Float16, 227, &[1]),
    ];
    for (path, input, element, side, batches) in table {
        let Some(path) = file(path) else { return };
        let set = |&batch: &usize| vec![(input, random(element, &[batch, 3, side, side], 5))];
        check(gpu, &path, &batches.iter().map(set).collect::<Vec<_>>());
    }
}

#[test]
fn sentence_embeddings_in_two_shapes() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("all_minilm_l6_v2")) else { return };
    let set = |batch: usize, length: usize| {
        let ids: Vec<i64> = (0..batch * length).map(|index| 1_000 + 37 * index as i64).collect();
        let tensor = |values: &[i64]| OnnxTensor::from_i64([batch, length], values);
        let (ones, zeros) = (vec![1; ids.len()], vec![0; ids.len()]);
        vec![
            ("input_ids", tensor(&ids)),
            ("attention_mask", tensor(&ones)),
            ("token_type_ids", tensor(&zeros)),
        ]
    };
    for name in ["model_dynamo.onnx", "model_torchscript.onnx"] {
        check(gpu, &folder.join(name), &[set(1, 7), set(3, 12)]);
    }
}

#[test]
fn language_models() {
    let (Some(gpu), Some(folder)) = (common::gpu(), file("stories260k")) else { return };
    let set = |length: usize| {
        let ids: Vec<i64> = (0..length as i64).map(|index| 3 + index).collect();
        vec![("input_ids", OnnxTensor::from_i64([1, length], &ids))]
    };
    check(gpu, &folder.join("model.onnx"), &[set(5), set(11)]);
    // No past at first: inputs without elements.
    let Some(folder) = file("gpt2_capp") else { return };
    let arrays = arrays(&folder.join("golden.npz"));
    let sets = ["prefill", "decode"].map(|prefix| case(&arrays, prefix)[0].clone());
    check(gpu, &folder.join("model.onnx"), &sets);
}

/// Outputs that nothing computes, a matrix that is read as it is and transposed, a node for nothing.
fn unusual_model() -> Vec<u8> {
    let values: Vec<u8> = (0..64 * 32).flat_map(|index| (index as f32 / 999.0).to_le_bytes()).collect();
    let limit: Vec<u8> = f32::NEG_INFINITY.to_le_bytes().to_vec();
    let transposed = onnx_file::attribute("transB", onnx_file::int(3, 1), 2);
    let nodes = [
        node("MatMul", &["x", "w"], &["a"], &[]),
        node("Clip", &["a", "low"], &["b"], &[]),
        node("Gemm", &["b", "w"], &["c"], &[transposed]),
        node("Add", &["c", "x"], &["y"], &[]),
        node("Identity", &["x"], &["same"], &[]),
        node("Shape", &["x"], &["shape"], &[]),
        node("Neg", &["unused"], &["nothing"], &[]),
    ];
    let stored =
        [initializer(tensor("w", 1, &[32, 64], &values)), initializer(tensor("low", 1, &[], &limit))];
    model(&graph(
        &nodes,
        &[floats("x", &[-1, 32]), floats("unused", &[2])],
        &[floats("y", &[-1, 32]), floats("same", &[-1, 32]), declared("shape", 7, &[2])],
        &stored.concat(),
    ))
}

#[test]
fn outputs_that_nothing_computes() {
    let Some(gpu) = common::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, unusual_model()).unwrap();
    let set = |rows: usize| {
        vec![
            ("x", random(ElementType::Float, &[rows, 32], 3)),
            ("unused", OnnxTensor::from_f32([2], &[0.0; 2])),
        ]
    };
    let outputs = check(gpu, &path, &[set(2), set(5), set(1)]);
    assert_eq!(outputs[1][2].1, OnnxTensor::from_i64([2], &[5, 32]));
    assert_eq!(outputs[1][1].1, set(5)[0].1);
}

#[test]
fn what_no_graph_takes_is_refused() {
    let Some(gpu) = common::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, to) = (folder.path().join("model.onnx"), folder.path().join("out.graph.json"));
    std::fs::write(&path, small_model()).unwrap();
    let shapes = [1, 4].map(|rows| InputShapes::from([("x".to_owned(), vec![rows, 3])]));
    convert(&path, &to, &shapes, OnnxLimits::default()).unwrap();
    let model = SavedModel::load_with(&to, gpu, SavedOptions::default()).unwrap();
    let message = |inputs: &[(&str, OnnxTensor)]| model.run(inputs).unwrap_err().to_string();
    let x = |dims: [usize; 2]| random(ElementType::Float, &dims, 1);
    for inputs in [
        &[][..],
        &[("x", x([2, 3]))],
        &[("z", x([1, 3]))],
        &[("x", x([1, 3])), ("z", x([1, 3]))],
        &[("x", OnnxTensor::from_i64([1, 3], &[0; 3]))],
    ] {
        let message = message(inputs);
        let wanted = "converted for the inputs (x float[1, 3]) or (x float[4, 3]); got ";
        assert!(message.contains(wanted), "{message}");
    }
    assert_eq!(model.run(&[("x", x([4, 3]))]).unwrap()[0].1.dims(), [4, 3]);
}

#[test]
fn what_runs_on_the_host_is_not_converted() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.safetensors");
    let write = |bytes: &[u8]| {
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let refused = |path: &Path, shapes: &[InputShapes]| {
        convert(path, &to, shapes, OnnxLimits::default()).unwrap_err().to_string()
    };
    let nodes = [
        node("Relu", &["x"], &["a"], &[]),
        node("NonZero", &["a"], &["b"], &[]),
        node("Wondrous", &["a"], &["c"], &[]),
    ];
    let outputs = [declared("b", 7, &[2, -1]), floats("c", &[2, 3])];
    let several = model(&graph(&nodes, &[floats("x", &[2, 3])], &outputs, &[]));
    let message = refused(&write(&several), &[]);
    for part in
        ["NonZero `the NonZero` is computed on the host: reads back", "Wondrous `the Wondrous` cannot be"]
    {
        assert!(message.contains(part), "{message}");
    }
    let message = refused(&write(&looping_model()), &[]);
    assert!(
        message.contains("Loop `the Loop` is computed on the host: reads the values of input"),
        "{message}"
    );
    let small = write(&small_model());
    let set = |name: &str, dims: &[usize]| InputShapes::from([(name.to_owned(), dims.to_vec())]);
    assert!(refused(&small, &[]).contains("left open, shapes must be given: x[0] (n)"));
    assert!(refused(&small, &[set("z", &[1])]).contains("there is no input `z`; there are x"));
    assert!(refused(&small, &[set("x", &[1, 4])]).contains("input `x` is declared as"));
    assert!(refused(&small, &[set("x", &[1, 3]), set("x", &[1, 3])]).contains("given twice"));
    // A file of another kind is not replaced, nor is anything left of a conversion that failed.
    std::fs::write(&to, b"weights of someone").unwrap();
    assert!(refused(&small, &[set("x", &[1, 3])]).contains("is there already and is no converted model"));
    assert_eq!(std::fs::read(&to).unwrap(), b"weights of someone");
    std::fs::remove_file(&to).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    for _ in 0..2 {
        convert(&small, &to, &[set("x", &[2, 3])], OnnxLimits::default()).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}
