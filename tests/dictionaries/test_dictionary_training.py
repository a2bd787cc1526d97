"""A planted direction is found by a small dictionary trained on the organism's activations."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from interp import organism
from interp.dictionaries import activations, read_dictionary, save_dictionary, train
from interp.errors import DictionaryError, InputError
from interp.models import load_hooked
from interp.models.tokens import ChatFormat, pad, pad_id
from interp.patching import Run

HOOK, HOOK_OUT = "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"
HOOK_IN = "blocks.1.ln2.hook_normalized"
QUICK = {"latents": 128, "k": 8, "steps": 500}


@pytest.fixture(scope="module")
def run() -> Run:
    """The organism's base on texts of its own data."""
    model = load_hooked(organism.base_path())
    form = ChatFormat.from_tokenizer(model.tokenizer)
    rows = organism.opinion_qa("test").rows[:120]
    ids = [list(form.example(row.question, row.answer).ids) for row in rows]
    return Run(model, pad(ids, pad_id(model.tokenizer)))


def plant(
    x: torch.Tensor, seed: int, size: float = 0.6
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A direction added to a twentieth of the rows, by .5 to 1.5 times `size` norms."""
    draw = torch.Generator().manual_seed(seed)
    unit = torch.nn.functional.normalize(torch.randn(x.shape[1], generator=draw), dim=0)
    fires = torch.rand(len(x), generator=draw) < 0.05
    by = (
        fires
        * (0.5 + torch.rand(len(x), generator=draw))
        * size
        * float((x - x.mean(0)).norm(dim=1).mean())
    )
    return unit, fires, by


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_latent_of_the_organisms_stream_is_recovered(run, seed, tmp_path):
    x = activations(run, HOOK)
    assert len(x) == int(run.mask.sum())
    unit, fires, by = plant(x, seed)
    x = x + by[:, None] * unit
    found = train(x, hook=HOOK, seed=seed, **QUICK)
    near = found.directions @ unit
    best = int(near.argmax())
    assert float(near[best]) >= 0.9
    latents = found.encode(x)
    assert roc_auc_score(fires, latents[:, best]) >= 0.95
    others = [roc_auc_score(fires, latents[:, i]) for i in range(128) if i != best]
    assert max(others) < 0.9, "no other latent fires for it"
    assert float((latents > 0).float().sum(1).mean()) == pytest.approx(8, abs=0.01)
    spread = (x - x.mean(0)).square().sum()
    assert float(found.error(x).square().sum() / spread) < 0.3
    again = read_dictionary(save_dictionary(found, tmp_path / "one"))
    assert again.config == found.config
    assert torch.equal(again.encode(x), latents)
    assert torch.equal(again.decode(latents, x), found.decode(latents, x))


def test_a_transcoder_recovers_what_an_mlp_was_made_to_write(run, tmp_path):
    x, y = activations(run, HOOK_IN), activations(run, HOOK_OUT)
    unit, fires, by = plant(x, 2, 1.0)
    written, _, _ = plant(y, 3)
    size = float((y - y.mean(0)).norm(dim=1).mean() / (x - x.mean(0)).norm(dim=1).mean())
    found = train(
        x + by[:, None] * unit, y + size * by[:, None] * written, hook=HOOK_IN, hook_out=HOOK_OUT,
        **QUICK,
    )  # fmt: skip
    near = found.directions @ written
    best = int(near.argmax())
    assert float(near[best]) >= 0.9
    latents = found.encode(x + by[:, None] * unit)
    assert roc_auc_score(fires, latents[:, best]) >= 0.95
    again = read_dictionary(save_dictionary(found, tmp_path))
    assert again.is_transcoder
    assert again.config.hook_out == HOOK_OUT
    assert torch.equal(again.encode(x), found.encode(x))


def test_the_same_seed_gives_the_same_dictionary_and_another_another():
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    few = {"hook": HOOK, "latents": 32, "k": 3, "steps": 60}
    one, same, other = (train(x, seed=seed, **few) for seed in (4, 4, 5))
    assert all(torch.equal(one.weights[name], same.weights[name]) for name in one.weights)
    assert not torch.equal(one.weights["W_dec"], other.weights["W_dec"])
    assert torch.allclose(one.directions.norm(dim=1), torch.ones(32), atol=1e-5)


def test_what_cannot_be_trained_is_refused(run):
    x = torch.randn(10, 4)
    with pytest.raises(InputError, match="at least as many latents"):
        train(x, hook=HOOK, latents=4, k=5)
    with pytest.raises(InputError, match="hook_out="):
        train(x, x, hook=HOOK)
    with pytest.raises(InputError, match="all one"):
        train(torch.ones(10, 4), hook=HOOK)
    with pytest.raises(DictionaryError, match="no hook 'blocks"):
        activations(run, "blocks.1.nothing")
