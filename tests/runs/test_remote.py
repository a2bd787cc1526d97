"""Runs at URLs: files appear there whole, the copy here follows, and another machine goes on."""

import json
import shutil
import threading
import time
from pathlib import Path

import bucket
import fsspec
import pytest
from fsspec.core import url_to_fs
from killing import contents
from test_bad_input import command
from toy_steps import NAMES, steps

from interp.base.files import write_bytes
from interp.errors import InputError, RunError
from interp.study.runs import RemoteFolder, RunFolder, execute, open_run, remote, run_folder
from interp.study.runs.remote import COPIES

TOTAL = str(sum(n**2 for n in range(len(NAMES))))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Where bucket:// really is; copies go beside it, and a store is not waited for long."""
    monkeypatch.setenv(bucket.FOLDER, str(tmp_path / "bucket"))
    monkeypatch.setenv(COPIES, str(tmp_path / "here"))
    fsspec.filesystem("memory").store.clear()
    return tmp_path / "bucket" / "run"


@pytest.fixture(params=["memory://run", "bucket://run", "file"])
def url(request, tmp_path) -> str:
    return f"file://{tmp_path}/run" if request.param == "file" else request.param


def run(url: str, **config: object) -> list[str]:
    """Run the toy steps at a URL, or go on; the steps that were made."""
    made: list[str] = []
    folder = run_folder(url)
    with folder.lock():
        folder.begin(config, change=True)
        execute(noted(steps(config, folder), made), folder)
    return made


def noted(todo: list, made: list[str]) -> list:
    for step in todo:
        write = step.write
        object.__setattr__(step, "code", (write,))
        object.__setattr__(
            step, "write", lambda path, w=write, n=step.name: made.append(n) or w(path)
        )
    return todo


def elsewhere(monkeypatch, tmp_path) -> None:
    """From here on this is another machine: it has no copy yet."""
    monkeypatch.setenv(COPIES, str(tmp_path / "elsewhere"))


def test_nothing_half_written_is_ever_seen_under_its_name(place):
    folder = run_folder("bucket://run")
    seen: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if (place / "large").exists():
                seen.add((place / "large").stat().st_size)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for content in (b"x" * 1000, b"y" * 3000):
        write_bytes(folder.file("large"), content)
        folder.receive("large")
        seen.add((place / "large").stat().st_size)  # the watcher may not have had its turn
    over.set()
    watcher.join()
    assert seen == {1000, 3000}


def test_what_a_killed_process_left_half_put_is_removed(place):
    """When a run is taken up, but not from a folder that is no run."""
    half = place / "a" / ".1.txt.0a1b2c3d.tmp"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    (place / "diary.txt").touch()
    with pytest.raises(RunError, match="no run folder"):
        run("bucket://run")
    assert half.exists()
    (place / "diary.txt").unlink()
    (place / "manifest.json").write_text("{}")
    folder = run_folder("bucket://run")
    with folder.lock():
        assert not half.exists()


def test_a_store_that_does_not_answer_is_named_and_what_is_done_kept(place, monkeypatch):
    real = bucket.Bucket.put_file

    def shaky(self: bucket.Bucket, one: str, other: str, **_: object) -> None:
        if "sum" in other:
            raise ConnectionError("reset by peer")
        real(self, one, other)

    with monkeypatch.context() as patched:
        patched.setattr(bucket.Bucket, "put_file", shaky)
        with pytest.raises(
            RunError, match=r"bucket://run: does not answer.*\(ConnectionError: res"
        ):
            run("bucket://run")
    assert not list(place.rglob(".*"))
    assert sorted(run("bucket://run")) == ["a/sum", "b/sum", "sum"]


ODD = ["../out", "a/../../out", "/etc/x", "a//b", "a\\b", "a/./b", "a\nb", "", "a/", "\x7f"]


@pytest.mark.parametrize("name", ODD)
def test_names_that_could_lead_elsewhere_are_refused(name, tmp_path):
    for root in ("bucket/run", str(tmp_path)):
        with pytest.raises(RunError, match="refused"):
            remote.joined(root, name)
    assert remote.joined("bucket/run", "a/b.txt") == "bucket/run/a/b.txt"


@pytest.mark.parametrize("name", ["../../out", "x\\y", "a/../../../out"])
def test_a_listing_with_such_a_name_writes_nowhere(monkeypatch, tmp_path, name):
    run("bucket://run")
    real = bucket.Bucket.find
    monkeypatch.setattr(
        bucket.Bucket, "find",
        lambda self, path, **k: real(self, path, **k) | {f"{path}/{name}": {"size": 1}},
    )  # fmt: skip
    elsewhere(monkeypatch, tmp_path)
    with pytest.raises(RunError, match=r"a file there is named .*refused"):
        run("bucket://run")
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/run", "pip install s3fs"),
        ("gs://bucket/run", "pip install gcsfs"),
        ("nowhere://bucket/run", "cannot be opened .*nowhere"),
    ],
)
def test_a_url_that_cannot_be_reached_from_here(url, said):
    with pytest.raises(InputError, match=said):
        run_folder(url)


