"""The memory budget: measured in a process of its own, and halved when memory really runs out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from patching_models import bridge, pick, prompts

from interp.errors import InputError
from interp.patching import Run, sweep
from interp.readout import Question

_SCRIPT = """
import json, os, resource, sys
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/patching")
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
torch.set_num_threads(1)
from patching_models import bridge, pick, prompts
from interp.patching import Cells, Question, Run, sweep

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])

def reset_peak():
    open("/proc/self/clear_refs", "w").write("5")

tokens, mask = prompts([80] * 16)
sizes = dict(hidden_size=128, intermediate_size=512, num_hidden_layers=2, head_dim=32)
run = [Run(bridge("llama", seed, **sizes), tokens, mask) for seed in (1, 2)]
budget, head_room = int(sys.argv[2]), int(sys.argv[3])
ask = Question(metric=pick, chunk=4 * 2**20)
small = sweep(*run, "resid_pre", cells=Cells(layers=[0]), ask=ask)
reset_peak()
before = status("VmRSS")
large = sweep(*run, "resid_pre", metric=pick, cells=Cells(layers=[0]), ask=Question(chunk=budget))
grown = status("VmHWM") - before
resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + head_room, -1))
halved = sweep(*run, "resid_pre", metric=pick, cells=Cells(layers=[0]), ask=Question(chunk=2**32))
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
errors = [float((one.values - small.values).abs().max()) for one in (large, halved)]
found = {"grown": grown, "errors": errors, "notes": [*large.notes], "halved": [*halved.notes]}
print(json.dumps(found))
"""


def measured(*arguments):
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, tests, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_budget_is_respected_and_halved_when_memory_runs_out():
    budget = 100 * 2**20
    found = measured(budget, 150 * 2**20)
    assert 0.1 * budget < found["grown"] < 1.1 * budget
    assert max(found["errors"]) < 1e-4
    assert found["notes"] == []
    assert any("out of memory: chunks halved" in note for note in found["halved"])


def test_a_budget_too_small_for_one_patch_is_refused():
    tokens, _ = prompts([6, 6])
    runs = Run(bridge("llama", 1), tokens), Run(bridge("llama", 2), tokens)
    with pytest.raises(InputError, match=r"chunk is 1000 bytes, but one patch .* takes \d+"):
        sweep(*runs, "z", metric=pick, ask=Question(chunk=1000))
    small, large = (sweep(*runs, "z", metric=pick, ask=Question(chunk=n)) for n in (50_000, None))
    torch.testing.assert_close(small.values, large.values, atol=1e-5, rtol=0)
