"""The one module that does it is found first, by every measure."""

import pytest
from planted_models import EMOJIS, EmojiIdsLogOdds, planted_adapter
from thinned import thinned

from interp import load_pair
from interp.adapters import AdapterSpace, necessity, shapley, smallest_set, sufficiency


@pytest.fixture(scope="module", params=thinned([0.0, 0.02], keep=2))
def planted(request, tmp_path_factory):
    made = planted_adapter(tmp_path_factory.mktemp("planted"), noise=request.param)
    space = AdapterSpace.of(load_pair(made.base, made.adapter, device="cpu"))
    ids = [space.pair.tokenizer.encode(" " + e, add_special_tokens=False)[0] for e in EMOJIS]
    return space, made, EmojiIdsLogOdds(tuple(ids)), request.param


@pytest.mark.parametrize("function", [necessity, sufficiency, shapley])
def test_found_first(planted, function):
    space, made, metric, noise = planted
    found = function(space, made.questions, metric=metric)
    table = found.summary()
    assert table.loc[0, "unit"] == made.module
    assert len(table) == 28
    assert table.loc[0, "effect"] > 1.0
    assert table.loc[0, "share"] == pytest.approx(1.0, abs=1e-3 if noise == 0 else 0.3)
    others = table["effect"][1:].abs()
    if noise == 0:  # nothing else does anything
        assert (others <= found.noise_floor).all()
        assert table["above_noise"].tolist() == [True] + [False] * 27
    else:
        assert others.max() < 0.3 * table.loc[0, "effect"]


def test_by_layer_and_projection(planted):
    space, made, metric, _ = planted
    for by, wanted in (("layer", "layers.1"), ("projection", "o_proj")):
        table = necessity(space, made.questions, metric=metric, by=by).summary()
        assert table.loc[0, "unit"] == wanted


def test_smallest_set_is_that_module(planted):
    space, made, metric, noise = planted
    found = smallest_set(space, made.questions, metric=metric, share=0.9 if noise == 0 else 0.7)
    assert found.chosen == (made.module,)
