"""A run killed at any moment, again and again, ends in the bytes of an undisturbed one.

Here a third of one trait's rows, by the day; `make soak` kills the whole demo 30 times.
"""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from forked import Server
from killing import SMALL, contents, demo, ended_steps, started, survive
from test_bad_input import command
from thinned import part, turn

from interp.study import catalogue

KILLS = int(os.environ.get("INTERP_KILLS", "2"))
SEED = int(os.environ.get("INTERP_KILL_SEED", os.environ["INTERP_SEED"]))
FULL = bool(os.environ.get("INTERP_FULL_DEMO"))
TRAIT = "extraversion"
ROWS = part([row.name for row in catalogue.ROWS if row.default], of=3)
OPTIONS = () if FULL else ("--traits", TRAIT, *SMALL[2:], "--only", ",".join(ROWS))


@pytest.fixture
def whole(request, tmp_path) -> Path:
    """The undisturbed run."""
    if not FULL:
        return request.getfixturevalue("finished").path
    with started(demo(tmp_path / "whole")) as run:
        assert run.wait() == 0
    return tmp_path / "whole"


@pytest.fixture(scope="module")
def server():
    """Begins commands with everything imported; what is killed is a process all the same."""
    with Server() as made:
        yield made


@turn(0, of=2)
def test_killed_run_ends_in_the_bytes_of_an_undisturbed_one(whole, server, tmp_path):
    killed = tmp_path / "killed"
    n_steps = ended_steps(whole) if FULL else len(catalogue.chosen(ROWS))
    survival = survive(
        demo(killed, *OPTIONS), killed, KILLS, n_steps, SEED, lambda words: server.start(words[3:])
    )
    print(f"{len(survival.kills)} kills survived of {KILLS} tried, {survival.spared} came too late")
    assert len(survival.kills) + survival.spared == KILLS
    assert survival.spared <= KILLS // 5 + 1, "most kills must hit"
    manifest = json.loads((killed / "manifest.json").read_text())
    made = catalogue.step_names(manifest)
    expected, found = (
        {name: sha for name, sha in contents(run).items() if FULL or name.split(".")[0] in made}
        for run in (whole, killed)
    )  # figures and tables of a run of two traits are of both
    assert len(expected) >= len(made)
    assert (killed / "report.html").is_file()
    assert found == expected
    assert not list(killed.rglob(".*")), "no temporary file is left"
    assert manifest["status"] == "complete"
    assert {record["state"] for record in manifest["steps"].values()} <= {"done", "skipped"}


@turn(1, of=2)
def test_stopped_run_says_so_keeps_what_is_done_and_lets_no_other_in(
    server, finished, tmp_path, monkeypatch, capfd
):
    """By Ctrl-C; tests/cli/test_streams.py has the other signals."""
    out, said = tmp_path / "run", tmp_path / "said"
    with server.start(demo(out, *SMALL)[3:], str(said)) as run:
        while ended_steps(out) < 2:
            assert run.poll() is None, said.read_text()
            time.sleep(0.01)
        run.send_signal(signal.SIGSTOP)  # it holds the folder for as long as we look
        assert command(demo(out)[3:], monkeypatch) == 2
        refused = capfd.readouterr().err
        assert f"process {run.pid} on" in refused
        assert "is working on this run; wait for it, or stop it" in refused
        run.send_signal(signal.SIGCONT)
        run.send_signal(signal.SIGINT)
        assert run.wait() == 1
    lines = said.read_text().strip().splitlines()
    assert lines[-1].startswith("error: stopped; what is finished is kept")
    assert "Traceback" not in said.read_text()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "stopped"
    assert 2 <= ended_steps(out) < ended_steps(finished.path)
    assert not list(out.rglob(".*"))
