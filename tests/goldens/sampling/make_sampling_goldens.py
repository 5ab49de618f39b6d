"""Make the sampling goldens: what each set of sampling settings keeps and with which probabilities.

Run:

    pip install torch transformers safetensors numpy
    python make_sampling_goldens.py

Writes beside itself cases.json (settings) and cases.safetensors (tensors by case index). The
processors are those of transformers, in float64, in the order its generate() applies them:
repetition penalty, temperature, top_k, top_p, min_p. A setting of null (or temperature 1, top_k 0,
top_p 1, repetition_penalty 1) adds no processor, as in generate().
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import GenerationConfig
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

HERE = Path(__file__).resolve().parent
VOCABULARY = 257
NONE = {"repetition_penalty": None, "temperature": None, "top_k": None, "top_p": None, "min_p": None}


def normal(seed, spread):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(VOCABULARY, generator=generator, dtype=torch.float32)


def with_values(logits, values):
    logits = logits.clone()
    for index, value in values.items():
        logits[index] = value
    return logits


CASES = [
    {"name": "no settings", "logits": normal(1, 2.0), "settings": {}},
    {"name": "temperature below one", "logits": normal(2, 2.0), "settings": {"temperature": 0.6}},
    {"name": "temperature above one", "logits": normal(3, 3.0), "settings": {"temperature": 1.7}},
    {"name": "top_k", "logits": normal(4, 2.0), "settings": {"top_k": 40}},
    {
        "name": "top_k with a tie at the boundary",
        "note": "ids 7, 70 and 170 share the value of rank 5: all three stay, so 7 tokens are kept",
        "logits": with_values(
            normal(5, 1.0), {3: 9.0, 30: 8.0, 130: 7.5, 230: 7.0, 7: 6.5, 70: 6.5, 170: 6.5}
        ),
        "settings": {"top_k": 5},
    },
    {
        "name": "top_k over equal logits",
        "note": "every logit ties, so every token is kept",
        "logits": torch.full((VOCABULARY,), 1.5),
        "settings": {"top_k": 3},
    },
    {"name": "top_k larger than the vocabulary", "logits": normal(6, 2.0), "settings": {"top_k": 1000}},
    {"name": "top_k of one", "logits": normal(7, 2.0), "settings": {"top_k": 1, "temperature": 0.8}},
    {"name": "top_p", "logits": normal(8, 2.0), "settings": {"top_p": 0.9}},
    {
        "name": "top_p smaller than the first probability",
        "note": "the most probable token always stays",
        "logits": with_values(normal(9, 1.0), {200: 12.0}),
        "settings": {"top_p": 0.05},
    },
    {
        "name": "top_p of zero",
        "note": "only the most probable token stays",
        "logits": normal(10, 2.0),
        "settings": {"top_p": 0.0},
    },
    {"name": "min_p", "logits": normal(11, 2.0), "settings": {"min_p": 0.08}},
    {
        "name": "min_p of one with two equal best",
        "note": "the boundary is the best probability itself: both best tokens stay",
        "logits": with_values(normal(12, 1.0), {11: 6.25, 211: 6.25}),
        "settings": {"min_p": 1.0},
    },
    {
        "name": "repetition penalty over both signs and repeats",
        "note": "a positive logit is divided and a negative one multiplied, once however often the id occurs; zero stays",
        "logits": with_values(normal(13, 2.0), {5: 4.0, 6: -4.0, 8: 0.0}),
        "previous_ids": [5, 6, 8, 5, 5, 6, 256, 0],
        "settings": {"repetition_penalty": 1.3},
    },
    {
        "name": "repetition penalty below one",
        "note": "a penalty below one rewards repeats",
        "logits": normal(14, 2.0),
        "previous_ids": [1, 2, 3, 100, 100, 200],
        "settings": {"repetition_penalty": 0.8},
    },
    {
        "name": "everything together",
        "logits": normal(15, 3.0),
        "previous_ids": [4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 196, 225, 256, 4],
        "settings": {"repetition_penalty": 1.2, "temperature": 0.7, "top_k": 50, "top_p": 0.92, "min_p": 0.02},
    },
    {
        "name": "temperature comes before top_p and min_p",
        "logits": normal(16, 2.0),
        "settings": {"temperature": 2.5, "top_p": 0.8, "min_p": 0.1},
    },
    {
        "name": "top_p works on what top_k left",
        "note": "probabilities are renormalised after top_k before top_p sums them",
        "logits": normal(17, 1.0),
        "settings": {"top_k": 10, "top_p": 0.7},
    },
    {
        "name": "logits with minus infinity",
        "note": "ids 0 to 99 are excluded beforehand and stay excluded",
        "logits": with_values(normal(18, 2.0), {index: float("-inf") for index in range(100)}),
        "settings": {"temperature": 0.9, "top_k": 30, "top_p": 0.95},
    },
]


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


def processors(settings):
    """The processors one by one, made as generate() makes them."""
    chosen = []
    if settings["repetition_penalty"] not in (None, 1.0):
        chosen.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    if settings["temperature"] not in (None, 1.0):
        chosen.append(TemperatureLogitsWarper(settings["temperature"]))
    if settings["top_k"] not in (None, 0):
        chosen.append(TopKLogitsWarper(settings["top_k"]))
    if settings["top_p"] is not None and settings["top_p"] < 1.0:
        chosen.append(TopPLogitsWarper(settings["top_p"]))
    if settings["min_p"] is not None:
        chosen.append(MinPLogitsWarper(settings["min_p"]))
    return chosen


def check_order(settings):
    """generate() must build the same processors in the same order."""
    from transformers import GPT2Config, GPT2LMHeadModel

    given = {k: v for k, v in settings.items() if v is not None}
    # Neutral values switch off the defaults of generate().
    neutral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(do_sample=True, **{**neutral, **given})
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=1, n_positions=8, bos_token_id=1, eos_token_id=2))
    built = model._get_logits_processor(
        generation_config=config, input_ids_seq_length=1, encoder_input_ids=torch.zeros(1, 1, dtype=torch.int64)
    )
    assert [type(p) for p in built] == [type(p) for p in processors(settings)], (built, settings)


def distances(scores, processor):
    """How far a threshold is from the nearest token, so that float32 decides alike."""
    if isinstance(processor, TopPLogitsWarper):
        mass = torch.sort(scores[0]).values.softmax(-1).cumsum(-1)[:-1]
        return float((mass - (1 - processor.top_p)).abs().min())
    if isinstance(processor, MinPLogitsWarper):
        probabilities = scores[0].softmax(-1)
        gap = (probabilities / probabilities.max() - processor.min_p).abs()
        return float(gap[gap > 0].min())
    return float("inf")


def main():
    listing, tensors = [], {}
    for index, case in enumerate(CASES):
        settings = {**NONE, **case["settings"]}
        check_order(settings)
        logits = case["logits"]
        previous = torch.tensor(case.get("previous_ids", [3]), dtype=torch.int64)
        scores = logits.double()[None]
        closest = float("inf")
        chosen = processors(settings)
        for processor in chosen:
            if settings["top_p"] != 0.0:
                closest = min(closest, distances(scores, processor))
            scores = processor(previous[None], scores)
        assert closest > 2e-5, (case["name"], closest)
        assert torch.equal(scores, LogitsProcessorList(chosen)(previous[None], logits.double()[None]))
        kept = torch.isfinite(scores[0])
        probabilities = scores[0].softmax(-1)
        tensors[f"{index}.logits"] = logits
        tensors[f"{index}.previous_ids"] = previous.to(torch.int32)
        tensors[f"{index}.kept"] = kept.to(torch.int32)
        tensors[f"{index}.probabilities"] = probabilities.to(torch.float32)
        listing.append(
            {
                "name": case["name"],
                "note": case.get("note", ""),
                **settings,
                "previous_ids": previous.tolist(),
                "kept_count": int(kept.sum()),
                "most_probable": int(probabilities.argmax()),
            }
        )
        print(f"{index:2} {case['name']:50} keeps {int(kept.sum()):3}  nearest boundary {closest:.1e}")
    (HERE / "cases.json").write_text(json.dumps(listing, indent=1) + "\n")
    save_stable(
        tensors,
        HERE / "cases.safetensors",
        metadata={"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
    )


if __name__ == "__main__":
    main()
