"""Cases of the operators that the standard's own cases, as far as they are shared, leave out."""

import numpy as np
from onnx import TensorProto, helper

from case import EXACT, MICROSOFT, RANDOM, case, floats, integers


def integer_products():
    u, i = np.uint8, np.int8
    a, b = integers(u, 4, 5), integers(i, 5, 3)
    def product(name, *inputs, **options):
        case(f"matmul_integer_{name}", "MatMulInteger", inputs, tolerance=EXACT, **options)
    product("plain", a, b)
    product("zero_points", a, b, np.array(113, u), np.array(-7, i))
    product("batch", integers(u, 2, 3, 5), integers(u, 2, 5, 4), np.array(12, u), np.array(200, u))
    product("columns", a, b, np.array(3, u), np.array([1, -128, 127], i), stored=(1, 2, 3))
    product("long_sums", integers(u, 2, 700), integers(u, 700, 3), np.array(0, u), np.array(255, u))
    product("long_stored", integers(u, 2, 700), integers(i, 700, 3), np.array(255, u), stored=(1, 2))

    def conv(name, *inputs, **attributes):
        case(f"conv_integer_{name}", "ConvInteger", inputs, tolerance=EXACT, **attributes)
    x, w = integers(u, 1, 3, 6, 7), integers(u, 4, 3, 3, 3)
    conv("plain", x, w, stored=(1,))
    conv("padded", x, w, np.array(131, u), stored=(1, 2), pads=[1, 1, 1, 1])
    conv("zero_points", x, w, np.array(5, u), np.array(77, u), stored=(1, 2, 3), strides=[2, 1])
    conv("groups", integers(u, 2, 6, 5, 5), integers(u, 4, 3, 2, 2), np.array(9, u), stored=(1, 2), group=2)
    conv("long_sums", integers(u, 1, 64, 4, 4), integers(u, 2, 64, 3, 3), np.array(1, u), stored=(1, 2),
         pads=[1, 1, 1, 1])


def quantised_products():
    u, i, f = np.uint8, np.int8, np.float32
    scale = lambda value: np.array(value, f)
    def product(name, a, a_zero, b, b_scale, b_zero, y_scale, y_zero, **options):
        inputs = [a, scale(0.0173), a_zero, b, b_scale, b_zero, scale(y_scale), y_zero]
        case(f"qlinear_matmul_{name}", "QLinearMatMul", inputs, tolerance=EXACT, **options)
    a, b = integers(u, 4, 5), integers(u, 5, 3)
    product("unsigned", a, np.array(113, u), b, scale(0.0211), np.array(99, u), 0.131, np.array(118, u))
    product("signed", integers(i, 4, 5), np.array(-3, i), integers(i, 5, 3), scale(0.0211), np.array(9, i), 0.131,
            np.array(-8, i))
    product("batch", integers(u, 2, 4, 5), np.array(120, u), integers(u, 2, 5, 3), scale(0.03), np.array(130, u),
            0.2, np.array(128, u))
    product("stored", a, np.array(128, u), integers(i, 5, 3), scale(0.017), np.array(0, i), 0.07, np.array(100, u),
            stored=(1, 2, 3, 4, 5, 6, 7))
    product("columns", a, np.array(128, u), integers(i, 5, 3), np.array([0.017, 0.031, 0.007], f),
            np.array([0, 0, 0], i), 0.07, np.array(100, u), stored=(1, 2, 3, 4, 5, 6, 7))
    product("long_sums", integers(u, 2, 600), np.array(128, u), integers(u, 600, 3), scale(0.02), np.array(127, u),
            0.9, np.array(128, u), stored=(1, 2, 4, 5, 6, 7))

    def conv(name, x, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias=None, **attributes):
        inputs = [x, scale(0.0173), x_zero, w, w_scale, w_zero, scale(y_scale), y_zero]
        inputs += [] if bias is None else [bias]
        case(f"qlinear_conv_{name}", "QLinearConv", inputs, tolerance=EXACT, stored=range(1, 9), **attributes)
    x, w = integers(u, 1, 3, 6, 7), integers(i, 4, 3, 3, 3)
    zero = np.array(0, i)
    conv("plain", x, np.array(128, u), w, scale(0.011), zero, 0.4, np.array(131, u))
    conv("padded", x, np.array(55, u), w, scale(0.011), zero, 0.4, np.array(131, u), pads=[1, 1, 1, 1])
    conv("bias", x, np.array(128, u), w, scale(0.011), zero, 0.4, np.array(131, u),
         RANDOM.integers(-9000, 9000, 4).astype(np.int32), strides=[2, 2])
    conv("channels", x, np.array(128, u), w, np.array([0.011, 0.02, 0.005, 0.031], f), np.zeros(4, i), 0.4,
         np.array(131, u))
    conv("groups", integers(u, 2, 6, 5, 5), np.array(99, u), integers(u, 6, 1, 3, 3), scale(0.02), np.array(140, u),
         0.3, np.array(100, u), group=6)


