"""Make the text-model goldens: small random-weight models in the published layout, with reference outputs.

Run:

    pip install torch transformers safetensors numpy
    python make_text_goldens.py            # all folders
    python make_text_goldens.py mistral    # only the named folders

Each folder beside this script receives

    config.json          the classic published form (rope_theta, rope_scaling, torch_dtype, ...)
    config_v5.json       (some folders) the same model as the newest transformers saves its config
    model.safetensors    f32 weights under the published names
    golden.safetensors   input_ids, logits, greedy_ids, hidden.0 ... hidden.N, hidden.normed

Reference arithmetic is float64 from end to end: the modelling code raises some values to float32
(norms, softmax, rotary angles), so `exact_float64` makes those float64 as well.

For every special rule of a family the script computes the logits again with that rule off (or done
in a plausible wrong way) and asserts that they move; the table of these moves is printed.
"""

import argparse
import contextlib
import copy
import json
import math
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

HERE = Path(__file__).resolve().parent
VOCABULARY = 131
LENGTH = 37
GREEDY_STEPS = 12
SIZE_LIMIT = 400_000
# A rule which a wrong reader could miss must move the logits by this share of the largest logit.
COARSE = 1e-2
# Variants of one formula (tanh or erf GELU) differ by little; still far above float32 noise.
FINE = 1e-4
REMOVE = object()


@contextlib.contextmanager
def exact_float64():
    """Let the modelling code's explicit float32 steps run in float64."""
    saved = torch.float32, torch.float
    default = torch.get_default_dtype()
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.float = saved
        del torch.Tensor.float
        torch.set_default_dtype(default)


def save_stable(tensors, path, metadata):
    """save_file with the metadata in sorted order, so that a second run writes the same bytes."""
    save_file(tensors, path, metadata=metadata)
    content = Path(path).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= size
    Path(path).write_bytes(content[:8] + text.ljust(size) + content[8 + size :])


class Bite:
    """One rule, and how to break it: by the config, by the weights or in the built model."""

    def __init__(self, rule, key, config=None, weights=None, model=None, bar=COARSE):
        self.rule, self.key, self.bar = rule, key, bar
        self.config, self.weights, self.model = config, weights, model


# ---- weight edits used by bites -------------------------------------------------------------


def fill(value, *parts):
    """Set every tensor whose name has all the parts to one value."""

    def edit(state, settings):
        touched = [name for name in state if all(part in name for part in parts)]
        assert touched, parts
        return {name: torch.full_like(t, value) if name in touched else t for name, t in state.items()}

    return edit


def shift_norms(state, settings):
    """What a reader sees who multiplies by w where the rule is (1 + w)."""
    return {name: t - 1.0 if "norm" in name else t for name, t in state.items()}


def tie_head(embedding):
    def edit(state, settings):
        return {**state, "lm_head.weight": state[embedding]}

    return edit


