"""Trains, exports and checks the small fairy-tale language model in this folder.

Run it with the text of the fairy books (one file, paragraphs separated by
blank lines) as the only positional argument:

    python -m pip install torch transformers safetensors tokenizers numpy
    python train.py fairy_books.txt --work /tmp/fairy-tales

It cleans the text and splits it into stories, trains a byte-level BPE
tokenizer and a Llama-style transformer on the training stories, and writes
config.json, model.safetensors (float16), tokenizer.json,
tokenizer_config.json, generation_config.json, golden.json and samples.md to
the folder of this script (or to --output).  Checkpoints and results.json go
to the folder given with --work; a second start with the same folder resumes
from there, at the point of the last checkpoint.

Training uses --processes processes that share the work of each step; with one
thread each they do not wait for one another inside a step, which matters on a
machine with other work.

The learning rate follows the clock rather than a step count: --minutes says
how long training takes, whatever the speed of the machine.  --start-from names
a folder that this script wrote: training then begins with its tokenizer and
weights.  --export-only writes and checks the files from the latest checkpoint
without training.
"""

import argparse
import json
import math
import os
import random
import re
import sys
import time
from pathlib import Path

import numpy
import torch
import torch.distributed as distributed
import torch.nn.functional as functional
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

VOCABULARY_SIZE = 4096
HIDDEN_SIZE = 256
LAYER_COUNT = 6
HEAD_COUNT = 8
KEY_VALUE_HEAD_COUNT = 4
HEAD_SIZE = HIDDEN_SIZE // HEAD_COUNT
FEED_FORWARD_SIZE = 704
CONTEXT_LENGTH = 512
ROPE_THETA = 10000.0
NORM_EPSILON = 1e-5
BEGIN_ID, END_ID = 0, 1
HELD_OUT_EVERY, HELD_OUT_OFFSET = 25, 12

TOKENS_PER_STEP = 6144
SHORT_WINDOW = 256
LONG_WINDOW_FROM = 0.8
OPENING_SHARE = 0.03
MUON_LEARNING_RATE = 0.015
ADAM_LEARNING_RATE = 0.004
WEIGHT_DECAY = 0.1

SAMPLE_PROMPT = "Once upon a time"
SAMPLE_TEMPERATURE = 0.8
SAMPLE_TOKENS = 200
GOLDEN_PROMPTS = ["Once upon a time", "The old king", ""]
GOLDEN_TOKENS = 48


# ---------------------------------------------------------------- text


BOOK_TITLE = re.compile(r"THE [A-Z]+ FAIRY BOOK")
FRONT_MATTER_START = re.compile(r"THE [A-Z]+ FAIRY BOOK|\*\*Welcome To The World.*")
NOTE_MARK = re.compile(r"\s*(\[FN#[^\]]*\]|\[\d+\]|\(\d+\))")
CHAPTER = re.compile(r"([IVX]+|CHAPTER [IVX]+)\.?")
SOURCE_NAME = re.compile(
    r"M(a|ah|ae|o|u|uh|are)h?rch?en|Mahrehen|Contes|Cuentos|Leipzig|Paris:|Grimm\b|Andersen|Aulnoy|"
    r"Perrault|Asbjornsen|Mabinogion|Bibliotheque|Volksm|^From (the|Contes|Folk|')|^Adapted|^Translated|^\(|"
    r"Folklore|Bureau of Ethnology|Caylus\.|Kletke|Topelius|Marelles|Sebillot|Chapbook|Volsunga|Arabian Nights\.$|"
    r"Cabinet des|fees illustres|American Indian story|Highland Tales|Malirchen|Popular Traditions|^Swift\.$|Legends\.$"
)
SMALL_WORDS = {"with", "from", "into", "that", "which", "their", "your", "upon", "through", "about", "over"}


