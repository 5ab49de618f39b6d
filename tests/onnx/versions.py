"""Cases of older operator sets whose operators mean something else or take attributes where newer
ones take inputs, and of attributes that the shared cases leave out."""

import numpy as np
from onnx import TensorProto

from case import EXACT, MICROSOFT, RANDOM, case, floats, integers

LONG = np.int64


def longs(*values):
    return np.array(values, LONG)


def version(name, operator, opset, *inputs, **options):
    case(f"version_{opset}_{operator.lower()}_{name}", operator, inputs, opset=opset, **options)


def softmax():
    for operator in ("Softmax", "LogSoftmax"):
        version("flattened", operator, 11, floats(2, 3, 4))
        version("all", operator, 7, floats(2, 3, 4), axis=0)
        version("last", operator, 11, floats(2, 3, 4), axis=-1)
        version("vector", operator, 8, floats(5), axis=0)
        version("axis", operator, 13, floats(2, 3, 4), axis=1)


def attributes_for_inputs():
    x = floats(2, 3, 4)
    version("both", "Clip", 7, x, min=-0.5, max=0.5)
    version("low", "Clip", 10, x, min=-0.5)
    version("neither", "Clip", 8, x)
    version("both", "Clip", 11, x, np.array(-0.5, np.float32), np.array(0.5, np.float32))
    version("integers", "Clip", 12, integers(np.int8, 9), np.array(-20, np.int8), np.array(50, np.int8))
    version("axes", "Squeeze", 7, floats(1, 3, 1, 4), axes=[0, 2])
    version("all", "Squeeze", 11, floats(1, 3, 1, 4))
    version("negative", "Squeeze", 11, floats(1, 3, 1, 4), axes=[-2])
    version("axes", "Unsqueeze", 7, floats(3, 4), axes=[0, 3])
    version("negative", "Unsqueeze", 11, floats(3, 4), axes=[-1, 0])
    version("constant", "Pad", 7, x, pads=[0, 1, 2, 0, 0, 1], value=1.5)
    version("reflect", "Pad", 10, x, pads=[0, 1, 2, 0, 1, 1], mode="reflect")
    version("edge", "Pad", 8, x, pads=[1, 1, 2, 0, 0, 3], mode="edge")
    version("cut", "Pad", 7, x, pads=[0, -1, 1, 0, 0, -2])
    version("inputs", "Pad", 11, x, longs(0, 1, 2, 0, 0, 1), np.array(2.5, np.float32))
    version("axes", "Pad", 18, x, longs(1, 2), np.array(2.5, np.float32), longs(-1))
    version("wrap", "Pad", 19, x, longs(0, 1, 2, 0, 0, 1), mode="wrap")
    version("starts", "Slice", 7, x, starts=[1, 0], ends=[2, 3], axes=[1, 2])
    version("clamped", "Slice", 9, x, starts=[0, -3], ends=[100, -1], axes=[0, 2])
    version("no_axes", "Slice", 7, x, starts=[0, 1], ends=[1, 9])
    version("steps", "Slice", 10, x, longs(-1, 0), longs(-(2**63), 2**63 - 1), longs(2, 1), longs(-2, 2))
    version("parts", "Split", 7, x, outputs=("a", "b"), axis=2, split=[1, 3])
    version("equal", "Split", 11, x, outputs=("a", "b", "c"), axis=-2)
    version("input", "Split", 13, x, longs(3, 1), outputs=("a", "b"), axis=2)
    version("count", "Split", 18, x, outputs=("a", "b", "c"), axis=2, num_outputs=3)
    version("three", "TopK", 7, floats(3, 7), outputs=("y", "i"), k=3)
    version("axis", "TopK", 9, floats(3, 4), outputs=("y", "i"), k=2, axis=0)
    version("input", "TopK", 10, floats(3, 7), longs(3), outputs=("y", "i"))
    version("smallest", "TopK", 11, floats(3, 7), longs(3), outputs=("y", "i"), largest=0)
    for operator in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceProd"):
        version("axes", operator, 7, x, axes=[0, 2])
        version("negative", operator, 11, x, axes=[-2], keepdims=0)
        version("all", operator, 12, x)
    version("axes", "ReduceSum", 13, x, longs(1), keepdims=0)
    version("axes", "ReduceMin", 13, x, axes=[1], keepdims=0)
    version("axes", "ReduceMean", 18, x, longs(1, 2))
    version("nothing", "ReduceSum", 13, x, longs(), noop_with_empty_axes=1)


