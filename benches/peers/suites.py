"""What is measured: suites of rows, and the command of each program for a row.

A program prints one JSON object at its end, which `read` may rewrite: `ms`, the times of single runs, or
several lists of them by name; `first_s`, from the start of the process to the first result; `mismatch`,
what is wrong with its outputs, or null; `about`, name and version; or `error`. To add a peer, add it to a
suite's `peers` and to the function that makes the suite's commands.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import rows
from install import Folder, Missing, run

HERE = Path(__file__).resolve().parent
ONNX_RUNTIME = ["onnxruntime-webgpu==1.27.0", "onnx==1.23.2", "gguf", "safetensors==0.8.0", "numpy"]
# pnnx converts models to ncnn's format; the program in its package needs none of its dependencies.
NCNN = ["ncnn==1.0.20261020", "numpy", "--no-deps", "pnnx"]
# llama.cpp as it is built for this package, with Vulkan and without.
NODE_LLAMA = [f"{name}@3.22.1" for name in ("node-llama-cpp", "@node-llama-cpp/linux-x64-vulkan", "@node-llama-cpp/linux-x64")]

# The programs that run on the GPU, or on what the Vulkan driver calls one.
GPU = {
    *("wginfer", "wginfer-f16", "ncnn-vulkan", "onnxruntime-webgpu", "burn-wgpu"),
    *("llama.cpp-vulkan", "llama.cpp-vulkan-f16"),
}


@dataclass
class Context:
    folder: Folder
    models: Path
    wginfer: Path

    def place(self, kind, row):
        return self.folder.path / kind / row["name"].replace(" ", "_")


@dataclass
class Suite:
    name: str
    rows: list
    peers: list
    prepare: Callable  # (context, row): makes inputs
    command: Callable  # (context, program, row, runs) -> argv, or None where the program has no such row
    read: Callable = lambda context, program, row, result: result  # what a program printed -> the object above
    details: Callable | None = None  # (context, program, row) -> argv of a process that is not timed, or None
    describe: Callable = lambda details: []  # details -> lines of text
    measures: Callable = lambda row: [""]  # names of the lists of a row's `ms`
    rate: tuple = ("", {})  # a unit per second and the amount of it in a run of each figure
    run_ms: Callable = lambda ms: sum(ms.values())  # medians of a row's lists -> milliseconds of a run
    starts: bool = False  # only the first results are of interest
    own: list = field(default_factory=lambda: ["wginfer"])


def prepared(file, command):
    """Runs a command that makes a file which is not there yet."""
    if not file.exists():
        run(command)


def onnx_runtime(context, *rest, program="onnx_runtime.py"):
    return [context.folder.python(ONNX_RUNTIME), HERE / program, *rest]


PROVIDERS = {"onnxruntime-webgpu": "webgpu", "onnxruntime": "cpu"}


def on_model(context, program, row, runs):
    """The command of a program that runs an ONNX model on arrays."""
    model, file, tolerance = model_of(context, row), arrays_of(context, row), row.get("tolerance", 1e-3)
    if program == "wginfer":
        flags = ["--input", file, "--golden", file, "--tolerance", tolerance, "--runs", runs, "--json"]
        return [context.wginfer, "bench", "onnx", model, *flags]
    if program.startswith("ncnn"):
        return on_ncnn(context, program, row, runs, tolerance)
    return onnx_runtime(context, PROVIDERS[program], model, file, runs, tolerance)


def model_of(context, row):
    return context.models / row["model"] if "model" in row else row["folder"] / "model.onnx"


def arrays_of(context, row):
    return context.place("arrays", row).with_suffix(".npz") if "model" in row else row["folder"] / "arrays.npz"


def on_ncnn(context, program, row, runs, tolerance):
    if not row.get("ncnn"):
        return None
    folder, file = context.place("ncnn", row), arrays_of(context, row)
    command = [context.folder.python(NCNN), HERE / "ncnn_net.py"]
    prepared(folder / "model.ncnn.param", [*command, "convert", model_of(context, row), file, folder])
    return [*command, {"ncnn-vulkan": "vulkan", "ncnn": "cpu"}[program], folder, file, runs, tolerance]


def read_onnx(context, program, row, result):
    if program != "wginfer":
        return result
    compared = [] if result["compared"] else ["no output was compared"]
    return {
        "about": f"wginfer on {result['adapter']}",
        "load_s": result["load_seconds"],
        "first_s": result["first_result_seconds"],
        "ms": [result["run"]["median"]],
        "mismatch": "; ".join([*result["mismatches"], *compared]) or None,
        "graphs": result["graphs"],
        "dispatches": result["dispatches"],
        "pipelines": result["pipelines"],
        "bytes": result["gpu_bytes"],
    }


def onnx_details(context, program, row):
    if program != "onnxruntime-webgpu":
        return None
    return onnx_runtime(context, "nodes", model_of(context, row), arrays_of(context, row))


def describe_nodes(details):
    """Where the nodes of ONNX Runtime ran."""
    lines = []
    for provider, operators in details.get("nodes", {}).items():
        names = ", ".join(f"{count} {name}" for name, count in sorted(operators.items()))
        names = f": {names}" if provider == "CPU" else ""
        lines.append(f"{sum(operators.values())} nodes by {provider}{names}")
    if details.get("programs"):
        lines.append(f"{details['programs']} programs timed by the device of {details['driver']}")
    return ["; ".join(lines)] if lines else []


def prepare_onnx(context, row):
    file, model = arrays_of(context, row), model_of(context, row)
    if not model.exists():
        raise Missing(f"the file {row['model']} is not in the folder --models")
    spec = {key: row[key] for key in ("inputs", "case") if key in row}
    if "golden" in row:
        spec["golden"] = str(context.models / row["golden"])
    file.parent.mkdir(parents=True, exist_ok=True)
    prepared(file, onnx_runtime(context, "prepare", model, file, json.dumps(spec)))


def prepare_gemm(context, row):
    row["folder"] = context.place("gemm", row)
    prepared(row["folder"] / "arrays.npz", onnx_runtime(context, "gemm", *row["sizes"], row["folder"]))


def gemm_command(context, program, row, runs):
    if program in ("wginfer", "wginfer-f16"):
        return [context.wginfer, "bench", "kernels", "--only", gemm_name(program, row), "--runs", runs, "--json"]
    if program in ("burn-wgpu", "candle"):
        return [context.folder.crate(program.removesuffix("-wgpu")), "gemm", *row["sizes"], runs]
    if program in ("numpy", "torch"):
        found = context.folder.torch() if program == "torch" else context.folder.python(ONNX_RUNTIME)
        return [found, HERE / "arrays.py", program, "gemm", *row["sizes"], runs]
    return on_model(context, program, row, runs)


def gemm_name(program, row):
    """As `wginfer bench kernels` calls it."""
    return f"linear {row['name']} {'f16' if program.endswith('-f16') else 'f32'}"


def read_gemm(context, program, row, result):
    if not program.startswith("wginfer"):
        return result
    [found] = [entry for entry in result["rows"] if entry["name"] == gemm_name(program, row)]
    return {
        "about": f"wginfer on {result['limits']['adapter']}",
        "ms": [found["microseconds"]["median"] / 1e3],
        "mismatch": found["mismatch"],
        "kernels": found["kernels"],
    }


def prepare_cnn(context, row):
    row["folder"] = context.place("networks", row)
    prepared(row["folder"] / "layers.json", onnx_runtime(context, row["name"], row["folder"], program="networks.py"))


def cnn_command(context, program, row, runs):
    if program == "burn-wgpu":
        return [context.folder.crate("burn"), "network", row["folder"], runs, 1e-3]
    if program == "torch":
        return [context.folder.torch(), HERE / "arrays.py", "torch", "network", row["folder"], runs, 1e-3]
    return on_model(context, program, row, runs)


def prepare_llm(context, row):
    row["folder"] = context.place("decoders", row)
    prepared(row["folder"] / "model.onnx", onnx_runtime(context, row["name"], row["folder"], program="decoders.py"))
    work = ["prepare", row["folder"], rows.PROMPT, rows.STEPS]
    prepared(row["folder"] / "tokens.json", onnx_runtime(context, *work, program="onnx_decoder.py"))


def llm_command(context, program, row, runs):
    work, dtype = [rows.PROMPT, rows.STEPS, runs], "f16" if program.endswith("-f16") else "f32"
    if program in ("wginfer", "wginfer-f16"):
        flags = ["--dtype", dtype, "--length", rows.PROMPT, "--runs", runs, "--json"]
        return [context.wginfer, "bench", "text", row["folder"], *flags]
    if program.startswith("llama.cpp"):
        packages = context.folder.npm("node-llama-cpp", NODE_LLAMA)
        device = "vulkan" if "vulkan" in program else "cpu"
        return ["node", HERE / "llama.mjs", packages, device, row["folder"] / f"{dtype}.gguf", *work]
    if program.startswith("candle"):
        return [context.folder.crate("candle"), "decoder", row["folder"] / f"{dtype}.gguf", *work]
    return onnx_runtime(context, PROVIDERS[program], row["folder"], *work, program="onnx_decoder.py")


def read_llm(context, program, row, result):
    if program.startswith("wginfer"):
        [prompt], [decode] = result["prompt"], result["decode"]
        result = {
            "about": f"wginfer on {result['surroundings']['adapter']}",
            "first_s": result["first_token_seconds"],
            "ms": {
                "prompt": [1e3 * rows.PROMPT / prompt["speed"]["median"]],
                "decode": [1e3 / decode["speed"]["median"]],
            },
            "tokens": result["tokens"],
            "dispatches": result["dispatches_per_token"],
        }
    want = json.loads((row["folder"] / "tokens.json").read_text())
    return {**result, "mismatch": different_tokens(result["tokens"], want, exact_program(program))}


def exact_program(program):
    """Whether weights and caches are in f32, so that all tokens must be those of the reference;
    llama.cpp and what has weights in f16 may come to another one where two are as good as equal."""
    return not (program.startswith("llama.cpp") or program.endswith("-f16"))


def different_tokens(got, want, exact):
    """What is wrong with decoded tokens. The first, after the prompt, must be right in any case."""
    same = next((index for index, (one, other) in enumerate(zip(got, want)) if one != other), min(len(got), len(want)))
    if same >= (len(want) if exact and len(got) > 1 else 1):
        return None
    return f"token {same} is {got[same:same + 1]}, expected {want[same:same + 1]}"


def llm_amounts():
    return {f"{row['name']} {what}": amount for row in rows.LLM for what, amount in (("prompt", rows.PROMPT), ("decode", 1))}


def gemm_amounts():
    return {row["name"]: 2e-9 * row["sizes"][0] * row["sizes"][1] * row["sizes"][2] for row in rows.GEMM}


def is_llm(row):
    return row.get("name") in {other["name"] for other in rows.LLM}


def either(cnn, llm):
    """The function of the suite that a row of `start` comes from; `row` is the argument that tells."""
    return lambda *given: (llm if any(isinstance(one, dict) and is_llm(one) for one in given) else cnn)(*given)


# The suites whose first results `start` is about.
START_OF = ("cnn", "llm")
CNN_PEERS = ["ncnn-vulkan", "onnxruntime-webgpu", "burn-wgpu", "onnxruntime", "ncnn", "torch"]
LLM_PEERS = [
    *("llama.cpp-vulkan", "llama.cpp-vulkan-f16", "onnxruntime-webgpu"),
    *("llama.cpp", "llama.cpp-f16", "onnxruntime", "candle", "candle-f16"),
]


def start_command(context, program, row, runs):
    peers = LLM_PEERS if is_llm(row) else CNN_PEERS
    command = llm_command if is_llm(row) else cnn_command
    return command(context, program, row, runs) if program in ("wginfer", *peers) else None


SUITES = {
    "start": Suite(
        name="start",
        rows=[*rows.CNN, *rows.LLM],
        peers=["ncnn-vulkan", "llama.cpp-vulkan", "onnxruntime-webgpu", "onnxruntime", "ncnn", "llama.cpp", "candle"],
        prepare=either(prepare_cnn, prepare_llm),
        command=start_command,
        read=either(read_onnx, read_llm),
        starts=True,
    ),
    "gemm": Suite(
        name="gemm",
        rows=rows.GEMM,
        peers=["burn-wgpu", "onnxruntime-webgpu", "onnxruntime", "numpy", "torch", "candle"],
        prepare=prepare_gemm,
        command=gemm_command,
        read=read_gemm,
        rate=("GFLOP/s", gemm_amounts()),
        own=["wginfer", "wginfer-f16"],
    ),
    "cnn": Suite(
        name="cnn",
        rows=rows.CNN,
        peers=CNN_PEERS,
        prepare=prepare_cnn,
        command=cnn_command,
        read=read_onnx,
        details=onnx_details,
        describe=describe_nodes,
        rate=("GFLOP/s", {row["name"]: row["gflop"] for row in rows.CNN}),
    ),
    "llm": Suite(
        name="llm",
        rows=rows.LLM,
        peers=LLM_PEERS,
        prepare=prepare_llm,
        command=llm_command,
        read=read_llm,
        measures=lambda row: ["prompt", "decode"],
        run_ms=lambda ms: ms["prompt"] + rows.STEPS * ms["decode"],
        rate=("tokens/s", llm_amounts()),
        own=["wginfer", "wginfer-f16"],
    ),
    "onnx": Suite(
        name="onnx",
        rows=rows.ONNX,
        peers=["onnxruntime-webgpu", "ncnn-vulkan", "onnxruntime", "ncnn"],
        prepare=prepare_onnx,
        command=on_model,
        read=read_onnx,
        details=onnx_details,
        describe=describe_nodes,
    ),
}
