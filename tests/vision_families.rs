//! Every family of networks for images against small random-weight models of torchvision and
//! transformers (tests/goldens/vision): outputs and recognition. WGINFER_CASE=part runs the families
//! whose folder's name contains it.

mod common;

use std::collections::HashMap;
use std::path::PathBuf;
use wginfer::checkpoint::Checkpoint;
use wginfer::gpu::Gpu;
use wginfer::graph::{Graph, Source, ValueId};
use wginfer::kernel::Form;
use wginfer::models::vision::{Architecture, Network, Task, TensorShapes, VisionModel};
use wginfer::nn::Scope;
use wginfer::session::{Session, WeightRows};
use wginfer::tensor::{DType, Tensor};
use wginfer::weights::{FileWeights, Weights};

const FAMILIES: [(&str, Architecture); 27] = [
    ("squeezenet1_0", Architecture::SqueezeNet),
    ("squeezenet1_1", Architecture::SqueezeNet),
    ("mobilenet_v1", Architecture::MobileNetV1),
    ("mobilenet_v2", Architecture::MobileNetV2),
    ("mobilenet_v2_torchvision", Architecture::MobileNetV2),
    ("mobilenet_v3_large", Architecture::MobileNetV3),
    ("mobilenet_v3_small", Architecture::MobileNetV3),
    ("resnet_basic", Architecture::ResNet),
    ("resnet_bottleneck", Architecture::ResNet),
    ("resnext", Architecture::ResNet),
    ("resnet_transformers", Architecture::ResNet),
    ("resnet_cifar", Architecture::CifarResNet),
    ("vgg", Architecture::Vgg),
    ("vgg_bn", Architecture::Vgg),
    ("densenet", Architecture::DenseNet),
    ("densenet_published", Architecture::DenseNet),
    ("efficientnet", Architecture::EfficientNet),
    ("efficientnet_transformers", Architecture::EfficientNet),
    ("convnext", Architecture::ConvNext),
    ("convnext_transformers", Architecture::ConvNext),
    ("vit", Architecture::Vit),
    ("deit", Architecture::Vit),
    ("vit_torchvision", Architecture::Vit),
    ("vit_torchvision_published", Architecture::Vit),
    ("yolo", Architecture::Yolo),
    ("unet", Architecture::UNet),
    ("unet_bilinear", Architecture::UNet),
];

/// Largest difference from the golden outputs, relative to the largest of them.
const TOLERANCE: f64 = 1e-4;

/// The same with weights of half precision on the device: a weight that is multiplied by a batch
/// norm is rounded once more, by up to 2^-11, in each of up to 60 layers.
const HALF_TOLERANCE: f64 = 2e-2;

struct Golden {
    folder: PathBuf,
    weights: FileWeights,
    input: Tensor,
    logits: Tensor,
    /// Outputs of modules for the first image, by the checkpoint's path.
    layers: Vec<(String, Tensor)>,
}

/// The families that the filter lets through.
fn families() -> impl Iterator<Item = (&'static str, Architecture)> {
    let filter = std::env::var("WGINFER_CASE").unwrap_or_default();
    FAMILIES.into_iter().filter(move |(family, _)| family.contains(&filter))
}

fn golden(family: &str) -> Golden {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/vision").join(family);
    let tensors = FileWeights::open(&folder.join("golden.safetensors")).unwrap();
    let values = |name: &str| {
        let tensor = tensors.get(name).unwrap().to_tensor();
        Tensor::from_f64(DType::F32, tensor.dims(), &tensor.to_f64())
    };
    let layers = tensors.names().into_iter().filter_map(|name| name.strip_prefix("layer."));
    Golden {
        input: values("input"),
        logits: values("logits"),
        layers: layers.map(|path| (path.to_owned(), values(&format!("layer.{path}")))).collect(),
        weights: FileWeights::open(&folder.join("model.safetensors")).unwrap(),
        folder,
    }
}

fn shapes(weights: &FileWeights) -> TensorShapes {
    TensorShapes::new("golden", weights.shapes())
}

