"""Memory limits, measured in a process of their own: what is beyond them is halved."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from thinned import turn

# MiB beside the model, or of a chunk.
ROOMS = {
    "rows": {"patching": 100, "lens": 150, "generate": 100},
    "chunks": {"patching": 100, "adapters": 80, "scores": 100, "circuits": 100},
}
EVERY = [(kind, room) for kind, rooms in ROOMS.items() for room in rooms]


def todays(kind: str) -> list[Any]:
    """Rooms of a kind; each has its day of the week."""
    return [
        pytest.param(room, marks=turn(place, of=len(EVERY)))
        for place, (its, room) in enumerate(EVERY)
        if its == kind
    ]


@pytest.fixture(scope="module")
def measured(request):
    """What each room of today took and gave: see tests/memory_rooms.py."""
    mine = [item.callspec.params for item in request.session.items
            if item.module is request.module]  # fmt: skip
    sizes = [
        {room: size * 2**20 for room, size in some.items() if {kind: room} in mine}
        for kind, some in ROOMS.items()
    ]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("memory_rooms.py")), json.dumps(sizes)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # large tensors go back when freed
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("rows", todays("rows"))
def test_a_limit_is_respected_and_without_it_more_is_taken(measured, rows):
    size, found = ROOMS["rows"][rows] * 2**20, measured["rows"][rows]
    free, limited = found["free"], found["limit"]
    assert free["grown"] > 1.1 * size
    assert 0.2 * size < limited["grown"] < 1.25 * size  # pages of code too
    assert 1 <= len(limited["lines"]) <= 5
    assert all("out of memory" in line and "halved to" in line for line in limited["lines"])
    assert free["lines"] == []
    assert limited["values"] == pytest.approx(free["values"], abs=2e-4)


@pytest.mark.parametrize("chunks", todays("chunks"))
def test_chunks_stay_within_their_budget_and_are_halved_when_memory_runs_out(measured, chunks):
    size, found = ROOMS["chunks"][chunks] * 2**20, measured["chunks"][chunks]
    large, halved = found["large"], found["halved"]
    assert 0.1 * size < large["grown"] < 1.1 * size
    assert large["lines"] == []
    assert any("out of memory" in line and "halved to" in line for line in halved["lines"])
    assert halved["values"] == pytest.approx(large["values"], abs=1e-3)
