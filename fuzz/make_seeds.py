"""Writes the seeds of the fuzz targets below seeds/. Needs the packages onnx and Pillow.

Inputs that once were findings lie beside them as found-*; those are kept."""

import base64
import io
import json
import struct
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from PIL import Image

SEEDS = Path(__file__).parent / "seeds"


def write(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def weights(tensors, metadata=None, data=None, padding=0):
    header, end = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode() + b" " * padding
    return struct.pack("<Q", len(text)) + text + (bytes(range(256)) * 8)[:end if data is None else data]


def safetensors():
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U32": 4, "U8": 1, "BOOL": 1, "F8_E4M3": 1}
    for dtype, size in sizes.items():
        write("safetensors", f"matrix_{dtype.lower()}", weights({"w": (dtype, [3, 5], 15 * size)}))
    several = {"a": ("F32", [], 4), "b": ("F16", [2, 1, 3], 12), "c": ("BF16", [0, 4], 0), "d": ("I8", [7], 7)}
    write("safetensors", "several", weights(several, {"format": "pt"}, padding=6))
    write("safetensors", "empty", weights({}))
    write("safetensors", "short_data", weights({"w": ("F32", [4], 16)}, data=15))
    write("safetensors", "overflow", weights({"w": ("F32", [2**40, 2**40], 16)}))
    write("safetensors", "wrong_size", weights({"w": ("F32", [5], 16)}))
    write("safetensors", "long_header", struct.pack("<Q", 2**63) + b"{}")
    write("safetensors", "duplicate", struct.pack("<Q", 17) + b'{"a":{},"a":null}')
    for name, places in {
        "index": {"a": "a.safetensors", "b": "b.safetensors"},
        "index_swapped": {"a": "b.safetensors", "b": "a.safetensors"},
        "index_missing": {"a": "a.safetensors", "c": "c.safetensors"},
        "index_outside": {"a": "../weights/model.safetensors", "b": "/etc/hostname"},
        "index_itself": {"a": "model.safetensors.index.json"},
    }.items():
        write("safetensors", name, json.dumps({"metadata": {"total_size": 16}, "weight_map": places}))


DECODER = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "eos_token_id": [1, 2],
    "bos_token_id": 0,
}


