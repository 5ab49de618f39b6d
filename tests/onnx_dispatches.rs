//! How many dispatches published ONNX models take on every profile of devices; no device is
//! needed. A pass that no longer finds what exporters write shows here.

mod common;

use std::collections::BTreeMap;
use wginfer::kernel::Caps;
use wginfer::onnx::{OnnxLimits, check_model};

type Shapes = BTreeMap<String, Vec<usize>>;

/// A model, the shapes of its inputs where the file leaves them open, and most dispatches.
fn models() -> Vec<(&'static str, Shapes, usize)> {
    let named = |names: &[&str], dims: &[usize]| -> Shapes {
        names.iter().map(|name| ((*name).to_owned(), dims.to_vec())).collect()
    };
    let sentences = named(&["input_ids", "attention_mask", "token_type_ids"], &[2, 12]);
    let mut decoding = named(&["input_ids", "position_ids"], &[1, 1]);
    decoding.extend(named(&["attention_mask"], &[1, 8]));
    for layer in 0..GPT2_LAYERS {
        for what in ["key", "value"] {
            decoding.insert(format!("past_key_values.{layer}.{what}"), vec![1, 4, 7, 16]);
        }
    }
    vec![
        ("all_minilm_l6_v2/model_dynamo.onnx", sentences.clone(), 61),
        ("all_minilm_l6_v2/model_torchscript.onnx", sentences, 60),
        ("gpt2_capp/model.onnx", decoding, 69),
        ("stories260k/model.onnx", named(&["input_ids"], &[1, 9]), 58),
        ("mobilenet_v1_025_128/model.onnx", Shapes::new(), 32),
        ("mobilenet_v2/model.onnx", Shapes::new(), 57),
        ("resnet20_cifar10/model.onnx", Shapes::new(), 36),
        ("squeezenet1_1/model.onnx", Shapes::new(), 57),
        ("squeezenet1_1/model_fp16.onnx", Shapes::new(), 57),
        ("onnx_zoo/yunet_320/model.onnx", Shapes::new(), 80),
        ("onnx_zoo/ultraface_rfb_320/model.onnx", Shapes::new(), 73),
        ("onnx_zoo/fastestdet/model.onnx", Shapes::new(), 146),
        ("onnx_zoo/super_resolution_x3/model.onnx", Shapes::new(), 9),
        ("onnx_zoo/dtln_model_2/model.onnx", Shapes::new(), 32),
        ("onnx_zoo/waifu2x_upconv7_photo/model.onnx", named(&["Input1"], &[1, 3, 40, 40]), 15),
    ]
}

const GPT2_LAYERS: usize = 2;

/// A device on which products are not summed in parts: a GPU's own choice, which takes a dispatch more.
fn without_parts(mut caps: Caps) -> Caps {
    let choices = [16, 32].map(|rows| format!("tiles{rows}x128_parts"));
    let others =
        ["tiles64x64_parts", "tiles32x64_parts", "matvec1_parts", "matvec8_parts"].map(str::to_owned);
    let matrices = ["16x128", "32x128", "64x64"].map(|size| format!("matrices{size}_parts"));
    for choice in choices.iter().chain(&others).chain(&matrices) {
        for family in ["linear", "matmul", "conv_gemm"] {
            caps.overrides.demoted.insert((family.to_owned(), choice.clone()));
        }
    }
    caps
}

#[test]
fn published_models_take_few_dispatches() {
    let Some(shared) = common::shared() else { return };
    for (name, shapes, most) in models() {
        for (profile, caps) in Caps::profiles() {
            let caps = without_parts(caps);
            let report =
                check_model(&shared.join("models").join(name), &shapes, OnnxLimits::default(), &caps)
                    .unwrap();
            assert!(report.is_good(true), "{name} on {profile}: {report:?}");
            println!("{name} on {profile}: {} dispatches", report.dispatches);
            assert!(report.dispatches <= most, "{name} on {profile}: {}, at most {most}", report.dispatches);
        }
    }
}