def test_paths_are_paths_and_urls_are_urls(tmp_path):
    assert run_folder(tmp_path) == RunFolder(tmp_path)
    found = run_folder("memory://run/")
    assert isinstance(found, RemoteFolder)
    assert str(found) == "memory://run"
    assert found.path != run_folder("memory://other").path


def test_a_run_at_a_url_goes_on_on_another_machine(url, tmp_path, monkeypatch):
    assert sorted(run(url)) == sorted([*NAMES, "a/sum", "b/sum", "sum"])
    files, root = url_to_fs(url)
    assert files.cat_file(f"{root}/sum.txt") == TOTAL.encode()
    manifest = json.loads(files.cat_file(f"{root}/manifest.json"))
    assert manifest["steps"]["sum"]["state"] == "done"
    assert b"sum: done" in files.cat_file(f"{root}/run.log")
    assert run(url) == []
    elsewhere(monkeypatch, tmp_path)
    assert run(url) == []
    assert open_run(url).manifest["steps"]["a/0"]["state"] == "done"
    files.rm_file(f"{root}/a/sum.txt")
    assert run(url) == ["a/sum"], "a result that is lost there is made again"
    assert sorted(run(url, of=2)) == sorted([*NAMES, "a/sum", "b/sum", "sum"])
    files.rm(root, recursive=True)
    assert len(run(url)) == 11, "the copy here does not stand in for a run that was deleted"


def test_only_what_differs_is_fetched(place, monkeypatch):
    run("bucket://run")
    fetched: list[str] = []
    real = bucket.Bucket.open
    monkeypatch.setattr(
        bucket.Bucket, "open",
        lambda self, path, *rest: fetched.append(Path(path).name) or real(self, path, *rest),
    )  # fmt: skip
    (place / "a" / "1.txt").write_text("77")
    folder = run_folder("bucket://run")
    with folder.lock():
        assert sorted(fetched) == ["1.txt", "manifest.json", "run.log"]
        assert folder.file("a", "1.txt").read_text() == "77"


def test_each_result_is_there_before_the_next_step_begins(place):
    folder, seen = run_folder("bucket://run"), []

    def look(label: str, done: int, total: int) -> None:  # noqa: ARG001
        manifest = json.loads((place / "manifest.json").read_text())
        states = {name: record["state"] for name, record in manifest.get("steps", {}).items()}
        files = {path.relative_to(place).as_posix() for path in place.rglob("*.txt")}
        seen.append({f"{name}.txt" for name in states if states[name] == "done"} == files)

    with folder.lock():
        folder.begin({})
        execute(steps({}, folder), folder, progress=look)
    assert len(seen) == 12
    assert all(seen)


def test_other_peoples_files_at_a_url_are_left_alone(place):
    place.mkdir(parents=True)
    (place / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="bucket://run: is no run folder, and not empty"):
        run("bucket://run")
    assert [path.name for path in place.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match=r"bucket://nothing: no manifest\.json"):
        open_run("bucket://nothing")


def test_a_run_on_another_machine_is_shown_as_running(place, monkeypatch, capsys):
    run("bucket://run")
    manifest = json.loads((place / "manifest.json").read_text())
    manifest |= {"status": "running", "host": "gpu-7"}
    (place / "manifest.json").write_text(json.dumps(manifest))
    assert command(["run", "status", "bucket://run", "--json"], monkeypatch) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == "running"


def test_commands_take_a_url(reference, place, tmp_path, monkeypatch, capsys):
    shutil.copytree(reference, place)
    before = contents(place)
    assert command(["run", "status", "bucket://run"], monkeypatch) == 0
    assert "bucket://run: complete" in capsys.readouterr().out
    page = (place / "report.html").read_text()
    assert command(["run", "resume", "bucket://run", "--json"], monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == "bucket://run/report.html"
    assert [row["trait"] for row in said["traits"]] == ["extraversion", "openness"]
    assert contents(place) == before
    assert (place / "report.html").read_text() == page
    (place / "report.html").unlink()
    elsewhere(monkeypatch, tmp_path)
    monkeypatch.setattr(
        "interp.report.write", lambda folder, *_, **__: folder.file("report.html").write_text("x")
    )
    assert command(["report", "bucket://run", "--json"], monkeypatch) == 0
    assert (place / "report.html").read_text() == "x", "what is drawn here is put there"
