"""The command line where nobody listens or nothing can be written, and how it begins."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interp import console, study
from interp.runs import RunFolder
from interp.study import StudyConfig
from interp.traits import Trait

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


SLEEPER = """
import signal, sys, time
{before}
from interp import console
from interp.cli import stopping

def work():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep({cleaning})
        print("clean", flush=True)

with stopping.stoppable():
    code = console.guarded(work)
time.sleep(0.3)
sys.exit(code)
"""


def stopped(*signals: tuple[int, float], before: str = "", cleaning: float = 0.3) -> tuple:
    """Exit code and output of a command that gets signals, each some seconds after the other."""
    code = SLEEPER.format(before=before, cleaning=cleaning)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        for number, pause in signals:
            process.send_signal(number)
            time.sleep(pause)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


STOPPED = "error: stopped; what is finished is kept, and the same command goes on from there\n"
MASKED = (
    "signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_way_to_stop_a_command_stops_it_once(number):
    """The second signal comes while it cleans up, the third when it is about to end."""
    found = stopped((number, 0.1), (number, 0.35), (number, 0), before=MASKED)
    assert found == (1, "clean\n", STOPPED)


def test_who_still_waits_after_a_second_ends_it_at_once():
    began = time.monotonic()
    found = stopped((signal.SIGINT, 1.2), (signal.SIGINT, 0), before=MASKED, cleaning=50)
    assert found == (1, "", "")
    assert time.monotonic() - began < 30


def test_nohup_means_it():
    ignoring = MASKED + "; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    code, out, err = stopped((signal.SIGHUP, 0.3), (signal.SIGTERM, 0), before=ignoring)
    assert (code, out, err) == (1, "clean\n", STOPPED)


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


def test_a_run_goes_on_with_as_many_threads_as_before(monkeypatch):
    import torch

    from interp.cli import runs

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for odd in (
            {},
            {"reproducibility": []},
            {"reproducibility": [{"threads": {"torch": "x"}}]},
        ):
            runs._same_threads(odd)
            assert torch.get_num_threads() == 2
        runs._same_threads({"reproducibility": [{}, {"threads": {"torch": 1}}]})
        assert torch.get_num_threads() == 1
        monkeypatch.setattr("interp.machine.cores", lambda: 2)
        runs._same_threads({"reproducibility": [{"threads": {"torch": 64}}]})
        assert torch.get_num_threads() == 2, "more than there are cores would wait for each other"
    finally:
        torch.set_num_threads(before)


def test_a_disk_that_is_full_when_the_report_is_drawn_is_named(tmp_path):
    """A real one, where the user may mount it; the results are kept."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        folder = RunFolder.create(place / "run", {"seed": 1, "adapters": {"openness": "a"}})
        done = shell(f"{sys.executable} -m interp report {folder.path}")
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: the report: ")
        assert "cannot be written (No space left on device); free the disk" in line
        assert not list(place.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(place)], check=True)