def is_heading(paragraph):
    """Whether a paragraph is the title of a story: short, no sentence, its longer words capitalised."""
    if len(paragraph) > 110 or paragraph[0] in "'\"(" or paragraph[-1] in ",;:?!\"'-":
        return False
    if paragraph == paragraph.upper():
        return paragraph[-1] != "." and re.search("[A-Z]{3}", paragraph) is not None
    if paragraph[-1] == ".":
        return False
    words = [word for word in re.findall(r"[A-Za-z]+", paragraph) if len(word) > 3]
    return bool(words) and all(word[0].isupper() or word in SMALL_WORDS for word in words)


def plain_opening(paragraph):
    """Stories often open with words in capitals ("ONCE upon a time"); writes them as elsewhere."""
    words = paragraph.split(" ")
    for index, word in enumerate(words):
        if len(word) < 2 and word not in ("I", "A") or not re.fullmatch(r"[A-Z]+[,.]?", word):
            break
        words[index] = word.capitalize() if index == 0 else word.lower()
    return " ".join(words)


def read_stories(path):
    """Cuts the books into stories, without titles, prefaces, contents, source notes and footnotes."""
    stories, current, seen_titles = [], [], set()
    in_front_matter, skip_next = False, False

    def finish():
        # The last line may be a source left over: a name or a title with a full stop.
        if current and len(current[-1]) < 60 and current[-1][-1] == "." and is_heading(current[-1][:-1]):
            current.pop()
        text = "\n".join(current)
        if len(text) > 500:
            stories.append(plain_opening(text))
        current.clear()

    for paragraph in Path(path).read_text(encoding="utf-8").split("\n\n"):
        paragraph = re.sub(r"\s+", " ", NOTE_MARK.sub("", paragraph)).strip()
        if skip_next:
            skip_next = False
        elif paragraph not in seen_titles and FRONT_MATTER_START.fullmatch(paragraph):
            seen_titles.add(paragraph)
            finish()
            in_front_matter = True
        elif paragraph.lower() == "contents":
            in_front_matter, skip_next = False, True
        elif in_front_matter or not paragraph or paragraph[0] == "[":
            continue
        elif BOOK_TITLE.fullmatch(paragraph.upper()) or CHAPTER.fullmatch(paragraph):
            continue
        elif paragraph.startswith(("End of The", "Footnotes:")):
            continue
        elif len(paragraph) < 130 and SOURCE_NAME.search(paragraph):
            continue
        elif len(paragraph) < 80 and paragraph == paragraph.upper() and paragraph[-1] == ".":
            continue
        elif is_heading(paragraph):
            finish()
        else:
            current.append(paragraph)
    finish()
    return stories


def split_stories(stories):
    """Holds out one story in HELD_OUT_EVERY, in book order, so that every book contributes."""
    held_out = [story for index, story in enumerate(stories) if index % HELD_OUT_EVERY == HELD_OUT_OFFSET]
    training = [story for index, story in enumerate(stories) if index % HELD_OUT_EVERY != HELD_OUT_OFFSET]
    return training, held_out


# ---------------------------------------------------------------- tokenizer


def train_tokenizer(stories):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BEGIN_ID)]
    )
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE
    return tokenizer


def encode_stories(tokenizer, stories):
    """Each story as <s> ... </s>."""
    return [torch.tensor(encoding.ids + [END_ID]) for encoding in tokenizer.encode_batch(stories)]


# ---------------------------------------------------------------- character model


def padded_bytes(stories, order):
    """All stories as bytes, each led by `order` zeros and ended by one; and which bytes are predicted."""
    pieces, predicted = [], []
    for story in stories:
        data = story.encode("utf-8") + b"\0"
        pieces.append(b"\0" * order + data)
        predicted.append(numpy.r_[numpy.zeros(order, bool), numpy.ones(len(data), bool)])
    return numpy.frombuffer(b"".join(pieces), numpy.uint8).astype(numpy.int64), numpy.concatenate(predicted)