def config_json():
    def add(name, value):
        write("config_json", name, json.dumps(value, separators=(",", ":")))

    add("llama", {"model_type": "llama", **DECODER})
    ropes = {
        "linear": {"factor": 2.0},
        "dynamic": {"factor": 4.0},
        "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
        "llama3": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        "longrope": {
            "short_factor": [1.0] * 8,
            "long_factor": [2.0] * 8,
            "original_max_position_embeddings": 32,
        },
    }
    for kind, rope in ropes.items():
        add(f"rope_{kind}", {"model_type": "llama", **DECODER, "rope_scaling": {"rope_type": kind, **rope}})
        new = {"rope_type": kind, "rope_theta": 1e4, **rope}
        add(f"rope_new_{kind}", {"model_type": "phi3", **DECODER, "rope_parameters": new})
    for kind in ["mistral", "qwen2", "qwen3", "phi3"]:
        add(kind, {"model_type": kind, **DECODER, "sliding_window": 16, "use_sliding_window": True})
    gemma = {**DECODER, "head_dim": 16, "query_pre_attn_scalar": 16, "final_logit_softcapping": 30.0}
    add("gemma2", {"model_type": "gemma2", **gemma, "attn_logit_softcapping": 50.0, "sliding_window": 8})
    add("gemma3", {"model_type": "gemma3", "text_config": {**gemma, "sliding_window_pattern": 2}, "eos_token_id": 1})
    add("gpt2", {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 128})
    add("gpt_neox", {"architectures": ["GPTNeoXForCausalLM"], **DECODER, "rotary_pct": 0.25, "layer_norm_eps": 1e-5})
    add(
        "generation",
        {"eos_token_id": [1, 900], "temperature": 0.6, "top_k": 50, "top_p": 0.9, "stop_strings": ["x"]},
    )
    template = "{{ bos_token }}{% for m in messages %}{{ m['role'].title() }}: {{ m.content | trim }}\n{% endfor %}"
    add("template", {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": template})
    loops = "{% for a in range(9) %}{% for b in range(9) %}{{ raise_exception('x') if b > 7 }}{% endfor %}{% endfor %}"
    add("template_loops", {"chat_template": [{"name": "default", "template": loops}]})
    macro = "{% macro f(x) %}{{ x }}{{ f(x) if x else '' }}{% endmacro %}{{ f(messages | length) }}{{ strftime_now('%Y') }}"
    add("template_macro", {"chat_template": macro})
    words = "{% set ns = namespace(a=[]) %}{{ messages[0].content.split(' ')[-1] * 3 }}{{ messages | tojson(indent=2) }}"
    add("template_words", {"chat_template": words})
    add(
        "preprocessor",
        {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": 24, "width": 20},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": 16,
            "rescale_factor": 0.00392,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.2, 0.2, 0.2],
        },
    )
    add("preprocessor_edge", {"size": {"shortest_edge": 32}, "crop_pct": 0.875, "resample": 2})
    add("labels", {"model_type": "resnet", "id2label": {"0": "cat", "1": "dog"}, "num_channels": 3})
    add("vit", {"model_type": "vit", "hidden_size": 64, "num_attention_heads": 4, "patch_size": 8, "image_size": 32})


def tokenizer(model, **parts):
    added = [
        {"id": id, "content": text, "special": True, "normalized": False, "single_word": False,
         "lstrip": False, "rstrip": False}
        for id, text in [(0, "<s>"), (1, "</s>")]
    ]  # fmt: skip
    return json.dumps({"version": "1.0", "added_tokens": added, "model": model, **parts}, separators=(",", ":"))


def tokenizer_json():
    def add(name, model, **parts):
        write("tokenizer_json", name, tokenizer(model, **parts))

    letters = ["<s>", "</s>", *"Helo,wrd 12its'", "Ġ", "Ċ", "He", "ll", "Hell"]
    vocab = {text: id for id, text in enumerate(letters)}
    bpe = {"type": "BPE", "vocab": vocab, "merges": ["H e", "l l", "He ll"]}
    pairs = {**bpe, "merges": [["H", "e"], ["l", "l"], ["He", "ll"]], "dropout": 0.1, "ignore_merges": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\s+(?!\\S)|[^\\s]"}, "behavior": "Isolated", "invert": False}
    piece = {"Sequence": {"id": "A", "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, piece],
        "pair": [piece, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    add("bpe", bpe)
    add("byte_level", pairs, pre_tokenizer=byte_level, decoder=byte_level, post_processor=template)
    add("split", bpe, pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]})
    fallback = {**bpe, "vocab": {**vocab, "<unk>": 99, "<0x0A>": 100}, "byte_fallback": True, "fuse_unk": True,
                "unk_token": "<unk>"}  # fmt: skip
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    normalizers = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    add(
        "fallback",
        fallback,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        decoder={"type": "Sequence", "decoders": decoders},
    )
    word_piece = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {"[UNK]": 2, "hello": 3, "##s": 4, "it": 5}}  # fmt: skip
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True}  # fmt: skip
    add(
        "word_piece",
        word_piece,
        normalizer=bert,
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        post_processor={"type": "BertProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]},
    )
    add(
        "word_level",
        {"type": "WordLevel", "vocab": {"Hello": 2, "[UNK]": 3}, "unk_token": "[UNK]"},
        pre_tokenizer={"type": "Whitespace"},
        normalizer={"type": "NFKC"},
    )
    unigram = {"type": "Unigram", "unk_id": 0, "byte_fallback": False,
               "vocab": [["<unk>", 0.0], ["▁", -1.0], ["H", -2.0], ["ello", -3.5], ["l", -9.0]]}  # fmt: skip
    charsmap = base64.b64encode(struct.pack("<I4x", 4)).decode()
    add(
        "unigram",
        unigram,
        normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap},
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    )
    for kind in ["Digits", "Punctuation", "WhitespaceSplit", "UnicodeScripts", "CharDelimiterSplit", "FixedLength"]:
        options = {"individual_digits": True, "behavior": "Removed", "delimiter": "l", "length": 3}
        add(f"pre_{kind.lower()}", bpe, pre_tokenizer={"type": kind, **options})
    for kind in ["NFC", "NFD", "NFKD", "Lowercase", "StripAccents", "Nmt", "Strip", "ByteLevel"]:
        options = {"strip_left": True, "strip_right": True}
        add(f"normal_{kind.lower()}", bpe, normalizer={"type": kind, **options})
    for kind in ["CTC", "BPEDecoder"]:
        options = {"pad_token": "<s>", "word_delimiter_token": "|", "cleanup": True, "suffix": "</w>"}
        add(f"decoder_{kind.lower()}", bpe, decoder={"type": kind, **options})
    add("roberta", bpe, post_processor={"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0],
                                        "trim_offsets": True, "add_prefix_space": True})  # fmt: skip
    add("padding", bpe, padding={"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None,
                                 "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"},
        truncation={"max_length": 2, "strategy": "LongestFirst", "stride": 1, "direction": "Left"})  # fmt: skip


def images():
    random = np.random.default_rng(1)
    noise = random.integers(0, 256, (6, 9, 4), dtype=np.uint8)
    ramp = np.add.outer(np.arange(24) * 7, np.arange(20) * 5).astype(np.uint8)

    def add(name, image, kind, **options):
        file = io.BytesIO()
        image.save(file, kind, **options)
        write("images", f"{name}.{kind.lower()}", file.getvalue())

    rgb = Image.fromarray(noise[..., :3])
    modes = {"rgb": rgb, "rgba": Image.fromarray(noise), "grey": Image.fromarray(ramp), "bits": rgb.convert("1")}
    modes["palette"] = rgb.quantize(5)
    modes["la"] = Image.fromarray(noise).convert("LA")
    modes["deep"] = Image.fromarray(ramp.astype(np.uint16) * 257)
    for name, image in modes.items():
        add(name, image, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    add("turned", rgb, "PNG", exif=exif)
    add("moving", rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)])
    for quality, sampling in [(30, 2), (90, 0), (60, 1)]:
        add(f"quality{quality}", rgb, "JPEG", quality=quality, subsampling=sampling)
    add("grey", modes["grey"], "JPEG")
    add("cmyk", rgb.convert("CMYK"), "JPEG")
    add("progressive", modes["grey"], "JPEG", progressive=True)
    add("turned", rgb, "JPEG", exif=exif)
    add("lossy", rgb, "WEBP", quality=40)
    add("lossless", modes["rgba"], "WEBP", lossless=True)
    add("alpha", modes["rgba"], "WEBP", quality=50)
    add("moving", rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)], duration=50)
    add("other", rgb, "GIF")


