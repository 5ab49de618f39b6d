"""A case is a folder with a model of one node, its inputs and the outputs wanted."""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FOLDER = pathlib.Path(__file__).parent / "cases"
MICROSOFT = "com.microsoft"
RANDOM = np.random.default_rng(7)
INDEX = []


def floats(*shape, scale=1.0):
    return RANDOM.normal(0, scale, shape).astype(np.float32)


def integers(kind, *shape):
    limits = np.iinfo(kind)
    return RANDOM.integers(limits.min, limits.max + 1, shape).astype(kind)


def run(model, feeds, by_reference):
    """The outputs, and what computed them."""
    session = lambda: onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ways = {"onnxruntime": lambda: session().run(None, feeds), "reference": lambda: ReferenceEvaluator(model).run(None, feeds)}
    for name in sorted(ways, reverse=by_reference):
        try:
            return ways[name](), name
        except Exception as error:
            print(f"  {model.graph.name} not by {name}: {str(error)[:150]}")
    types = [output.type.tensor_type for output in model.graph.output]
    # Without a shape an output has that of the first input.
    shape = lambda kind: [dim.dim_value for dim in kind.shape.dim] if kind.HasField("shape") else feeds["x0"].shape
    shapes = [shape(kind) for kind in types]
    if any(np.prod(shape) for shape in shapes):
        raise ValueError(f"nothing runs {model.graph.name}")
    kinds = [helper.tensor_dtype_to_np_dtype(kind.elem_type) for kind in types]
    return [np.zeros(shape, kind) for shape, kind in zip(shapes, kinds)], "shape inference"


EXACT = (0.0, 0.0)


def build(name, operator, inputs, outputs, domain, stored, opset, attributes):
    """A model of one node and its inputs by name."""
    names = ["" if value is None else f"x{index}" for index, value in enumerate(inputs)]
    node = helper.make_node(operator, names, list(outputs), domain=domain, **attributes)
    given = {name: value for name, value in zip(names, inputs) if value is not None}
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in given.items()}
    fed = [name for name in given if int(name[1:]) not in stored]
    graph = helper.make_graph(
        [node],
        name,
        [helper.make_tensor_value_info(name, kinds[name], given[name].shape) for name in fed],
        [helper.make_empty_tensor_value_info(output) for output in outputs if output],
        [numpy_helper.from_array(given[name], name) for name in given if name not in fed],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    if not domain:
        model = onnx.shape_inference.infer_shapes(model)
    if any(not output.type.HasField("tensor_type") for output in model.graph.output):
        for output in model.graph.output:
            kind = kinds[names[0]]
            output.CopyFrom(helper.make_tensor_value_info(output.name, kind, None))
    return model, {name: given[name] for name in fed}


def case(name, operator, inputs, outputs=("y",), domain="", stored=(), tolerance=(1e-4, 1e-3), opset=21,
         by_reference=False, like=None, **attributes):
    """One node. `inputs`: arrays by position, none where one is left out; those in `stored` become
    initializers. `like`: other inputs with the same outputs, where nothing runs these."""
    model, feeds = build(name, operator, inputs, outputs, domain, stored, opset, attributes)
    computed = (model, feeds)
    if like is not None:
        computed = build(name, operator, like, outputs, domain, (), opset, attributes)
    results, by = run(*computed, by_reference)
    folder = FOLDER / name
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for index, (key, value) in enumerate(feeds.items()):
        (folder / f"input_{index}.pb").write_bytes(numpy_helper.from_array(value, key).SerializeToString())
    for index, (output, result) in enumerate(zip(model.graph.output, results)):
        tensor = numpy_helper.from_array(np.asarray(result), output.name)
        (folder / f"output_{index}.pb").write_bytes(tensor.SerializeToString())
    atol, rtol = tolerance
    INDEX.append({"name": name, "ops": f"{domain}.{operator}" if domain else operator, "by": by, "atol": atol, "rtol": rtol})
