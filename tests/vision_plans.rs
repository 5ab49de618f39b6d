//! How many dispatches networks for images take on every profile of devices; no device is needed.

use wginfer::graph::{Graph, Plan, lower, optimise};
use wginfer::kernel::Caps;
use wginfer::models::vision::{MobileNetV2, Network, ResNet, SqueezeNet, TensorShapes, VisionModel};
use wginfer::nn::Scope;
use wginfer::tensor::{DType, Spec};
use wginfer::weights::{FileWeights, Weights};

/// The graph of one image of 224 x 224 pixels, or as many as the network takes, and its plan.
fn plan(network: &dyn Network, caps: &Caps) -> (Graph, Plan) {
    let mut graph = Graph::new();
    let side = network.fixed_side().unwrap_or(224);
    let pixels = graph.input("pixels", Spec::f32([1, 3, side, side]));
    let logits = network.build(&mut graph, &Scope::new(&DType::F32, ""), pixels).unwrap();
    graph.output("logits", logits);
    optimise(&mut graph).unwrap();
    lower(&mut graph, caps).unwrap();
    let plan = Plan::new(&graph, caps).unwrap();
    (graph, plan)
}

fn count(graph: &Graph, operators: &[&str]) -> usize {
    graph.nodes().iter().filter(|node| operators.contains(&node.op.name())).count()
}

/// Convolutions, those of one pixel among them.
const CONVOLUTIONS: [&str; 3] = ["conv", "depthwise_conv", "linear"];

/// Batch norms, activations and additions go into the convolutions; one in several dispatches
/// (Winograd, split sums) may take two more.
#[test]
fn resnet_blocks_take_as_many_dispatches_as_convolutions() {
    for (profile, caps) in Caps::profiles() {
        let (graph, plan) = plan(&ResNet::resnet50(1000), &caps);
        for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
            for block in 0..blocks {
                let prefix = format!("layer{}.{block}.", stage + 1);
                let convolutions = if block == 0 { 4 } else { 3 };
                let nodes = graph.nodes().iter().filter(|node| node.name.starts_with(&prefix)).count();
                assert_eq!(nodes, convolutions, "{profile}: {prefix}");
                let steps = plan.steps.iter().filter(|step| step.name.starts_with(&prefix)).count();
                assert!((convolutions..=3 * convolutions).contains(&steps), "{profile}: {prefix}: {steps}");
            }
        }
        // 53 convolutions and the classifier.
        assert_eq!(count(&graph, &CONVOLUTIONS), 54, "{profile}");
        assert_eq!(count(&graph, &["pool", "adaptive_pool"]), 2, "{profile}");
    }
}

/// Only the pixels are transposed, and shapes change without a dispatch.
#[test]
fn whole_networks_run_with_their_channels_last() {
    let networks: [(&dyn Network, usize); 3] = [
        (&ResNet::resnet50(1000), 54),
        (&MobileNetV2::width_1(1000), 53),
        (&SqueezeNet::squeezenet1_1(1000), 26),
    ];
    for (profile, caps) in Caps::profiles() {
        for (network, convolutions) in networks {
            let (graph, plan) = plan(network, &caps);
            assert_eq!(count(&graph, &["transpose"]), 1, "{profile}: {network:?}");
            assert_eq!(count(&graph, &["batch_norm", "unary", "binary"]), 0, "{profile}: {network:?}");
            assert_eq!(count(&graph, &CONVOLUTIONS), convolutions, "{profile}: {network:?}");
            // Only what is given out is copied.
            let inner = plan.steps.split_last().unwrap().1;
            assert!(inner.iter().all(|step| step.launch.kernel != "reshape"), "{profile}: {network:?}");
        }
    }
}

/// Two norms, the stacked projection, attention, and three linear layers, of which two add what
/// goes around them.
#[test]
fn layers_of_vision_transformers_take_seven_dispatches() {
    for (name, layer) in
        [("vit", "vit.encoder.layer.1."), ("vit_torchvision", "encoder.layers.encoder_layer_1.")]
    {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/vision").join(name);
        let weights = FileWeights::open(&folder.join("model.safetensors")).unwrap();
        let tensors = TensorShapes::new(&folder, weights.shapes());
        let model = VisionModel::load(&folder, &tensors, None).unwrap();
        for (profile, caps) in Caps::profiles() {
            let (_, plan) = plan(model.network(), &caps);
            let steps = plan.steps.iter().filter(|step| step.name.starts_with(layer));
            let kernels: Vec<&str> = steps.map(|step| step.launch.kernel).collect();
            assert_eq!(kernels.len(), 7, "{profile}: {kernels:?}");
        }
    }
}
