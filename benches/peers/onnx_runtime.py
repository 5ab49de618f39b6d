"""ONNX Runtime on one model: prints one JSON line.

usage: onnx_runtime.py prepare MODEL ARRAYS.npz SPEC.json
       onnx_runtime.py gemm M K N FOLDER
       onnx_runtime.py (webgpu|cpu) MODEL ARRAYS.npz RUNS TOLERANCE
       onnx_runtime.py nodes MODEL ARRAYS.npz

`prepare` writes inputs as in.NAME and what the CPU provider computes of them without graph
optimisation as out.NAME; `gemm` writes model.onnx and arrays.npz of a product of matrices. `webgpu` and `cpu` compare their outputs with these before they are
timed. `nodes` runs with profiling and says which nodes ran where.
"""

import json
import os
import sys
import tempfile
import time

from common import compare, driver, finish, measure

import numpy as np
import onnxruntime as ort
from onnx_session import session

TYPES = {"float16": np.float16, "float": np.float32, "int64": np.int64, "int32": np.int32}


def made_input(spec, dtype, random):
    """An array of SPEC: {"dims": [...], "kind": "normal" | "ids" | "ones" | "range", "below": n}."""
    dims, kind = spec["dims"], spec["kind"]
    if kind == "normal":
        return random.standard_normal(dims).astype(dtype)
    if kind == "ids":
        return random.integers(0, spec["below"], dims).astype(dtype)
    if kind == "ones":
        return np.ones(dims, dtype)
    if kind == "zeros":
        return np.zeros(dims, dtype)
    raise ValueError(f"unknown kind of input {kind}")


def prepare(model, file, spec):
    spec, random = json.loads(spec), np.random.default_rng(0)
    made = session(model, "cpu", optimised=False)
    golden = np.load(spec["golden"]) if "golden" in spec else {}
    arrays = {}
    for value in made.get_inputs():
        name = f"{spec.get('case', 'case0')}.in.{value.name}"
        if name in golden:
            arrays[value.name] = golden[name]
        else:
            dtype = TYPES[value.type.removeprefix("tensor(").removesuffix(")")]
            arrays[value.name] = made_input(spec["inputs"][value.name], dtype, random)
    outputs = dict(zip([value.name for value in made.get_outputs()], made.run(None, arrays)))
    inputs = {f"in.{name}": array for name, array in arrays.items()}
    np.savez(file, **inputs, **{f"out.{name}": array for name, array in outputs.items()})
    shapes = [f"{name} {list(array.shape)}" for name, array in arrays.items()]
    return {"inputs": shapes}


def gemm(m, k, n, folder):
    """A product of an input [m, k] and a constant [k, n]."""
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    a, b = (random.standard_normal(dims, np.float32) for dims in ((m, k), (k, n)))
    value = lambda name, dims: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)  # noqa: E731
    node, constant = helper.make_node("MatMul", ["a", "b"], ["c"]), numpy_helper.from_array(b, "b")
    graph = helper.make_graph([node], "gemm", [value("a", [m, k])], [value("c", [m, n])], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    os.makedirs(folder, exist_ok=True)
    onnx.save(model, f"{folder}/model.onnx")
    product = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    np.savez(f"{folder}/arrays.npz", **{"in.a": a, "out.c": product})
    return {}


def feed_of(made, arrays):
    return {value.name: arrays[f"in.{value.name}"] for value in made.get_inputs()}


def run_on(provider, model, file, runs, tolerance):
    arrays = np.load(file)
    loading = time.time()
    made = session(model, provider)
    feed = feed_of(made, arrays)
    load = time.time() - loading
    names = [value.name for value in made.get_outputs()]
    about = f"ONNX Runtime {ort.__version__}"
    check = lambda outputs: compare(names, outputs, arrays, tolerance)  # noqa: E731
    return {"load_s": load, **measure(about, lambda: made.run(None, feed), check, runs)}


def nodes(model, file):
    """Nodes by provider, and how many programs the device itself timed."""
    arrays = np.load(file)
    with tempfile.TemporaryDirectory() as folder:
        made = session(model, "webgpu", profile=os.path.join(folder, "profile"))
        made.run(None, feed_of(made, arrays))
        with open(made.end_profiling()) as trace:
            events = json.load(trace)
    counts, programs = {}, 0
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            provider = event["args"]["provider"].removesuffix("ExecutionProvider")
            operators = counts.setdefault(provider, {})
            operator = event["args"]["op_name"]
            operators[operator] = operators.get(operator, 0) + 1
        programs += event.get("cat") == "Api"
    return {"nodes": counts, "programs": programs, "driver": driver()}


def main():
    what, *rest = sys.argv[1:]
    if what == "gemm":
        finish(gemm(*map(int, rest[:3]), rest[3]))
    if what == "prepare":
        finish(prepare(*rest))
    if what == "nodes":
        finish(nodes(*rest))
    model, file, runs, tolerance = rest
    finish(run_on(what, model, file, int(runs), float(tolerance)))


main()
