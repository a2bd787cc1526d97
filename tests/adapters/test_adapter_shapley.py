"""Shapley values against all subsets merged by hand; gradient estimates against differences."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from adapters_made import by_hand, pick, prompts
from scipy.stats import spearmanr

from interp.adapters import ShapleyEffects, shapley
from interp.errors import InputError
from interp.readout import Question


@pytest.fixture(scope="module")
def found(small):
    return shapley(small, prompts(), n_permutations=24, metric=pick, gradient_steps=8)


@pytest.fixture(scope="module")
def subsets(small):
    """The metric of every subset of the four modules, merged by hand."""
    names = small.modules
    return {
        frozenset(chosen): by_hand(small.pair, {names[i]: 1.0 for i in chosen}, prompts())
        for size in range(5)
        for chosen in combinations(range(4), size)
    }


def enumerated(subsets, n=4):
    """The definition: marginal effects weighted by |S|! (n - |S| - 1)! / n!."""
    values = []
    for part in range(n):
        total = torch.zeros_like(subsets[frozenset()])
        for subset, value in subsets.items():
            if part not in subset:
                weight = factorial(len(subset)) * factorial(n - len(subset) - 1) / factorial(n)
                total += weight * (subsets[subset | {part}] - value)
        values.append(total)
    return torch.stack(values)


def test_sampled_values_are_the_enumerated_ones_within_their_interval(found, subsets):
    exact = enumerated(subsets)
    error = (found.mean().double() - exact.mean(1)).abs()
    assert (error < 4 * found.permutation_se + 1e-3).all()
    table = found.summary().set_index("unit")
    for row, unit in enumerate(found.units):
        line = table.loc[unit]
        assert line["low"] <= float(exact[row].mean()) <= line["high"]
    assert (exact.abs().mean(1) > 0.05).any(), "the modules must matter"
    assert found.samples.std(0).max() > 1e-3, "and their order, too"


def test_many_permutations_converge(small, subsets):
    more = shapley(small, prompts(), n_permutations=400, metric=pick, gradient_steps=0)
    few = shapley(small, prompts(), n_permutations=4, metric=pick, gradient_steps=0)
    exact = enumerated(subsets)
    errors = [(one.values.double() - exact).abs().mean() for one in (more, few)]
    assert errors[0] < 0.05 * exact.abs().mean()
    assert errors[0] < errors[1]


def test_values_add_up_to_the_whole_effect_of_every_prompt(found, lora):
    for one in (found, shapley(lora, prompts(), n_permutations=2, metric=pick, by="projection")):
        whole = (one.tuned - one.base).double()
        torch.testing.assert_close(one.values.double().sum(0), whole, atol=1e-5, rtol=0)
        for sample in one.samples.double():
            torch.testing.assert_close(sample.sum(0), whole, atol=1e-5, rtol=0)


def test_gradient_estimate_is_the_integral_of_finite_differences(found, small):
    batch = prompts()
    expected = torch.zeros(4, len(batch), dtype=torch.float64)
    for step in range(8):
        alpha = (step + 0.5) / 8
        for module in range(4):
            sides = []
            for change in (0.02, -0.02):
                gates = torch.full((1, 4), alpha)
                gates[0, module] += change
                with small.switched(gates), torch.no_grad():
                    logits = small.pair.base(batch.tokens, attention_mask=batch.attention_mask)
                sides.append(pick(logits[:, -1]).double())
            expected[module] += (sides[0] - sides[1]) / 0.04 / 8
    torch.testing.assert_close(found.gradient.double(), expected, atol=1e-2, rtol=2e-2)
    # Along the diagonal the derivatives integrate to the whole effect, up to eight steps' error.
    whole = (found.tuned - found.base).double()
    error = (found.gradient.double().sum(0) - whole).abs().max()
    assert error < 0.15 * whole.abs().max()


def test_rank_correlation(found):
    rho, p = found.rank_correlation()
    order = spearmanr(found.gradient.double().mean(1), found.values.double().mean(1))
    assert rho == pytest.approx(order.statistic)
    assert p == pytest.approx(order.pvalue)


def test_intervals_hold_the_spread_of_prompts_and_of_permutations(found):
    """With one of the two held still, what is left is the plain bootstrap of the other."""
    flat = found.samples.mean(0, keepdim=True).expand_as(found.samples)
    same_prompts = found.samples.mean(2, keepdim=True).expand_as(found.samples)
    widths = {}
    for name, samples in (("both", found.samples), ("prompts", flat), ("orders", same_prompts)):
        fields = {k: getattr(found, k) for k in found.__dataclass_fields__ if k != "kind"}
        one = ShapleyEffects(**(fields | {"samples": samples.contiguous()}))
        table = one.summary().set_index("unit").loc[list(found.units)]
        widths[name] = (table["high"] - table["low"]).to_numpy()
    assert (widths["prompts"] > 0).all()
    assert (widths["orders"] > 0).all()
    np.testing.assert_allclose(
        widths["both"] ** 2, widths["prompts"] ** 2 + widths["orders"] ** 2, rtol=0.35
    )
    orders = widths["orders"] / (2 * 1.96)
    np.testing.assert_allclose(orders, found.permutation_se.numpy(), rtol=0.2)


def test_a_seed_fixes_the_permutations(small):
    how = {"n_permutations": 4, "metric": pick, "gradient_steps": 0}
    one, again, other = (
        shapley(small, prompts(), ask=Question(seed=seed), **how) for seed in (0, 0, 1)
    )
    assert torch.equal(one.samples, again.samples)
    assert not torch.equal(one.samples, other.samples)


def test_bad_input_is_refused(small):
    for wrong in (0, 3, -2):
        with pytest.raises(InputError, match="n_permutations must be even"):
            shapley(small, prompts(), n_permutations=wrong, metric=pick)
    with pytest.raises(InputError, match="gradient_steps must be at least 0"):
        shapley(small, prompts(), gradient_steps=-1, metric=pick)
    with pytest.raises(InputError, match="has no derivative"):
        shapley(small, prompts(), n_permutations=2, metric=lambda x: pick(x.detach()))
    without = shapley(
        small, prompts(), n_permutations=2, metric=lambda x: pick(x.detach()), gradient_steps=0
    )
    with pytest.raises(InputError, match="gradient estimate was left out"):
        without.rank_correlation()