def einsum():
    def one(name, equation, *shapes):
        case(f"einsum_{name}", "Einsum", [floats(*shape) for shape in shapes], equation=equation)
    one("matmul", "ij,jk->ik", (3, 5), (5, 4))
    one("batch_matmul", "bij, bjk -> bik", (2, 3, 5), (2, 5, 4))
    one("implicit", "ij,jk", (3, 5), (5, 4))
    one("transpose", "ij->ji", (3, 5))
    one("sum", "ij->i", (3, 5))
    one("all", "ij,ij->", (3, 5), (3, 5))
    one("outer", "i,j->ij", (3,), (4,))
    one("diagonal", "ii->i", (4, 4))
    one("batch_diagonal", "...ii->...i", (3, 5, 5))
    one("ellipsis", "...ij,...jk->...ik", (2, 3, 4, 5), (2, 3, 5, 2))
    one("heads", "bhwc,hkc->bhwk", (2, 3, 4, 5), (3, 6, 5))
    one("three", "ij,jk,kl->il", (2, 3), (3, 4), (4, 5))


def grid_sample():
    def one(name, x, points, scale=0.8, **attributes):
        grid = floats(x[0], *points, len(x) - 2, scale=scale)
        case(f"grid_sample_{name}", "GridSample", [floats(*x), grid], **attributes)
    one("linear", (2, 3, 5, 7), (3, 4))
    one("linear_aligned", (1, 2, 5, 7), (3, 4), align_corners=1)
    one("linear_border", (1, 2, 5, 7), (3, 4), padding_mode="border")
    one("linear_reflection", (1, 2, 5, 7), (3, 4), padding_mode="reflection", scale=2.0)
    one("reflection_aligned", (1, 2, 5, 7), (3, 4), padding_mode="reflection", scale=2.0, align_corners=1)
    one("nearest", (1, 2, 5, 7), (3, 4), mode="nearest")
    one("nearest_reflection", (1, 2, 5, 7), (3, 4), mode="nearest", padding_mode="reflection", align_corners=1)
    one("cubic", (1, 2, 5, 7), (3, 4), mode="cubic")
    one("cubic_border", (1, 2, 5, 7), (3, 4), mode="cubic", padding_mode="border", align_corners=1)
    one("cubic_reflection", (1, 2, 5, 7), (3, 4), mode="cubic", padding_mode="reflection")
    one("volumes", (1, 2, 3, 4, 5), (2, 3, 2))
    one("volumes_nearest", (1, 2, 3, 4, 5), (2, 3, 2), mode="nearest", padding_mode="border", align_corners=1)


def non_max_suppression():
    def one(name, n, count, classes, limits, center=0, flipped=False):
        corner, size = RANDOM.random((n, count, 2)), 0.1 + 0.5 * RANDOM.random((n, count, 2))
        boxes = np.concatenate([corner, size if center else corner + size], 2).astype(np.float32)
        if flipped:
            boxes = boxes[:, :, [2, 1, 0, 3]]
        most, *rest = limits
        inputs = [boxes, RANDOM.random((n, classes, count)).astype(np.float32), np.array([most], np.int64)]
        inputs += [np.array([limit], np.float32) for limit in rest]
        case(f"nms_{name}", "NonMaxSuppression", inputs, tolerance=EXACT, center_point_box=center)
    one("plain", 1, 12, 1, (5, 0.5, 0.0))
    one("classes", 1, 12, 3, (4, 0.3, 0.2))
    one("batch", 2, 9, 2, (3, 0.4, 0.1))
    one("centers", 1, 12, 1, (9, 0.4, 0.0), center=1)
    one("flipped", 1, 12, 1, (9, 0.4, 0.0), flipped=True)
    one("no_limits", 1, 6, 1, (3,))