def character_model_loss(training, held_out, order=5):
    """Held-out nats of an interpolated Witten-Bell model that sees the `order` bytes before each byte."""
    data, predicted = padded_bytes(training, order)
    test_data, test_predicted = padded_bytes(held_out, order)
    positions, test_positions = numpy.flatnonzero(predicted), numpy.flatnonzero(test_predicted)
    probability = numpy.full(len(test_positions), 1 / 256)

    def look_up(keys, counts, wanted):
        index = numpy.minimum(numpy.searchsorted(keys, wanted), len(keys) - 1)
        return numpy.where(keys[index] == wanted, counts[index], 0)

    for length in range(order + 1):
        context = numpy.zeros(len(positions), numpy.int64)
        test_context = numpy.zeros(len(test_positions), numpy.int64)
        for distance in range(length, 0, -1):
            context = context * 256 + data[positions - distance]
            test_context = test_context * 256 + test_data[test_positions - distance]
        keys, counts = numpy.unique(context * 256 + data[positions], return_counts=True)
        context_keys, starts = numpy.unique(keys // 256, return_index=True)
        context_totals = numpy.add.reduceat(counts, starts)
        context_kinds = numpy.diff(numpy.r_[starts, len(keys)])
        pair_count = look_up(keys, counts, test_context * 256 + test_data[test_positions])
        total = look_up(context_keys, context_totals, test_context)
        kinds = look_up(context_keys, context_kinds, test_context)
        interpolated = (pair_count + kinds * probability) / numpy.maximum(total + kinds, 1)
        probability = numpy.where(total > 0, interpolated, probability)
    return float(-numpy.log(probability).sum())


# ---------------------------------------------------------------- model


def matrix(rows, columns, scale=1.0):
    return nn.Parameter(torch.randn(rows, columns) * scale / math.sqrt(columns))


def rotary_tables(length):
    frequencies = ROPE_THETA ** (-torch.arange(0, HEAD_SIZE, 2, dtype=torch.float64) / HEAD_SIZE)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies[None]
    angles = torch.cat([angles, angles], -1)
    return angles.cos().float(), angles.sin().float()


def rotate(values, cosine, sine):
    half = HEAD_SIZE // 2
    turned = torch.cat([-values[..., half:], values[..., :half]], -1)
    return (values * cosine + turned * sine).to(values.dtype)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        key_value_size = KEY_VALUE_HEAD_COUNT * HEAD_SIZE
        self.input_norm = nn.Parameter(torch.ones(HIDDEN_SIZE))
        self.query = matrix(HIDDEN_SIZE, HIDDEN_SIZE)
        self.key = matrix(key_value_size, HIDDEN_SIZE)
        self.value = matrix(key_value_size, HIDDEN_SIZE)
        self.attention_output = matrix(HIDDEN_SIZE, HIDDEN_SIZE, 0.2)
        self.feed_forward_norm = nn.Parameter(torch.ones(HIDDEN_SIZE))
        self.gate = matrix(FEED_FORWARD_SIZE, HIDDEN_SIZE)
        self.up = matrix(FEED_FORWARD_SIZE, HIDDEN_SIZE)
        self.down = matrix(HIDDEN_SIZE, FEED_FORWARD_SIZE, 0.2)

    def forward(self, states, cosine, sine, attention_mask, feed_forward_mask):
        batch, length, _ = states.shape
        key_value_size = KEY_VALUE_HEAD_COUNT * HEAD_SIZE
        normed = functional.rms_norm(states, (HIDDEN_SIZE,), self.input_norm, NORM_EPSILON)
        # One product for the three projections is faster than three.
        projected = functional.linear(normed, torch.cat([self.query, self.key, self.value]))
        query, key, value = projected.split([HIDDEN_SIZE, key_value_size, key_value_size], -1)
        query = query.view(batch, length, HEAD_COUNT, HEAD_SIZE).transpose(1, 2)
        key = key.view(batch, length, KEY_VALUE_HEAD_COUNT, HEAD_SIZE).transpose(1, 2)
        value = value.view(batch, length, KEY_VALUE_HEAD_COUNT, HEAD_SIZE).transpose(1, 2)
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        group = HEAD_COUNT // KEY_VALUE_HEAD_COUNT
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended = attended.transpose(1, 2).reshape(batch, length, HIDDEN_SIZE)
        states = states + functional.linear(attended, self.attention_output) * attention_mask
        normed = functional.rms_norm(states, (HIDDEN_SIZE,), self.feed_forward_norm, NORM_EPSILON)
        gate, up = functional.linear(normed, torch.cat([self.gate, self.up])).chunk(2, -1)
        return states + functional.linear(functional.silu(gate) * up, self.down) * feed_forward_mask


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(VOCABULARY_SIZE, HIDDEN_SIZE) * 0.02)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYER_COUNT))
        self.final_norm = nn.Parameter(torch.ones(HIDDEN_SIZE))
        cosine, sine = rotary_tables(CONTEXT_LENGTH)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, tokens, masks=None):
        cosine, sine = self.cosine[: tokens.shape[1]], self.sine[: tokens.shape[1]]
        if masks is None:
            masks = torch.ones(2 * LAYER_COUNT + 1, 1, 1, 1, dtype=self.embedding.dtype)
        states = functional.embedding(tokens, self.embedding) * masks[-1]
        for index, layer in enumerate(self.layers):
            states = layer(states, cosine, sine, masks[2 * index], masks[2 * index + 1])
        states = functional.rms_norm(states, (HIDDEN_SIZE,), self.final_norm, NORM_EPSILON)
        return functional.linear(states, self.embedding)

    def loss(self, tokens, targets, masks):
        logits = self(tokens, masks).float()
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def dropout_masks(batch, rate):
    """One mask per branch, the same at all positions of a window, which costs little to draw."""
    return (torch.rand(2 * LAYER_COUNT + 1, batch, 1, HIDDEN_SIZE) >= rate).float() / (1 - rate)


