"""Numbers in sentences: rounded, with their interval, with real minus signs and no minus zero."""

import pytest

from interp.report.wording import between, listing, number, share
from interp.stats import Interval


def test_numbers_carry_their_interval() -> None:
    assert number(-0.004, -0.1, 0.003, "+") == "0.00 [−0.10, 0.00]"
    assert number(1.239, 1.1, 1.4) == "1.24 [1.10, 1.40]"
    assert share(0.86, Interval(0.8049, 0.901, 0.95)) == "86 % [80, 90]"
    assert share(0.004, Interval(0.0, 0.02, 0.95)) == "0.4 % [0, 2]"


@pytest.mark.parametrize(
    ("items", "text"),
    [([], "none"), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_lists_read_as_sentences(items, text) -> None:
    assert listing(items) == text


def test_ranges_collapse_where_ends_round_alike() -> None:
    assert between([0.501, 0.499]) == "0.50"
    assert between([-1.0, 0.25], "+.2f") == "−1.00 to +0.25"
