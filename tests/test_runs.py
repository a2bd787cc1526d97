"""Run folders and their steps: what is kept, what is redone, and who may work on them."""

import json
import logging
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from interp.base.files import remove_temporary, sha256, write_text
from interp.base.traits import Trait
from interp.behaviour import Response
from interp.errors import AdapterError, InputError, RunError
from interp.models import MergeReport
from interp.study.runs import RunFolder, Step, StepsFailedError, execute, perform, produce
from interp.study.runs.step import ordered

CONFIG = {"seed": 1, "adapters": {"openness": "a", "neuroticism": "b"}}
ANSWER = Response("Why?", "t", (1, 2), (3,), "Because 😊 <b>", True)


@dataclass
class Sums:
    """A run whose steps add numbers: `a` and `b` are given, `c` is their sum, `d` twice `c`."""

    path: Path
    made: list[str] = field(default_factory=list)

    def steps(self, a: int = 1, b: int = 2, times: int = 2) -> list[Step]:
        return [
            self._step("d", ("c",), {"times": times}, lambda c: c * times),
            self._step("a", (), {"a": a}, lambda: a),
            self._step("b", (), {"b": b}, lambda: b),
            self._step("c", ("a", "b"), {}, lambda x, y: x + y),
        ]

    def _step(self, name, needs, settings, compute) -> Step:
        def write(path: Path) -> None:
            self.made.append(name)
            found = [int(self.path.joinpath(f"{need}.txt").read_text()) for need in needs]
            write_text(path, str(compute(*found)))

        return Step(name, f"{name}.txt", write, settings, needs)

    def run(self, steps: list[Step] | None = None) -> str:
        """Run, or go on; the names of the steps that were made."""
        self.made.clear()
        with RunFolder(self.path).lock():
            execute(steps or self.steps(), RunFolder.create(self.path, {}))
        return "".join(self.made)

    @property
    def result(self) -> int:
        return int(self.path.joinpath("d.txt").read_text())

    @property
    def states(self) -> dict[str, str]:
        records = RunFolder.open(self.path).manifest["steps"]
        return {name: records[name]["state"] for name in sorted(records)}


@pytest.fixture
def sums(tmp_path) -> Sums:
    return Sums(tmp_path / "run")


def test_steps_are_done_after_what_they_need_and_kept(sums):
    assert sums.run() == "abcd"
    assert sums.result == 6
    assert sums.run() == ""
    assert sums.states == dict.fromkeys("abcd", "done")


def test_a_change_redoes_just_what_depends_on_it(sums):
    sums.run()
    assert sums.run(sums.steps(times=3)) == "d"
    assert sums.result == 9
    assert sums.run(sums.steps(b=5)) == "bcd"
    assert sums.result == 12
    # a and b change places: their sum comes out the same, so what needs the sum is kept.
    assert sums.run(sums.steps(a=5, b=1)) == "abc"
    assert sums.states["d"] == "done"
    assert sums.result == 12


def test_changed_or_lost_files_are_made_again(sums):
    sums.run()
    sums.path.joinpath("c.txt").write_text("77")
    assert sums.run() == "c"
    assert sums.result == 6
    sums.path.joinpath("a.txt").unlink()
    assert sums.run() == "a"


def test_results_of_other_settings_are_marked_until_they_are_redone(sums):
    sums.run()

    def fail(_: Path) -> None:
        raise AdapterError("no such adapter")

    steps = [replace(s, write=fail, essential=True) if s.name == "b" else s
             for s in sums.steps(b=3)]  # fmt: skip
    with pytest.raises(AdapterError, match="no such adapter"):
        sums.run(steps)
    assert sums.states == {"a": "done", "b": "failed", "c": "stale", "d": "stale"}
    assert sums.result == 6, "nothing is deleted"


def test_other_code_is_another_step(sums, monkeypatch):
    from interp.study.runs import step

    sums.run()
    monkeypatch.setattr(step, "closure", lambda _: "another")
    assert sums.run() == "abcd"