# ---------------------------------------------------------------- optimiser


def orthogonalised(stack):
    """Newton-Schulz steps towards the nearest orthogonal matrix, for a stack of wide matrices."""
    stack = stack / (stack.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    stack = stack.bfloat16()
    for _ in range(5):
        gram = stack @ stack.mT
        stack = 3.4445 * stack + (-4.7750 * gram + 2.0315 * gram @ gram) @ stack
    return stack.float()


class Muon:
    """Momentum whose update is orthogonalised, for the matrices inside the layers."""

    def __init__(self, parameters, momentum=0.95):
        self.momentum = momentum
        self.groups = {}
        for parameter in parameters:
            self.groups.setdefault(tuple(sorted(parameter.shape)), []).append(parameter)
        self.buffers = {
            shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()
        }

    def step(self, learning_rate, weight_decay):
        for shape, group in self.groups.items():
            # Tall matrices go in transposed, so that all of a group have one shape.
            wide = [p.grad if p.shape[0] <= p.shape[1] else p.grad.mT for p in group]
            gradient, buffer = torch.stack(wide), self.buffers[shape]
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalised(gradient.lerp(buffer, self.momentum))
            for parameter, change in zip(group, update):
                if parameter.shape[0] > parameter.shape[1]:
                    change = change.mT
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - learning_rate * weight_decay)
                parameter.add_(change, alpha=-learning_rate * scale)


# ---------------------------------------------------------------- training