def tile_key_value_heads(state, settings):
    """Query head h reads group h % groups instead of h // heads_per_group."""
    heads, groups = settings["num_attention_heads"], settings["num_key_value_heads"]
    order = [group * (heads // groups) + member for member in range(heads // groups) for group in range(groups)]
    state = dict(state)
    for name in list(state):
        if name.endswith("q_proj.weight") or name.endswith("q_proj.bias"):
            t = state[name]
            head_dim = t.shape[0] // heads
            rows = t.reshape(heads, head_dim, *t.shape[1:])
            state[name] = torch.stack([rows[order.index(h)] for h in range(heads)]).reshape(t.shape)
        if name.endswith("o_proj.weight"):
            t = state[name]
            columns = t.reshape(t.shape[0], heads, -1)
            state[name] = torch.stack([columns[:, order.index(h)] for h in range(heads)], 1).reshape(t.shape)
    return state


def blocked_query_key_value(state, settings):
    """Rows read as [all q, all k, all v] where the rule is [q, k, v] inside each head."""
    heads = settings["num_attention_heads"]
    state = dict(state)
    for name in list(state):
        if "query_key_value" in name:
            t = state[name]
            rows = t.reshape(3, heads, -1, *t.shape[1:])
            state[name] = rows.transpose(0, 1).reshape(t.shape)
    return state


def transpose_square(part):
    def edit(state, settings):
        return {name: t.T.contiguous() if part in name else t for name, t in state.items()}

    return edit


def swap_halves(part):
    def edit(state, settings):
        return {name: t.roll(t.shape[0] // 2, 0) if part in name else t for name, t in state.items()}

    return edit


def interleave_rotary(state, settings):
    """What a reader sees who rotates neighbouring pairs where the rule pairs the two halves."""
    head_dim = settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
    order = torch.arange(head_dim).reshape(-1, 2).T.reshape(-1)
    touched = ("q_proj.weight", "k_proj.weight")
    return {
        name: t.reshape(-1, head_dim, t.shape[1])[:, order].reshape(t.shape) if name.endswith(touched) else t
        for name, t in state.items()
    }


# ---- model edits used by bites --------------------------------------------------------------


def set_scaling(value):
    def edit(model, settings):
        for layer in model.model.layers:
            layer.self_attn.scaling = value(settings)

    return edit


def drop_query_key_norm(model, settings):
    for layer in model.model.layers:
        layer.self_attn.q_norm = torch.nn.Identity()
        layer.self_attn.k_norm = torch.nn.Identity()


def unit_embedding_scale(model, settings):
    model.model.embed_tokens.embed_scale.fill_(1.0)
    assert float(model.model.embed_tokens.embed_scale) == 1.0


# ---- families -------------------------------------------------------------------------------

COMMON = {
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.02,
    "torch_dtype": "float32",
    "transformers_version": "4.51.0",
    "use_cache": True,
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 48,
    "intermediate_size": 88,
    "max_position_embeddings": 64,
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "num_key_value_heads": 6,
    "pretraining_tp": 1,
    "rms_norm_eps": 0.01,
    "rope_scaling": None,
    "rope_theta": 500.0,
    "tie_word_embeddings": False,
}
GQA = {"num_key_value_heads": 2}
LLAMA3_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_type": "llama3",
}
GEMMA = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "pad_token_id": 0,
    "cache_implementation": "hybrid",
    "head_dim": 12,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 36,
    "intermediate_size": 56,
    "max_position_embeddings": 64,
    "num_attention_heads": 6,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 0.01,
    "sliding_window": 8,
}
PHI3 = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "hidden_act": "silu",
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 0.01,
    "rope_theta": 500.0,
}
NEOX = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "hidden_act": "gelu",
    "hidden_size": 48,
    "intermediate_size": 88,
    "layer_norm_eps": 0.01,
    "max_position_embeddings": 64,
    "num_hidden_layers": 2,
    "rotary_emb_base": 500,
    "tie_word_embeddings": False,
}

RMS_BITES = [
    Bite("norm weights", "*norm.weight", weights=fill(1.0, "norm")),
    Bite("norm epsilon", "rms_norm_eps", config={"rms_norm_eps": 1e-6}),
    Bite("rotary base", "rope_theta", config={"rope_theta": 10000.0}),
]
GQA_BITE = Bite("query heads grouped, not tiled", "num_key_value_heads", weights=tile_key_value_heads)
HEAD_DIM_BITE = Bite(
    "score scale from head_dim",
    "head_dim",
    model=set_scaling(lambda s: (s["hidden_size"] / s["num_attention_heads"]) ** -0.5),
)
NEOX_BITES = [
    Bite("rotary base", "rotary_emb_base", config={"rotary_emb_base": 10000}),
    Bite("qkv interleaved per head", "query_key_value", weights=blocked_query_key_value),
    Bite("attention biases", "query_key_value.bias", weights=fill(0.0, "attention", "query_key_value.bias")),
    Bite("attention output bias", "dense.bias", weights=fill(0.0, "attention.dense.bias")),
    Bite("mlp biases", "mlp.*.bias", weights=fill(0.0, "mlp", "bias")),
    Bite("layer norm biases", "*norm.bias", weights=fill(0.0, "norm.bias")),
    Bite("layer norm weights", "*norm.weight", weights=fill(1.0, "norm.weight")),
    Bite("norm epsilon", "layer_norm_eps", config={"layer_norm_eps": 1e-6}),
    Bite("own head, not the embedding", "tie_word_embeddings", weights=tie_head("gpt_neox.embed_in.weight")),
    Bite("erf GELU, not tanh", "hidden_act", config={"hidden_act": "gelu_new"}, bar=FINE),
]


