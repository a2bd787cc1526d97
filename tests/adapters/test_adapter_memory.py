"""The memory budget, measured in a process of its own, and halved when memory really runs out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import json, os, resource, sys, tempfile, warnings
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/adapters"]
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from adapters_made import make_pair, pick, prompts
from interp.base import memory
from interp.adapters import AdapterSpace, necessity
from interp.readout import Question
from tiny import save_base

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])

folder = Path(tempfile.mkdtemp())
base = save_base(folder / "base", hidden_size=128, intermediate_size=512, num_hidden_layers=2)
space = AdapterSpace.of(make_pair(base, folder / "adapter", "lora"))
batch, budget = prompts([80] * 16), int(sys.argv[2])
how = {"metric": pick, "modules": space.modules[-7:]}
small = necessity(space, batch, **how, ask=Question(chunk=4 * 2**20))
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
large = necessity(space, batch, **how, ask=Question(chunk=budget))
grown = status("VmHWM") - before
memory.limits.give_back()  # what the heap keeps would do for what is asked next
resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + 40 * 2**20, -1))
halved = necessity(space, batch, **how, ask=Question(chunk=2**32))
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
errors = [float((one.values - small.values).abs().max()) for one in (large, halved)]
print(json.dumps({"grown": grown, "errors": errors, "notes": large.notes, "halved": halved.notes}))
"""


@pytest.mark.slow
def test_budget_is_respected_and_halved_when_memory_runs_out():
    budget = 80 * 2**20
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", _SCRIPT, tests, str(budget)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0.1 * budget < found["grown"] < 1.1 * budget
    assert max(found["errors"]) < 1e-3
    assert found["notes"] == []
    assert any("out of memory: chunks halved" in note for note in found["halved"])