class WindowSource:
    """Windows of the training stream: each pass cuts it at a fresh offset and shuffles the pieces.
    A small share starts at the beginning of a story instead, where generation starts."""

    def __init__(self, encoded, seed):
        self.stream = torch.cat(encoded)
        self.story_starts = numpy.cumsum([0] + [len(story) for story in encoded[:-1]]).tolist()
        self.random = random.Random(seed)
        self.queue, self.queue_length = [], 0

    def batch(self, count, length):
        if self.queue_length != length:
            self.queue, self.queue_length = [], length
        windows = []
        while len(windows) < count:
            if self.random.random() < OPENING_SHARE:
                start = self.random.choice(self.story_starts)
            else:
                if not self.queue:
                    offset = self.random.randrange(length)
                    self.queue = list(range(offset, len(self.stream) - length - 1, length))
                    self.random.shuffle(self.queue)
                start = self.queue.pop()
            if start + length + 1 <= len(self.stream):
                windows.append(self.stream[start : start + length + 1])
        windows = torch.stack(windows)
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def held_out_windows(encoded, length):
    """Windows that score every token once, with at least half a window before it where the story has it."""
    half = length // 2
    for story in encoded:
        start = 0
        while True:
            window = story[start : start + length + 1]
            yield window, 0 if start == 0 else length - half
            if start + length + 1 >= len(story):
                break
            start += half


@torch.no_grad()
def held_out_nats(logits_of, encoded, length=CONTEXT_LENGTH, window_step=1):
    """Sum of the loss in nats, and the number of tokens scored."""
    total, count = 0.0, 0
    for index, (window, skipped) in enumerate(held_out_windows(encoded, length)):
        if index % window_step:
            continue
        logits = logits_of(window[None, :-1])[0, skipped:].float()
        total += functional.cross_entropy(logits, window[1 + skipped :], reduction="sum").item()
        count += len(logits)
    return total, count


def learning_rate_factor(progress):
    """Short warm-up, a plateau, then a straight line to zero."""
    if progress < 0.02:
        return progress / 0.02
    return min(1.0, max(0.0, (1 - progress) / 0.65))