def onnx():
    def info(name, dims, kind=TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, kind, dims)

    def add(name, nodes, tensors=(), functions=(), inputs=(), outputs=("y",), opset=17):
        inputs = inputs or [info("x", ["n", 3])]
        outputs = [helper.make_empty_tensor_value_info(output) for output in outputs]
        graph = helper.make_graph(nodes, "g", inputs, outputs, list(tensors))
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        imports += [helper.make_opsetid("f", 1)] if functions else []
        model = helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=9)
        write("onnx", name, model.SerializeToString())

    node, tensor = helper.make_node, helper.make_tensor
    numbers = [name for name in TensorProto.DataType.keys() if name not in ("UNDEFINED", "STRING")]
    for name in numbers:
        kind = getattr(TensorProto, name)
        if "COMPLEX" in name:
            continue
        add(f"type_{name.lower()}", [node("Cast", ["w"], ["y"], to=1)], [tensor("w", kind, [4], [0, 1, 1, 0])])
        add(f"cast_{name.lower()}", [node("Cast", ["x"], ["y"], to=kind)])
    shape = tensor("s", TensorProto.INT64, [2], [-1, 1])
    add("shapes", [node("Shape", ["x"], ["d"]), node("Concat", ["d", "s"], ["t"], axis=0),
                   node("Gather", ["t", "i"], ["z"]), node("Expand", ["x", "z"], ["y"])],
        [shape, tensor("i", TensorProto.INT64, [3], [0, 0, 1])])  # fmt: skip
    add("slice", [node("Slice", ["x", "b", "e", "a", "t"], ["y"])],
        [tensor("b", 7, [1], [-1]), tensor("e", 7, [1], [-(2**63)]), tensor("a", 7, [1], [1]),
         tensor("t", 7, [1], [-1])])  # fmt: skip
    branch = [helper.make_graph([node(kind, ["x"], ["b" + kind])], kind, [], [info("b" + kind, None)])
              for kind in ("Relu", "Neg")]  # fmt: skip
    for name, condition in {"if_known": [tensor("c", 9, [], [1])], "if_given": []}.items():
        inputs = [info("x", [2])] + ([] if condition else [info("c", [], 9)])
        add(name, [node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1])], condition, inputs=inputs)
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Add", ["v", "v"], ["w"]), node("Identity", ["i"], ["o"])],
        "body", [info("i", [], 7), info("c", [], 9), info("v", [3])],
        [info("d", [], 9), info("w", [3]), info("o", [], 7)])  # fmt: skip
    for name, trips in {"loop": 3, "loop_long": 2**40, "loop_none": 0}.items():
        add(name, [node("Loop", ["m", "c", "v"], ["y", "z"], body=body)],
            [tensor("m", 7, [], [trips]), tensor("c", 9, [], [1]), tensor("v", 1, [3], [1, 2, 3])])  # fmt: skip
    step = helper.make_graph([node("Add", ["s", "e"], ["t"]), node("Identity", ["t"], ["o"])], "step",
                             [info("s", [3]), info("e", [3])], [info("t", [3]), info("o", [3])])  # fmt: skip
    add("scan", [node("Scan", ["v", "x"], ["y", "z"], body=step, num_scan_inputs=1)],
        [tensor("v", 1, [3], [0, 0, 0])])  # fmt: skip
    call = helper.make_function(
        "f", "Half", ["a"], ["b"], [node("Relu", ["a"], ["r"]), node("Elu", ["r"], ["b"])],
        [helper.make_opsetid("", 17)], ["alpha"])  # fmt: skip
    call.node[1].attribute.add(name="alpha", ref_attr_name="alpha", type=1)
    add("function", [node("Half", ["x"], ["y"], domain="f", alpha=0.5)], functions=[call])
    again = helper.make_function("f", "Half", ["a"], ["b"], [node("Half", ["a"], ["b"], domain="f")],
                                 [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)])  # fmt: skip
    add("function_of_itself", [node("Half", ["x"], ["y"], domain="f")], functions=[again])
    add("circle", [node("Relu", ["a"], ["y"]), node("Relu", ["y"], ["a"])])
    add("twice", [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])])
    add("missing", [node("Add", ["x", "nowhere"], ["y"])])
    add("unknown", [node("Frobnicate", ["x"], ["y"])])
    add("newer", [node("Relu", ["x"], ["y"])], opset=99)
    add("huge", [node("Expand", ["x", "s"], ["y"])], [tensor("s", 7, [2], [2**40, 2**40])])
    for name, entries in {
        "external": {"location": "data.bin", "offset": "8", "length": "12"},
        "external_end": {"location": "data.bin", "offset": "60", "length": "12"},
        "external_outside": {"location": "../data.bin"},
        "external_folder": {"location": "."},
        "external_none": {"location": "none.safetensors"},
    }.items():
        stored = TensorProto(name="w", data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
        for key, value in entries.items():
            stored.external_data.add(key=key, value=value)
        add(name, [node("Add", ["x", "w"], ["y"])], [stored])


if __name__ == "__main__":
    safetensors()
    config_json()
    tokenizer_json()
    images()
    onnx()