def neox_buffers(state, settings, kind):
    """Published files carry these saved buffers; `attention.bias` is a mask, not a bias."""
    size = settings["max_position_embeddings"]
    head_dim = settings["hidden_size"] // settings["num_attention_heads"]
    rotary = int(head_dim * settings["rotary_pct"])
    extra = {}
    for layer in range(settings["num_hidden_layers"]):
        prefix = f"gpt_neox.layers.{layer}.attention."
        extra[prefix + "bias"] = torch.tril(torch.ones(size, size)).to(kind).reshape(1, 1, size, size)
        extra[prefix + "masked_bias"] = torch.tensor(-1e9)
        steps = torch.arange(0, rotary, 2).double() / rotary
        extra[prefix + "rotary_emb.inv_freq"] = (settings["rotary_emb_base"] ** -steps).to(torch.float32)
    return {**state, **extra}


def gpt2_published(state, settings):
    """The best known file has no `transformer.` prefix and carries the causal mask as `attn.bias`."""
    size = settings["n_positions"]
    bare = {name.removeprefix("transformer."): t for name, t in state.items()}
    for layer in range(settings["n_layer"]):
        bare[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(size, size)).reshape(1, 1, size, size)
    return bare


def llama2_buffers(state, settings):
    """Early files carry each layer's rotary frequencies; a reader ignores them."""
    head_dim = settings["hidden_size"] // settings["num_attention_heads"]
    steps = torch.arange(0, head_dim, 2).double() / head_dim
    extra = {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": (settings["rope_theta"] ** -steps).to(torch.float32)
        for layer in range(settings["num_hidden_layers"])
    }
    return {**state, **extra}


