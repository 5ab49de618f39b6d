"""Writes a network for images with random weights, its input and its output, for all programs.

usage: networks.py (squeezenet1_1|mobilenet_v2|resnet50) FOLDER

FOLDER gets model.onnx; arrays.npz with in.NAME and, as ONNX Runtime's CPU provider computes it
without graph optimisation, out.NAME; and the same again as layers.json and values.bin for programs
that read no ONNX. The networks are those of torchvision, batch norms folded.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

IMAGE = (1, 3, 224, 224)
CLASSES = 1000


class Network:
    """Layers in order, each {"op", "inputs", "output", ...}, and their arrays by name."""

    def __init__(self, name):
        self.name, self.layers, self.arrays = name, [], {}
        self.random = np.random.default_rng(1)
        self.channels = {"image": IMAGE[1]}

    def add(self, op, inputs, channels, **more):
        output = f"{op}{len(self.layers)}"
        self.layers.append({"op": op, "inputs": inputs, "output": output, **more})
        self.channels[output] = channels
        return output

    def weights(self, name, *dims):
        """Normal, with a deviation that keeps values at their size (He et al. 2015)."""
        deviation = (2.0 / np.prod(dims[1:])) ** 0.5
        self.arrays[f"{name}.weight"] = (self.random.standard_normal(dims) * deviation).astype(np.float32)
        self.arrays[f"{name}.bias"] = (self.random.standard_normal(dims[0]) * 0.05).astype(np.float32)

    def conv(self, x, channels, kernel, stride=1, groups=1, pad=None, act="relu"):
        pad = kernel // 2 if pad is None else pad
        inputs = self.channels[x]
        sizes = {"kernel": kernel, "stride": stride, "pad": pad, "groups": groups}
        y = self.add("conv", [x], channels, **sizes)
        self.weights(y, channels, inputs // groups, kernel, kernel)
        return self.add(act, [y], channels) if act else y

    def max_pool(self, x, pad=0):
        return self.add("max_pool", [x], self.channels[x], kernel=3, stride=2, pad=pad)

    def mean(self, x):
        return self.add("mean", [x], self.channels[x])

    def join(self, a, b):
        return self.add("concat", [a, b], self.channels[a] + self.channels[b])

    def sum(self, a, b):
        return self.add("add", [a, b], self.channels[a])

    def linear(self, x):
        y = self.add("linear", [x], CLASSES)
        self.weights(y, CLASSES, self.channels[x])
        return y


def squeezenet(net):
    x = net.max_pool(net.conv("image", 64, 3, 2, pad=0))
    for index, (squeezed, expanded) in enumerate([(16, 64)] * 2 + [(32, 128)] * 2 + [(48, 192)] * 2 + [(64, 256)] * 2):
        if index in (2, 4):
            x = net.max_pool(x)
        x = net.conv(x, squeezed, 1)
        x = net.join(net.conv(x, expanded, 1), net.conv(x, expanded, 3))
    net.mean(net.conv(x, CLASSES, 1))


def mobilenet(net):
    x = net.conv("image", 32, 3, 2, act="relu6")
    blocks = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for factor, channels, repeats, first_stride in blocks:
        for index in range(repeats):
            stride, hidden = first_stride if index == 0 else 1, net.channels[x] * factor
            y = net.conv(x, hidden, 1, act="relu6") if factor > 1 else x
            y = net.conv(y, hidden, 3, stride, groups=hidden, act="relu6")
            y = net.conv(y, channels, 1, act=None)
            x = net.sum(x, y) if stride == 1 and net.channels[x] == channels else y
    net.linear(net.mean(net.conv(x, 1280, 1, act="relu6")))


def resnet(net):
    x = net.max_pool(net.conv("image", 64, 7, 2), pad=1)
    for width, repeats, first_stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            y = net.conv(net.conv(x, width, 1), width, 3, stride)
            y = net.conv(y, 4 * width, 1, act=None)
            if index == 0:
                x = net.conv(x, 4 * width, 1, stride, act=None)
            x = net.add("relu", [net.sum(x, y)], 4 * width)
    net.linear(net.mean(x))


NETWORKS = {"squeezenet1_1": squeezenet, "mobilenet_v2": mobilenet, "resnet50": resnet}


def nodes_of(layer):
    """The ONNX nodes of a layer."""
    op, inputs, output = layer["op"], layer["inputs"], layer["output"]
    window = {key: [layer[name]] * count for key, name, count in
              [("kernel_shape", "kernel", 2), ("strides", "stride", 2), ("pads", "pad", 4)] if name in layer}
    arrays = [f"{output}.weight", f"{output}.bias"]
    if op == "conv":
        return [helper.make_node("Conv", inputs + arrays, [output], group=layer["groups"], **window)]
    if op == "linear":
        flat = f"{output}.flat"
        flatten = helper.make_node("Flatten", inputs, [flat])
        return [flatten, helper.make_node("Gemm", [flat, *arrays], [output], transB=1)]
    if op == "relu6":
        return [helper.make_node("Clip", [*inputs, "zero", "six"], [output])]
    if op == "max_pool":
        return [helper.make_node("MaxPool", inputs, [output], **window)]
    if op == "concat":
        return [helper.make_node("Concat", inputs, [output], axis=1)]
    names = {"relu": "Relu", "add": "Add", "mean": "GlobalAveragePool"}
    return [helper.make_node(names[op], inputs, [output])]


def write_onnx(net, file):
    output = net.layers[-1]["output"]
    dims = [1, CLASSES] if net.layers[-1]["op"] == "linear" else [1, CLASSES, 1, 1]
    arrays = {**net.arrays, "zero": np.float32(0), "six": np.float32(6)}
    graph = helper.make_graph(
        [node for layer in net.layers for node in nodes_of(layer)],
        net.name,
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, IMAGE)],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, dims)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def write_layers(net, folder, arrays):
    """layers.json says where in values.bin, counted in values, an array begins."""
    placed, begin = {}, 0
    with open(folder / "values.bin", "wb") as file:
        for name, array in {**net.arrays, **arrays}.items():
            placed[name] = {"at": begin, "dims": list(array.shape)}
            begin += array.size
            file.write(np.ascontiguousarray(array, np.float32).tobytes())
    text = json.dumps({"layers": net.layers, "arrays": placed})
    (folder / "layers.json").write_text(text)


def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    net = Network(name)
    NETWORKS[name](net)
    model = folder / "model.onnx"
    write_onnx(net, model)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = net.random.standard_normal(IMAGE).astype(np.float32)
    output = session.get_outputs()[0].name
    result = session.run(None, {"image": image})[0]
    np.savez(folder / "arrays.npz", **{"in.image": image, f"out.{output}": result})
    write_layers(net, folder, {"image": image, "output": result})


main()
