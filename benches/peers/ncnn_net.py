"""ncnn on one model: prints one JSON line.

usage: ncnn_net.py convert MODEL.onnx ARRAYS.npz FOLDER
       ncnn_net.py (vulkan|cpu) FOLDER ARRAYS.npz RUNS TOLERANCE

`convert` writes model.ncnn.param and model.ncnn.bin with pnnx, in f32. ncnn has no batches: the
first dimension of every input is left out.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from common import compare, finish, measure

import numpy as np


def inputs_of(arrays):
    return [arrays[name] for name in arrays.files if name.startswith("in.")]


def convert(model, file, folder):
    """pnnx writes beside its input, so that is copied."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "model.onnx"
    shutil.copyfile(model, copy)
    program = Path(importlib.util.find_spec("pnnx").origin).parent / "pnnx"
    shapes = ["[" + ",".join(map(str, array.shape)) + "]f32" for array in inputs_of(np.load(file))]
    command = [program, copy, f"inputshape={','.join(shapes)}", "fp16=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (folder / "model.ncnn.param").exists():
        return {"error": f"pnnx: exit code {done.returncode}"}
    return {"folder": str(folder)}


def run_on(device, folder, file, runs, tolerance):
    import ncnn

    arrays = np.load(file)
    inputs = [np.ascontiguousarray(array[0]) for array in inputs_of(arrays)]
    names = [name.removeprefix("out.") for name in arrays.files if name.startswith("out.")]
    net = ncnn.Net()
    net.opt.use_vulkan_compute = device == "vulkan"
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    if device == "vulkan":
        net.set_vulkan_device(0)
    net.load_param(f"{folder}/model.ncnn.param")
    net.load_model(f"{folder}/model.ncnn.bin")

    def run():
        extractor = net.create_extractor()
        for index, array in enumerate(inputs):
            extractor.input(f"in{index}", ncnn.Mat(array))
        results = [extractor.extract(f"out{index}") for index in range(len(names))]
        if any(status != 0 for status, _ in results):
            raise RuntimeError("an output was not computed: pnnx has left an operator that ncnn lacks")
        return [np.array(result) for _, result in results]

    about = f"ncnn {ncnn.__version__}"
    return measure(about, run, lambda outputs: compare(names, outputs, arrays, tolerance), runs)


def main():
    what, *rest = sys.argv[1:]
    if what == "convert":
        finish(convert(*rest))
    folder, file, runs, tolerance = rest
    finish(run_on(what, folder, file, int(runs), float(tolerance)))


main()