FAMILIES = {
    "llama2": {
        "config": LLAMA,
        "published": llama2_buffers,
        "bites": RMS_BITES
        + [
            Bite("own head, not the embedding", "tie_word_embeddings", weights=tie_head("model.embed_tokens.weight")),
            Bite("silu, not gelu", "hidden_act", config={"hidden_act": "gelu"}),
            Bite("rotary pairs the two halves", "-", weights=interleave_rotary),
        ],
    },
    "llama3": {
        "config": {
            **LLAMA,
            **GQA,
            "mlp_bias": False,
            "head_dim": 16,
            "max_position_embeddings": 256,
            "rope_scaling": LLAMA3_SCALING,
            "tie_word_embeddings": True,
            "eos_token_id": [2, 3],
        },
        "v5": True,
        "bites": RMS_BITES
        + [
            Bite("llama3 scaling", "rope_scaling", config={"rope_scaling": None}),
            Bite(
                "llama3, not linear", "rope_scaling.rope_type", config={"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
            ),
            Bite(
                "middle band is blended, not left",
                "rope_scaling.low_freq_factor",
                config={"rope_scaling": {**LLAMA3_SCALING, "high_freq_factor": 1.0001}},
            ),
            Bite(
                "middle band is blended, not divided",
                "rope_scaling.high_freq_factor",
                config={"rope_scaling": {**LLAMA3_SCALING, "low_freq_factor": 3.9999}},
            ),
            Bite(
                "original length, not the maximum",
                "rope_scaling.original_max_position_embeddings",
                config={"rope_scaling": {**LLAMA3_SCALING, "original_max_position_embeddings": 256}},
            ),
            GQA_BITE,
            HEAD_DIM_BITE,
        ],
    },
    "llama_bias": {
        "config": {**LLAMA, **GQA, "attention_bias": True, "mlp_bias": True},
        "bites": RMS_BITES
        + [
            Bite("attention biases (all four)", "attention_bias", config={"attention_bias": False}),
            Bite("mlp biases", "mlp_bias", config={"mlp_bias": False}),
            Bite("o_proj bias", "attention_bias", weights=fill(0.0, "o_proj.bias")),
            Bite("k_proj bias", "attention_bias", weights=fill(0.0, "k_proj.bias")),
            Bite("down_proj bias", "mlp_bias", weights=fill(0.0, "down_proj.bias")),
            GQA_BITE,
        ],
    },
    "llama_linear": {
        "config": {**LLAMA, **GQA, "rope_scaling": {"type": "linear", "factor": 4.0}},
        "bites": RMS_BITES
        + [
            Bite("linear scaling", "rope_scaling", config={"rope_scaling": None}),
            Bite("its factor", "rope_scaling.factor", config={"rope_scaling": {"type": "linear", "factor": 2.0}}),
            GQA_BITE,
        ],
    },
    "mistral": {
        "config": {
            **{k: v for k, v in LLAMA.items() if k not in ("attention_bias", "pretraining_tp", "rope_scaling")},
            **GQA,
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "head_dim": 12,
            "sliding_window": 8,
        },
        "bites": RMS_BITES
        + [
            Bite("window", "sliding_window", config={"sliding_window": None}),
            Bite("window counts the token itself (not 9)", "sliding_window", config={"sliding_window": 9}),
            Bite("window counts the token itself (not 7)", "sliding_window", config={"sliding_window": 7}),
            GQA_BITE,
            HEAD_DIM_BITE,
        ],
    },
    "qwen2": {
        "config": {
            **{
                k: v
                for k, v in LLAMA.items()
                if k not in ("attention_bias", "pretraining_tp", "rope_scaling", "tie_word_embeddings")
            },
            **GQA,
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "max_window_layers": 1,
            "sliding_window": 8,
            "use_sliding_window": False,
            "tie_word_embeddings": True,
        },
        "bites": RMS_BITES
        + [
            Bite("q bias", "q_proj.bias", weights=fill(0.0, "q_proj.bias")),
            Bite("k bias", "k_proj.bias", weights=fill(0.0, "k_proj.bias")),
            Bite("v bias", "v_proj.bias", weights=fill(0.0, "v_proj.bias")),
            Bite("window off by its switch", "use_sliding_window", config={"use_sliding_window": True}),
            GQA_BITE,
        ],
    },
    "qwen2_window": {
        "config": {
            **{k: v for k, v in LLAMA.items() if k not in ("attention_bias", "pretraining_tp", "rope_scaling")},
            **GQA,
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "max_window_layers": 1,
            "sliding_window": 8,
            "use_sliding_window": True,
        },
        "bites": [
            Bite("window", "use_sliding_window", config={"use_sliding_window": False}),
            Bite("first layers are full", "max_window_layers", config={"max_window_layers": 0}),
        ],
    },
    "qwen3": {
        "config": {
            **{k: v for k, v in LLAMA.items() if k != "pretraining_tp"},
            **GQA,
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "head_dim": 16,
            "max_window_layers": 2,
            "sliding_window": None,
            "use_sliding_window": False,
        },
        "bites": RMS_BITES
        + [
            Bite("q_norm weight", "q_norm.weight", weights=fill(1.0, "q_norm.weight")),
            Bite("k_norm weight", "k_norm.weight", weights=fill(1.0, "k_norm.weight")),
            Bite("QK norm at all", "q_norm, k_norm", model=drop_query_key_norm),
            GQA_BITE,
            HEAD_DIM_BITE,
        ],
    },
    "gemma2": {
        "config": {
            **GEMMA,
            "architectures": ["Gemma2ForCausalLM"],
            "model_type": "gemma2",
            "hidden_act": "gelu_pytorch_tanh",
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "query_pre_attn_scalar": 5,
            "rope_theta": 500.0,
            "eos_token_id": 1,
        },
        "gemma": True,
        "bites": [
            Bite("attention soft-cap", "attn_logit_softcapping", config={"attn_logit_softcapping": None}),
            Bite("final soft-cap", "final_logit_softcapping", config={"final_logit_softcapping": None}),
            Bite("score scale", "query_pre_attn_scalar", config={"query_pre_attn_scalar": 12}),
            Bite("window off", "sliding_window", config={"layer_types": ["full_attention"] * 4}),
            Bite("every layer windowed", "sliding_window", config={"layer_types": ["sliding_attention"] * 4}),
            Bite(
                "even layers slide, not odd",
                "sliding_window",
                config={"layer_types": ["full_attention", "sliding_attention"] * 2},
            ),
            Bite("window counts the token itself", "sliding_window", config={"sliding_window": 9}),
            Bite("norms multiply by 1 + w", "*norm.weight", weights=shift_norms),
            Bite("norm weights", "*norm.weight", weights=fill(0.0, "norm")),
            Bite("norm epsilon", "rms_norm_eps", config={"rms_norm_eps": 1e-6}),
            Bite("embedding times sqrt(hidden)", "hidden_size", model=unit_embedding_scale),
            Bite("rotary base", "rope_theta", config={"rope_theta": 10000.0}),
            Bite("tanh GELU, not erf", "hidden_activation", config={"hidden_activation": "gelu"}, bar=FINE),
            GQA_BITE,
        ],
    },
    "gemma3": {
        "config": {
            **GEMMA,
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "query_pre_attn_scalar": 5,
            "rope_local_base_freq": 50.0,
            "rope_scaling": {"factor": 4.0, "rope_type": "linear"},
            "rope_theta": 2000.0,
            "sliding_window_pattern": 3,
            "eos_token_id": [1, 3],
        },
        "gemma": True,
        "v5": True,
        "bites": [
            Bite("local rotary base", "rope_local_base_freq", config={"rope_local_base_freq": 2000.0}),
            Bite("global rotary base", "rope_theta", config={"rope_theta": 50.0}),
            Bite("global scaling", "rope_scaling", config={"rope_scaling": None}),
            Bite(
                "scaling on global layers only",
                "rope_scaling",
                config={
                    "rope_scaling": REMOVE,
                    "rope_theta": REMOVE,
                    "rope_local_base_freq": REMOVE,
                    "rope_parameters": {
                        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 2000.0},
                        "sliding_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 50.0},
                    },
                },
            ),
            Bite("QK norm weights", "q_norm, k_norm", weights=fill(0.0, "self_attn", "norm")),
            Bite("QK norm at all", "q_norm, k_norm", model=drop_query_key_norm),
            Bite("score scale", "query_pre_attn_scalar", config={"query_pre_attn_scalar": 12}),
            Bite("pattern 3, not 2", "sliding_window_pattern", config={"sliding_window_pattern": 2}),
            Bite("pattern 3, not its default 6", "sliding_window_pattern", config={"sliding_window_pattern": REMOVE}),
            Bite("window counts the token itself", "sliding_window", config={"sliding_window": 9}),
            Bite("norms multiply by 1 + w", "*norm.weight", weights=shift_norms),
            Bite("norm epsilon", "rms_norm_eps", config={"rms_norm_eps": 1e-6}),
            Bite("embedding times sqrt(hidden)", "hidden_size", model=unit_embedding_scale),
            Bite("tanh GELU, not erf", "hidden_activation", config={"hidden_activation": "gelu"}, bar=FINE),
            GQA_BITE,
        ],
    },
    "phi3": {
        "config": {
            **PHI3,
            "hidden_size": 72,
            "intermediate_size": 60,
            "max_position_embeddings": 64,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "original_max_position_embeddings": 64,
            "partial_rotary_factor": 0.5,
            "rope_scaling": None,
            "sliding_window": 16,
            "tie_word_embeddings": False,
        },
        "v5": True,
        "bites": RMS_BITES
        + [
            Bite("partial rotary", "partial_rotary_factor", config={"partial_rotary_factor": 1.0}),
            Bite("window", "sliding_window", config={"sliding_window": None}),
            Bite("gate first, then up", "gate_up_proj", weights=swap_halves("gate_up_proj")),
            Bite("own head, not the embedding", "tie_word_embeddings", weights=tie_head("model.embed_tokens.weight")),
        ],
    },
    "phi3_longrope": {
        "config": {
            **PHI3,
            "hidden_size": 48,
            "intermediate_size": 88,
            "max_position_embeddings": 128,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "original_max_position_embeddings": 32,
            "partial_rotary_factor": 0.75,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.1, 1.25, 1.5, 1.75, 2.0],
                "long_factor": [1.0, 1.5, 2.5, 4.0, 6.0, 9.0],
            },
            "sliding_window": 262144,
            "tie_word_embeddings": True,
        },
        "v5": True,
        # 20 tokens stay under original_max_position_embeddings, so the short factors apply.
        "short_length": 20,
        "bites": RMS_BITES
        + [
            Bite("longrope", "rope_scaling", config={"rope_scaling": None}),
            Bite(
                "long factors past the original length",
                "rope_scaling.long_factor",
                config={
                    "rope_scaling": {
                        "type": "longrope",
                        "short_factor": [1.0, 1.1, 1.25, 1.5, 1.75, 2.0],
                        "long_factor": [1.0, 1.1, 1.25, 1.5, 1.75, 2.0],
                    }
                },
            ),
            Bite(
                "attention factor from the lengths",
                "original_max_position_embeddings",
                config={"max_position_embeddings": 32},
            ),
            Bite(
                "partial rotary",
                "partial_rotary_factor",
                config={
                    "partial_rotary_factor": 1.0,
                    "rope_scaling": {
                        "type": "longrope",
                        "short_factor": [1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.0, 2.0],
                        "long_factor": [1.0, 1.5, 2.5, 4.0, 6.0, 9.0, 9.0, 9.0],
                    },
                },
            ),
        ],
    },
    "gpt2": {
        "config": {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "attn_pdrop": 0.1,
            "embd_pdrop": 0.1,
            "resid_pdrop": 0.1,
            "layer_norm_epsilon": 0.01,
            "n_ctx": 56,
            "n_embd": 40,
            "n_head": 5,
            "n_inner": 88,
            "n_layer": 2,
            "n_positions": 56,
        },
        "published": gpt2_published,
        "prefixed": True,
        "bites": [
            Bite("learned positions", "wpe.weight", weights=fill(0.0, "wpe")),
            Bite("weights stored [in, out]", "c_proj.weight", weights=transpose_square("attn.c_proj.weight")),
            Bite("c_attn bias", "c_attn.bias", weights=fill(0.0, "c_attn.bias")),
            Bite("attn.c_proj bias", "attn.c_proj.bias", weights=fill(0.0, "attn.c_proj.bias")),
            Bite("mlp biases", "mlp.*.bias", weights=fill(0.0, "mlp", "bias")),
            Bite("layer norm biases", "ln_*.bias", weights=fill(0.0, "ln_", "bias")),
            Bite("layer norm weights", "ln_*.weight", weights=fill(1.0, "ln_", "weight")),
            Bite("norm epsilon", "layer_norm_epsilon", config={"layer_norm_epsilon": 1e-6}),
            Bite("tanh GELU, not erf", "activation_function", config={"activation_function": "gelu"}, bar=FINE),
        ],
    },
    "gpt_neox": {
        "config": {**NEOX, "num_attention_heads": 3, "rotary_pct": 0.25, "use_parallel_residual": True},
        "published": lambda state, settings: neox_buffers(state, settings, torch.bool),
        "bites": [
            Bite("parallel residual", "use_parallel_residual", config={"use_parallel_residual": False}),
            Bite("partial rotary", "rotary_pct", config={"rotary_pct": 1.0}),
        ]
        + NEOX_BITES,
    },
    "gpt_neox_serial": {
        "config": {**NEOX, "num_attention_heads": 6, "rotary_pct": 1.0, "use_parallel_residual": False},
        "published": lambda state, settings: neox_buffers(state, settings, torch.uint8),
        "bites": [
            Bite("serial residual", "use_parallel_residual", config={"use_parallel_residual": True}),
            Bite("full rotary", "rotary_pct", config={"rotary_pct": 0.25}),
        ]
        + NEOX_BITES,
    },
}


