"""A real Ray cluster of two workers: killed, hung, starved, its driver killed; the same results."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from bucket import FOLDER
from killing import contents
from thinned import turn
from toy_steps import NAMES, TARGET, makings, steps

from interp import report, study
from interp.errors import DataError, InputError
from interp.study.runs import (
    Inline,
    RunFolder,
    Step,
    StepEnd,
    StepsFailedError,
    execute,
    executor_for,
    run_folder,
)  # fmt: skip
from interp.study.runs.cluster import OnRay
from interp.study.runs.perform import LOST
from interp.study.runs.remote import COPIES
from interp.study.runs.worker import Job, Request, Worker

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

# Ray leaves sockets and processes to the interpreter's end, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
EVERY = {*NAMES, "a/sum", "b/sum", "sum"}
TOTAL = str(sum(n**2 for n in range(len(NAMES))))
TESTS = str(Path(__file__).parent.parent)


@pytest.fixture(scope="module")
def cluster():
    """One cluster for all tests here: it costs seconds."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (TESTS, before)))  # for toy_steps
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        configure_logging=False, namespace="interp", object_store_memory=2**27,
    )  # fmt: skip
    yield
    ray.shutdown()
    os.environ["PYTHONPATH"] = before


def run(folder: RunFolder, limit: float | None = None, progress=None) -> int:
    config = folder.manifest["config"]
    with folder.lock():
        made = executor_for("ray", 2, limit=limit)(TARGET, folder)
        return execute(steps(config, folder), folder, made, progress)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_and_one_that_hangs_cost_the_step_they_held(
    toy, tmp_path, monkeypatch
):
    folder = toy(dies="b/2", hangs="a/1", pause=0.1, warns=True)
    later, hung = [0.0], {"a/1", "a/sum", "sum"}

    def jump(label: str, done: int, total: int) -> None:  # noqa: ARG001
        if done == len(EVERY - hung):  # time passes when nothing else is being made
            later[0] = 7000.0

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later[0])
    monkeypatch.setattr("interp.study.runs.cluster.time", clock)
    assert run(folder, limit=6000, progress=jump) == len(EVERY) + 2
    assert (folder.path / "sum.txt").read_text() == TOTAL
    made = makings(tmp_path / "marks")
    assert made.pop("b/2") == made.pop("a/1") == 2
    assert set(made.values()) == {1}
    log = (folder.path / "run.log").read_text()
    assert re.search(r"b/2: worker-\d \(\d+@\S+\) is gone .*; it is given out again", log)
    hung = r"a/1: worker-\d \(\d+@\S+\) did not end a/1 in 6000 s and was killed; it is given out"
    assert re.search(hung, log)
    assert re.search(r"worker-\d \(\d+@\S+\): interp.toy: sums for a/0", log)
    assert re.search(r"worker-\d \(\d+@\S+\): .*a/0 is small", log)
    assert {record["state"] for record in folder.manifest["steps"].values()} == {"done"}


@pytest.mark.usefixtures("cluster")
def test_a_step_that_wants_more_memory_than_there_is_fails_and_the_others_are_done(toy):
    folder = toy(starves="a/3")
    with pytest.raises(StepsFailedError, match=r"3 of 11 steps failed \(a/3"):
        run(folder)
    records = folder.manifest["steps"]
    assert records["a/3"]["reason"].startswith("MemoryError")
    assert (folder.path / "b" / "sum.txt").is_file()


def test_a_step_that_takes_every_worker_with_it_fails_and_the_others_are_done(toy):
    """By an executor that loses one step whenever it is given."""

    class Losing(Inline):
        def wait(self) -> list[StepEnd]:
            if self.taken[0].name == "a/1":
                return [StepEnd(self.taken.pop().name, LOST, "worker-1 is gone")]
            return super().wait()

    folder = toy()
    todo = steps(folder.manifest["config"], folder)
    with folder.lock(), pytest.raises(StepsFailedError, match=r"3 of 11 .*a/1"):
        execute(todo, folder, Losing(folder))
    records = folder.manifest["steps"]
    assert records["a/1"]["reason"] == "worker-1 is gone, 3 times"
    assert {n for n, r in records.items() if r["state"] == "failed"} == {"a/1", "a/sum", "sum"}
    assert (folder.path / "run.log").read_text().count("it is given out again") == 3