/// The network's graph; with `layers`, the golden's modules are outputs as well.
fn graph(network: &dyn Network, golden: &Golden, dtype: Option<DType>, layers: bool) -> Graph {
    let checkpoint = Checkpoint::new(&golden.weights, "golden", dtype);
    let mut graph = Graph::new();
    let pixels = graph.input("pixels", golden.input.spec().clone());
    let logits = network.build(&mut graph, &Scope::new(&checkpoint, ""), pixels).unwrap();
    graph.output("logits", logits);
    for (path, _) in golden.layers.iter().filter(|_| layers) {
        let prefix = format!("{path}.");
        let last = graph.nodes().iter().rfind(|node| node.name.starts_with(&prefix));
        let value = last.unwrap_or_else(|| panic!("no node below {path}")).outputs[0];
        graph.output(path, value);
    }
    graph.check().unwrap();
    checkpoint.check([&graph], "", "").unwrap();
    graph
}

/// Outputs by name.
type Outputs = HashMap<String, Tensor>;

/// Outputs on a device.
fn run(gpu: &Gpu, network: &dyn Network, golden: &Golden, dtype: Option<DType>, layers: bool) -> Outputs {
    let graph = graph(network, golden, dtype, layers);
    let mut session = Session::new(gpu, None);
    let checkpoint = Checkpoint::new(&golden.weights, "golden", dtype);
    let names: Vec<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let plan = session.add(vec![graph], &checkpoint, &mut |_, _| {}).unwrap()[0];
    let inputs = [("pixels", golden.input.bytes())];
    let tensors = session.run(plan, &inputs, &wanted, &|| false).unwrap();
    names.into_iter().zip(tensors).collect()
}

/// Outputs by the operators' references, without a device.
fn evaluate(golden: &Golden, graph: &Graph) -> Outputs {
    let checkpoint = Checkpoint::new(&golden.weights, "golden", None);
    let mut values: HashMap<ValueId, Tensor> = HashMap::new();
    for (id, value) in graph.values() {
        let tensor = match &value.source {
            Source::Input => golden.input.clone(),
            Source::Constant(tensor) => (**tensor).clone(),
            Source::Weight(source) => {
                let (rows, cols) = value.spec.shape.rows_and_cols();
                let bytes = checkpoint.rows(source, &value.spec, 0..rows, cols).unwrap();
                Tensor::from_bytes(value.spec.clone(), bytes)
            }
            _ => continue,
        };
        values.insert(id, tensor);
    }
    for node in graph.nodes() {
        let inputs: Vec<Tensor> = node.inputs.iter().map(|id| values[id].clone()).collect();
        let outputs = node.op.reference(&inputs).unwrap();
        values.extend(node.outputs.iter().copied().zip(outputs));
    }
    graph.outputs().iter().map(|(name, id)| (name.clone(), values[id].clone())).collect()
}

/// Largest difference, relative to the largest value wanted; of detections the worse of boxes
/// and scores. `got` may have more images.
fn difference(task: Task, got: &Tensor, want: &Tensor) -> f64 {
    let parts: &[fn(usize) -> bool] = match task {
        Task::Detect { .. } => &[|column| column < 4, |column| column >= 4],
        _ => &[|_| true],
    };
    let (_, columns) = want.spec().shape.rows_and_cols();
    let (got, want) = (got.to_f64(), want.to_f64());
    let of_part = |part: &fn(usize) -> bool| {
        let (mut worst, mut largest) = (0.0, 0.0f64);
        let pairs = got.iter().zip(&want).enumerate();
        for (_, (got, want)) in pairs.filter(|(index, _)| part(index % columns)) {
            largest = largest.max(want.abs());
            // NaN counts as the worst.
            let difference = (got - want).abs();
            worst = if difference <= worst { worst } else { difference };
        }
        if worst.is_nan() { f64::INFINITY } else { worst / largest }
    };
    parts.iter().map(of_part).fold(0.0, f64::max)
}

/// What differs, with the modules where it shows.
fn explain(family: &str, worst: f64, golden: &Golden, got: &Outputs) -> String {
    let whole = Task::Classify { classes: 0 };
    // The goldens of modules are f16.
    let module = |(path, want): &(String, Tensor)| {
        format!("{path} by {:.1e}", difference(whole, &got[path.as_str()], want))
    };
    let modules: Vec<String> = golden.layers.iter().map(module).collect();
    format!("{family}: logits differ by {worst:.1e}; {}", modules.join(", "))
}

fn load(golden: &Golden, architecture: Option<Architecture>) -> VisionModel {
    VisionModel::load(&golden.folder, &shapes(&golden.weights), architecture).unwrap()
}

