"""What is measured: the rows of the suites, and the goals for them.

Those of `onnx` are files of a folder that --models names, with their inputs.
"""

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

# Products of [m, k] and [k, n].
GEMM = [
    {"name": f"{m}x{k}x{n}", "sizes": [m, k, n]}
    for m, k, n in [(256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (16, 4096, 4096), (1, 4096, 4096)]
]

# Networks with random weights, one image of 224 x 224; GFLOP as two for a multiplication and an addition.
CNN = [
    {"name": "squeezenet1_1", "gflop": 0.698, "ncnn": True},
    {"name": "mobilenet_v2", "gflop": 0.601, "ncnn": True},
    {"name": "resnet50", "gflop": 8.178, "ncnn": True},
]

# Decoders with random weights: a prompt of PROMPT tokens, then STEPS more, one after the other.
LLM = [{"name": "15m"}, {"name": "124m"}]
PROMPT, STEPS = 128, 32


def goal(row, than, times, aim=None, **more):
    """wginfer is to be `times` as quick as `than`; `aim` is what would be better still."""
    return {"row": row, "than": than, "times": times, **({"aim": aim} if aim else {}), **more}


def quicker_in_f16(row, aim=None):
    return goal(row, "wginfer", 1.0, aim, program="wginfer-f16")


GOALS = {
    "gemm": [
        goal("512x512x512", "burn-wgpu", 1.3, 1.8),
        goal("1024x1024x1024", "burn-wgpu", 1.3, 1.8),
        goal("16x4096x4096", "burn-wgpu", 3.0, 4.0),
        goal("1x4096x4096", "burn-wgpu", 8.0),
        *(quicker_in_f16(row["name"], 1.15) for row in GEMM),
    ],
    # At most 0.6 and 0.75 of its time, better 0.4.
    "cnn": [
        goal("squeezenet1_1", "ncnn-vulkan", 1 / 0.6, 2.5),
        goal("mobilenet_v2", "ncnn-vulkan", 1 / 0.6, 2.5),
        goal("resnet50", "ncnn-vulkan", 1 / 0.75, 2.5),
    ],
    "llm": [
        goal("15m prompt", "llama.cpp-vulkan", 1.7, 2.5),
        goal("15m decode", "llama.cpp-vulkan", 3.0, 5.0),
        goal("124m prompt", "llama.cpp-vulkan", 1.7, 2.5),
        goal("124m decode", "llama.cpp-vulkan", 1.7, 2.3),
        *(quicker_in_f16(f"{row['name']} {what}") for row in LLM for what in ("prompt", "decode")),
    ],
    # With an empty shader cache at most 0.2 of the time of the quickest.
    "start": [goal(row["name"], "gpu", 5.0, key="cold_s") for row in [*CNN, *LLM]],
    "onnx": [goal(row["name"], "onnxruntime-webgpu", 1.0) for row in ONNX],
}