# ---- building and running -------------------------------------------------------------------


def config_from(settings):
    settings = copy.deepcopy(settings)
    return AutoConfig.for_model(settings["model_type"], **{k: v for k, v in settings.items() if k != "model_type"})


def build(settings, state, edit=None, dtype=None, lenient=False):
    """A model in eager attention with the given weights; call inside exact_float64 for the reference."""
    dtype = dtype or torch.float64
    model = AutoModelForCausalLM.from_config(config_from(settings), dtype=dtype, attn_implementation="eager")
    model.eval()
    missing, unexpected = model.load_state_dict({k: v.to(dtype) for k, v in state.items()}, strict=False)
    assert set(missing) <= {"lm_head.weight"}, missing
    assert lenient or not unexpected, unexpected
    if missing:
        assert model.lm_head.weight is model.get_input_embeddings().weight
    if edit:
        edit(model, settings)
    return model


def random_weights(settings, name, gemma):
    """f32 weights by name, from a seed of the folder's name."""
    model = AutoModelForCausalLM.from_config(config_from(settings), dtype=torch.float32)
    generator = torch.Generator().manual_seed(sum(ord(c) * 31**i for i, c in enumerate(name)) % 2**31)
    state = {}
    for key, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        if "norm" in key or ".ln_" in key:
            if key.endswith("bias"):
                state[key] = 0.2 * noise
            else:
                state[key] = 0.3 * noise + (0.0 if gemma else 1.0)
        elif key.endswith("bias"):
            state[key] = 0.2 * noise
        elif "embed" in key or "wte" in key or "wpe" in key:
            # Gemma multiplies by sqrt(hidden); with a tied head a large embedding would only repeat the token.
            state[key] = (0.15 if gemma else 0.3) * noise
        else:
            state[key] = 0.25 * noise
    return state