@pytest.mark.usefixtures("cluster")
def test_at_a_url_only_the_driver_writes(toy, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(COPIES, str(tmp_path / "copies"))
    config = toy().manifest["config"]
    folder = run_folder("bucket://run")
    with folder.lock():
        folder.begin(config)
    assert run(folder) == len(EVERY)
    at_url = tmp_path / "run"
    assert (at_url / "sum.txt").read_text() == TOTAL
    assert contents(at_url) == contents(folder.path)
    assert json.loads((at_url / "manifest.json").read_text())["steps"]["sum"]["state"] == "done"
    assert not list(at_url.rglob(".*"))


DRIVER = """
import sys
from toy_steps import TARGET, steps
from interp.study.runs import RunFolder, execute, executor_for
folder = RunFolder.open(sys.argv[1])
with folder.lock():
    made = executor_for("ray", 2)(TARGET, folder)
    execute(steps(folder.manifest["config"], folder), folder, made)
"""


@turn(1, of=3)
@pytest.mark.usefixtures("cluster")
def test_a_killed_driver_takes_its_workers_along_and_the_run_goes_on(toy, tmp_path):
    folder = toy(pause=0.6)
    log = folder.path / "run.log"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(folder.path)], **quiet) as driver:
        while not (log.is_file() and log.read_text().count(": done in") >= 3):
            assert driver.poll() is None
            time.sleep(0.02)
        children = psutil.Process(driver.pid).children(recursive=True)
        workers = [one for one in children if "ray::Worker" in one.name()]
        assert len(workers) == 2
        driver.send_signal(signal.SIGKILL)
    said = set(re.findall(r"(\S+): done in", log.read_text()))
    left = psutil.wait_procs(workers, timeout=60)[1]
    assert not left, "workers end with their driver"
    for process in children:  # Ray's own agents take their time
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    records = RunFolder.open(folder.path).manifest["steps"]
    finished = {name for name, record in records.items() if record["state"] == "done"}
    assert said <= finished, "what the log calls done is recorded as done"
    assert run(folder) == len(EVERY - finished)
    assert (folder.path / "sum.txt").read_text() == TOTAL
    assert {n for n, times in makings(tmp_path / "marks").items() if times > 1} <= EVERY - finished


@pytest.mark.usefixtures("cluster")
def test_bad_input_that_only_a_worker_sees_ends_the_run(toy):
    folder = toy(refuses=True)
    with folder.lock(), pytest.raises(DataError, match=r"\d+@.*: questions.csv: no such"):
        execute([Step("a", "a", lambda _: None)], folder, executor_for("ray", 1)(TARGET, folder))
    assert folder.manifest["status"] == "stopped"


def test_a_worker_makes_no_step_from_other_inputs(toy):
    folder = toy()
    step = {one.name: one for one in steps(folder.manifest["config"], folder)}["a/1"]
    worker = Worker(Job.of(TARGET, folder))
    request = Request("a/1", "of another driver", {"of": 2}, {}, ())
    end, _ = worker.perform(request)
    assert (end.state, end.error) == ("fatal", "RunError")
    assert "(of: 1 here, 2 with the driver)" in end.reason
    same, _ = worker.perform(Request("a/1", step.key({}), step.settings, {}, ()))
    assert (same.state, same.files) == ("done", {"": b"1"})
    code, _ = worker.perform(Request("a/1", "x", step.settings, {}, ()))
    assert "(code, or versions of packages)" in code.reason
    assert "c/9 is no step here" in worker.perform(Request("c/9", "", {}, {}, ()))[0].reason


