//! Trained networks (../shared/models) on photos: logits and labels of the original frameworks.
#![cfg(feature = "vision")]

mod common;

use std::path::PathBuf;
use wginfer::checkpoint::Checkpoint;
use wginfer::gpu::Gpu;
use wginfer::graph::Graph;
use wginfer::kernel::Form;
use wginfer::models::vision::{Architecture, TensorShapes, VisionModel};
use wginfer::session::Session;
use wginfer::tensor::DType;
use wginfer::vision::{Preprocess, network_input};
use wginfer::weights::{FileWeights, Weights};

/// Classifiers for ImageNet.
const IMAGENET: [(&str, Architecture); 3] = [
    ("squeezenet1_1", Architecture::SqueezeNet),
    ("mobilenet_v2", Architecture::MobileNetV2),
    ("mobilenet_v1_025_128", Architecture::MobileNetV1),
];

const CIFAR: &str = "resnet20_cifar10";

/// A trained network, and what it gave for some photos.
struct Trained {
    name: &'static str,
    weights: FileWeights,
    model: VisionModel,
    preprocess: Preprocess,
    /// The photos' names.
    photos: Vec<String>,
    /// The photos in the network's size, words `0x00BBGGRR`.
    pixels: Vec<Vec<u8>>,
    logits: Vec<Vec<f32>>,
}

fn trained(name: &'static str) -> Option<Trained> {
    let folder: PathBuf = common::shared()?.join("models").join(name);
    let weights = FileWeights::open(&folder).unwrap();
    let tensors = TensorShapes::new(&folder, weights.shapes());
    let model = VisionModel::load(&folder, &tensors, None).unwrap();
    let preprocess = Preprocess::load(&folder, &model.default_preprocess()).unwrap();
    let golden = folder.join("golden.npz");
    let photos = common::npz_strings(&golden, "names");
    let bytes = common::npz_u8(&golden, "input_u8");
    let word = |pixel: &[u8; 3]| [pixel[0], pixel[1], pixel[2], 0];
    let image = |bytes: &[u8]| bytes.as_chunks::<3>().0.iter().flat_map(word).collect();
    let pixels = bytes.chunks_exact(bytes.len() / photos.len()).map(image).collect();
    let logits = common::npz(&golden, "logits").unwrap();
    let logits = logits.chunks_exact(logits.len() / photos.len()).map(<[f32]>::to_vec).collect();
    Some(Trained { name, weights, model, preprocess, photos, pixels, logits })
}

/// How a network is run.
#[derive(Debug, Clone, Copy)]
struct Settings {
    /// Dtype of the weights; without it that of the file.
    dtype: Option<DType>,
    /// Photos of a run.
    batch: usize,
    /// Whether what convolutions give is read as well, so that no norm can be folded into them.
    norms_apart: bool,
}

const F32: Settings = Settings { dtype: Some(DType::F32), batch: 1, norms_apart: false };
const STORED: Settings = Settings { dtype: None, ..F32 };

impl Trained {
    /// Logits of the first `photos` photos.
    fn run(&self, gpu: &Gpu, settings: Settings, photos: usize) -> Vec<Vec<f32>> {
        let checkpoint = Checkpoint::new(&self.weights, self.name, settings.dtype);
        let mut graph = Graph::new();
        let size = self.preprocess.fixed_size().unwrap();
        let input = network_input(&mut graph, &self.preprocess, settings.batch, size).unwrap();
        let logits = self.model.build(&mut graph, &checkpoint, input).unwrap();
        graph.output("logits", logits);
        if settings.norms_apart {
            let convolutions = graph.nodes().iter().filter(|node| node.op.name() == "conv");
            let outputs: Vec<_> = convolutions.map(|node| (node.name.clone(), node.outputs[0])).collect();
            outputs.into_iter().for_each(|(name, value)| graph.output(name, value));
        }
        checkpoint.check([&graph], "", "").unwrap();
        let mut session = Session::new(gpu, None);
        let plan = session.add(vec![graph], &checkpoint, &mut |_, _| {}).unwrap()[0];
        let mut results = Vec::new();
        for part in self.pixels[..photos].chunks_exact(settings.batch) {
            let bytes = part.concat();
            let outputs = session.run(plan, &[("pixels", &bytes)], &["logits"], &|| false).unwrap();
            let logits = outputs[0].to_f32();
            results.extend(logits.chunks_exact(logits.len() / settings.batch).map(<[f32]>::to_vec));
        }
        assert_eq!(results.len(), photos);
        results
    }