def activations():
    def one(operator, name, *inputs, **attributes):
        case(f"{operator.lower()}_{name}", operator, inputs, domain=MICROSOFT, **attributes)
    shapes = {"vector": (7,), "matrix": (3, 5), "three": (2, 3, 4), "wide": (2, 33), "one": (1, 1)}
    for name, shape in shapes.items():
        x, bias = floats(*shape, scale=2.0), floats(shape[-1])
        one("Gelu", name, x)
        one("QuickGelu", name, x, **({"alpha": 1.5} if name == "wide" else {}))
        one("BiasGelu", name, x, bias)
        one("FastGelu", name, x, *([bias] if name in ("matrix", "three") else []))


def fused_matmul():
    def one(name, a, b, **attributes):
        case(f"fused_matmul_{name}", "FusedMatMul", [floats(*a), floats(*b)], domain=MICROSOFT, **attributes)
    one("plain", (3, 5), (5, 4))
    one("alpha", (2, 3, 5), (2, 5, 4), alpha=0.25)
    one("left", (5, 3), (5, 4), transA=1)
    one("right", (2, 3, 5), (2, 4, 5), transB=1, alpha=2.0)
    one("both", (2, 5, 3), (4, 5), transA=1, transB=1)


def norms():
    def one(operator, name, inputs, **attributes):
        domain = "" if operator == "SimplifiedLayerNormalization" else MICROSOFT
        case(f"{operator.lower()}_{name}", operator, inputs, domain=domain, **attributes)
    shapes = {"matrix": (3, 8), "three": (2, 3, 5), "wide": (2, 2, 36), "one_row": (1, 7), "eps": (2, 3, 4)}
    for name, shape in shapes.items():
        eps = {"epsilon": 0.01} if name == "eps" else {}
        width = shape[-1]
        one("SimplifiedLayerNormalization", name, [floats(*shape), floats(width)], axis=-1, **eps)
    shapes = {"plain": (2, 3, 8), "bias": (2, 3, 5), "sum": (2, 2, 36), "matrix": (3, 7), "eps": (2, 3, 4)}
    for name, shape in shapes.items():
        eps = {"epsilon": 0.01} if name == "eps" else {"epsilon": 1e-5}
        outputs = ("y", "", "", "sum") if name == "sum" else ("y",)
        weight, beta, bias = (floats(shape[-1]) for _ in range(3))
        extra = [bias] if name in ("bias", "sum") else []
        both = [floats(*shape), floats(*shape), weight]
        one("SkipLayerNormalization", name, [*both, beta, *extra], outputs=outputs, **eps)
        one("SkipSimplifiedLayerNormalization", name, [*both, *extra], outputs=outputs, **eps)


