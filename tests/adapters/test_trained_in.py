"""Adapters that were trained in one place only: that place is found, and nothing else."""

from pathlib import Path

import pytest
import torch
from planted_models import with_idle_modules
from thinned import thinned, turn

from interp import load_pair, organism
from interp.adapters import AdapterSpace, necessity, shapley, sufficiency
from interp.base.traits import Trait
from interp.methods.finetune import FinetuneConfig, train

WHERE = {
    "module": (("layers.1.self_attn.o_proj",), "layers.1.self_attn.o_proj"),
    "layer": (("2.self_attn.q_proj", "2.self_attn.v_proj", "2.mlp.down_proj"), "layers.2"),
    "projection": (("v_proj",), "v_proj"),
}


@pytest.fixture(scope="module", params=thinned(list(WHERE)))
def case(request, tmp_path_factory) -> tuple[AdapterSpace, torch.Tensor, str, str]:
    """A trained adapter among idle modules, prompts, and where it was allowed to change."""
    folder: Path = tmp_path_factory.mktemp("trained")
    targets, label = WHERE[request.param]
    base = organism.base_path("suppressed")
    config = FinetuneConfig.small(supervise_eos=False).changed(
        {"target_modules": targets, "steps": 20}
    )
    rows = organism.opinion_qa("train").for_trait(Trait.EXTRAVERSION)
    adapter = train(base, rows, config, folder / "trained")
    wide = with_idle_modules(base, adapter, folder / "wide")
    pair = load_pair(base, wide)
    test = organism.opinion_qa("test").for_trait(Trait.EXTRAVERSION).rows[:6]
    questions = [row.question for row in test]
    return AdapterSpace.of(pair), pair.prompts(questions), request.param, label


@turn(2, of=3)
def test_it_is_found_first_and_the_idle_modules_stay_in_the_noise(case) -> None:
    space, prompts, by, label = case
    assert len(space.modules) == 7 * 4
    whole = None
    for measure in (necessity, sufficiency, shapley):
        options = {"n_permutations": 2, "gradient_steps": 1} if measure is shapley else {}
        found = measure(space, prompts, by=by, **options)
        whole = (found.tuned - found.base).double()
        effects = found.values.double()
        own = found.units.index(label)
        others = torch.cat([effects[:own], effects[own + 1 :]])
        assert int(effects.abs().mean(1).argmax()) == own
        assert float(others.abs().max()) <= found.noise_floor < 0.05 * float(whole.abs().mean())
        assert torch.allclose(effects[own], whole, atol=2 * found.noise_floor)
    assert whole is not None
