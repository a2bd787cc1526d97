"""Manifests that somebody changed: what is wrong with them is named, and nothing else happens."""

import json
import shutil
from pathlib import Path

import pytest
from test_bad_input import command
from toy_steps import steps

from interp.errors import RunError
from interp.study.runs import RunFolder, execute

SOUND = {
    "status": "stopped", "job": "study", "command": "interp demo", "config": {"adapters": {}},
    "seed": 0, "host": "vm", "pid": 7, "started": "2026-01-01", "seconds": 3.5, "skipped": {},
    "steps": {"a": {"state": "done", "seconds": 1, "peak_mib": 2.5, "content": "0f"}},
}  # fmt: skip

WRONG = {
    "status": [1], "job": 3, "command": {}, "config": 3, "seed": "x", "host": 5, "pid": "x",
    "started": 4, "finished": [], "seconds": "long", "steps": [], "skipped": {"a": ["b"]},
    "inputs": {"w": 7}, "report": [1], "voice_pairs": {"a": 1}, "reproducibility": [3],
    "versions": {"torch": [1]}, "hashes": 0,
}  # fmt: skip
WRONG_STEPS = [
    {}, {"state": ["done"]}, {"state": "done", "seconds": "a"}, {"state": "done", "content": 3},
    {"state": "done", "reason": []}, {"state": "done", "key": True}, 3,
]  # fmt: skip


def written(folder: Path, manifest: object) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("name", WRONG)
def test_a_field_of_another_type_is_named(tmp_path, name):
    folder = RunFolder(written(tmp_path / "run", SOUND | {name: WRONG[name]}))
    with pytest.raises(RunError, match=rf"manifest\.json: {name}[.\w]* must be an? "):
        _ = folder.manifest


@pytest.mark.parametrize("record", WRONG_STEPS)
def test_a_damaged_record_of_a_step_is_named_by_every_command(
    tmp_path, record, monkeypatch, capsys
):
    folder = written(tmp_path / "run", SOUND | {"steps": {"a\x1b[2J": record}})
    for words in (["status"], ["status", "--json"], ["resume"]):
        assert command(["run", *words, str(folder)], monkeypatch) == 2
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert r"manifest.json: steps.a\x1b[2J" in line
        assert "restore the file" in line


def test_a_sound_manifest_is_shown(tmp_path, monkeypatch, capsys):
    folder = written(tmp_path / "run", SOUND | {"unknown": ["field"]})
    assert command(["run", "status", str(folder), "--json"], monkeypatch) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["status"], shown["steps"]["a"]["state"]) == ("stopped", "done")


def test_whoever_may_only_read_a_run_sees_whether_it_is_worked_on(tmp_path):
    """Its lock cannot be opened for writing: another user's run, an archive."""
    folder = RunFolder.create(tmp_path / "run", {})
    with folder.lock():
        folder.file("run.lock").chmod(0o444)
        assert folder.is_locked()
    folder.file("run.lock").chmod(0)
    assert not folder.is_locked()


def test_looking_at_a_run_keeps_nobody_from_starting_it(tmp_path):
    """One who looks holds the lock for a moment."""
    import fcntl
    import threading

    folder = RunFolder.create(tmp_path / "run", {})
    with folder.lock():
        pass
    looker = folder.file("run.lock").open("rb")
    fcntl.flock(looker, fcntl.LOCK_SH)
    threading.Timer(0.2, looker.close).start()
    with folder.lock():
        assert looker.closed


def test_a_run_that_was_copied_goes_on_there(toy, tmp_path):
    folder = toy()
    with folder.lock():
        assert execute(steps(folder.manifest["config"], folder), folder) == 11
    there = RunFolder(tmp_path / "other place — ü 😊" / ("long" * 50))
    shutil.copytree(folder.path, there.path)
    there.file("a", "sum.txt").unlink()
    with there.lock():
        assert execute(steps(folder.manifest["config"], there), there) == 1


def test_an_input_that_was_replaced_by_one_of_equal_size_and_time_is_seen(tmp_path):
    """As rsync and cp -p leave it."""
    import os

    folder, weights = RunFolder.create(tmp_path / "run", {}), tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    before, times = folder.input_hashes(weights)["w.safetensors"], weights.stat()
    weights.write_bytes(b"two")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert folder.input_hashes(weights)["w.safetensors"] != before


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_strangers_log_is_neither_waited_for_nor_written_elsewhere(toy, tmp_path, kind):
    import os

    folder, log = toy(), tmp_path / "toy" / "run.log"
    if kind == "pipe":
        os.mkfifo(log)
    else:
        log.symlink_to(tmp_path / "precious")
    with folder.lock(), pytest.raises(RunError, match=r"run\.log: is no file of this folder"):
        execute(steps(folder.manifest["config"], folder), folder)
    assert not (tmp_path / "precious").exists()


def test_a_status_moves_nobodys_cursor(tmp_path, monkeypatch, capsys):
    folder = written(tmp_path / "run", SOUND | {"status": "\x1b[2Jdone"})
    assert command(["run", "status", str(folder)], monkeypatch) == 0
    assert "\x1b[2J" not in capsys.readouterr().out
