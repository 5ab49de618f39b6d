"""ONNX Runtime on a decoder that decoders.py wrote: prints one JSON line.

usage: onnx_decoder.py prepare FOLDER PROMPT STEPS
       onnx_decoder.py (webgpu|cpu) FOLDER PROMPT STEPS RUNS

`prepare` writes tokens.json: what follows the prompt of PROMPT tokens most probably, then what is
decoded from token 1 on in that place. The caches are inputs and outputs of the graph, which copies
them at each step; they stay on the device.
"""

import json
import sys
import time
from pathlib import Path

from common import driver, finish, since_start

import numpy as np
import onnxruntime as ort
from onnx_session import session


class Decoder:
    def __init__(self, provider, folder):
        self.session = session(str(Path(folder) / "model.onnx"), provider)
        self.device = provider
        self.vocab = self.session.get_outputs()[0].shape[-1]
        self.caches = [value.name for value in self.session.get_outputs()[1:]]
        dims = {value.name: value.shape for value in self.session.get_inputs() if value.name.startswith("past.")}
        empty = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in dims.items()}
        self.empty = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in empty.items()}

    def step(self, ids, past, position):
        """The most probable next token, and the caches, which stay where they were computed."""
        total = np.arange(position + len(ids))
        mask = np.where(total[None] <= total[position:, None], 0, -1e9).astype(np.float32)
        binding = self.session.io_binding()
        for name, array in {"ids": np.int64([ids]), "positions": total[position:], "mask": mask}.items():
            binding.bind_cpu_input(name, array)
        for name, value in past.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", "cpu")
        for name in self.caches:
            binding.bind_output(name, self.device)
        self.session.run_with_iobinding(binding)
        logits, *caches = binding.get_outputs()
        names = [name.replace("now.", "past.") for name in self.caches]
        return int(logits.numpy().argmax()), dict(zip(names, caches))

    def prompt(self, length):
        ids = [index * 7919 % self.vocab for index in range(length)]
        return self.step(ids, self.empty, 0)

    def decode(self, past, position, steps):
        tokens = [1]
        for step in range(steps):
            token, past = self.step(tokens[-1:], past, position + step)
            tokens.append(token)
        return tokens[1:]


def run_on(decoder, length, steps, runs):
    first, _ = decoder.prompt(length)
    first_s = since_start()
    prompts, decodes = [], []
    for _ in range(runs):
        start = time.perf_counter()
        _, past = decoder.prompt(length)
        middle = time.perf_counter()
        tokens = decoder.decode(past, length, steps)
        prompts.append((middle - start) * 1e3)
        decodes.append((time.perf_counter() - middle) * 1e3 / steps)
    return {
        "about": f"ONNX Runtime {ort.__version__}",
        "first_s": first_s,
        "ms": {"prompt": prompts, "decode": decodes},
        "tokens": [first, *tokens],
        "driver": driver(),
    }


def main():
    what, folder, *rest = sys.argv[1:]
    # Lives to the end: what a session has computed on a device must not outlive it.
    decoder = Decoder("cpu" if what == "prepare" else what, folder)
    if what == "prepare":
        report = run_on(decoder, *map(int, rest), 1)
        (Path(folder) / "tokens.json").write_text(json.dumps(report["tokens"]))
        finish({})
    finish(run_on(decoder, *map(int, rest)))


main()
