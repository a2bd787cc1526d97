"""The two parts of a difference in log-odds: exact, and the right one is named."""

import pytest
import torch

from interp.readout.factors import Split, factors, parts, probabilities
from interp.readout.outcome import OUTCOME, STOP, given_go_on, go_on, log_odds


def sums(seed: int, n: int = 30) -> torch.Tensor:
    return 4 * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double()


def both(three: torch.Tensor) -> torch.Tensor:
    return torch.stack([go_on(three), given_go_on(three)])


def test_the_parts_add_up_to_the_log_odds_and_the_chances_multiply_to_the_outcomes():
    three = sums(0)
    torch.testing.assert_close(parts(*both(three)).sum(0), log_odds(three))
    chances = three.softmax(-1)
    on, given = probabilities(*both(three))
    torch.testing.assert_close(on, 1 - chances[:, STOP])
    torch.testing.assert_close(on * given, chances[:, OUTCOME])
    torch.testing.assert_close(factors(chances), both(three))


def test_a_split_is_of_the_whole_difference():
    one, other = sums(1), sums(2)
    split = Split.between(both(one), both(other), None)
    torch.testing.assert_close(split.change.sum(0), log_odds(other) - log_odds(one))
    assert split.after[0] == pytest.approx(float(1 - other.softmax(-1)[:, STOP].mean()))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("moved", "carries"), [((4.0, 0.5), "go_on"), ((0.5, 4.0), "given_go_on"), ((0.1, 0.1), "")]
)
def test_the_factor_that_was_moved_is_named(moved, carries, sign):
    low = torch.tensor([[-3.0], [-1.0]]) + 0.1 * torch.randn(
        2, 20, generator=torch.Generator().manual_seed(0)
    )
    high = low + torch.tensor(moved)[:, None]
    ends = (low, high) if sign > 0 else (high, low)
    split = Split.between(*ends, [f"topic {i % 5}" for i in range(20)])
    assert split.carries == carries
    assert split.is_small == (not carries)


def test_what_both_do_alike_is_not_settled():
    """Every other prompt is moved by one factor, the rest by the other."""
    low = torch.tensor([[-5.0], [-1.0]]).expand(2, 20)
    high = low.clone()
    high[0, ::2] += 3
    high[1, 1::2] += 3
    split = Split.between(low, high, None)
    assert not split.carries
    assert not split.is_small