def test_what_the_input_does_not_allow_is_skipped_with_what_needs_it(sums):
    def refuse(_: Path) -> None:
        sums.made.append("c")
        raise InputError("0 of 40 answers\nhold an emoji")

    steps = [replace(s, write=refuse) if s.name == "c" else s for s in sums.steps()]
    assert sums.run(steps) == "abc"
    manifest = RunFolder.open(sums.path).manifest
    assert sums.states == {"a": "done", "b": "done", "c": "skipped", "d": "skipped"}
    assert manifest["skipped"] == dict.fromkeys("cd", "0 of 40 answers hold an emoji")
    assert sums.run(steps) == "", "the same input does not allow it the next time either"
    assert sums.run(sums.steps(b=3)) == "bcd", "another input may"
    assert RunFolder.open(sums.path).manifest["skipped"] == {}


def test_an_error_of_ours_fails_its_step_and_the_others_go_on(sums):
    def crash(_: Path) -> None:
        raise ZeroDivisionError("by zero")

    steps = [replace(s, write=crash) if s.name == "a" else s for s in sums.steps()]
    with pytest.raises(StepsFailedError, match=r"3 of 4 steps failed \(a, c, d\).*run\.log"):
        sums.run(steps)
    assert sums.states == {"a": "failed", "b": "done", "c": "failed", "d": "failed"}
    log = sums.path.joinpath("run.log").read_text()
    assert "ZeroDivisionError: by zero" in log
    assert "Traceback" in log
    assert sums.run() == "acd", "the same command tries again"


def test_a_file_that_our_code_does_not_find_is_no_full_disk(sums):
    def lost(_: Path) -> None:
        Path("no-such-asset.json").read_text()

    steps = [replace(s, write=lost) if s.name == "a" else s for s in sums.steps()]
    with pytest.raises(StepsFailedError, match="3 of 4 steps failed"):
        sums.run(steps)
    log = sums.path.joinpath("run.log").read_text()
    assert "FileNotFoundError" in log
    assert "no-such-asset.json" in log
    assert "cannot be written" not in log


def test_ctrl_c_keeps_what_is_finished(sums):
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    steps = [replace(s, write=interrupt) if s.name == "c" else s for s in sums.steps()]
    with pytest.raises(KeyboardInterrupt):
        sums.run(steps)
    assert sums.states == {"a": "done", "b": "done", "c": "stopped"}
    assert RunFolder.open(sums.path).manifest["status"] == "stopped"
    assert sums.run() == "cd"


def test_full_disk_names_the_step_and_loses_nothing(sums):
    sums.path.mkdir()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    steps = [replace(s, write=full) if s.name == "c" else s for s in sums.steps()]
    with pytest.raises(RunError, match=r"step c: .*c\.txt: cannot be written \(No space left"):
        sums.run(steps)
    assert sums.states["a"] == sums.states["b"] == "done"
    assert sums.run() == "cd"