    /// Photos whose logits differ by more than `absolute` + `relative` |logit| from those wanted,
    /// or whose five largest are others.
    fn failures(&self, got: &[Vec<f32>], absolute: f32, relative: f32) -> Vec<String> {
        let mut failures = Vec::new();
        for ((photo, got), want) in self.photos.iter().zip(got).zip(&self.logits) {
            assert_eq!(got.len(), want.len(), "{}", self.name);
            let close = |(got, want): (&f32, &f32)| (got - want).abs() <= absolute + relative * want.abs();
            let wrong = got.iter().zip(want).filter(|&pair| !close(pair)).count();
            if wrong > 0 || top5(got) != top5(want) {
                let worst = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
                let (top, wanted) = (top5(got), top5(want));
                failures.push(format!(
                    "{} {photo}: {wrong} logits differ, by {worst:.1e} at most; top 5 {top:?}, want {wanted:?}",
                    self.name
                ));
            }
        }
        failures
    }
}

fn top5(logits: &[f32]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    classes.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    classes.truncate(5);
    classes
}

fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_families_are_found() {
    for (name, architecture) in IMAGENET.into_iter().chain([(CIFAR, Architecture::CifarResNet)]) {
        let Some(trained) = trained(name) else { return };
        assert_eq!(trained.model.architecture(), architecture, "{name}");
        let side = trained.preprocess.fixed_size().unwrap()[0];
        assert_eq!(trained.pixels[0].len(), side * side * 4, "{name}");
    }
}

#[test]
fn logits_of_photos_are_the_original_ones() {
    let Some(gpu) = common::gpu() else { return };
    let mut failures = Vec::new();
    for (name, _) in IMAGENET {
        let Some(trained) = trained(name) else { return };
        let photos = trained.photos.len();
        for settings in [F32, STORED] {
            let got = trained.run(gpu, settings, photos);
            failures.extend(trained.failures(&got, 1e-3, 1e-4));
        }
    }
    assert_none(&failures);
}

#[test]
fn gpu_forms_give_the_same() {
    let Some(gpu) = common::gpu() else { return };
    let mut failures = Vec::new();
    for form in [Form::Subgroup, Form::Plain] {
        let gpu = gpu.with_caps(gpu.caps().clone().with_form(form));
        for (name, photos) in [("squeezenet1_1", 2), ("mobilenet_v2", 2), ("mobilenet_v1_025_128", 14)] {
            let Some(trained) = trained(name) else { return };
            let got = trained.run(&gpu, STORED, photos);
            let messages = trained.failures(&got, 1e-3, 1e-4);
            failures.extend(messages.into_iter().map(|message| format!("{form:?}: {message}")));
        }
    }
    assert_none(&failures);
}

/// Batch norms that stay apart from their convolutions, and those that are folded into them.
#[test]
fn live_batch_norms_give_the_original_logits() {
    let Some(gpu) = common::gpu() else { return };
    let Some(trained) = trained(CIFAR) else { return };
    for form in [gpu.caps().form(), Form::Subgroup, Form::Plain] {
        let gpu = gpu.with_caps(gpu.caps().clone().with_form(form));
        for norms_apart in [false, true] {
            let got = trained.run(&gpu, Settings { norms_apart, ..STORED }, trained.photos.len());
            assert_none(&trained.failures(&got, 1e-4, 0.0));
        }
    }
}

#[test]
fn half_precision_weights_give_the_same_labels() {
    let Some(gpu) = common::gpu() else { return };
    for name in [CIFAR, "squeezenet1_1", "mobilenet_v2", "mobilenet_v1_025_128"] {
        let Some(trained) = trained(name) else { return };
        let half = Settings { dtype: Some(DType::F16), ..F32 };
        let got = trained.run(gpu, half, trained.photos.len());
        for ((photo, got), want) in trained.photos.iter().zip(&got).zip(&trained.logits) {
            assert_eq!(top5(got)[0], top5(want)[0], "{name} {photo}");
        }
    }
}

#[test]
fn batches_equal_single_photos() {
    let Some(gpu) = common::gpu() else { return };
    for name in ["mobilenet_v1_025_128", "squeezenet1_1", CIFAR] {
        let Some(trained) = trained(name) else { return };
        let single = trained.run(gpu, F32, 6);
        for batch in [2, 3] {
            let several = trained.run(gpu, Settings { batch, ..F32 }, 6);
            for (one, other) in single.concat().iter().zip(several.concat()) {
                assert!((one - other).abs() <= 1e-5 * one.abs().max(1.0), "{name} x {batch}: {one} {other}");
            }
        }
    }
}
