"""Cases of tensors without elements: each is of a batch, a sequence or a list of length 0."""

import numpy as np
from onnx import TensorProto

from case import case, floats


def none(*shape, kind=np.float32):
    return np.zeros(shape, kind)


def one(name, operator, *inputs, **options):
    case(f"empty_{operator.lower()}_{name}", operator, inputs, **options)


def make():
    longs = lambda *values: np.array(values, np.int64)
    for operator in ("Relu", "Exp", "Gelu", "Softplus", "Neg", "Not", "IsNaN"):
        one("batch", operator, none(0, 3, kind=bool if operator == "Not" else np.float32))
    for operator in ("Add", "Div", "Pow", "Max", "Greater", "PRelu"):
        one("broadcast", operator, none(0, 3), floats(3))
    one("of_one", "Mul", none(2, 0), floats(2, 1))
    one("choice", "Where", none(0, 3, kind=bool), floats(3), floats(1))
    for operator in ("ReduceSum", "ReduceProd", "ReduceSumSquare", "ReduceL1"):
        one("axis", operator, none(2, 0, 3), longs(1))
        one("kept", operator, none(2, 0, 3), longs(2), keepdims=0)
    one("batch", "ReduceMean", none(0, 3), longs(1))
    one("batch", "ReduceMax", none(0, 3), longs(1))
    one("batch", "ArgMax", none(0, 3), axis=1)
    one("batch", "Softmax", none(0, 3))
    one("flattened", "Softmax", none(0, 3, 2), opset=11)
    one("depth", "MatMul", floats(2, 0), floats(0, 3))
    one("batch", "MatMul", none(0, 2, 4), floats(4, 3))
    one("rows", "MatMul", none(0, 4), floats(4, 3), stored=(1,))
    one("depth", "Gemm", none(2, 0), none(0, 3), floats(3))
    one("rows", "Gemm", none(0, 4), floats(4, 3), floats(3), stored=(1, 2))
    one("batch", "Conv", none(0, 2, 5, 5), floats(3, 2, 3, 3), floats(3), stored=(1, 2))
    one("batch", "ConvTranspose", none(0, 2, 5, 5), floats(2, 3, 3, 3), by_reference=True)
    one("batch", "MaxPool", none(0, 2, 5, 5), kernel_shape=[2, 2])
    one("batch", "AveragePool", none(0, 2, 5, 5), kernel_shape=[2, 2])
    one("batch", "GlobalAveragePool", none(0, 2, 5, 5))
    one("batch", "BatchNormalization", none(0, 3, 4), *(np.abs(floats(3)) for _ in range(4)))
    one("batch", "LayerNormalization", none(0, 3, 4), floats(4), floats(4))
    one("batch", "InstanceNormalization", none(0, 3, 4), floats(3), floats(3), by_reference=True)
    one("batch", "GroupNormalization", none(0, 4, 3), floats(4), floats(4), num_groups=2)
    one("batch", "LRN", none(0, 3, 4, 4), size=3, by_reference=True)
    one("part", "Concat", floats(2, 3), none(0, 3), axis=0)
    one("all", "Concat", none(0, 3), none(0, 3), axis=1)
    one("part", "Split", floats(2, 3), longs(0, 3), outputs=("a", "b"), axis=1)
    one("range", "Slice", floats(2, 3), longs(2), longs(1), longs(1))
    one("batch", "Slice", none(0, 3), longs(1), longs(3), longs(1))
    one("list", "Gather", floats(4, 3), longs())
    one("batch", "Gather", none(0, 4), longs(2, 0), axis=1)
    one("list", "GatherElements", floats(4, 3), none(0, 3, kind=np.int64))
    one("list", "GatherND", floats(4, 3), none(0, 1, kind=np.int64))
    one("list", "ScatterND", floats(4, 3), none(0, 1, kind=np.int64), none(0, 3))
    one("list", "ScatterElements", floats(4, 3), none(0, 3, kind=np.int64), none(0, 3))
    one("axes", "Transpose", none(2, 0, 3), perm=[2, 1, 0])
    one("shape", "Reshape", none(0, 3, 4), longs(0, 12))
    one("rest", "Reshape", none(0, 6), longs(-1, 2, 3))
    one("shape", "Expand", none(0, 1), longs(0, 4))
    one("axis", "Unsqueeze", none(0, 3), longs(1))
    one("axis", "Squeeze", none(0, 1), longs(1))
    one("rows", "Flatten", none(0, 3, 4))
    one("repeats", "Tile", floats(2, 3), longs(0, 2))
    one("batch", "Tile", none(0, 3), longs(2, 2))
    one("grown", "Pad", none(0, 3), longs(1, 0, 1, 0))
    one("batch", "Pad", none(0, 3), longs(0, 1, 0, 2))
    one("batch", "Cast", none(0, 3), to=TensorProto.INT64)
    one("shape", "ConstantOfShape", longs(0, 3))
    one("number", "Range", *(np.array(value, np.int64) for value in (5, 5, 1)))
    one("values", "NonZero", none(3, kind=np.float32))
    one("batch", "NonZero", none(0, 3))
    one("batch", "TopK", none(0, 3), longs(2), outputs=("y", "i"))
    one("count", "TopK", floats(2, 3), longs(0), outputs=("y", "i"))
    one("batch", "CumSum", none(0, 3), np.array(1, np.int64))
    one("list", "OneHot", longs(), np.array(4, np.int64), np.array([0.0, 1.0], np.float32), by_reference=True)
    one("batch", "Trilu", none(0, 3, 3), by_reference=True)
    one("batch", "Resize", none(0, 2, 4, 4), None, np.array([1, 1, 2, 2], np.float32), by_reference=True)
    one("batch", "Einsum", none(0, 3, 4), floats(0, 4, 2), equation="bij,bjk->bik")
    one("sum", "Einsum", none(3, 0), none(0, 2), equation="ij,jk->ik", by_reference=True)
    one("batch", "QuantizeLinear", none(0, 3), np.array(0.5, np.float32), np.array(3, np.uint8))
    one("batch", "DequantizeLinear", none(0, 3, kind=np.uint8), np.array(0.5, np.float32), np.array(3, np.uint8))
    one("rows", "MatMulInteger", none(0, 4, kind=np.uint8), np.ones((4, 3), np.uint8))
    one("batch", "DepthToSpace", none(0, 4, 2, 2), blocksize=2, by_reference=True)
    one("batch", "GridSample", none(0, 2, 4, 4), none(0, 3, 3, 2))
    one("points", "GridSample", floats(1, 2, 4, 4), none(1, 0, 3, 2))
    one("boxes", "NonMaxSuppression", none(1, 0, 4), none(1, 2, 0), longs(3))
    one("batch", "LSTM", none(3, 0, 4), floats(1, 12, 4), floats(1, 12, 3), outputs=("y", "h", "c"), hidden_size=3,
        opset=14, by_reference=True)
    one("batch", "GRU", none(3, 0, 4), floats(1, 9, 4), floats(1, 9, 3), outputs=("y", "h"), hidden_size=3, opset=14,
        by_reference=True)
    one("batch", "Attention", none(0, 2, 3, 8), none(0, 2, 5, 8), none(0, 2, 5, 8), opset=23, by_reference=True)
    past = [none(1, 2, 0, 8), none(1, 2, 0, 8)]
    one("past", "Attention", *(floats(1, 2, 3, 8) for _ in range(3)), None, *past, outputs=("y", "k", "v"), opset=23,
        by_reference=True)
