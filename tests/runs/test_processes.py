"""Local worker processes: who gets what, what a dead one costs, and nothing left behind."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from killing import contents
from toy_steps import NAMES, TARGET, makers, makings, steps

from interp import study
from interp.errors import DataError, InputError, RunError
from interp.study.runs import (
    Inline,
    Outcome,
    RunFolder,
    Step,
    StepsFailedError,
    execute,
    executor_for,
)
from interp.study.runs.crew import Crew, assign
from interp.study.runs.job import Job, Worker
from interp.study.runs.perform import LOST
from interp.study.runs.processes import Processes, environment

TWO = executor_for("processes", 2)


@dataclass(eq=False)
class Idle:
    group: str | None


def ready(*names: str) -> list[Step]:
    return [Step(name, name, lambda _: None, group=name[0]) for name in names]


def given(idle: list[Idle], busy: set[str | None], names: str) -> dict[Idle, str]:
    return {worker: step.name for worker, step in assign(idle, busy, ready(*names.split()))}


def test_workers_keep_to_the_group_that_they_have_in_memory():
    one, two = Idle("b"), Idle("a")
    assert given([one, two], set(), "a1 a2 b1 b2") == {one: "b1", two: "a1"}


def test_new_workers_begin_groups_that_nobody_has():
    one, two = Idle(None), Idle(None)
    assert given([one, two], set(), "a1 a2 b1") == {one: "a1", two: "b1"}
    assert given([one], {"a"}, "a1 a2 b1") == {one: "b1"}


def test_a_worker_without_work_helps_where_most_is_left():
    one = Idle("c")
    assert given([one], {"a", "b"}, "a1 b1 b2 b3") == {one: "b1"}
    # The owner comes first, though the helper was asked before it.
    owner = Idle("a")
    assert given([one, owner], set(), "a1") == {owner: "a1"}
    assert given([one, owner], set(), "a1 a2") == {owner: "a1", one: "a2"}


def test_each_worker_gets_its_gpu_and_its_share_of_the_threads(monkeypatch):
    import torch

    assert environment(1, 3)["OMP_NUM_THREADS"] == "3"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert environment(3, 1)["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [environment(n, 1)["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["2", "5", "2"]


def test_a_step_that_takes_every_worker_with_it_fails_and_the_others_are_done(toy):
    """By an executor that loses one step whenever it is given."""

    class Losing(Inline):
        def wait(self) -> list[Outcome]:
            if self.taken[0].name == "a/1":
                return [Outcome(self.taken.pop().name, LOST, "worker-1 was killed by SIGKILL")]
            return super().wait()

    folder = toy()
    todo = steps(folder.manifest["config"], folder)
    with folder.lock(), pytest.raises(StepsFailedError, match=r"3 of 11 .*a/1"):
        execute(todo, folder, Losing(folder))
    records = folder.manifest["steps"]
    assert records["a/1"]["reason"] == "worker-1 was killed by SIGKILL, 3 times"
    assert {name for name, r in records.items() if r["state"] == "failed"} == {
        "a/1", "a/sum", "sum"
    }  # fmt: skip
    assert (folder.path / "run.log").read_text().count("it is given out again") == 3


def toy_run(folder: RunFolder) -> None:
    with folder.lock():
        execute(steps(folder.manifest["config"], folder), folder, Crew(Processes(job(folder), 2)))


def job(folder: RunFolder) -> Job:
    return Job.of(TARGET, folder)


@pytest.mark.usefixtures("nothing_left_running")
def test_a_worker_that_crashes_costs_the_step_it_held(toy, tmp_path):
    folder = toy(dies="b/2", pause=0.2, warns=True)
    toy_run(folder)
    assert (folder.path / "sum.txt").read_text() == str(sum(n**2 for n in range(len(NAMES))))
    made = makings(tmp_path / "marks")
    assert made.pop("b/2") == 2
    assert set(made.values()) == {1}
    log = (folder.path / "run.log").read_text()
    assert re.search(r"b/2: worker-\d \(\d+@\S+\) was killed by SIGSEGV; it is given out", log)
    assert re.search(r"worker-\d \(\d+\): about to die", log)
    assert re.search(r"worker-\d \(\d+\): INFO interp.toy: sums for a/0", log)
    assert re.search(r"worker-\d \(\d+\): .*a/0 is small", log)
    assert "noise on standard output" in log
    # Each kept to one group for as long as that had steps; a third one may have come too late.
    by = {pid: names for pid, names in makers(tmp_path / "marks").items() if "a/0" in names
          or "b/0" in names}  # fmt: skip
    assert all(len({name[0] for name in names[:3]}) == 1 for names in by.values())
    assert {names[0][0] for names in by.values()} == {"a", "b"}


@pytest.mark.usefixtures("nothing_left_running")
def test_bad_input_that_only_a_worker_sees_ends_the_run(toy):
    folder = toy(refuses=True)
    crew = Crew(Processes(job(folder), 1))
    with folder.lock(), pytest.raises(DataError, match=r"worker-1 .*: questions.csv: no such"):
        execute(ready("a1"), folder, crew)
    assert folder.manifest["status"] == "stopped"


def test_a_worker_makes_no_step_from_other_inputs(toy):
    folder = toy()
    worker = Worker(job(folder))
    assert worker.hello()["kind"] == "hello"
    request = {"name": "a/1", "settings": {"of": 2}, "needs": {}}
    outcome = worker.perform(request)["outcome"]
    assert outcome["state"] == "fatal"
    assert "(of: 1 here, 2 with the driver)" in outcome["reason"]
    assert worker.perform(request | {"settings": {"of": 1}})["outcome"]["state"] == "done"
    unknown = worker.perform(request | {"name": "c/9"})["outcome"]
    assert "c/9 is no step here" in unknown["reason"]


def test_a_worker_reads_no_result_that_the_driver_did_not_see(toy, monkeypatch):
    from interp.study.runs import job as module

    monkeypatch.setattr(module, "PATIENCE", 0.3)
    folder = toy()
    worker = Worker(job(folder))
    request = {"name": "a/sum", "settings": {"of": 1}, "needs": {"a/0": "0" * 64}}
    outcome = worker.perform(request)["outcome"]
    assert (outcome["state"], outcome["error"]) == ("fatal", "RunError")
    assert "a/0.txt: is not what a/0 left; is the folder shared?" in outcome["reason"]


def test_a_folder_of_the_same_name_elsewhere_is_refused(toy):
    folder = toy()
    worker = Worker(replace(job(folder), driver="1@elsewhere"))
    said = worker.hello()
    assert said["kind"] == "broken"
    assert "is another folder on" in said["why"]


def test_a_worker_of_another_version_is_refused(toy, monkeypatch):
    from interp.study.runs import crew

    ours = crew.versions()
    monkeypatch.setattr(crew, "versions", lambda: ours | {"torch": "2.0.0"})
    folder = toy()
    said = r"worker-1 \(\d+@.*\): has another version .*\(torch: 2\..* there, 2\.0\.0 here\)"
    with folder.lock(), pytest.raises(RunError, match=said):
        execute(ready("a1"), folder, Crew(Processes(job(folder), 1)))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("threads",), "unknown executor 'threads'; use inline, processes, ray"),
        (("inline", 3), "--workers 3 needs --executor"),
        (("processes", 0), "at least one"),
        (("processes", 2, "auto"), "--ray-address needs --executor ray"),
    ],
)
def test_options_that_do_not_go_together(asked, said):
    with pytest.raises(InputError, match=said):
        executor_for(*asked)


# A real study ------------------------------------------------------------------------------


def results(out: Path) -> dict[str, str]:
    return {n: h for n, h in contents(out).items() if n.split("/")[0] not in ("figures", "tables")}


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left_running")
def test_driver_and_worker_killed_and_still_the_same_bytes(config, reference, killer, tmp_path):
    out = tmp_path / "run"
    RunFolder.create(out, config.model_dump(mode="json"))
    command = [sys.executable, "-m", "interp", "run", "resume", str(out), "--json",
               "--executor", "processes", "--workers", "2"]  # fmt: skip
    begun = killer(out)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        while begun.fresh().count(": done in") < 12:
            assert driver.poll() is None
            time.sleep(0.02)
        workers = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGKILL)
    assert len(workers) == 2
    assert not psutil.wait_procs(workers, timeout=5)[1], "workers end with their driver"
    before = RunFolder.open(out).manifest["steps"]
    finished = {name for name, record in before.items() if record["state"] == "done"}
    assert len(finished) >= 12

    kill = killer(out, after=len(finished) + 12)

    def kill_one(label: str, done: int, total: int) -> None:
        if label == "all steps":
            kill(done, total)

    study.run(config, out, kill_one, TWO)
    assert results(out) == results(reference)
    assert len(kill.lost()) == 1
    assert all("was killed by SIGKILL" in said for said in kill.lost().values())
    assert kill.twice() == set(kill.lost())
    assert not finished & set(kill.given()), "what was finished is kept"
    assert not list(out.rglob(".*"))
    manifest = json.loads((out / "manifest.json").read_text())
    assert len({record["by"] for record in manifest["steps"].values()}) >= 4
