"""Where commands write: names and places that are odd, refused, or open to nobody else."""

import json
import os
import subprocess
import sys
from functools import partial

import pytest

from interp.base import console
from interp.base.files import write_bytes
from interp.errors import RunError
from interp.methods.finetune.output import whole_folder
from interp.study.runs import RunFolder

ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def interp(*words: str | bytes, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "interp", *words]
    return subprocess.run(command, capture_output=True, env=os.environ | environment, check=False)


@pytest.fixture
def umask():
    """Sets the process's umask; the old one comes back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0, 0o666, 0o777)])
def test_what_is_written_is_as_open_as_the_umask_says(tmp_path, umask, mask, file, folder):
    umask(mask)
    write_bytes(tmp_path / "new" / "file", b"x")
    with whole_folder(tmp_path / "adapter") as made:
        write_bytes(made / "file", b"x")
    found = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777
             for path in tmp_path.rglob("*")}  # fmt: skip
    assert found == {"new": folder, "new/file": file, "adapter": folder, "adapter/file": file}


@pytest.mark.parametrize("name", ["n" * 255, "👍🏽" * 31, "x\n.tmp"])
def test_any_name_that_a_file_can_have_can_be_written(tmp_path, name):
    write_bytes(tmp_path / name, b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_place_that_cannot_be_written_is_named_in_one_line(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    refused = {"folder": "Is a directory", "n" * 300: "File name too long"}
    for name, why in refused.items():
        assert console.guarded(partial(write_bytes, tmp_path / name, b"x")) == 2
        start = f"error: {tmp_path / name}: cannot be read or written ({why}); "
        assert capsys.readouterr().err == f"{start}mend that, or name another place\n"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_folders_of_others_get_no_lock(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="is no run folder"), RunFolder(tmp_path).lock():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_help_can_be_read_where_the_terminal_knows_ascii_only():
    done = interp("run", "resume", "--help", **ASCII)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


def test_a_full_disk_under_other_output_is_said():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, "-m", "interp", "--version"], stdout=full,
                              stderr=subprocess.PIPE, check=False)  # fmt: skip
    said = b"error: standard output, or a file, cannot be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_json_holds_any_path(capsysbinary):
    path = os.fsdecode(b"bad\xff\n\xf0\x9f\x98\x80")
    console.emit_json({"out": path})
    said = capsysbinary.readouterr().out
    assert said.isascii()
    assert json.loads(said) == {"out": path}


def test_a_name_that_is_not_utf_8_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["interp", "demo", "--out", "bad\udcff"])
    RunFolder.create(tmp_path / "bad\udcff", {"base": "fine"})
    assert RunFolder(tmp_path / "bad\udcff").manifest["command"] == "interp demo --out bad\\udcff"
    with pytest.raises(RunError, match=r'is not UTF-8 \(.*"base": "bad\\udcff".*rename it'):
        RunFolder.create(tmp_path / "run", {"base": "bad\udcff"})
