"""The memory budget, measured in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

_SCRIPT = """
from dataclasses import replace
import ctypes, json, os, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/patching"]
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
torch.set_num_threads(1)
from patching_models import bridge, pick, prompts
from interp.circuits import discover, faithfulness, select
from interp.patching import Run
from interp.readout import Question

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])

sizes = dict(hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=8,
             head_dim=32, num_key_value_heads=4)
model = bridge("llama", 1, **sizes)
runs = [Run(model, prompts([60] * 24, seed=seed)[0]) for seed in (0, 1)]
budget, ask = int(sys.argv[2]), Question(metric=pick, min_gap=0.0)
first = discover(*runs, ask=replace(ask, chunk=budget // 2))
sign = (first.clean - first.corrupted).sign()
circuits = [select(first, size) for size in (30, 200, 600)]
oriented = replace(ask, metric=lambda logits: pick(logits) * sign)
before = faithfulness(circuits, *runs, ask=replace(oriented, chunk=budget // 2))
found = {}
for name, work in (("scores", lambda: discover(*runs, ask=replace(ask, chunk=budget)).values),
                   ("circuits", lambda: faithfulness(
                       circuits, *runs, ask=replace(oriented, chunk=budget)).values)):
    ctypes.CDLL(None).malloc_trim(0)  # else freed memory is used again and nothing grows
    open("/proc/self/clear_refs", "w").write("5")
    start = status("VmRSS")
    values = work()
    old = first if name == "scores" else before
    found[name] = status("VmHWM") - start, float((values - old.values).abs().max())
print(json.dumps(found))
"""


def test_chunks_stay_within_the_budget():
    budget = 100 * 2**20
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, tests, str(budget)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # large tensors go back when freed
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for grown, error in json.loads(done.stdout.splitlines()[-1]).values():
        assert 0.1 * budget < grown < 1.1 * budget
        assert error < 1e-3
