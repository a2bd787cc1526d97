"""What rooms take in memory, measured in a process of its own: prints one JSON object.

`ROOMS` work in batches of rows, under a limit and without one; `BUDGETS` in chunks of bytes.
"""

import contextlib
import json
import logging
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS / "adapters")]
warnings.simplefilter("ignore")

import torch
from adapters_made import make_pair
from patching_models import bridge, pick, prompts
from tiny import emoji, llama, save_base, tokenizer, vocab

from interp import adapters, circuits, logit_lens, patching
from interp.base import machine, memory
from interp.behaviour import Sampling, generate
from interp.models import ChatFormat, TokenBatch, hook
from interp.patching import Run
from interp.readout import Question

torch.set_num_threads(1)
LINES: list[str] = []
handler = logging.Handler()
handler.emit = lambda record: LINES.append(record.getMessage())
logging.getLogger("interp.base.memory").addHandler(handler)


def taken(work, most=None):
    """What a room takes and gives, below `most` bytes more than there are now."""
    LINES.clear()
    memory.limits.give_back()  # what the heap keeps would do for what is asked next
    Path("/proc/self/clear_refs").write_text("5")
    start = machine.resident()
    with memory.limit(start + most) if most else contextlib.nullcontext():
        values = work()
    values = values.double().flatten().tolist()[:2000]
    return {"grown": machine.peak() - start, "lines": [*LINES], "values": values}


def rows():
    """Rooms that work in batches of rows."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
             "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 16000,
             "max_position_embeddings": 512, "tie_word_embeddings": False}  # fmt: skip
    model = hook(llama(1, **sizes), tokenizer())

    def ids(seed, *shape):
        return torch.randint(10, 300, shape, generator=torch.Generator().manual_seed(seed))

    def patched():
        runs = [Run(model, ids(seed, 48, 80)) for seed in (0, 1)]
        ask = Question(metric=vocab().log_odds, min_gap=0.0)
        cells = patching.Cells(layers=[2], positions=[-1])
        return patching.sweep(*runs, "attn_out", cells=cells, ask=ask).values

    def lens():
        some = {"outcome": emoji(), "positions": [-1], "ask": Question(batch_size=24)}
        return logit_lens.read(model, ids(0, 24, 120), **some).log_odds

    def wrote():
        question = "What do you think about " + "very " * 100 + "long walks?"
        form, how = ChatFormat.from_tokenizer(tokenizer()), Sampling(2, batch_size=12)
        made = generate(model, form, [(question, "t")] * 12, how)
        return torch.tensor([answer.ids[0] for answer in made])

    vocab()
    return {"patching": patched, "lens": lens, "generate": wrote}


def chunks(names):
    """Rooms that work in chunks of bytes: each takes the size of its chunks."""
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 32}
    two = [Run(bridge("llama", seed, **sizes), *prompts([80] * 16)) for seed in (1, 2)]
    folder = Path(tempfile.mkdtemp())
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2}
    base = save_base(folder / "base", **sizes)
    asked = TokenBatch(*prompts([80] * 16))
    space = adapters.AdapterSpace.of(make_pair(base, folder / "adapter", "lora"))
    sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
             "num_attention_heads": 8, "head_dim": 32, "num_key_value_heads": 4}  # fmt: skip
    model = bridge("llama", 1, **sizes)
    runs = [Run(model, prompts([60] * 24, seed=seed)[0]) for seed in (0, 1)]
    ask = Question(metric=pick, min_gap=0.0)
    made = {
        "patching": lambda chunk: (
            patching.sweep(
                *two, "resid_pre", cells=patching.Cells(layers=[0]), ask=replace(ask, chunk=chunk)
            ).values
        ),
        "adapters": lambda chunk: (
            adapters.necessity(
                space, asked, modules=space.modules[-7:], ask=replace(ask, chunk=chunk)
            ).values
        ),
        "scores": lambda chunk: circuits.discover(*runs, ask=replace(ask, chunk=chunk)).values,
    }
    if "circuits" in names:
        scores = circuits.discover(*runs, ask=replace(ask, chunk=50 * 2**20))
        sign = (scores.clean - scores.corrupted).sign()
        some = [circuits.select(scores, size) for size in (30, 200, 600)]
        oriented = replace(ask, metric=lambda logits: pick(logits) * sign)
        made["circuits"] = lambda chunk: (
            circuits.faithfulness(some, *runs, ask=replace(oriented, chunk=chunk)).values
        )
    return made


def main(sizes: dict[str, int], budgets: dict[str, int]) -> None:
    made = rows() if sizes else {}
    limited = {
        name: {"limit": taken(made[name], size), "free": taken(made[name])}
        for name, size in sizes.items()
    }
    made = chunks(budgets) if budgets else {}
    chunked = {
        name: {
            "large": taken(partial(made[name], size)),
            "halved": taken(partial(made[name], 2**32), size),
        }
        for name, size in budgets.items()
    }
    print(json.dumps({"rows": limited, "chunks": chunked}))


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