#[test]
fn references_give_the_original_outputs() {
    let mut failures = Vec::new();
    for (family, architecture) in families() {
        let golden = golden(family);
        let model = load(&golden, Some(architecture));
        let got = evaluate(&golden, &graph(model.network(), &golden, None, true));
        assert_eq!(got["logits"].dims(), golden.logits.dims(), "{family}");
        let worst = difference(model.task(), &got["logits"], &golden.logits);
        if worst > TOLERANCE {
            failures.push(explain(family, worst, &golden, &got));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check_all(gpu: &Gpu, dtype: Option<DType>, tolerance: f64) {
    let mut failures = Vec::new();
    for (family, architecture) in families() {
        let golden = golden(family);
        let model = load(&golden, Some(architecture));
        // With more outputs fewer nodes are fused: they are only asked for to explain a failure.
        let got = run(gpu, model.network(), &golden, dtype, false);
        let worst = difference(model.task(), &got["logits"], &golden.logits);
        if worst > tolerance {
            let got = run(gpu, model.network(), &golden, dtype, true);
            failures.push(explain(family, worst, &golden, &got));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn outputs_are_the_original_ones() {
    let Some(gpu) = common::gpu() else { return };
    check_all(gpu, Some(DType::F32), TOLERANCE);
}

#[test]
fn half_precision_weights_give_nearly_the_same() {
    let Some(gpu) = common::gpu() else { return };
    check_all(gpu, Some(DType::F16), HALF_TOLERANCE);
}

#[test]
fn gpu_forms_give_the_same() {
    let Some(gpu) = common::gpu() else { return };
    for form in [Form::Subgroup, Form::Plain] {
        check_all(&gpu.with_caps(gpu.caps().clone().with_form(form)), Some(DType::F32), TOLERANCE);
    }
}

/// Names and shapes alone tell the family, and no other one claims it.
#[test]
fn networks_are_recognised_by_their_tensors() {
    for (family, architecture) in families() {
        let golden = golden(family);
        assert_eq!(Architecture::recognise(&shapes(&golden.weights)), [architecture], "{family}");
        let empty = tempfile::tempdir().unwrap();
        let found = VisionModel::load(empty.path(), &shapes(&golden.weights), None);
        match found {
            Ok(model) => assert_eq!(model.architecture(), architecture, "{family}"),
            // Heads of the tiny golden are not those of published sizes.
            Err(error) => assert!(error.to_string().contains("num_attention_heads"), "{family}: {error}"),
        }
    }
}

/// Tensors of two families at once are an error that says what to do, which then helps.
#[test]
fn tensors_of_two_families_are_refused() {
    let (one, other) = (golden("squeezenet1_1"), golden("resnet_basic"));
    let shape =
        |weights: &FileWeights, name: &str| (name.to_owned(), weights.spec(name).unwrap().shape.clone());
    let tensors = [&one, &other].into_iter().flat_map(|golden| {
        golden.weights.names().into_iter().map(|name| shape(&golden.weights, name)).collect::<Vec<_>>()
    });
    let tensors = TensorShapes::new("both.safetensors", tensors);
    let folder = tempfile::tempdir().unwrap();
    let error = VisionModel::load(folder.path(), &tensors, None).unwrap_err().to_string();
    assert_eq!(error, "both.safetensors: the tensors fit squeezenet and resnet; say which with --arch");
    let model = VisionModel::load(folder.path(), &tensors, Some(Architecture::ResNet)).unwrap();
    assert_eq!(model.architecture(), Architecture::ResNet);
}

/// A family that is named though the tensors are another one's fails with what is missing.
#[test]
fn weights_of_another_family_are_named() {
    let golden = golden("squeezenet1_1");
    let folder = tempfile::tempdir().unwrap();
    for architecture in Architecture::all().filter(|it| *it != Architecture::SqueezeNet) {
        let error =
            VisionModel::load(folder.path(), &shapes(&golden.weights), Some(architecture)).unwrap_err();
        assert!(error.to_string().contains("tensor `"), "{architecture:?}: {error}");
    }
    let nothing = TensorShapes::new("empty.safetensors", []);
    let error = VisionModel::load(folder.path(), &nothing, None).unwrap_err().to_string();
    assert!(error.contains("supported for images are squeezenet, "), "{error}");
}