def average_gradients(parameters):
    """The mean gradient over all processes, in one exchange."""
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    pieces = flat.split([parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces):
        parameter.grad = piece.view_as(parameter)


def helper_process(rank, encoded_training, arguments, checkpoint_path):
    """A further training process: same model and updates as the first, other windows."""
    torch.set_num_threads(arguments.threads)
    train(LanguageModel(), encoded_training, None, arguments, checkpoint_path, rank + 1)


def train(model, encoded_training, encoded_held_out, arguments, checkpoint_path, rank=0):
    helpers = None
    meeting_point = arguments.work.resolve() / "meeting-point"
    if rank == 0:
        meeting_point.unlink(missing_ok=True)
        if arguments.processes > 1:
            helpers = torch.multiprocessing.start_processes(
                helper_process,
                (encoded_training, arguments, checkpoint_path),
                nprocs=arguments.processes - 1,
                join=False,
                start_method="spawn",
            )
    distributed.init_process_group(
        "gloo", init_method=meeting_point.as_uri(), rank=rank, world_size=arguments.processes
    )
    # All processes start from the weights of the first.
    for parameter in model.parameters():
        distributed.broadcast(parameter.data, 0)
    torch.manual_seed(arguments.seed + 1000 * rank)
    state = {"elapsed": 0.0, "step": 0, "tokens": 0}
    matrices = [p for layer in model.layers for p in layer.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if not any(p is q for q in matrices)]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY)
    if checkpoint_path.exists():
        saved = torch.load(checkpoint_path)
        model.load_state_dict(saved["model"])
        adam.load_state_dict(saved["adam"])
        muon.buffers = saved["muon"]
        state = saved["state"]
        print(f"resumed at step {state['step']}", flush=True)
    source = WindowSource(encoded_training, arguments.seed + state["step"] + 1000 * rank)
    compiled_loss = torch.compile(model.loss, dynamic=False)
    budget = arguments.minutes * 60
    started = time.time() - state["elapsed"]
    last_saved = last_evaluated = time.time()
    recent = []

    def save():
        state["elapsed"] = time.time() - started
        saved = {"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.buffers, "state": state}
        torch.save(saved, checkpoint_path.with_suffix(".new"))
        os.replace(checkpoint_path.with_suffix(".new"), checkpoint_path)

    while True:
        # The clock of the first process counts, so that all take the same step.
        clock = torch.tensor([(time.time() - started) / budget], dtype=torch.float64)
        distributed.broadcast(clock, 0)
        progress = clock.item()
        if progress >= 1:
            break
        length = SHORT_WINDOW if progress < LONG_WINDOW_FROM else CONTEXT_LENGTH
        tokens, targets = source.batch(TOKENS_PER_STEP // length // arguments.processes, length)
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled_loss(tokens, targets, dropout_masks(len(tokens), arguments.dropout))
        loss.backward()
        average_gradients(list(model.parameters()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        factor = arguments.learning_rate * learning_rate_factor(progress)
        with torch.no_grad():
            muon.step(MUON_LEARNING_RATE * factor, WEIGHT_DECAY)
        adam.param_groups[0]["lr"] = ADAM_LEARNING_RATE * factor
        adam.step()
        model.zero_grad(set_to_none=True)
        state["step"] += 1
        state["tokens"] += tokens.numel() * arguments.processes
        recent.append(loss.item())
        if rank > 0:
            continue
        if state["step"] % 20 == 0:
            speed = state["tokens"] / (time.time() - started)
            epochs = state["tokens"] / len(source.stream)
            print(
                f"step {state['step']} minute {(time.time() - started) / 60:.1f} loss {numpy.mean(recent):.4f} "
                f"epochs {epochs:.2f} tokens/s {speed:.0f}",
                flush=True,
            )
            recent = []
        if time.time() - last_saved > 120:
            save()
            last_saved = time.time()
        if time.time() - last_evaluated > 480:
            total, count = held_out_nats(model, encoded_held_out, length, window_step=4)
            print(f"held-out loss per token {total / count:.4f} (a quarter of the windows)", flush=True)
            last_evaluated = time.time()
    if rank == 0:
        save()
    distributed.destroy_process_group()
    if helpers:
        helpers.join()
    return state


# ---------------------------------------------------------------- export and checks


HUGGING_FACE_NAMES = {
    "input_norm": "input_layernorm.weight",
    "query": "self_attn.q_proj.weight",
    "key": "self_attn.k_proj.weight",
    "value": "self_attn.v_proj.weight",
    "attention_output": "self_attn.o_proj.weight",
    "feed_forward_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}


def named_weights(model):
    """Each parameter of the model under its name in the checkpoint."""
    weights = {
        "model.embed_tokens.weight": model.embedding,
        "model.norm.weight": model.final_norm,
    }
    for index, layer in enumerate(model.layers):
        for name, value in layer.named_parameters():
            weights[f"model.layers.{index}.{HUGGING_FACE_NAMES[name]}"] = value
    return weights


@torch.no_grad()
def load_weights(model, folder):
    """Sets the model's parameters to those that `export` wrote to a folder."""
    tensors = load_file(folder / "model.safetensors")
    for name, parameter in named_weights(model).items():
        parameter.copy_(tensors[name])


def export(model, tokenizer, folder):
    tensors = {
        name: value.detach().to(torch.float16).contiguous() for name, value in named_weights(model).items()
    }
    assert all(bool(value.isfinite().all()) for value in tensors.values())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))

    def write(name, content):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    write(
        "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": BEGIN_ID,
            "eos_token_id": END_ID,
            "head_dim": HEAD_SIZE,
            "hidden_act": "silu",
            "hidden_size": HIDDEN_SIZE,
            "initializer_range": 0.02,
            "intermediate_size": FEED_FORWARD_SIZE,
            "max_position_embeddings": CONTEXT_LENGTH,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": HEAD_COUNT,
            "num_hidden_layers": LAYER_COUNT,
            "num_key_value_heads": KEY_VALUE_HEAD_COUNT,
            "rms_norm_eps": NORM_EPSILON,
            "rope_scaling": None,
            "rope_theta": ROPE_THETA,
            "tie_word_embeddings": True,
            "torch_dtype": "float16",
            "use_cache": True,
            "vocab_size": VOCABULARY_SIZE,
        },
    )
    write(
        "generation_config.json",
        {"bos_token_id": BEGIN_ID, "eos_token_id": END_ID, "do_sample": True, "temperature": SAMPLE_TEMPERATURE},
    )
    write(
        "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONTEXT_LENGTH,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def rounded_model(model):
    """The model with its weights rounded to float16, as exported."""
    rounded = LanguageModel()
    rounded.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    return rounded.eval()


@torch.no_grad()
def check_against_transformers(rounded, reference, tokenizer, reference_tokenizer, text):
    ids = tokenizer.encode(text).ids
    assert ids == reference_tokenizer(text)["input_ids"] and ids[0] == BEGIN_ID
    assert tokenizer.decode(ids) == text
    assert reference_tokenizer.decode(ids, skip_special_tokens=True) == text
    tokens = torch.tensor([ids[:CONTEXT_LENGTH]])
    return (rounded(tokens) - reference(tokens).logits).abs().max().item()


@torch.no_grad()
def sample(reference, tokenizer, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = tokenizer.encode(SAMPLE_PROMPT).ids
    tokens, cache, new_ids = torch.tensor([ids]), None, []
    for _ in range(SAMPLE_TOKENS):
        result = reference(tokens, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        probabilities = (result.logits[0, -1].float() / SAMPLE_TEMPERATURE).softmax(-1)
        new_ids.append(torch.multinomial(probabilities, 1, generator=generator).item())
        if new_ids[-1] == END_ID:
            break
        tokens = torch.tensor([[new_ids[-1]]])
    ended = " *(end of story)*" if new_ids[-1] == END_ID else ""
    return tokenizer.decode(ids + new_ids).strip() + ended


@torch.no_grad()
def greedy(reference, ids):
    """Greedy continuation by whole forward passes, with the smallest gap between the two best logits."""
    ids, new_ids, margin = list(ids), [], math.inf
    for _ in range(GOLDEN_TOKENS):
        best = reference(torch.tensor([ids])).logits[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        new_ids.append(best.indices[0].item())
        ids.append(new_ids[-1])
    return new_ids, margin


def write_golden(reference, tokenizer, folder):
    cases = []
    for prompt in GOLDEN_PROMPTS:
        ids = tokenizer.encode(prompt).ids
        double_ids, margin = greedy(reference.double(), ids)
        single_ids, _ = greedy(reference.float(), ids)
        assert double_ids == single_ids
        cases.append(
            {
                "prompt": prompt,
                "prompt_ids": ids,
                "greedy_ids": double_ids,
                "greedy_text": tokenizer.decode(double_ids),
                "smallest_margin": margin,
            }
        )
    content = {
        "about": "Greedy continuations by transformers in float64 with the float16 weights of "
        "model.safetensors; float32 gives the same ids. smallest_margin is the smallest gap between "
        "the best and the second-best logit on the way. An end-of-story token does not stop them.",
        "cases": cases,
    }
    text = json.dumps(content, indent=2)
    text = re.sub(r"\[\s+([\d,\s]+?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    (folder / "golden.json").write_text(text + "\n", encoding="utf-8")


def write_samples(reference, tokenizer, folder):
    lines = [
        "# Samples",
        "",
        f'Ten continuations of "{SAMPLE_PROMPT}" by the weights in this folder, seeds 0 to 9, temperature '
        f"{SAMPLE_TEMPERATURE}, at most {SAMPLE_TOKENS} tokens, no other filter; none left out. "
        "They stop where the tokens run out.",
    ]
    for seed in range(10):
        lines += ["", f"## Seed {seed}", ""]
        lines += [part for line in sample(reference, tokenizer, seed).split("\n") for part in (f"> {line}", ">")][:-1]
    (folder / "samples.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="the text of the fairy books")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent, help="where the files go")
    parser.add_argument("--work", type=Path, default=Path("fairy-tales-work"), help="checkpoints and results")
    parser.add_argument("--minutes", type=float, default=85.0, help="wall-clock time of training")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--processes", type=int, default=2, help="training processes; each takes a part of each step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1.0, help="factor of all learning rates")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--start-from", type=Path, help="a folder with an earlier model to train further")
    parser.add_argument("--export-only", action="store_true", help="export the latest checkpoint, train nothing")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    training, held_out = split_stories(read_stories(arguments.text))
    tokenizer_path = arguments.work / "tokenizer.json"
    if arguments.start_from:
        tokenizer_path = arguments.start_from / "tokenizer.json"
    if not tokenizer_path.exists():
        train_tokenizer(training).save(str(tokenizer_path))
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    encoded_training = encode_stories(tokenizer, training)
    encoded_held_out = encode_stories(tokenizer, held_out)
    training_bytes = sum(len(story.encode("utf-8")) for story in training)
    held_out_bytes = sum(len(story.encode("utf-8")) for story in held_out)
    training_tokens = sum(len(story) for story in encoded_training)
    print(
        f"training: {len(training)} stories, {training_bytes} bytes, {training_tokens} tokens; "
        f"held out: {len(held_out)} stories, {held_out_bytes} bytes, {sum(map(len, encoded_held_out))} tokens",
        flush=True,
    )
    character_nats = character_model_loss(training, held_out)
    print(f"order-5 character model: {character_nats / held_out_bytes:.4f} nats per held-out byte", flush=True)

    model = LanguageModel()
    if arguments.start_from:
        load_weights(model, arguments.start_from)
    parameter_count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameter_count} parameters", flush=True)
    checkpoint_path = arguments.work / "checkpoint.pt"
    if arguments.export_only:
        saved = torch.load(checkpoint_path)
        model.load_state_dict(saved["model"])
        state = saved["state"]
    else:
        state = train(model, encoded_training, encoded_held_out, arguments, checkpoint_path)

    # Imported late: training needs none of it.
    from transformers import AutoTokenizer, LlamaForCausalLM

    export(model, tokenizer, arguments.output)
    rounded = rounded_model(model)
    reference = LlamaForCausalLM.from_pretrained(arguments.output, dtype=torch.float32).eval()
    reference_tokenizer = AutoTokenizer.from_pretrained(arguments.output)
    difference = check_against_transformers(rounded, reference, tokenizer, reference_tokenizer, held_out[0][:4000])
    print(f"largest difference of a logit to transformers: {difference:.2e}", flush=True)
    assert difference < 1e-3
    nats, count = held_out_nats(lambda tokens: reference(tokens).logits, encoded_held_out)
    assert count == sum(len(story) - 1 for story in encoded_held_out)
    results = {
        "parameters": parameter_count,
        "training_stories": len(training),
        "training_bytes": training_bytes,
        "training_tokens": training_tokens,
        "held_out_stories": len(held_out),
        "held_out_bytes": held_out_bytes,
        "held_out_tokens": count,
        "steps": state["step"],
        "tokens_seen": state["tokens"],
        "epochs": state["tokens"] / training_tokens,
        "training_minutes": state["elapsed"] / 60,
        "held_out_nats_per_token": nats / count,
        "held_out_nats_per_byte": nats / held_out_bytes,
        "held_out_bits_per_byte": nats / held_out_bytes / math.log(2),
        "character_model_nats_per_byte": character_nats / held_out_bytes,
        "character_model_bits_per_byte": character_nats / held_out_bytes / math.log(2),
    }
    (arguments.work / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2), flush=True)
    write_golden(reference, tokenizer, arguments.output)
    write_samples(reference.float(), tokenizer, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
