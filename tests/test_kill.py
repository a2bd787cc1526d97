"""A run killed at any moment, again and again, ends in the bytes of an undisturbed one.

`make soak` runs the same with 30 kills on the whole demo.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from killing import SMALL, contents, demo, ended_steps, survive, undisturbed

KILLS = int(os.environ.get("INTERP_KILLS", "5"))
SEED = int(os.environ.get("INTERP_KILL_SEED", "20"))
FULL = bool(os.environ.get("INTERP_FULL_DEMO"))
OPTIONS = () if FULL else SMALL


@pytest.fixture
def whole(request, tmp_path) -> Path:
    """The undisturbed run."""
    if not FULL:
        return request.getfixturevalue("finished").path
    undisturbed(demo(tmp_path / "whole"))
    return tmp_path / "whole"


@pytest.fixture
def interruptible():
    """SIGINT reaches children also where a shell started the tests in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_killed_run_ends_in_the_bytes_of_an_undisturbed_one(whole, tmp_path):
    killed = tmp_path / "killed"
    n_steps = ended_steps(whole)
    survival = survive(demo(killed, *OPTIONS), killed, KILLS, n_steps, SEED)
    print(f"{len(survival.kills)} kills survived of {KILLS} tried, {survival.spared} came too late")
    assert len(survival.kills) + survival.spared == KILLS
    assert survival.spared <= KILLS // 5 + 1, "most kills must hit"
    expected = contents(whole)
    assert {name.split("/")[0] for name in expected} >= {"base", "extraversion", "tables"}
    assert contents(killed) == expected
    assert not list(killed.rglob(".*")), "no temporary file is left"
    manifest = json.loads((killed / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert {record["state"] for record in manifest["steps"].values()} <= {"done", "skipped"}


@pytest.mark.usefixtures("interruptible")
def test_stopped_run_says_so_keeps_what_is_done_and_lets_no_other_in(tmp_path):
    """By Ctrl-C; tests/cli/test_streams.py has the other signals."""
    out = tmp_path / "run"
    with subprocess.Popen(demo(out, *SMALL), stderr=subprocess.PIPE, text=True) as run:
        while ended_steps(out) < 2:
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGSTOP)  # it holds the folder for as long as we look
        second = subprocess.run(demo(out), capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"process {run.pid} on" in second.stderr
        assert "is working on this run; wait for it, or stop it" in second.stderr
        run.send_signal(signal.SIGCONT)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=300)
    assert run.returncode == 1
    assert said.strip().splitlines()[-1].startswith("error: stopped; what is finished is kept")
    assert "Traceback" not in said
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "stopped"
    assert 2 <= ended_steps(out) < 30
    assert not list(out.rglob(".*"))
