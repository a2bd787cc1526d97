"""The command line where nobody listens or nothing can be written, and how it begins."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from interp import console, study
from interp.cli import trace
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


def test_looking_at_a_run_takes_no_model_library(run):
    """They take six seconds."""
    code = (
        "import sys\nfrom interp.cli import main\n"
        f"sys.argv = ['interp', 'run', 'status', {run!r}]\n"
        "try:\n    main()\n"
        "finally:\n    print({'torch', 'transformers', 'pandas', 'peft'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_progress_in_a_file_leaves_no_empty_line(capsys):
    with console.progress() as report:
        assert report is None
    assert capsys.readouterr().err == ""


def test_a_lost_terminal_stops_a_run_as_ctrl_c_does_unless_nohup_says_not():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        trace._stop_cleanly()
        for number in before:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        trace._stop_cleanly()
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
