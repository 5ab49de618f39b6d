"""What is measured: suites of rows, and the command of each program for a row.

A program prints one JSON object at its end, which `read` may rewrite: `ms`, the times of single runs; `first_s`, from
the start of the process to the first result; `mismatch`, what is wrong with its outputs, or null;
`about`, name and version; or `error`. To add a peer, add it to a suite's `peers` and to `command`.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import rows

HERE = Path(__file__).resolve().parent
ONNX_RUNTIME = ["onnxruntime-webgpu==1.27.0", "numpy"]
# pnnx converts models to ncnn's format; the program in its package needs none of its dependencies.
NCNN = ["ncnn==1.0.20261020", "numpy", "--no-deps", "pnnx"]


@dataclass
class Context:
    work: Path
    models: Path
    wginfer: Path
    python: Callable  # packages -> interpreter


@dataclass
class Suite:
    name: str
    rows: list
    peers: list
    prepare: Callable  # (context, row): makes inputs
    command: Callable  # (context, program, row, runs) -> argv, or None where the program has no such row
    read: Callable = lambda program, result: result  # (program, what it printed) -> the object above
    details: Callable | None = None  # (context, program, row) -> argv of a process that is not timed, or None
    describe: Callable = lambda details: []  # details -> lines of text


def file_name(row):
    return row["name"].replace(" ", "_")


def arrays(context, row):
    return context.work / "arrays" / f"{file_name(row)}.npz"


def onnx_runtime(context, what, row, *rest):
    command = [context.python(ONNX_RUNTIME), HERE / "onnx_runtime.py", what]
    return [*command, context.models / row["model"], arrays(context, row), *rest]


def prepare_onnx(context, row):
    file = arrays(context, row)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        spec = {key: row[key] for key in ("inputs", "case") if key in row}
        if "golden" in row:
            spec["golden"] = str(context.models / row["golden"])
        subprocess.run(onnx_runtime(context, "prepare", row, json.dumps(spec)), check=True, stdout=subprocess.DEVNULL)


def onnx_command(context, program, row, runs):
    tolerance = row.get("tolerance", 1e-3)
    if program == "wginfer":
        file, model = arrays(context, row), context.models / row["model"]
        flags = ["--input", file, "--golden", file, "--tolerance", tolerance, "--runs", runs, "--json"]
        return [context.wginfer, "bench", "onnx", model, *flags]
    if program.startswith("ncnn"):
        return ncnn_command(context, program, row, runs, tolerance)
    what = {"onnxruntime-webgpu": "webgpu", "onnxruntime": "cpu"}[program]
    return onnx_runtime(context, what, row, runs, tolerance)


def ncnn_command(context, program, row, runs, tolerance):
    if not row.get("ncnn"):
        return None
    folder, file = context.work / "ncnn" / file_name(row), arrays(context, row)
    command = [context.python(NCNN), HERE / "ncnn_net.py"]
    if not folder.exists():
        subprocess.run([*command, "convert", context.models / row["model"], file, folder], check=True, stdout=subprocess.DEVNULL)
    return [*command, {"ncnn-vulkan": "vulkan", "ncnn": "cpu"}[program], folder, file, runs, tolerance]


def read_onnx(program, result):
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
    return onnx_runtime(context, "nodes", row) if program == "onnxruntime-webgpu" else None


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


SUITES = {
    "onnx": Suite(
        name="onnx",
        rows=rows.ONNX,
        peers=["onnxruntime-webgpu", "ncnn-vulkan", "onnxruntime", "ncnn"],
        prepare=prepare_onnx,
        command=onnx_command,
        read=read_onnx,
        details=onnx_details,
        describe=describe_nodes,
    ),
}
