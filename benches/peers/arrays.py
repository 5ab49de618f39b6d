"""Libraries of arrays on the CPU: prints one JSON line.

usage: arrays.py (numpy|torch) gemm M K N RUNS
       arrays.py torch network FOLDER RUNS TOLERANCE

FOLDER is one that networks.py wrote.
"""

import sys

from common import compare, finish, measure

import numpy as np


def gemm(library, m, k, n, runs):
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(dims, np.float32) for dims in ((m, k), (k, n)))
    if library == "numpy":
        about, run = f"numpy {np.__version__}", lambda: a @ b
    else:
        import torch

        left, right = torch.from_numpy(a), torch.from_numpy(b)
        about, run = f"torch {torch.__version__}", lambda: left @ right
    corners = np.ix_([0, m - 1], [0, n - 1])
    want = {"out.product": a[[0, m - 1]].astype(np.float64) @ b[:, [0, n - 1]].astype(np.float64)}
    check = lambda product: compare(["product"], [np.asarray(product)[corners]], want, 1e-3)  # noqa: E731
    run()
    return measure(about, run, check, runs)


def network(folder, runs, tolerance):
    import json
    from pathlib import Path

    import torch
    import torch.nn.functional as functions

    folder = Path(folder)
    described = json.loads((folder / "layers.json").read_text())
    values = np.fromfile(folder / "values.bin", np.float32)
    arrays = {}
    for name, place in described["arrays"].items():
        flat = values[place["at"] : place["at"] + int(np.prod(place["dims"]))]
        arrays[name] = torch.from_numpy(flat.reshape(place["dims"]))

    def apply(layer, inputs):
        op = layer["op"]
        weight, bias = (arrays.get(f"{layer['output']}.{part}") for part in ("weight", "bias"))
        if op == "conv":
            sizes = (layer[name] for name in ("stride", "pad"))
            return functions.conv2d(*inputs, weight, bias, *sizes, groups=layer["groups"])
        if op == "max_pool":
            return functions.max_pool2d(*inputs, layer["kernel"], layer["stride"], layer["pad"])
        if op == "linear":
            return functions.linear(inputs[0].flatten(1), weight, bias)
        kinds = {
            "relu": functions.relu,
            "relu6": functions.relu6,
            "mean": lambda x: x.mean((2, 3), keepdim=True),
            "concat": lambda *parts: torch.cat(parts, 1),
            "add": torch.add,
        }
        return kinds[op](*inputs)

    @torch.inference_mode()
    def run():
        found = {"image": arrays["image"]}
        for layer in described["layers"]:
            found[layer["output"]] = apply(layer, [found[name] for name in layer["inputs"]])
        return [found[described["layers"][-1]["output"]].numpy()]

    want = {"out.output": arrays["output"].numpy()}
    return measure(f"torch {torch.__version__}", run, lambda got: compare(["output"], got, want, tolerance), runs)


def main():
    library, what, *rest = sys.argv[1:]
    if what == "gemm":
        finish(gemm(library, *map(int, rest)))
    folder, runs, tolerance = rest
    finish(network(folder, int(runs), float(tolerance)))


main()