def matmul_n_bits():
    def one(name, rows, n, k, block, bits=4, zeros=True, bias=False):
        blocks = -(-k // block)
        inputs = [floats(*rows, k), integers(np.uint8, n, blocks, block * bits // 8), 0.1 * np.abs(floats(n * blocks))]
        if zeros or bias:
            inputs.append(integers(np.uint8, n * -(-blocks * bits // 8)) if zeros else None)
        if bias:
            inputs += [None, floats(n)]
        case(f"matmul_n_bits_{name}", "MatMulNBits", inputs, domain=MICROSOFT, stored=range(1, 6), K=k, N=n,
             bits=bits, block_size=block)
    one("plain", (2,), 5, 32, 16, zeros=False)
    one("zero_points", (3,), 4, 64, 32)
    one("batch", (2, 3), 3, 48, 16)
    one("bias", (2,), 6, 32, 32, zeros=False, bias=True)
    one("odd_blocks", (1,), 4, 80, 16)
    one("eight_bits", (2,), 5, 64, 32, bits=8)


def rotary_embedding():
    angles = np.outer(np.arange(9), [1.0, 0.3, 0.1, 0.03])
    tables = [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
    def one(name, shape, positions, cut=4, **attributes):
        cosines, sines = (table[:, :cut].copy() for table in tables)
        inputs = [floats(*shape), np.array(positions, np.int64), cosines, sines]
        case(f"rotary_embedding_microsoft_{name}", "RotaryEmbedding", inputs, domain=MICROSOFT, **attributes)
    one("first", (2, 3, 16), [2])
    one("positions", (2, 3, 16), [[0, 1, 2], [5, 6, 8]])
    one("interleaved", (2, 3, 16), [[0, 1, 2], [5, 6, 8]], interleaved=1)
    one("heads", (2, 2, 3, 8), [[0, 1, 2], [5, 6, 8]])
    one("part", (1, 3, 16), [[4, 5, 6]], cut=2, num_heads=2, rotary_embedding_dim=4)


def multi_head_attention():
    def one(name, shape, keys, extra=(), outputs=("y",), heads=3, **attributes):
        n, tokens, width = shape
        inputs = [floats(n, tokens, width), floats(n, keys, width), floats(n, keys, width), *extra]
        case(f"multi_head_attention_{name}", "MultiHeadAttention", inputs, outputs, MICROSOFT, num_heads=heads,
             **attributes)
    one("plain", (2, 5, 12), 5)
    one("cross", (2, 4, 12), 7, scale=0.3)
    one("bias", (1, 5, 12), 5, [floats(36)])
    one("padding", (2, 5, 12), 5, [None, np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)])
    one("scores", (2, 5, 12), 6, [None, None, floats(1, 3, 5, 6)])
    one("causal", (1, 6, 8), 6, heads=2, unidirectional=1)
    one("past", (1, 2, 12), 2, [None, None, None, floats(1, 3, 4, 4), floats(1, 3, 4, 4)], ("y", "k", "v"))


def group_query_attention():
    angles = np.outer(np.arange(16), 0.5 ** np.arange(8))
    tables = [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
    def one(name, n, tokens, past=0, packed=False, rotary=False, heads=2, kv_heads=1, size=16, **attributes):
        if packed:
            inputs = [floats(n, tokens, (heads + 2 * kv_heads) * size), None, None]
        else:
            inputs = [floats(n, tokens, count * size) for count in (heads, kv_heads, kv_heads)]
        inputs += [floats(n, kv_heads, past, size), floats(n, kv_heads, past, size)]
        inputs += [np.full((n,), past + tokens - 1, np.int32), np.array(past + tokens, np.int32)]
        if rotary:
            inputs += tables
        case(f"group_query_attention_{name}", "GroupQueryAttention", inputs, ("y", "k", "v"), MICROSOFT,
             num_heads=heads, kv_num_heads=kv_heads, do_rotary=int(rotary), **attributes)
    one("prompt", 2, 5)
    one("packed", 1, 5, packed=True)
    one("past", 1, 1, past=6)
    one("rotary", 1, 5, rotary=True)
    one("rotary_past", 2, 1, past=4, rotary=True, rotary_interleaved=1)
    one("window", 1, 7, local_window_size=3)
    one("softcap", 1, 5, softcap=2.0, scale=0.5)


def several(kind=np.float32):
    """Values in shapes of several ranks."""
    return {name: floats(*shape).astype(kind) for name, shape in
            {"vector": (7,), "matrix": (3, 5), "three": (2, 3, 4), "wide": (2, 33), "one": (1, 1)}.items()}


def functions():
    """Functions of each element without shared cases."""
    squashed = {"Acos", "Asin", "Atanh"}
    for operator in ("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cosh", "Sinh", "Tan"):
        for name, x in several().items():
            x = np.tanh(x) * 0.99 if operator in squashed else 1 + np.abs(x) if operator == "Acosh" else x
            case(f"{operator.lower()}_{name}", operator, [x])
    for name, x in several().items():
        alpha = {"vector": {}, "matrix": {"alpha": 2.0}, "three": {"alpha": 0.3}}.get(name, {"alpha": 1.5})
        case(f"celu_{name}", "Celu", [x], **alpha)
        case(f"thresholded_relu_{name}", "ThresholdedRelu", [x], **alpha)
        case(f"shrink_{name}", "Shrink", [x], **({} if name == "one" else {"lambd": 0.4, "bias": 0.25}))
    case("shrink_integers", "Shrink", [integers(np.int8, 3, 5)], lambd=30.0, bias=7.0)
    special = np.array([0, -1.5, np.inf, -np.inf, np.nan, 3e38], np.float32)
    for name, x in {"vector": special, "matrix": special.reshape(2, 3), "one": special[2:3], "nan": special[4:5],
                    "half": special[:5].astype(np.float16)}.items():
        case(f"is_nan_{name}", "IsNaN", [x])
        case(f"is_inf_{name}", "IsInf", [x])
    case("is_inf_positive", "IsInf", [special], detect_negative=0)
    case("is_inf_negative", "IsInf", [special], detect_positive=0)
    case("is_inf_neither", "IsInf", [special], detect_positive=0, detect_negative=0)


def bits():
    u8, u32, i32, i64 = np.uint8, np.uint32, np.int32, np.int64
    def one(operator, name, *inputs, **attributes):
        case(f"{operator.lower()}_{name}", operator, inputs, tolerance=EXACT, **attributes)
    for operator in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        one(operator, "bytes", integers(u8, 3, 5), integers(u8, 3, 5))
        one(operator, "signed", integers(i32, 2, 3, 4), integers(i32, 2, 3, 4))
        one(operator, "row", integers(np.int8, 2, 3), integers(np.int8, 3))
        one(operator, "column", integers(np.uint16, 2, 3, 4), integers(np.uint16, 3, 1))
        one(operator, "words", integers(u32, 7), integers(u32, 1))
    for name, x in {"bytes": integers(u8, 3, 5), "signed": integers(np.int8, 7), "words": integers(i32, 2, 3),
                    "unsigned": integers(u32, 5), "short": integers(np.uint16, 2, 2)}.items():
        one("BitwiseNot", name, x)
    shifts = lambda kind, most, *shape: RANDOM.integers(0, most, shape).astype(kind)
    one("BitShift", "left_bytes", integers(u8, 3, 5), shifts(u8, 8, 3, 5), direction="LEFT")
    one("BitShift", "right_bytes", integers(u8, 3, 5), shifts(u8, 8, 5), direction="RIGHT")
    one("BitShift", "left_words", integers(u32, 2, 3), shifts(u32, 32, 2, 3), direction="LEFT")
    one("BitShift", "right_words", integers(u32, 2, 3), shifts(u32, 32, 2, 1), direction="RIGHT")
    one("BitShift", "left_short", integers(np.uint16, 4), shifts(np.uint16, 16, 4), direction="LEFT", by_reference=True)
    divisors = lambda kind, *shape: (RANDOM.integers(1, 9, shape) * RANDOM.choice([-1, 1], shape)).astype(kind)
    one("Mod", "signed", integers(i32, 2, 7), divisors(i32, 2, 7))
    one("Mod", "bytes", integers(u8, 2, 7), RANDOM.integers(1, 9, 7).astype(u8))
    one("Mod", "small", integers(np.int8, 2, 7), divisors(np.int8, 7))
    one("Mod", "long", RANDOM.integers(-10**6, 10**6, (2, 7)), divisors(i64, 2, 1))
    one("Mod", "signed_fmod", integers(i32, 2, 7), divisors(i32, 2, 7), fmod=1)
    case("mod_floats", "Mod", [floats(3, 5, scale=9.0), floats(3, 5)], fmod=1)


def casts():
    def one(name, x, like):
        case(f"cast_like_{name}", "CastLike", [x, like], tolerance=EXACT)
    f = np.float32
    one("to_integer", floats(3, 5, scale=50.0), np.zeros(1, np.int32))
    one("to_long", floats(7, scale=50.0), np.zeros(2, np.int64))
    one("to_half", floats(2, 3), np.zeros(1, np.float16))
    one("to_bool", np.array([0, -0.0, 0.25, -3], f), np.zeros(1, bool))
    one("of_bytes", integers(np.uint8, 3, 3), np.zeros(1, f))
    one("of_bool", np.array([True, False]), np.zeros(1, f))
    one("wraps", integers(np.int32, 9), np.zeros(1, np.int8))


def hardmax():
    def one(name, x, opset=13, **attributes):
        case(f"hardmax_{name}", "Hardmax", [x], tolerance=EXACT, opset=opset, **attributes)
    one("rows", floats(3, 5))
    one("first_axis", floats(3, 5), axis=0)
    one("middle_axis", floats(2, 3, 4), axis=1)
    one("ties", np.array([[1, 3, 3, 2], [0, 0, 0, 0]], np.float32))
    one("flattened", floats(2, 3, 4), opset=11)
    one("flattened_all", floats(2, 3, 4), opset=11, axis=0)


def sequences():
    def one(name, x, lengths, **attributes):
        case(f"reverse_sequence_{name}", "ReverseSequence", [x, np.array(lengths, np.int64)], tolerance=EXACT,
             **attributes)
    one("time", floats(4, 3), [1, 3, 4])
    one("batch", floats(3, 4), [4, 1, 2], batch_axis=0, time_axis=1)
    one("values", floats(5, 2, 3), [5, 2])
    one("values_of_batch", floats(2, 5, 3, 2), [3, 5], batch_axis=0, time_axis=1)
    one("integers", integers(np.int32, 4, 2), [4, 2])


def scatter():
    def one(name, x, indices, opset=10, **attributes):
        indices = np.array(indices, np.int64)
        case(f"scatter_{name}", "Scatter", [x, indices, floats(*indices.shape).astype(x.dtype)], opset=opset,
             tolerance=EXACT, **attributes)
    one("rows", floats(3, 3), [[1, 0, 2], [0, 2, 1]])
    one("columns", floats(3, 4), [[1, 3], [0, 2], [3, 0]], axis=1)
    one("last", floats(2, 3, 4), [[[3], [0], [2]], [[1], [1], [0]]], axis=2)
    one("vector", floats(7), [6, 0, 3], opset=9)
    one("integers", integers(np.int32, 2, 5), [[1, 4]], axis=1)


def scan():
    def body(inputs, outputs, nodes):
        info = lambda names: [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        return helper.make_graph([helper.make_node(*node) for node in nodes], "body", info(inputs), info(outputs))
    sums = body(["s", "x"], ["t", "u"], [("Add", ["s", "x"], ["t"]), ("Identity", ["t"], ["u"])])
    def one(name, inputs, graph, outputs=("state", "y"), walked=1, opset=21, **attributes):
        case(f"scan_{name}", "Scan", inputs, outputs, opset=opset, body=graph, num_scan_inputs=walked, **attributes)
    one("sums", [floats(2), floats(3, 2)], sums)
    one("version_9", [floats(2), floats(4, 2)], sums, opset=9)
    one("backwards", [floats(2), floats(3, 2)], sums, scan_input_directions=[1], scan_output_directions=[1])
    one("columns", [floats(2), floats(2, 5)], sums, scan_input_axes=[1], scan_output_axes=[1])
    product = body(["a", "b"], ["c"], [("Mul", ["a", "b"], ["c"])])
    one("two_inputs", [floats(4, 3), floats(4, 3)], product, ("y",), walked=2)
    both = body(["s", "p", "x"], ["t", "q", "u"],
                [("Add", ["s", "x"], ["t"]), ("Mul", ["p", "x"], ["q"]), ("Sub", ["t", "q"], ["u"])])
    one("two_states", [floats(2), floats(2), floats(3, 2)], both, ("s", "p", "y"))


def make():
    for part in (integer_products, quantised_products, einsum, grid_sample, non_max_suppression, activations,
                 fused_matmul, norms, matmul_n_bits, rotary_embedding, multi_head_attention, group_query_attention,
                 functions, bits, casts, hardmax, sequences, scatter, scan):
        part()
