"""The environment report and what two machines must have in common."""

import json
import subprocess
import sys

import torch

from interp.doctor import reproducibility

_PRINT = "import json; from interp.doctor import reproducibility as r; print(json.dumps(r()))"


def told(more: str = "", **environment: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", more + _PRINT],
        capture_output=True, text=True, check=True, env={"PATH": "", **environment},
    )  # fmt: skip
    return json.loads(done.stdout)


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
