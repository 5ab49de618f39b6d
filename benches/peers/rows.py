"""The models of the suite `onnx`: files of a folder that --models names, and their inputs."""

IMAGE = "normal"


def zoo(name):
    return {"name": name, "model": f"onnx_zoo/{name}/model.onnx", "golden": f"onnx_zoo/{name}/golden.npz"}


def network(name, model, dims, **more):
    return {"name": name, "model": model, "inputs": {more.pop("input"): {"dims": dims, "kind": "normal"}}, **more}


def sentences(name, model):
    dims = [1, 54]
    return {
        "name": name,
        "model": model,
        "inputs": {
            "input_ids": {"dims": dims, "kind": "ids", "below": 30000},
            "attention_mask": {"dims": dims, "kind": "ones"},
            "token_type_ids": {"dims": dims, "kind": "zeros"},
        },
    }


def gpt2(case):
    folder = "gpt2_capp"
    return {"name": f"{folder} {case}", "model": f"{folder}/model.onnx", "golden": f"{folder}/golden.npz", "case": case}


ONNX = [
    zoo("yunet_320"),
    zoo("ultraface_rfb_320"),
    zoo("fastestdet"),
    zoo("super_resolution_x3"),
    zoo("waifu2x_upconv7_photo"),
    zoo("dtln_model_2"),
    zoo("silero_vad_16k"),
    network("squeezenet1_1", "squeezenet1_1/model.onnx", [1, 3, 227, 227], input="data"),
    # Half precision: within 0.05, as the weights themselves are rounded.
    network("squeezenet1_1 f16", "squeezenet1_1/model_fp16.onnx", [1, 3, 227, 227], input="data", tolerance=0.05),
    network("mobilenet_v2", "mobilenet_v2/model.onnx", [1, 3, 224, 224], input="input"),
    network("mobilenet_v1_025_128", "mobilenet_v1_025_128/model.onnx", [1, 3, 128, 128], input="input"),
    network("resnet20_cifar10", "resnet20_cifar10/model.onnx", [1, 3, 32, 32], input="input"),
    sentences("all_minilm torchscript", "all_minilm_l6_v2/model_torchscript.onnx"),
    sentences("all_minilm dynamo", "all_minilm_l6_v2/model_dynamo.onnx"),
    {
        "name": "stories260k",
        "model": "stories260k/model.onnx",
        "inputs": {"input_ids": {"dims": [1, 64], "kind": "ids", "below": 512}},
    },
    gpt2("prefill"),
    gpt2("decode"),
]

# Networks of convolutions, which ncnn's converter takes.
for row in ONNX:
    row["ncnn"] = row["name"] in {
        "yunet_320",
        "ultraface_rfb_320",
        "fastestdet",
        "super_resolution_x3",
        "waifu2x_upconv7_photo",
        "squeezenet1_1",
        "mobilenet_v2",
        "mobilenet_v1_025_128",
        "resnet20_cifar10",
    }
