"""Other threads stay within the noise floors; equal bytes are seen by tests/test_kill.py."""

import json

import pytest
import torch
from thinned import thinned

from interp.behaviour import Origin
from interp.circuits import CircuitScores, Faithfulness
from interp.logit_lens import LensResult
from interp.models import MergeReport
from interp.patching import PatchingByMetric
from interp.probing import ProbeResult
from interp.study import StudyConfig, run
from interp.study.runs import RunFolder

TRAIT = "extraversion"
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
def runs(request, finished, tmp_path_factory):
    """With one thread, and with two.

    That the same threads make the same bytes is seen by the test that kills processes.
    """
    one = RunFolder.open(finished.path)
    asked = one.manifest["config"]
    asked["adapters"] = {TRAIT: asked["adapters"][TRAIT]}
    mine = [item for item in request.session.items if item.module is request.module]
    today = [item.callspec.params["name"] for item in mine if hasattr(item, "callspec")]
    asked["only"] = ["merge", "probing-emoji", "probing-trait", *today]
    out, before = tmp_path_factory.mktemp("threads") / "run", torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(StudyConfig(**asked), out)
    finally:
        torch.set_num_threads(before)
    return one, RunFolder.open(out)


@pytest.mark.parametrize("name", thinned(list(FLOORS), keep=4))
def test_two_threads_agree_to_within_the_stored_floor(runs, name):
    kind, field, floor = FLOORS[name]
    one, other = (run.result(kind, TRAIT, f"{name}.safetensors") for run in runs)
    values = getattr(one, field)
    found = getattr(one, floor)
    allowed = max(found) if isinstance(found, tuple) else found
    torch.testing.assert_close(getattr(other, field), values, atol=allowed, rtol=0, equal_nan=True)
    assert 0 < allowed < 1e-4 * max(1.0, float(values.nan_to_num().abs().max()))


def test_what_has_no_floor_of_that_kind_agrees_too(runs):
    one, other = runs
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
    assert [one["threads"]["torch"] for (one,) in told] == [1, 2]
