"""Several metrics from one sweep: each is what a sweep of its own gives, and what hooks give."""

import pytest
import torch
from patching_models import VOCAB, bridge, pick, prompts
from tiny import vocab

from interp.errors import InputError
from interp.patching import Cells, Run, naive, sweep, sweep_each
from interp.readout import Outcome
from interp.readout.outcome import joined

EMOJI = Outcome.of_vocab(vocab(), stop=[1])


def runs():
    one, other = bridge("llama", 1), bridge("llama", 2)
    with torch.no_grad():  # the bridge adds a bias of zeros; a real one must count
        other.unembed.original_component.bias.copy_(torch.linspace(-1, 1, VOCAB))
    tokens, mask = prompts([7, 6])
    return Run(one, tokens, mask), Run(other, tokens, mask)


@pytest.mark.parametrize("site", ["resid_post", "z"])
def test_each_factor_is_the_sweep_of_its_own(site):
    clean, corrupted = runs()
    found = sweep_each(clean, corrupted, site, EMOJI.metrics())
    assert list(found) == ["log_odds", "go_on", "given_go_on"]
    for factor, result in found.items():
        alone = sweep(clean, corrupted, site, metric=EMOJI.metric(factor))
        slow = naive.sweep(clean, corrupted, site, metric=EMOJI.metric(factor))
        assert slow.effect().abs().max() > 0.1
        torch.testing.assert_close(result.values, slow.values, atol=1e-4, rtol=0)
        torch.testing.assert_close(result.values, alone.values, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(result.clean, slow.clean)
        assert (result.metric, result.unit) == (alone.metric, "nats")
        assert result.noise_floor is not None
    made = joined(found["go_on"].values, found["given_go_on"].values)
    torch.testing.assert_close(made, found["log_odds"].values, atol=1e-5, rtol=1e-5)


def test_metrics_of_any_kind_share_a_sweep():
    clean, corrupted = runs()
    mixed = {"pick": pick, "emoji": EMOJI.metric()}
    found = sweep_each(clean, corrupted, "mlp_out", mixed, cells=Cells(positions=[-1]))
    for name, metric in mixed.items():
        alone = sweep(clean, corrupted, "mlp_out", metric=metric, cells=Cells(positions=[-1]))
        torch.testing.assert_close(found[name].values, alone.values, atol=1e-6, rtol=1e-6)
    with pytest.raises(InputError, match="no metric"):
        sweep_each(clean, corrupted, "mlp_out", {})


def test_a_metric_that_nothing_moves_does_not_stop_the_others():
    clean, corrupted = runs()

    def still(logits):
        return torch.ones(len(logits))

    found = sweep_each(clean, corrupted, "mlp_out", {"still": still, "pick": pick})
    assert found["still"].n_undefined == 2
    assert found["pick"].n_undefined == 0
    with pytest.raises(InputError, match="nothing to recover"):
        sweep_each(clean, corrupted, "mlp_out", {"still": still})
