"""Writes operators.txt: which inputs and attributes operators have, for models that the target
`onnx_nodes` makes up. Needs the onnx package. A line is

    Name inputs outputs attribute:kind ...

where an input is f (floats), i (int64), b (bool) or u (uint8), with * for any number of it, and the
kinds are i, f, s, t, g of one integer, float, string, tensor, graph, and I, F, S of several."""

from pathlib import Path

from onnx import defs

KINDS = {
    "INT": "i",
    "FLOAT": "f",
    "STRING": "s",
    "TENSOR": "t",
    "GRAPH": "g",
    "INTS": "I",
    "FLOATS": "F",
    "STRINGS": "S",
}
TYPES = {"tensor(float)": "f", "tensor(int64)": "i", "tensor(bool)": "b", "tensor(uint8)": "u"}

# Operators of ONNX Runtime's domain, and one that its exports put in the standard's.
MICROSOFT = """
BiasGelu ff 1
FastGelu ff 1
FusedMatMul ff 1 alpha:f transA:i transB:i transBatchA:i transBatchB:i
Gelu f 1
GroupQueryAttention fffffiifff 3 num_heads:i kv_num_heads:i scale:f local_window_size:i do_rotary:i \
rotary_interleaved:i softcap:f smooth_softmax:i
MatMulNBits fufuiff 1 K:i N:i bits:i block_size:i accuracy_level:i
MultiHeadAttention ffffiffff 3 num_heads:i mask_filter_value:f scale:f unidirectional:i
QuickGelu f 1 alpha:f
RotaryEmbedding fiff 1 interleaved:i num_heads:i rotary_embedding_dim:i is_packed_batching:i scale:f
SimplifiedLayerNormalization ff 1 axis:i epsilon:f stash_type:i
SkipLayerNormalization fffff 4 epsilon:f
SkipSimplifiedLayerNormalization ffff 4 epsilon:f
"""


def letters(inputs):
    text = ""
    for each in inputs:
        text += next((letter for name, letter in TYPES.items() if name in each.types), "f")
        text += "*" if each.option == defs.OpSchema.FormalParameterOption.Variadic else ""
    return text or "-"


def main():
    attributes, newest = {}, {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain != "":
            continue
        # Attributes of older versions too: some became inputs.
        of_name = attributes.setdefault(schema.name, {})
        for name, attribute in sorted(schema.attributes.items()):
            if attribute.type.name in KINDS:
                of_name.setdefault(name, KINDS[attribute.type.name])
        if schema.name not in newest or newest[schema.name].since_version < schema.since_version:
            newest[schema.name] = schema
    lines = []
    for name, schema in sorted(newest.items()):
        pairs = "".join(f" {key}:{kind}" for key, kind in attributes[name].items())
        lines.append(f"{name} {letters(schema.inputs)} {len(schema.outputs)}{pairs}")
    lines += [f"com.microsoft.{line}" for line in MICROSOFT.strip().splitlines()]
    Path(__file__).with_name("operators.txt").write_text("\n".join(lines) + "\n")


main()
