"""A study in parts says what the whole one says."""

import pytest
import torch
from thinned import thinned

from interp.errors import InputError
from interp.patching import PatchingByMetric
from interp.patching.by_metric import concatenated_each
from interp.study.runs import RunFolder, execute
from interp.study.steps import steps

TRAIT = "extraversion"
MAPS = ("patching-model-denoising-z", "patching-voice-denoising-resid_pre")
NEEDED = {"base/responses-dense", f"{TRAIT}/responses", *(f"{TRAIT}/{name}" for name in MAPS)}


@pytest.fixture(scope="module", params=thinned([1, 7], keep=2))
def other(request, config, tmp_path_factory) -> RunFolder:
    """Answers and two maps of one trait, whole, and in more parts than there are prompts."""
    values = config.model_dump(mode="json") | {"shards": request.param}
    values["adapters"] = {TRAIT: values["adapters"][TRAIT]}
    folder = RunFolder.create(tmp_path_factory.mktemp("shards") / "run", values)
    every = steps(values, folder)
    chosen = [step for step in every if step.name.split(".")[0] in NEEDED]
    with folder.lock():
        execute(chosen, folder)
    return folder


@pytest.mark.slow
def test_parts_put_together_are_the_whole(other, reference):
    """Answers are equal; values differ by what the batch size does to rounding, and no more."""
    for place in (("base", "responses-dense.json"), (TRAIT, "responses.json")):
        assert other.responses(*place) == RunFolder.open(reference).responses(*place)
    for name in MAPS:
        file = (TRAIT, f"{name}.safetensors")
        one, two = (f.result(PatchingByMetric, *file) for f in (other, RunFolder.open(reference)))
        assert one.values.shape == two.values.shape == (*one.values.shape[:-1], 4)
        order = matched(one.clean[0], two.clean[0])
        for field in ("values", "clean", "corrupted"):
            there = getattr(two, field)[..., order]
            torch.testing.assert_close(
                getattr(one, field), there, atol=2e-4, rtol=0, equal_nan=True
            )
        assert (one.present == two.present[..., order]).all()
        gap = (one.clean - one.corrupted).abs()
        assert gap.max() > 100 * 2e-4, "the tolerance is far below what is measured"


def matched(one: torch.Tensor, two: torch.Tensor) -> list[int]:
    """Where the prompts of `one` stand in `two`: parts come one after the other."""
    found = [int((two - value).abs().argmin()) for value in one]
    assert sorted(found) == list(range(len(two)))
    return found


def test_a_part_without_prompts_is_empty(other):
    parts = other.manifest["config"]["shards"]
    if parts == 1:
        pytest.skip("one part has them all")
    sizes = [
        other.result(PatchingByMetric, TRAIT, f"{MAPS[0]}.{n}of{parts}.safetensors").values.shape[
            -1
        ]
        for n in range(parts)
    ]
    assert sizes == [1, 1, 1, 1, 0, 0, 0]


def test_a_sweep_of_no_parts_is_refused():
    with pytest.raises(InputError, match="no part of a sweep"):
        concatenated_each([], 0.25)
