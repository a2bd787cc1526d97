"""Memory limits, measured in a process of their own: what is beyond them is halved."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import contextlib, gc, json, logging, os, sys
sys.path.insert(0, sys.argv[1])
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
torch.set_num_threads(1)
from interp import logit_lens, patching
from interp.base import machine, memory
from interp.behaviour import Sampling, generate
from interp.models import ChatFormat, hook
from interp.readout import Question
from tiny import emoji, llama, tokenizer, vocab

sizes = json.loads(sys.argv[2])
model = hook(llama(1, hidden_size=256, intermediate_size=1024, num_hidden_layers=4,
                   num_attention_heads=8, num_key_value_heads=8, vocab_size=16000,
                   max_position_embeddings=512, tie_word_embeddings=False), tokenizer())
odds = vocab().log_odds

def ids(seed, *shape):
    return torch.randint(10, 300, shape, generator=torch.Generator().manual_seed(seed))

def patched():
    tokens = [ids(seed, 48, 80) for seed in (0, 1)]
    runs = [patching.Run(model, some) for some in tokens]
    return patching.sweep(*runs, "attn_out", cells=patching.Cells(layers=[2], positions=[-1]),
                          ask=Question(metric=odds, min_gap=0.0)).values

def lens():
    some = {"outcome": emoji(), "positions": [-1], "ask": Question(batch_size=24)}
    return logit_lens.read(model, ids(0, 24, 120), **some).log_odds

def wrote():
    question = "What do you think about " + "very " * 100 + "long walks?"
    made = generate(model, ChatFormat.from_tokenizer(tokenizer()), [(question, "t")] * 12,
                    Sampling(max_new_tokens=2, batch_size=12))
    return torch.tensor([answer.ids[0] for answer in made]).float()

rooms = {"patching": patched, "lens": lens, "generate": wrote}
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("interp.base.memory").addHandler(handler)

def measured(room, how):
    size = sizes[room] * 2**20
    lines.clear()
    gc.collect()
    memory.limits.give_back()
    open("/proc/self/clear_refs", "w").write("5")
    start = machine.resident()
    with memory.limit(start + size) if how == "limit" else contextlib.nullcontext():
        values = rooms[room]()
    return {"start": start, "peak": machine.peak(), "lines": [*lines],
            "values": values.double().flatten().tolist()[:200]}

ways = ("limit", "free")
print(json.dumps({room: {how: measured(room, how) for how in ways} for room in rooms}))
"""
SIZES = {"patching": 100, "lens": 150, "generate": 100}  # MiB beside the model


@pytest.fixture(scope="module")
def measured():
    """What each room took, under a limit and without one."""
    command = [sys.executable, "-c", _SCRIPT, str(Path(__file__).parent), json.dumps(SIZES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("room", list(SIZES))
def test_a_limit_is_respected_and_without_it_more_is_taken(measured, room):
    size, found = SIZES[room] * 2**20, measured[room]
    free, limited = found["free"], found["limit"]
    assert free["peak"] - free["start"] > 1.1 * size
    assert 0.2 * size < limited["peak"] - limited["start"] < 1.25 * size  # pages of code too
    assert 1 <= len(limited["lines"]) <= 5
    assert all("out of memory" in line and "halved to" in line for line in limited["lines"])
    assert free["lines"] == []
    assert limited["values"] == pytest.approx(free["values"], abs=2e-4)