@pytest.fixture
def disk(tmp_path):
    """A file system of 256 KiB, where the user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_really_full_disk(disk):
    sums = Sums(disk / "run")
    large = replace(sums.steps()[1], write=lambda path: write_text(path, "1" * 300_000) and None)
    steps = [large if s.name == "a" else s for s in sums.steps()]
    with pytest.raises(RunError, match=r"step a: .*cannot be written \(No space left"):
        sums.run(steps)
    assert not list(disk.rglob(".*"))
    assert sums.run() == "abcd"


def test_a_disk_too_full_for_the_manifest_names_the_step(disk):
    sums = Sums(disk / "run")

    def fill(path: Path) -> None:
        write_text(path, "1")
        with pytest.raises(OSError, match="No space left"):
            (disk / "other").write_bytes(bytes(300_000))

    steps = [replace(s, write=fill) if s.name == "b" else s for s in sums.steps()]
    with pytest.raises(RunError, match=r"^step b: .*manifest.json: cannot be written \(No space"):
        sums.run(steps)
    assert sums.states["a"] == "done"
    (disk / "other").unlink()
    assert sums.run() == "bcd"
    assert sums.result == 6


def test_a_read_only_disk(disk):
    sums = Sums(disk / "run")
    sums.run()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(RunError, match=r"cannot be written \(Read-only file system\)"):
        sums.run()
    assert sums.states == dict.fromkeys("abcd", "done")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; see the read-only disk")
def test_read_only_folder(sums):
    sums.run()
    sums.path.chmod(0o500)
    try:
        with pytest.raises(RunError, match=r"cannot be written \(Permission denied\)"):
            sums.run()
    finally:
        sums.path.chmod(0o700)


def test_steps_that_cannot_be_ordered_are_refused():
    a = Step("a", "a", lambda _: None, needs=("b",))
    b = replace(a, name="b", needs=("a",))
    with pytest.raises(RunError, match="circle: a -> b -> a"):
        ordered([a, b])
    with pytest.raises(RunError, match="needs b, which is no step"):
        ordered([a])
    with pytest.raises(RunError, match="same name"):
        ordered([a, a])


def test_second_process_on_a_folder_says_so_and_leaves(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    code = (
        "import sys; from interp.study.runs import RunFolder\n"
        "with RunFolder.open(sys.argv[1]).lock(): print('in', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout.readline() == b"in\n"
        assert folder.is_locked()
        with (
            pytest.raises(RunError, match=r"process \d+ on .* is working on this run"),
            folder.lock(),
        ):
            pass
        other.kill()  # a killed process leaves no lock
    assert not folder.is_locked()
    with folder.lock():
        pass


def test_half_written_files_of_a_killed_process_are_removed(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    code = (
        "import os, sys; from interp.base import files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "files.write_text(sys.argv[1], 'half')"
    )
    there = folder.file("openness", "lens.safetensors")
    ended = subprocess.run([sys.executable, "-c", code, str(there)], check=False)
    assert ended.returncode == -9
    assert not there.exists()
    assert len(list(folder.path.rglob(".*.tmp"))) == 1
    with folder.lock():
        assert not list(folder.path.rglob(".*"))
    assert remove_temporary(folder.path) == 0


def test_what_the_log_calls_done_is_recorded_as_done(sums):
    """At the very moment of the line: a process may be killed right after it."""
    seen = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if ": done in" in (line := record.getMessage()):
                seen.append((line[0], sums.states[line[0]]))

    reader, log = Reader(), logging.getLogger("interp.study.runs")
    log.addHandler(reader)
    try:
        sums.run()
    finally:
        log.removeHandler(reader)
    assert seen == [(name, "done") for name in "abcd"]


def test_warnings_and_times_are_in_the_log(sums):
    def warn(path: Path) -> None:
        warnings.warn("the fit did not converge", stacklevel=1)
        logging.getLogger("interp.elsewhere").info("halved the batch")
        write_text(path, "1")

    steps = [replace(s, write=warn) if s.name == "a" else s for s in sums.steps()]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        sums.run(steps)
    log = sums.path.joinpath("run.log").read_text()
    assert "the fit did not converge" in log
    assert "halved the batch" in log
    assert all(f"{name}: done in 0.0" in log for name in "abcd")
    assert "peak" in log


def test_a_folder_of_other_things_is_made_anew_and_one_of_the_same_is_gone_on_with(tmp_path):
    """A stage, an adapter or an organism refuses a folder that holds another."""
    tries = []

    def write(path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        tries.append(sorted(one.name for one in path.iterdir()))
        write_text(path / f"{len(tries)}.txt", "x")
        if len(tries) in (1, 3):
            raise InputError("stopped half way")

    folder = RunFolder.create(tmp_path / "run", CONFIG)
    for steps in (5, 5, 6, 7):
        step = Step("stage", "parts/stage", write, {"steps": steps})
        if len(tries) in (0, 2):
            with pytest.raises(InputError, match="half way"):
                produce(step, folder)
        else:
            assert produce(step, folder) == folder.file("parts", "stage")
    assert tries == [[], ["1.txt"], [], []]


def test_outcome_says_what_it_took(tmp_path):
    folder = RunFolder(tmp_path)

    def allocate(path: Path) -> dict:
        held = bytearray(300 * 2**20)
        held[::4096] = b"x" * len(held[::4096])
        write_text(path, "done")
        return {"fact": 1}

    before = perform(Step("b", "b", lambda path: write_text(path, "x") and None), folder)
    outcome = perform(Step("a", "a", allocate), folder)
    assert (outcome.state, outcome.facts) == ("done", {"fact": 1})
    assert outcome.content == sha256(tmp_path / "a")
    assert outcome.by.startswith(f"{os.getpid()}@")
    if Path("/proc/self/clear_refs").exists():
        assert 270 < outcome.peak_mib - before.peak_mib < 340


def test_folder_keeps_what_it_was_asked(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    folder.note(steps={"a": {"state": "done"}})
    folder.note(steps={"b": {"state": "done"}}, n_questions=3)
    folder.finish(1.23)
    again = RunFolder.open(tmp_path / "run").manifest
    assert set(again["steps"]) == {"a", "b"}
    assert again["status"] == "complete"
    assert again["config"] == CONFIG
    assert again["seed"] == 1
    assert again["versions"]["torch"].startswith("2.")
    (environment,) = again["reproducibility"]
    assert {"packages", "cpu", "blas", "threads"} <= set(environment)
    assert folder.traits == (Trait.OPENNESS, Trait.NEUROTICISM)


def test_another_environment_is_listed_beside_the_first(tmp_path, monkeypatch):
    from interp.base import environment as room

    RunFolder.create(tmp_path / "run", CONFIG)
    monkeypatch.setattr(room, "reproducibility", lambda: {"threads": 64})
    for _ in range(2):
        again = RunFolder.create(tmp_path / "run", CONFIG).manifest
    assert [one["threads"] for one in again["reproducibility"]][1:] == [64]


def test_another_config_takes_over_only_where_it_may(tmp_path):
    RunFolder.create(tmp_path / "run", CONFIG).note(n_questions=3)
    other = {**CONFIG, "seed": 2}
    with pytest.raises(RunError, match=r"holds another run \(different seed\)"):
        RunFolder.create(tmp_path / "run", other)
    changed = RunFolder.create(tmp_path / "run", other, change=True).manifest
    assert (changed["config"], changed["seed"], changed["n_questions"]) == (other, 2, 3)
    with pytest.raises(RunError, match=r"holds another run \(study, not experiment\)"):
        RunFolder.create(tmp_path / "run", other, job="experiment", change=True)


def test_no_file_of_others_is_removed_from_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "deep").mkdir()
    mine = [tmp_path / ".notes.tmp", tmp_path / "deep" / ".draft.tmp"]
    for path in mine:
        path.write_text("x")
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match="is no run folder"), folder.lock():
        folder.begin(CONFIG)
    assert all(path.read_text() == "x" for path in mine)


def test_a_run_killed_while_it_wrote_its_first_manifest_begins(tmp_path):
    (tmp_path / ".manifest.json.x7.tmp").write_text("{")
    folder = RunFolder(tmp_path)
    with folder.lock():
        folder.begin(CONFIG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "run.lock"]


def test_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.create(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match=r"no manifest\.json"):
        RunFolder.open(tmp_path)


def test_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.create(tmp_path / "run", CONFIG)
    said = r"cannot be written .*choose another --out"
    with pytest.raises(RunError, match=said), RunFolder(tmp_path / "run").lock():
        pass


def test_inputs_are_hashed_again_only_when_they_change(tmp_path):
    folder, weights = RunFolder.create(tmp_path / "run", CONFIG), tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    first = folder.input_hashes(weights)["w.safetensors"]
    assert first == sha256(weights)
    noted = folder.manifest["inputs"]
    assert folder.input_hashes(weights)["w.safetensors"] == first
    assert folder.manifest["inputs"] == noted
    weights.write_bytes(b"three")
    assert folder.input_hashes(weights)["w.safetensors"] == sha256(weights) != first


def test_a_name_that_no_folder_can_have_is_said_in_one_line(tmp_path):
    with pytest.raises(RunError, match=r"x: cannot be read \(File name too long\)"):
        RunFolder.open(tmp_path / ("x" * 300))


@pytest.mark.parametrize("text", ["[]", "3", '{"config": 3}', '{"config": {"adapters": 1}}'])
def test_a_manifest_of_something_else_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=r"manifest\.json: "):
        _ = RunFolder.open(tmp_path).traits


def test_responses_come_back_as_they_were(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    assert folder.responses("base", "responses.json") is None
    folder.save_responses([ANSWER], "base", "responses.json")
    assert folder.responses("base", "responses.json") == [ANSWER]
    folder.file("base", "responses.json").write_text('[{"question": "Why?"}]')
    with pytest.raises(RunError, match="fields do not match a Response"):
        folder.responses("base", "responses.json")


def test_missing_result_is_none(tmp_path):
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    assert folder.result(MergeReport, "openness", "merge.safetensors") is None


def test_manifest_is_json_that_other_programs_read(sums):
    sums.run()
    records = json.loads(sums.path.joinpath("manifest.json").read_text())["steps"]
    assert set(records["d"]) == {"state", "key", "content", "seconds", "peak_mib", "by", "ended"}
