"""Writes a decoder of Llama's form with random weights for all programs.

usage: decoders.py (15m|124m) FOLDER

FOLDER gets the same weights as a Hugging Face folder (config.json, tokenizer.json,
model.safetensors in f32), f32.gguf and f16.gguf, and model.onnx, whose caches of keys and values
are inputs and outputs; and tokens.json: what ONNX Runtime's CPU provider decodes greedily.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import onnx
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

# hidden, intermediate, layers, heads, vocabulary: those of `wginfer bench text --shape`.
SHAPES = {"15m": (288, 768, 6, 6, 32000), "124m": (768, 2048, 12, 12, 50257)}
CONTEXT = 1024
EPSILON, THETA = 1e-5, 10000.0


class Decoder:
    """The sizes, and the weights under the names of Hugging Face."""

    def __init__(self, name):
        self.hidden, self.inner, self.layers, self.heads, self.vocab = SHAPES[name]
        self.head = self.hidden // self.heads
        random = np.random.default_rng(0)
        normal = lambda *dims: (random.standard_normal(dims) * 0.02).astype(np.float32)  # noqa: E731
        ones = lambda: np.ones(self.hidden, np.float32)  # noqa: E731
        self.weights = {"model.embed_tokens.weight": normal(self.vocab, self.hidden), "model.norm.weight": ones()}
        for layer in range(self.layers):
            at = f"model.layers.{layer}"
            for name in "qkvo":
                self.weights[f"{at}.self_attn.{name}_proj.weight"] = normal(self.hidden, self.hidden)
            for name in ("gate", "up"):
                self.weights[f"{at}.mlp.{name}_proj.weight"] = normal(self.inner, self.hidden)
            self.weights[f"{at}.mlp.down_proj.weight"] = normal(self.hidden, self.inner)
            for name in ("input_layernorm", "post_attention_layernorm"):
                self.weights[f"{at}.{name}.weight"] = ones()


def write_folder(decoder, folder):
    save_file(decoder.weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": decoder.hidden,
        "intermediate_size": decoder.inner,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "vocab_size": decoder.vocab,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "rms_norm_eps": EPSILON,
        "rope_theta": THETA,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    words = {f"w{index}": index for index in range(decoder.vocab)}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def write_gguf(decoder, file, half):
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(decoder.hidden)
    writer.add_block_count(decoder.layers)
    writer.add_feed_forward_length(decoder.inner)
    writer.add_head_count(decoder.heads)
    writer.add_head_count_kv(decoder.heads)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(decoder.head)
    writer.add_rope_freq_base(THETA)
    writer.add_vocab_size(decoder.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    # A vocabulary of SentencePiece's kind: three special tokens, the bytes, words.
    special, pieces = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    words = [f"w{index}" for index in range(decoder.vocab - 259)]
    kinds = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *pieces, *words])
    writer.add_token_scores([0.0] * 3 + [-float(index) for index in range(decoder.vocab - 3)])
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * 256 + [kinds.NORMAL] * len(words)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, array in gguf_weights(decoder):
        writer.add_tensor(name, array.astype(np.float16) if half and array.ndim == 2 else array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_weights(decoder):
    """Weights under GGUF's names. Its rotary embedding turns neighbours, Hugging Face's the two
    halves of a head, so rows of queries and keys change places."""
    names = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        **{f"self_attn.{name}_proj": f"attn_{name}" for name in "qkv"},
        "self_attn.o_proj": "attn_output",
        **{f"mlp.{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")},
    }
    yield "token_embd.weight", decoder.weights["model.embed_tokens.weight"]
    yield "output_norm.weight", decoder.weights["model.norm.weight"]
    for layer in range(decoder.layers):
        for name, short in names.items():
            array = decoder.weights[f"model.layers.{layer}.{name}.weight"]
            if short in ("attn_q", "attn_k"):
                rows = array.reshape(decoder.heads, 2, decoder.head // 2, decoder.hidden)
                array = np.ascontiguousarray(rows.swapaxes(1, 2).reshape(array.shape))
            yield f"blk.{layer}.{short}.weight", array


class Graph:
    """Builds the ONNX graph: each method adds nodes and returns the name of the value."""

    def __init__(self, decoder):
        self.decoder, self.nodes, self.constants, self.inputs, self.outputs = decoder, [], {}, [], []

    def op(self, kind, inputs, outputs=1, **attributes):
        names = [f"{kind}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, name, array):
        self.constants[name] = np.asarray(array)
        return name

    def linear(self, x, name):
        weight = self.decoder.weights[f"{name}.weight"]
        return self.op("MatMul", [x, self.constant(name, np.ascontiguousarray(weight.T))])

    def norm(self, x, name):
        mean = self.op("ReduceMean", [self.op("Mul", [x, x])], axes=[-1], keepdims=1)
        root = self.op("Sqrt", [self.op("Add", [mean, self.constant("epsilon", np.float32(EPSILON))])])
        scale = self.constant(name, self.decoder.weights[f"{name}.weight"])
        return self.op("Mul", [self.op("Div", [x, root]), scale])

    def split_heads(self, x):
        dims = self.constant("heads", np.int64([1, -1, self.decoder.heads, self.decoder.head]))
        return self.op("Transpose", [self.op("Reshape", [x, dims])], perm=[0, 2, 1, 3])

    def rotate(self, x, cos, sin):
        sizes = self.constant("halves", np.int64([self.decoder.head // 2] * 2))
        first, second = self.op("Split", [x, sizes], outputs=2, axis=-1)
        turned = self.op("Concat", [self.op("Neg", [second]), first], axis=-1)
        return self.op("Add", [self.op("Mul", [x, cos]), self.op("Mul", [turned, sin])])

    def value(self, name, dims, dtype=onnx.TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, dtype, dims)

    def append(self, x, name):
        """The cache of earlier positions with x behind it, which is an output."""
        dims = [1, self.decoder.heads, None, self.decoder.head]
        self.inputs.append(self.value(f"past.{name}", [*dims[:2], "past", dims[3]]))
        self.nodes.append(helper.make_node("Concat", [f"past.{name}", x], [f"now.{name}"], axis=2))
        self.outputs.append(self.value(f"now.{name}", [*dims[:2], "total", dims[3]]))
        return f"now.{name}"

    def attention(self, x, layer, cos, sin):
        at = f"model.layers.{layer}.self_attn"
        query, key, value = (self.split_heads(self.linear(x, f"{at}.{name}_proj")) for name in "qkv")
        key = self.append(self.rotate(key, cos, sin), f"{layer}.key")
        value = self.append(value, f"{layer}.value")
        scores = self.op("MatMul", [self.rotate(query, cos, sin), self.op("Transpose", [key], perm=[0, 1, 3, 2])])
        scale = self.constant("scale", np.float32(self.decoder.head**-0.5))
        scores = self.op("Add", [self.op("Mul", [scores, scale]), "mask"])
        mixed = self.op("MatMul", [self.op("Softmax", [scores], axis=-1), value])
        dims = self.constant("joined", np.int64([1, -1, self.decoder.hidden]))
        joined = self.op("Reshape", [self.op("Transpose", [mixed], perm=[0, 2, 1, 3]), dims])
        return self.linear(joined, f"{at}.o_proj")

    def feed_forward(self, x, layer):
        at = f"model.layers.{layer}.mlp"
        gate, up = self.linear(x, f"{at}.gate_proj"), self.linear(x, f"{at}.up_proj")
        gate = self.op("Mul", [gate, self.op("Sigmoid", [gate])])
        return self.linear(self.op("Mul", [gate, up]), f"{at}.down_proj")

    def build(self):
        decoder, int64 = self.decoder, onnx.TensorProto.INT64
        self.inputs += [self.value("ids", [1, "new"], int64), self.value("positions", ["new"], int64)]
        self.inputs.append(self.value("mask", ["new", "total"]))
        angles = np.outer(np.arange(CONTEXT), THETA ** (-np.arange(0, decoder.head, 2) / decoder.head))
        angles = np.concatenate([angles, angles], axis=1)
        tables = [self.constant(f.__name__, f(angles).astype(np.float32)) for f in (np.cos, np.sin)]
        cos, sin = (self.op("Gather", [table, "positions"]) for table in tables)
        table = self.constant("table", decoder.weights["model.embed_tokens.weight"])
        x = self.op("Gather", [table, "ids"])
        for layer in range(decoder.layers):
            at = f"model.layers.{layer}"
            x = self.op("Add", [x, self.attention(self.norm(x, f"{at}.input_layernorm"), layer, cos, sin)])
            x = self.op("Add", [x, self.feed_forward(self.norm(x, f"{at}.post_attention_layernorm"), layer)])
        last = self.op("Gather", [x, self.constant("last", np.int64([-1]))], axis=1)
        logits = self.linear(self.norm(last, "model.norm"), "model.embed_tokens")
        self.nodes.append(helper.make_node("Identity", [logits], ["logits"]))
        self.outputs.insert(0, self.value("logits", [1, 1, decoder.vocab]))
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "decoder", self.inputs, self.outputs, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    decoder = Decoder(name)
    write_folder(decoder, folder)
    write_gguf(decoder, folder / "f32.gguf", half=False)
    write_gguf(decoder, folder / "f16.gguf", half=True)
    onnx.save(Graph(decoder).build(), folder / "model.onnx")


main()
