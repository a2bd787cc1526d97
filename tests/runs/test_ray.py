"""A real Ray cluster of two workers: one is killed, and the tables are those of one process."""

import json
import re
from pathlib import Path

import pytest
from bucket import FOLDER
from killing import contents
from test_processes import results
from toy_steps import NAMES, TARGET, makings, steps

from interp import report, study
from interp.errors import InputError
from interp.study.runs import RunFolder, execute, executor_for, run_folder
from interp.study.runs.store import MIRRORS

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

# Ray leaves sockets and processes to the interpreter's end, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")


def test_at_a_url_a_killed_actor_costs_the_step_it_held(toy, killer, tmp_path, monkeypatch):
    """Actors and driver have a copy each; what passes between them passes through the URL."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))  # where toy_steps is
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(MIRRORS, str(tmp_path / "mirrors"))
    config = toy(pause=0.3).manifest["config"]
    folder = run_folder("bucket://run")
    kill = killer(folder.path, after=2)
    with folder.lock():
        folder.begin(config)
        todo = steps(config, folder)
        execute(todo, folder, executor_for("ray", 2)(TARGET, folder), kill)
    at_url = tmp_path / "run"
    assert (at_url / "sum.txt").read_text() == str(sum(n**2 for n in range(len(NAMES))))
    assert contents(at_url) == contents(folder.path)
    assert json.loads((at_url / "manifest.json").read_text())["steps"]["sum"]["state"] == "done"
    assert {path.name[-7:] for path in (tmp_path / "mirrors").iterdir()} == {"-driver", "-worker"}
    assert not list(at_url.rglob(".*"))
    assert len(kill.lost()) == 1
    assert all(" is gone " in said for said in kill.lost().values())
    said = (at_url / "run.log").read_text()
    assert re.search(r"worker-\d \(\d+@\S+\): interp.toy: sums for a/0", said)
    made = makings(tmp_path / "marks")
    assert set(made) == {*NAMES, "a/sum", "b/sum", "sum"}
    assert {name for name, times in made.items() if times > 1} <= set(kill.lost())


@pytest.mark.slow
def test_a_study_on_a_cluster_that_loses_a_worker_ends_in_the_same_bytes(
    config, reference, killer, tmp_path
):
    out = tmp_path / "run"
    kill = killer(out, after=12)

    def kill_one(label: str, done: int, total: int) -> None:
        if label == "all steps":
            kill(done, total)

    study.run(config, out, kill_one, executor_for("ray", 2))
    assert results(out) == results(reference)
    report.write(out)
    tables = {name: h for name, h in contents(out).items() if name.startswith("tables/")}
    expected = contents(reference)
    assert tables == {name: expected[name] for name in expected if name.startswith("tables/")}
    assert len(kill.lost()) == 1
    assert kill.twice() == set(kill.lost())
    assert not list(out.rglob(".*"))
    by = {record["by"] for record in RunFolder.open(out).manifest["steps"].values()}
    assert len(by) >= 3, "two workers, and one in the place of the dead one"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", r"cluster 127\.0\.0\.1:1 cannot be reached .*refused"),
        ("ray://host:10001", "write it as HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_in_one_line(toy, address, said):
    folder = toy()
    executor = executor_for("ray", 2, address)(TARGET, folder)
    with folder.lock(), pytest.raises(InputError, match=said):
        execute(steps(folder.manifest["config"], folder), folder, executor)


def test_without_ray_the_mend_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"--executor ray needs Ray; .*pip install"):
        executor_for("ray")