def test_a_worker_is_given_steps_of_its_group_then_of_one_that_nobody_has(toy, monkeypatch):
    monkeypatch.setattr(OnRay, "_count", lambda _: 2)
    crew = OnRay(Job(TARGET, {}, "."), toy())
    made = iter("xy")
    monkeypatch.setattr(
        OnRay, "_start", lambda self: self.members.append(member(next(made))) or self.members[-1]
    )
    ready = [Step(name, name, lambda _: None, group=name[0]) for name in ("a1", "a2", "b1", "b2")]
    assert [step.name for step in crew.choose(ready)] == ["a1", "b1"]
    held = {one.name: one.group for one in crew.members}
    crew.plan.clear()
    assert {step.name for step in crew.choose(ready[1:2] + ready[3:])} == {"a2", "b2"}
    assert {one.name: one.group for one in crew.members} == held
    crew.plan.clear()
    assert {step.name for step in crew.choose(ready[:2])} == {"a1", "a2"}, "one helps out"


def member(name: str):
    from interp.study.runs.cluster import _Member

    return _Member(name, actor=None, ready=None)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("processes",), "unknown executor 'processes'; use inline, ray"),
        (("inline", 3), "--workers 3 needs --executor ray"),
        (("ray", 0), "at least one"),
        (("inline", None, "auto"), "--ray-address needs --executor ray"),
        (("ray", 2, None, 0.0), "--step-limit 0: must be above zero"),
        (("ray", 2, None, float("nan")), "--step-limit nan"),
    ],
)
def test_options_that_do_not_go_together(asked, said):
    with pytest.raises(InputError, match=said):
        executor_for(*asked)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", r"cluster 127\.0\.0\.1:1 cannot be reached .*refused"),
        ("ray://host:10001", "write it as HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_in_one_line(toy, address, said, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    folder = toy()
    executor = executor_for("ray", 2, address)(TARGET, folder)
    with folder.lock(), pytest.raises(InputError, match=said):
        execute(steps(folder.manifest["config"], folder), folder, executor)


def test_without_ray_the_mend_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"--executor ray needs Ray; .*pip install"):
        executor_for("ray")


@pytest.mark.usefixtures("cluster")
def test_more_workers_than_the_cluster_has_are_refused(toy):
    folder = toy()
    made = executor_for("ray", 9)(TARGET, folder)
    with folder.lock(), pytest.raises(InputError, match="--workers 9: the Ray cluster has 2 proc"):
        execute(steps({}, folder), folder, made)


# A real study ------------------------------------------------------------------------------


def tables(out: Path) -> dict[str, str]:
    return {name: sha for name, sha in contents(out).items() if name.split("/")[0] != "figures"}


@turn(0, of=3)
@pytest.mark.usefixtures("cluster")
def test_a_study_on_a_cluster_that_loses_a_worker_ends_in_the_same_bytes(
    config, reference, tmp_path
):
    out, killed = tmp_path / "run", []

    def kill_one(label: str, done: int, total: int) -> None:  # noqa: ARG001
        if label != "all steps" or done < 12 or killed:
            return
        steps = RunFolder.open(out).manifest["steps"].values()
        proven = {int(record["by"].split("@")[0]) for record in steps if "by" in record}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended by itself meanwhile
                at_work = "Worker.perform" in " ".join(process.cmdline())
                if at_work and process.pid in proven and not killed:
                    process.kill()
                    killed.append(process.pid)

    study.run(config, out, kill_one, executor_for("ray", 2))
    report.write(out)
    assert tables(out) == tables(reference)
    assert len(killed) == 1
    assert (out / "run.log").read_text().count("is gone") >= 1
    assert not list(out.rglob(".*"))
    by = {record["by"] for record in RunFolder.open(out).manifest["steps"].values()}
    assert len(by) >= 3, "two workers, and one in the place of the dead one"
