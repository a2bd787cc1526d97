"""The command line where nobody listens or nothing can be written, and how it begins."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_bad_input import command

from interp import study
from interp.base import console
from interp.base.traits import Trait
from interp.cli import runs, stopping, trace
from interp.study import StudyConfig
from interp.study.runs import RunFolder

STATUS = [sys.executable, "-m", "interp", "run", "status"]


@pytest.fixture
def run(tmp_path) -> str:
    return str(RunFolder.create(tmp_path / "run", {"seed": 1, "adapters": {}}).path)


def shell(command: str) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("option", ["", "--json"])
def test_output_that_cannot_be_written_is_said_in_one_line(run, option):
    done = shell(f"{sys.executable} -m interp run status {run} {option} > /dev/full")
    assert (done.returncode, done.stderr) == (
        1, "error: standard output cannot be written (No space left on device)\n",
    )  # fmt: skip


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_reader_that_leaves_early_is_no_error(run, option):
    assert shell(f"{sys.executable} -m interp run status {run} {option} | true").stderr == ""


@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full"])
def test_the_exit_code_says_it_where_nothing_else_can(run, stream):
    done = shell(f"{sys.executable} -m interp run status {run}/nowhere {stream}")
    assert (done.returncode, done.stdout) == (2, "")


def test_progress_in_a_file_leaves_no_empty_line(capsys):
    with console.progress() as report:
        assert report is None
    assert capsys.readouterr().err == ""


WAITING = """
import select, signal, sys
{before}
from interp.base import console
from interp.cli import runs, stopping, trace

stopping.PATIENCE = {patience}

def wait(where):
    print(where, flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:  # a signal just before it is seen, too
        pass
    sys.stdin.readline()

def work():
    try:
        wait("at work")
    finally:
        wait("cleaning up")

with stopping.stoppable():
    code = console.guarded(work)
wait("ending")
sys.exit(code)
"""


def stopped(signals: dict[str, tuple[int, ...]], before: str, patience: float) -> tuple:
    """Exit code, places and standard error of a command that gets signals, by the place it is at.

    It goes on from there when it is told to, or a signal makes it.
    """
    code, places = WAITING.format(before=before, patience=patience), []
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        while place := process.stdout.readline().strip():
            places.append(place)
            for number in signals.get(place, ()):
                process.send_signal(number)
            if place != "at work":
                with contextlib.suppress(BrokenPipeError):  # no buffer, that closing would flush
                    os.write(process.stdin.fileno(), b"\n")
        process.wait()
        return process.returncode, places, process.stderr.read()


STOPPED = "error: stopped; what is finished is kept, and the same command goes on from there\n"
MASKED = (
    "signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_way_to_stop_a_command_stops_it_once(number):
    """The second signal comes while it cleans up, the third when it is about to end."""
    places = ["at work", "cleaning up", "ending"]
    found = stopped(dict.fromkeys(places, (number,)), MASKED, patience=1000)
    assert found == (1, places, STOPPED)


def test_who_still_waits_after_a_second_ends_it_at_once():
    assert stopping.PATIENCE == 1
    signals = dict.fromkeys(("at work", "cleaning up"), (signal.SIGINT,))
    assert stopped(signals, MASKED, patience=-1) == (1, list(signals), "")


def test_nohup_means_it():
    ignoring = MASKED + "; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    code, places, err = stopped(
        {"at work": (signal.SIGHUP, signal.SIGTERM)}, ignoring, patience=1000
    )
    assert (code, places, err) == (1, ["at work", "cleaning up", "ending"], STOPPED)


def test_a_command_in_a_deleted_folder_says_so(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f"cd {gone} && rmdir {gone} && {sys.executable} -m interp doctor")
    said = done.stderr.splitlines()[-1]
    assert said == "error: the current folder has been deleted; change to another one"
    assert done.returncode == 2


def test_paths_of_a_run_are_whole_so_that_it_goes_on_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    (tmp_path / "qa.csv").touch()
    monkeypatch.chdir(tmp_path)
    asked = StudyConfig(
        base="base", adapters={Trait.OPENNESS: "./base/"}, data="qa.csv", trust_remote_code="base/"
    )
    found = study.anchored(asked)
    assert found.base == found.trust_remote_code == str(tmp_path / "base")
    assert Path(found.adapters[Trait.OPENNESS]) == tmp_path / "base"
    assert found.data == str(tmp_path / "qa.csv")
    hub = asked.model_copy(update={"base": "org/name", "trust_remote_code": "org/name"})
    assert study.anchored(hub).base == study.anchored(hub).trust_remote_code == "org/name"


@pytest.mark.parametrize(
    ("manifest", "threads"),
    [
        ({}, None),
        ({"reproducibility": []}, None),
        ({"reproducibility": [{"threads": {"torch": "x"}}]}, None),
        ({"reproducibility": [{}, {"threads": {"torch": 1}}]}, 1),
    ],
)
def test_a_run_goes_on_with_as_many_threads_as_before(manifest, threads):
    assert runs._threads(manifest) == threads


@pytest.mark.parametrize(("asked", "found"), [(None, 2), (1, 1), (64, 2)])
def test_threads_are_no_more_than_the_cores(asked, found, monkeypatch):
    """They would wait for each other."""
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr("interp.base.machine.cores", lambda: 2)
    monkeypatch.setattr("interp.cli.check_inputs.check", lambda *_: None)
    monkeypatch.setattr("interp.study.run", lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr("interp.cli.trace._report", lambda *_, **__: None)
    asks = StudyConfig(base="b", adapters={}, data="d")
    try:
        torch.set_num_threads(2)
        trace.study(asks, "out", True, None, threads=asked)
    finally:
        torch.set_num_threads(before)
    assert seen == [found]


def test_a_terminal_is_told_what_is_waited_for(monkeypatch, capsys):
    with console.loading():
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.loading():
        pass
    assert "loading …" in capsys.readouterr().err


def test_a_disk_that_is_full_when_the_report_is_drawn_is_named(tmp_path, monkeypatch, capfd):
    """A real one, where the user may mount it; the results are kept."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        folder = RunFolder.create(place / "run", {"seed": 1, "adapters": {"openness": "a"}})
        assert command(["report", str(folder.path)], monkeypatch) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("error: the report: ")
        assert "cannot be written (No space left on device); free the disk" in line
        assert not list(place.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(place)], check=True)