def normalisations():
    def statistics(channels):
        return [floats(channels), floats(channels), floats(channels), np.abs(floats(channels)) + 0.5]
    version("images", "BatchNormalization", 7, floats(2, 3, 4, 5), *statistics(3), epsilon=1e-3)
    version("matrix", "BatchNormalization", 9, floats(5, 3), *statistics(3))
    version("images", "BatchNormalization", 14, floats(2, 3, 4), *statistics(3))
    version("groups", "GroupNormalization", 18, floats(2, 4, 3, 3), floats(2), floats(2), num_groups=2,
            by_reference=True)
    version("channels", "GroupNormalization", 21, floats(2, 4, 3, 3), floats(4), floats(4), num_groups=2)
    version("inference", "Dropout", 7, floats(3, 4), ratio=0.3)
    version("mask", "Dropout", 10, floats(3, 4), outputs=("y", "mask"), by_reference=True)
    version("inputs", "Dropout", 12, floats(3, 4), np.array(0.3, np.float32))


def sizes():
    x = floats(1, 2, 4, 5)
    scales = lambda *values: np.array(values, np.float32)
    version("nearest", "Upsample", 7, x, scales=[1.0, 1.0, 2.0, 3.0])
    version("linear", "Upsample", 7, x, scales=[1.0, 1.0, 2.0, 2.0], mode="linear")
    version("nearest", "Upsample", 9, x, scales(1, 1, 2, 2), stored=(1,))
    version("linear", "Upsample", 9, x, scales(1, 1, 1.5, 3), mode="linear", stored=(1,))
    version("nearest", "Resize", 10, x, scales(1, 1, 2, 2), stored=(1,))
    version("smaller", "Resize", 10, x, scales(1, 1, 0.5, 0.6), stored=(1,))
    version("linear", "Resize", 10, x, scales(1, 1, 2, 1.5), mode="linear", stored=(1,))
    none = np.zeros(0, np.float32)
    def one(name, opset, factors=None, to=None, roi=none, **options):
        inputs = [x, roi, none if factors is None else scales(*factors)] + ([] if to is None else [longs(*to)])
        version(name, "Resize", opset, *inputs, stored=range(1, 4), **options)
    one("floor", 11, (1, 1, 2, 1.5), nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    one("ceil", 11, (1, 1, 0.7, 1.5), nearest_mode="ceil", coordinate_transformation_mode="half_pixel")
    one("aligned", 11, (1, 1, 2, 1.6), mode="linear", coordinate_transformation_mode="align_corners")
    one("aligned_to_part", 11, (1, 1, 2, 1.5), mode="linear", coordinate_transformation_mode="align_corners",
        by_reference=True)
    one("pytorch", 11, to=(1, 2, 1, 7), mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    one("cubic", 11, (1, 1, 2, 2), mode="cubic", cubic_coeff_a=-0.5)
    one("cubic_outside", 11, (1, 1, 2, 2), mode="cubic", exclude_outside=1)
    one("crop", 11, to=(1, 2, 3, 3), roi=scales(0, 0, 0.2, 0.3, 1, 1, 0.7, 1.2), mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0)
    one("sizes", 13, to=(1, 2, 7, 3), mode="linear")
    one("tensorflow", 11, (1, 1, 2, 2), coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor")
    version("ceil", "AveragePool", 10, x, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1)
    version("pads_counted", "AveragePool", 7, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    version("same", "MaxPool", 8, x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    version("indices", "MaxPool", 8, x, kernel_shape=[2, 2], outputs=("y", "indices"))
    version("dilated", "MaxPool", 10, x, kernel_shape=[2, 2], dilations=[2, 2], ceil_mode=1)
    version("columns", "DepthToSpace", 11, floats(1, 8, 2, 3), blocksize=2, mode="CRD")


def products():
    version("bias", "Gemm", 7, floats(3, 4), floats(4, 5), floats(5), alpha=0.5, beta=2.0)
    version("column", "Gemm", 7, floats(4, 3), floats(5, 4), floats(3, 1), transA=1, transB=1)
    version("no_bias", "Gemm", 11, floats(3, 4), floats(4, 5))
    version("vectors", "MatMul", 13, RANDOM.integers(-99, 99, 5), RANDOM.integers(-99, 99, 5))
    version("row", "MatMul", 13, RANDOM.integers(-99, 99, 5), RANDOM.integers(-99, 99, (2, 5, 3)))
    version("column", "MatMul", 13, RANDOM.integers(-99, 99, (2, 4, 5)), RANDOM.integers(-99, 99, 5))
    version("integers", "MatMul", 9, integers(np.int8, 3, 4).astype(np.int32), integers(np.int8, 4, 5).astype(np.int32))
    version("bytes", "MatMul", 13, RANDOM.integers(0, 9000, (2, 3, 4)).astype(np.uint32),
            RANDOM.integers(0, 9000, (4, 2)).astype(np.uint32))
    version("same", "Conv", 7, floats(1, 2, 5, 6), floats(3, 2, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2])
    version("valid", "Conv", 11, floats(1, 2, 5, 6), floats(3, 2, 3, 3), auto_pad="VALID")
    version("output_shape", "ConvTranspose", 11, floats(1, 2, 3, 4), floats(2, 3, 3, 3), output_shape=[7, 8],
            strides=[2, 2])


def elements():
    x, y = floats(3, 4), floats(4)
    for operator in ("Equal", "Greater", "Less"):
        kind = np.int32 if operator == "Equal" else np.float32
        version("floats", operator, 7, np.round(x).astype(kind), np.round(y).astype(kind))
        version("integers", operator, 9, integers(np.int8, 3, 4).astype(np.int32),
                integers(np.int8, 4).astype(np.int32))
    version("floats", "Equal", 11, np.round(x), np.round(y))
    for operator in ("Max", "Min", "Sum", "Mean"):
        version("three", operator, 8, x, y, floats(3, 1))
    version("integers", "Max", 12, integers(np.int32, 3, 4), integers(np.int32, 4))
    version("integer_base", "Pow", 12, RANDOM.integers(0, 9, (3, 4)).astype(np.int32), np.array([0, 1, 2, 3], np.float32))
    version("floats", "Pow", 7, np.abs(x), y)
    version("slope", "PRelu", 7, x, floats(4))
    version("slope", "PRelu", 9, floats(2, 3, 4), floats(3, 1))
    version("to_integers", "Cast", 7, 20 * x, to=TensorProto.INT32)
    version("to_half", "Cast", 9, x, to=TensorProto.FLOAT16)
    version("to_bytes", "Cast", 13, integers(np.int32, 9), to=TensorProto.UINT8)
    version("index", "OneHot", 9, longs(1, 0, -1, 5), np.array(4, LONG), np.array([2.0, 5.0], np.float32))
    version("matrix", "Gather", 7, x, longs(2, 0), axis=0)
    version("negative", "Gather", 11, x, np.array([[-1, 0]], LONG), axis=1)
    version("rows", "Flatten", 7, floats(2, 3, 4), axis=0)
    version("negative", "Flatten", 11, floats(2, 3, 4), axis=-1)
    version("negative", "Concat", 11, x, floats(3, 2), axis=-1)
    version("keeps", "Reshape", 7, floats(2, 3, 4), longs(0, -1))
    version("zero", "Reshape", 14, np.zeros((0, 3), np.float32), longs(3, 0), allowzero=1)
    version("part", "Shape", 15, floats(2, 3, 4), start=-2, end=100)
    version("all", "Shape", 7, floats(2, 3, 4))
    version("equal", "ArgMax", 11, np.round(x), axis=1, keepdims=0)
    version("last", "ArgMax", 12, np.round(x), axis=1, select_last_index=1)
    version("last", "ArgMin", 13, np.round(x), axis=0, select_last_index=1)
    version("adds", "ScatterElements", 16, x, np.array([[1, 1, 3], [0, 2, 0]], LONG), floats(2, 3), axis=1,
            reduction="add", by_reference=True)
    version("adds", "ScatterND", 16, x, np.array([[1], [1]], LONG), floats(2, 4), reduction="add")
    version("replaces", "ScatterND", 11, x, np.array([[1, 2], [0, 0]], LONG), floats(2))
    version("bilinear", "GridSample", 16, floats(1, 2, 4, 5), floats(1, 3, 3, 2, scale=0.6), mode="bilinear")
    version("bicubic", "GridSample", 16, floats(1, 2, 4, 5), floats(1, 3, 3, 2, scale=0.6), mode="bicubic")
    version("longs", "Range", 11, np.array(3, LONG), np.array(-8, LONG), np.array(-3, LONG))
    version("numbers", "Constant", 12, outputs=("y",), value_floats=[1.0, 2.5])
    version("pairs", "BitShift", 11, integers(np.uint8, 5), RANDOM.integers(0, 8, 5).astype(np.uint8), direction="LEFT")


def quantised():
    """Quotients at and near ties, where an inexact division shows."""
    f, u8, i8 = np.float32, np.uint8, np.int8
    for index, scale in enumerate(np.array([0.1, 0.3, 1 / 3, 0.07, 0.0123], f)):
        ties = ((np.arange(-40, 41) + 0.5) * scale.astype(np.float64)).astype(f)
        x = np.concatenate([ties, np.nextafter(ties, f(np.inf)), np.nextafter(ties, f(-np.inf))])
        version(f"ties_{index}", "QuantizeLinear", (10, 13, 19, 21, 21)[index], x, np.array(scale),
                np.array(3, i8), tolerance=EXACT)
    x = floats(3, 4, scale=50.0)
    version("channels", "QuantizeLinear", 13, x, np.array([0.3, 1.7, 2.0, 0.9], f), np.array([0, 9, 128, 255], u8),
            axis=1, tolerance=EXACT)
    version("short", "QuantizeLinear", 21, 100 * x, np.array(0.3, f), np.array(7, np.int16), tolerance=EXACT)
    version("half", "QuantizeLinear", 19, x.astype(np.float16), np.array(0.3, np.float16), np.array(7, u8),
            tolerance=EXACT)
    version("no_zero_point", "QuantizeLinear", 10, np.abs(x), np.array(0.5, f), tolerance=EXACT)
    version("bytes", "DequantizeLinear", 10, integers(u8, 3, 4), np.array(0.3, f), np.array(120, u8))
    version("channels", "DequantizeLinear", 13, integers(i8, 3, 4), np.array([0.3, 1.7, 2.0], f),
            np.array([0, 9, -4], i8), axis=0)
    version("long", "DequantizeLinear", 10, RANDOM.integers(-9999, 9999, 7).astype(np.int32), np.array(0.3, f))
    version("floats", "DynamicQuantizeLinear", 11, floats(3, 5), outputs=("y", "scale", "zero"), tolerance=(1e-7, 1e-6))


def recurrent():
    def weights(gates, directions=1, hidden=3, width=4):
        return [floats(directions, gates * hidden, width, scale=0.6), floats(directions, gates * hidden, hidden, scale=0.6),
                floats(directions, 2 * gates * hidden, scale=0.3)]
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}
    lengths = np.array([5, 2], np.int32)
    def one(name, operator, directions=1, x=(5, 2, 4), lengths=None, states=False, extra=(), opset=14, **attributes):
        inputs = [floats(*x), *weights(gates[operator], directions)]
        if lengths is not None or states or extra:
            inputs.append(lengths)
        if states or extra:
            inputs += [floats(directions, x[1], 3)] + ([floats(directions, x[1], 3)] if operator == "LSTM" else [])
        outputs = ("y", "h", "c") if operator == "LSTM" else ("y", "h")
        case(f"recurrent_{operator.lower()}_{name}", operator, [*inputs, *extra], outputs, opset=opset, hidden_size=3,
             **attributes)
    for operator, count in (("RNN", 1), ("GRU", 2), ("LSTM", 3)):
        one("lengths", operator, lengths=lengths)
        one("reverse_lengths", operator, lengths=lengths, states=True, direction="reverse")
        one("both_lengths", operator, 2, lengths=lengths, states=True, direction="bidirectional", opset=7)
        one("affine", operator, activations=["Affine"] + ["ScaledTanh"] * (count - 1),
            activation_alpha=[0.5, 0.9, 1.1][:count], activation_beta=[0.1, 0.7, 0.8][:count])
        one("mixed", operator, 2, direction="bidirectional",
            activations=["Sigmoid", "Tanh", "Relu"][:count] + ["HardSigmoid", "Softsign", "Tanh"][:count],
            activation_alpha=[0.3], activation_beta=[0.4])
        # ONNX Runtime clips the gates but not the memory of LSTM cells, which stays below 0.9 here.
        one("clip", operator, clip=0.9)
    one("after", "GRU", linear_before_reset=1, lengths=lengths, states=True)
    one("coupled", "LSTM", input_forget=1, states=True)
    one("peepholes", "LSTM", states=True, extra=[floats(1, 9)], lengths=lengths)


def attention():
    """Masks that hide all keys of a token, and shapes that the shared cases leave out."""
    q, k, v = floats(1, 2, 3, 8), floats(1, 2, 5, 8), floats(1, 2, 5, 8)
    lowest = np.finfo(np.float32).min
    def one(name, *extra, outputs=("y",), opset=23, inputs=(q, k, v), **attributes):
        case(f"attention_{name}", "Attention", [*inputs, *extra], outputs, opset=opset, by_reference=True, **attributes)
    mask = np.zeros((3, 5), np.float32)
    mask[1] = lowest
    mask[2, 3:] = lowest
    one("lowest_mask", mask)
    one("lowest_mask_of_version_24", mask, opset=24)
    one("lowest_mask_causal", np.where(np.tri(3, 5), mask, lowest).astype(np.float32), is_causal=1)
    soft = np.where(mask < 0, np.float32(-10000), 0).astype(np.float32)
    # Scores near 10000 have three decimals in f32, which is all that is left where all are hidden so.
    one("soft_mask", soft, tolerance=(5e-3, 1e-3))
    flags = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    one("flags", flags, softcap=2.0)
    one("flags_of_version_24", flags, opset=24)
    past = [floats(1, 2, 4, 8), floats(1, 2, 4, 8)]
    one("past_scores", None, *past, outputs=("y", "pk", "pv", "s"), qk_matmul_output_mode=3, is_causal=1)
    one("past_scores_capped", None, *past, outputs=("y", "pk", "pv", "s"), qk_matmul_output_mode=2, softcap=3.0)
    shared = (floats(1, 4, 3, 8), k, v)
    one("shared_heads_lowest", mask, inputs=shared)


def microsoft_attention():
    def one(name, inputs, outputs=("y",), heads=3, **attributes):
        case(f"multi_head_attention_{name}", "MultiHeadAttention", inputs, outputs, MICROSOFT, num_heads=heads,
             **attributes)
    flat = lambda value: value.reshape(*value.shape[:2], -1)
    packed, keys, bias = floats(2, 5, 3, 3, 4), floats(2, 7, 3, 2, 4), floats(36)
    apart = [flat(packed[:, :, :, index]) for index in range(3)]
    one("packed", [packed], like=apart)
    one("packed_bias", [packed, None, None, bias], like=[*apart, bias])
    one("packed_keys", [apart[0], keys], like=[apart[0], *(flat(keys[:, :, :, index]) for index in range(2))])
    one("heads_first_keys", [floats(2, 5, 12), floats(2, 3, 7, 4), floats(2, 3, 7, 4)])
    one("lengths", [floats(2, 5, 12), floats(2, 5, 12), floats(2, 5, 12), None, np.array([3, 5], np.int32)])
    lowest = np.full((1, 1, 5, 5), np.finfo(np.float32).min, np.float32)
    one("lowest_scores", [floats(2, 5, 12), floats(2, 5, 12), floats(2, 5, 12), None, None, lowest])
    def group(name, inputs, **attributes):
        case(f"group_query_attention_{name}", "GroupQueryAttention", inputs, ("y", "k", "v"), MICROSOFT, num_heads=4,
             kv_num_heads=2, **attributes)
    total = [np.array([4], np.int32), np.array(5, np.int32)]
    angles = np.outer(np.arange(16), 0.5 ** np.arange(8))
    tables = [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
    none = [floats(1, 2, 0, 16), floats(1, 2, 0, 16)]
    group("packed_rotary", [floats(1, 5, 128), None, None, *none, *total, *tables], do_rotary=1)
    group("packed_window", [floats(1, 5, 128), None, None, *none, *total], local_window_size=2)


def make():
    for part in (softmax, attributes_for_inputs, normalisations, sizes, products, elements, quantised, recurrent,
                 attention, microsoft_attention):
        part()
