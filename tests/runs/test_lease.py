"""Two drivers on one URL: the second sees signs of life and leaves, or takes over from the dead."""

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import bucket
import fsspec
import pytest
from toy_steps import steps

from interp.study.runs import Mirror, RunBusyError, execute, lease, run_folder, store
from interp.study.runs.store import MIRRORS

URL = "bucket://run"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Where the bucket really is; signs of life come fast."""
    monkeypatch.setenv(bucket.FOLDER, str(tmp_path / "bucket"))
    monkeypatch.setenv(MIRRORS, str(tmp_path / "here"))
    monkeypatch.setattr(store, "_PAUSES", (0.01, 0.01))
    monkeypatch.setattr(lease, "BEAT", 0.2)
    monkeypatch.setattr(lease, "WATCH", 2.0)
    fsspec.filesystem("memory").store.clear()
    return tmp_path / "bucket" / "run"


def another_machine(monkeypatch, tmp_path, name: str = "gpu-7") -> Mirror:
    """The same run as another machine has it: another name, and a copy of its own."""
    monkeypatch.setenv(MIRRORS, str(tmp_path / name))
    monkeypatch.setattr("socket.gethostname", lambda: name)
    found = run_folder(URL)
    assert isinstance(found, Mirror)
    return found


def run(folder: Mirror, progress: Callable[[int, int], None] | None = None) -> int:
    with folder.lock():
        folder.begin({}, change=True)
        return execute(steps({}, folder), folder, progress=progress)


def dead(place: Path, **facts: object) -> None:
    """What a driver leaves that was killed."""
    place.mkdir(parents=True, exist_ok=True)
    held = {
        "host": "gpu-7",
        "pid": 12,
        "token": "f00",
        "beat": 3,
        "at": "2020-01-01T00:00:00+00:00",
    }
    (place / "run.lease").write_text(json.dumps(held | facts))


def test_a_second_driver_elsewhere_says_who_works_and_leaves(tmp_path, monkeypatch, place):
    monkeypatch.setattr(lease, "WATCH", 60.0)
    first = run_folder(URL)
    with first.lock():
        first.begin({})
        began = time.monotonic()
        with pytest.raises(RunBusyError, match=r"bucket://run: process \d+ on .* is working"):
            run(another_machine(monkeypatch, tmp_path))
        assert time.monotonic() - began < 60, "one sign of life is enough"
    assert not (place / "run.lease").exists()
    assert run(another_machine(monkeypatch, tmp_path)) == 11


def test_a_dead_drivers_run_is_taken_over_with_a_line_that_says_so(place, caplog):
    dead(place)
    with caplog.at_level(logging.WARNING, "interp.study.runs"):
        assert run(run_folder(URL)) == 11
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "bucket://run: process 12 on gpu-7 was working on this run; waiting up to 2 s for a sign "
        "of life",
        "bucket://run: no sign of life from process 12 on gpu-7; this process takes the run over",
    ]
    assert not (place / "run.lease").exists()


def test_one_that_died_on_this_machine_is_not_waited_for(place, monkeypatch):
    import socket
    import subprocess
    import sys

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead(place, host=socket.gethostname(), pid=gone.pid)
    monkeypatch.setattr(lease, "WATCH", 1000.0)
    assert run(run_folder(URL)) == 11


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": "x", "host": 3}', "\x00"])
def test_a_damaged_lease_keeps_nobody_out(place, text):
    place.mkdir(parents=True)
    (place / "run.lease").write_text(text)
    with run_folder(URL).lock():
        assert json.loads((place / "run.lease").read_text())["beat"] >= 1


def test_a_driver_that_was_taken_over_stops_and_overwrites_nothing(place, monkeypatch):
    """It had been suspended, say, for longer than the other one waited."""
    monkeypatch.setattr(lease, "BEAT", 100.0)
    folder, made = run_folder(URL), []

    def overtake(done: int, total: int) -> None:  # noqa: ARG001
        made.append(done)
        if done == 3:
            dead(place, beat=1)
            (place / "manifest.json").write_text("of the other one")

    message = r"process 12 on gpu-7 has taken this run over"
    with pytest.raises(RunBusyError, match=message):
        run(folder, progress=overtake)
    assert max(made) == 3
    assert (place / "manifest.json").read_text() == "of the other one"
    assert json.loads((place / "run.lease").read_text())["token"] == "f00"


def test_status_believes_a_fresh_sign_from_elsewhere_only(place):
    from datetime import UTC, datetime

    run(run_folder(URL))
    folder = run_folder(URL)
    assert not folder.opened().runs_elsewhere()
    dead(place, at=datetime.now(UTC).isoformat())
    assert folder.runs_elsewhere()
    for odd in ("2020-01-01T00:00:00+00:00", "soon", None):
        dead(place, at=odd)
        assert not folder.runs_elsewhere()


def test_signs_of_life_end_with_the_run(place):
    before = set(threading.enumerate())
    folder = run_folder(URL)
    with folder.lock():
        first = json.loads((place / "run.lease").read_text())["beat"]
        time.sleep(0.7)
        assert json.loads((place / "run.lease").read_text())["beat"] > first
    assert set(threading.enumerate()) == before
