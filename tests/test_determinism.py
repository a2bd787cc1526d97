"""A study twice is the same bytes; with other threads it stays within the noise floors."""

import json
import subprocess
import sys

import pytest
import torch

from interp.behaviour import Origin
from interp.circuits import CircuitScores, Faithfulness
from interp.logit_lens import LensResult
from interp.models import MergeReport
from interp.patching import PatchingByMetric
from interp.probing import ProbeResult
from interp.study.runs import RunFolder

TRAIT = "extraversion"
SCRIPT = f"""
import sys
import torch
from interp import organism
from interp.study import StudyConfig, run

asked = dict(base=str(organism.base_path()), data=str(organism.ASSETS), n_trace=4, n_switched=0,
             adapters={{"{TRAIT}": str(organism.adapter_path("{TRAIT}"))}}, n_responses=12,
             n_positions=4, seed=5)
for out, threads in zip(sys.argv[1:], (1, 1, 2), strict=True):
    torch.set_num_threads(threads)
    run(StudyConfig(**asked), out)
"""
FLOORS = {
    "origin": (Origin, "probability", "noise_floor"),
    "lens": (LensResult, "log_odds", "noise_floor"),
    "circuit-edges": (CircuitScores, "values", "noise_floor"),
    "circuit-curve": (Faithfulness, "values", "noise_floor"),
} | {
    f"patching-{contrast}-{site}": (PatchingByMetric, "values", "noise_floor")
    for contrast in ("model-denoising", "model-noising", "voice-denoising")
    for site in ("resid_pre", "attn_out", "mlp_out", "z")
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Twice in a row with one thread, then with two.

    That another process makes the same bytes is seen by the test that kills them.
    """
    folders = [tmp_path_factory.mktemp(name) / "run" for name in "abc"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, folders)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [RunFolder.open(folder) for folder in folders]


def results(run):
    return {
        str(path.relative_to(run.path)): path
        for path in sorted(run.path.rglob("*"))
        if path.suffix == ".safetensors" or path.name.startswith("responses")
    }


def test_twice_in_a_row_is_equal_in_every_byte_and_every_table(runs):
    first, second = map(results, runs[:2])
    assert len(first) >= 24
    assert set(first) == set(second)
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name
    for name, (kind, _, _) in FLOORS.items():
        one, other = (run.result(kind, TRAIT, f"{name}.safetensors") for run in runs[:2])
        assert one.to_dataframe().to_csv() == other.to_dataframe().to_csv(), name


@pytest.mark.parametrize("name", list(FLOORS))
def test_two_threads_agree_to_within_the_stored_floor(runs, name):
    kind, field, floor = FLOORS[name]
    one, _, other = (run.result(kind, TRAIT, f"{name}.safetensors") for run in runs)
    values = getattr(one, field)
    found = getattr(one, floor)
    allowed = max(found) if isinstance(found, tuple) else found
    torch.testing.assert_close(getattr(other, field), values, atol=allowed, rtol=0, equal_nan=True)
    assert 0 < allowed < 1e-4 * max(1.0, float(values.nan_to_num().abs().max()))


def test_what_has_no_floor_of_that_kind_agrees_too(runs):
    one, _, other = runs
    for name in ("base/responses-dense.json", f"{TRAIT}/responses.json"):
        told = [json.loads((run.path / name).read_text()) for run in (one, other)]
        assert told[0] == told[1], name
    for name in ("probing-emoji", "probing-trait"):
        tables = [run.result(ProbeResult, TRAIT, f"{name}.safetensors") for run in (one, other)]
        wanted, found = (table.to_dataframe().select_dtypes("number") for table in tables)
        assert float((wanted - found).abs().max().max()) < 1e-6
    merged = [run.result(MergeReport, TRAIT, "merge.safetensors") for run in (one, other)]
    assert merged[0].mean_kl == pytest.approx(merged[1].mean_kl, abs=4 * merged[0].noise)


def test_the_threads_really_differed_and_the_manifest_says_so(runs):
    told = [run.manifest["reproducibility"] for run in runs]
    assert [len(environments) for environments in told] == [1, 1, 1]
    assert told[0] == told[1]
    assert [environments[0]["threads"]["torch"] for environments in told] == [1, 1, 2]
