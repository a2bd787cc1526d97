"""The environment report and what two machines must have in common."""

import json
import subprocess
import sys

import psutil
import pytest
import torch
from thinned import turn

from interp.base import machine
from interp.base.environment import reproducibility
from interp.cli.doctor import examine, rows

_PRINT = (
    "import json; from interp.base.environment import reproducibility as r; print(json.dumps(r()))"
)


def told(more: str = "", **environment: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", more + _PRINT],
        capture_output=True, text=True, check=True, env={"PATH": "", **environment},
    )  # fmt: skip
    return json.loads(done.stdout)


@turn(0, of=3)
def test_reproducibility_is_the_same_in_two_processes_whatever_was_imported_before():
    plain = told(OMP_NUM_THREADS="1")
    assert plain == told("import sklearn.linear_model, pandas, interp;", OMP_NUM_THREADS="1")
    assert plain["packages"]["torch"] == torch.__version__
    assert plain["environment"] == {"OMP_NUM_THREADS": "1"}


def test_reproducibility_tells_another_number_of_threads_and_another_instruction_set_apart():
    found = told(OMP_NUM_THREADS="2", ATEN_CPU_CAPABILITY="avx2")
    assert found["threads"]["torch"] == 2
    assert found["cpu"]["instructions"] == "AVX2"


def test_reproducibility_tells_a_changed_flag():
    before = reproducibility()
    torch.use_deterministic_algorithms(True)
    try:
        after = reproducibility()
    finally:
        torch.use_deterministic_algorithms(False)
    assert after["flags"].pop("deterministic")
    assert not before["flags"].pop("deterministic")
    assert before == after


def test_memory_and_cores_are_those_of_an_independent_count():
    seen = psutil.virtual_memory()
    if machine.container_limit() is None:
        assert machine.total() == seen.total
        assert machine.available() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    assert machine.resident() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    assert machine.peak() >= machine.resident() * 0.95
    assert 1 <= machine.cores() <= psutil.cpu_count()


GROUPS = {
    "version 2": ("0::/box\n", {
        "sys/fs/cgroup/box/memory.max": "3000000000\n",
        "sys/fs/cgroup/box/memory.current": "2000000000\n",
        "sys/fs/cgroup/box/memory.stat": "anon 5\ninactive_file 500000000\n",
        "sys/fs/cgroup/box/cpu.max": "100000 100000\n",
    }),
    "version 2, its root inside the container": ("0::/\n", {
        "sys/fs/cgroup/memory.max": "3000000000\n",
        "sys/fs/cgroup/memory.current": "2000000000\n",
        "sys/fs/cgroup/memory.stat": "inactive_file 500000000\n",
        "sys/fs/cgroup/cpu.max": "100000 100000\n",
    }),
    "version 1": ("9:name=systemd:/\n4:memory:/a/b\n1:cpu,cpuacct:/a/b\n0::/\n", {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500000000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }),
}  # fmt: skip


@pytest.mark.parametrize("kind", GROUPS)
def test_a_containers_limits_count(kind, tmp_path):
    groups, files = GROUPS[kind]
    files |= {"proc/self/cgroup": groups,
              "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n"}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.container_limit(tmp_path) == machine.total(tmp_path) == 3_000_000_000
    assert machine.available(tmp_path) == 1_500_000_000
    assert machine.cores(tmp_path) == 1


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_no_limit_is_none_and_no_files_are_no_error(text, tmp_path):
    assert machine.available(tmp_path) is machine.total(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(text)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert machine.container_limit(tmp_path) is None
    assert machine.cores(tmp_path) == machine.cores()


def test_the_report_names_what_is_there():
    found = examine()
    assert json.loads(json.dumps(found)) == found
    assert found["bitsandbytes"] == "works"
    assert found["packages"]["torch"] == torch.__version__
    cpu = found["devices"][0]
    assert cpu["largest_pair_billions"] == pytest.approx(0.1 * cpu["memory_gib"] * 1.0737, abs=0.06)
    shown = dict(rows(found))
    assert shown["threads"] == f"{torch.get_num_threads()} on {machine.cores()} cores"
    assert all(shown.values())
    assert "room for a pair of" in shown["cpu"]


@turn(1, of=3)
def test_what_is_absent_is_said_with_its_mend_and_never_a_traceback(tmp_path):
    script = (
        "import sys, json; sys.modules['bitsandbytes'] = None; sys.modules['ray'] = None\n"
        "import torch; torch.set_num_threads(64)\n"
        "import importlib.metadata as m; whole = m.version\n"
        "from interp.cli import doctor\n"
        "doctor.PACKAGES += ('no-such-package',); doctor.EXTRAS['no-such-extra'] = 'ray'\n"
        f"found = doctor.examine({str(tmp_path / 'gone')!r})\n"
        "print(json.dumps([found, doctor.rows(found)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env={"PATH": "", "HOME": str(tmp_path)},
    )  # fmt: skip
    found, shown = json.loads(done.stdout.splitlines()[-1])
    told = " / ".join(found["problems"])
    assert "no-such-package is not installed; install with" in told
    assert "used (fails: ModuleNotFoundError: No module named 'bitsandbytes" in told
    assert f"64 threads on {found['cores']} cores wait for each other; set OMP_NUM_THREADS=" in told
    assert "the free disk cannot be told; run interp doctor in the folder" in told
    assert "OMP_WAIT_POLICY is not PASSIVE" in told
    assert dict(shown)["no-such-extra"] == "none (pip install -c constraints.txt '.[ray]')"
    assert "Traceback" not in done.stderr