def layers_of(model):
    base = model.base_model
    return base.h if hasattr(base, "h") else base.layers


def run(model, ids, states=False):
    """Logits [L, vocab]; with states also the input of the first layer and the output of each layer."""
    seen = []
    hooks = []
    if states:

        def keep_input(module, arguments, keywords):
            seen.append(arguments[0] if arguments else keywords["hidden_states"])

        def keep_output(module, arguments, output):
            seen.append(output[0] if isinstance(output, tuple) else output)

        layers, base = layers_of(model), model.base_model
        final = next(getattr(base, n) for n in ("norm", "ln_f", "final_layer_norm") if hasattr(base, n))
        hooks.append(layers[0].register_forward_pre_hook(keep_input, with_kwargs=True))
        hooks += [module.register_forward_hook(keep_output) for module in (*layers, final)]
    with torch.no_grad():
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return (logits, [s.reshape(len(ids), -1) for s in seen]) if states else logits


def greedy(model, ids, steps):
    """Greedy continuation with the whole sequence recomputed at each step, and the smallest top-2 margin."""
    sequence, margin = ids, math.inf
    for _ in range(steps):
        top = run(model, sequence)[-1].topk(2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        sequence = torch.cat([sequence, top.indices[:1]])
    return sequence[len(ids) :], margin


def greedy_cached(model, ids, steps):
    """The same with transformers' own key/value cache."""
    fed, cache, result = ids, None, []
    with torch.no_grad():
        for _ in range(steps):
            output = model(input_ids=fed[None], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            fed = output.logits[0, -1].argmax()[None]
            result.append(fed)
    return torch.cat(result)


def choose_input(model, settings, length, steps, wanted_margin):
    """A random prompt whose greedy continuation has no near-tie and no end token."""
    ends = settings["eos_token_id"]
    ends = set(ends if isinstance(ends, list) else [ends])
    for seed in range(400):
        generator = torch.Generator().manual_seed(1000 + seed)
        ids = torch.randint(4, VOCABULARY, (length,), generator=generator)
        ids[0] = settings["bos_token_id"]
        found, margin = greedy(model, ids, steps)
        if margin >= wanted_margin and len(set(found.tolist())) >= 6 and not ends & set(found.tolist()):
            return ids, found, margin
    raise AssertionError("no prompt with a wide enough margin")


def write_golden(path, model64, model32, ids, found, margin):
    with exact_float64():
        logits, states = run(model64, ids, states=True)
    rough = run(model32, ids).double()
    difference = float((rough - logits).abs().max())
    assert difference < 1e-3 * float(logits.abs().max()), difference
    with torch.no_grad():
        assert torch.equal(greedy(model32, ids, len(found))[0], found)
    tensors = {
        "input_ids": ids.to(torch.int32),
        "logits": logits.to(torch.float32),
        "greedy_ids": found.to(torch.int32),
        "hidden.normed": states[-1].to(torch.float32),
    }
    for index, state in enumerate(states[:-1]):
        tensors[f"hidden.{index}"] = state.to(torch.float32)
    save_stable(
        {k: v.contiguous() for k, v in tensors.items()},
        path,
        metadata={
            "smallest_greedy_margin": f"{margin:.6f}",
            "largest_logit": f"{float(logits.abs().max()):.6f}",
            "float32_eager_max_difference": f"{difference:.3e}",
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
        },
    )
    return logits, difference


def make(name, family):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    settings = {**COMMON, **family["config"]}
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    settings = json.loads((folder / "config.json").read_text())
    state = random_weights(settings, name, family.get("gemma", False))
    model32 = build(settings, state, dtype=torch.float32)

    with tempfile.TemporaryDirectory() as scratch:
        model32.save_pretrained(scratch)
        tensors = load_file(Path(scratch) / "model.safetensors")
        if family.get("v5"):
            (folder / "config_v5.json").write_text((Path(scratch) / "config.json").read_text())
    if family.get("prefixed"):
        save_stable(tensors, folder / "model_prefixed.safetensors", metadata={"format": "pt"})
    if "published" in family:
        tensors = family["published"](tensors, settings)
    save_stable({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})

    # The files as written must give the same model back through the ordinary loader.
    reloaded = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    probe = torch.arange(4, 4 + LENGTH)
    assert torch.equal(run(reloaded, probe), run(model32, probe)), "the written files read back differently"
    if family.get("v5"):
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "config.json").write_text((folder / "config_v5.json").read_text())
            newest = AutoConfig.from_pretrained(scratch)
        again = AutoModelForCausalLM.from_config(newest, dtype=torch.float32, attn_implementation="eager").eval()
        again.load_state_dict(state, strict=False)
        assert torch.equal(run(again, probe), run(model32, probe)), "config_v5.json means something else"

    with exact_float64():
        model64 = build(settings, state)
        wanted = 0.02 if settings.get("final_logit_softcapping") else 0.05
        ids, found, margin = choose_input(model64, settings, LENGTH, GREEDY_STEPS, wanted)
        assert torch.equal(greedy_cached(model64, ids, GREEDY_STEPS), found), "the cached run differs"
    logits, difference = write_golden(folder / "golden.safetensors", model64, model32, ids, found, margin)
    largest = float(logits.abs().max())

    if "short_length" in family:
        with exact_float64():
            short_model = build(settings, state)
            short = choose_input(short_model, settings, family["short_length"], 8, wanted)
        short_logits, _ = write_golden(folder / "golden_short.safetensors", short_model, model32, *short)
        scaling = settings["rope_scaling"]
        always_long = {**settings, "rope_scaling": {**scaling, "short_factor": scaling["long_factor"]}}
        with exact_float64():
            moved = float((run(build(always_long, state), short[0]) - short_logits).abs().max())
        assert moved > COARSE * float(short_logits.abs().max()), "the short factors do not bite"

    with torch.no_grad():
        attentions = model32(input_ids=ids[None], output_attentions=True, use_cache=False).attentions
    peak = float(torch.stack([a[0, :, 16:].amax(-1).mean() for a in attentions]).mean())
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"\n{name}: largest logit {largest:.2f}, greedy margin {margin:.3f}, float32 difference {difference:.1e}, "
          f"mean attention peak {peak:.2f}, {size} bytes")
    print(f"  greedy {found.tolist()}")
    assert size < SIZE_LIMIT, size
    weak = []
    for bite in family["bites"]:
        changed = {k: v for k, v in {**settings, **(bite.config or {})}.items() if v is not REMOVE}
        weights = bite.weights(state, settings) if bite.weights else state
        with exact_float64():
            other = run(build(changed, weights, bite.model, lenient=True), ids)
        share = float((other - logits).abs().max()) / largest
        weak += [bite.rule] if share <= bite.bar else []
        print(f"  {bite.rule:42} {bite.key:48} {share:9.2e}  {'ok' if share > bite.bar else 'WEAK'} (> {bite.bar:g})")
    assert not weak, f"{name}: these rules do not bite: {weak}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="folders to make; all when none is named")
    names = parser.parse_args().names or list(FAMILIES)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, python {sys.version.split()[0]}")
    for name in names:
        make(name, FAMILIES[name])


if __name__ == "__main__":
    main()
