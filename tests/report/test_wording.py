"""Numbers in sentences: rounded, with their interval, with real minus signs and no minus zero."""

from types import SimpleNamespace

import pytest

from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.report.sections.circuit import Found, _words, finding
from interp.report.wording import (
    between,
    extent,
    for_traits,
    fraction,
    listing,
    number,
    percent,
    share,
    verdict,
)


def test_numbers_carry_their_interval() -> None:
    assert number(-0.004, -0.1, 0.003, "+") == "0.00 [−0.10, 0.00]"
    assert number(1.239, 1.1, 1.4) == "1.24 [1.10, 1.40]"
    assert share(0.86, Interval(0.8049, 0.901, 0.95)) == "86 % [80, 90]"
    assert number(float("nan"), float("nan"), float("nan")) == "nan (no interval)"


@pytest.mark.parametrize(
    ("value", "as_percent", "as_fraction"),
    [
        (0.0, "0 %", "0.00"),
        (1e-9, "< 0.001 %", "< 0.00001"),
        (1.8e-4, "0.018 %", "0.00018"),
        (2e-4, "0.02 %", "0.0002"),
        (0.02, "2 %", "0.02"),
        (0.5, "50 %", "0.50"),
        (0.9949, "99.49 %", "0.9949"),
        (0.9996, "99.96 %", "0.9996"),
        (1 - 1e-9, "> 99.999 %", "> 0.99999"),
        (1.0, "100 %", "1.00"),
        (-0.004, "−0.4 %", "−0.004"),
    ],
)
def test_no_zero_that_is_none_and_no_one_that_is_less(value, as_percent, as_fraction) -> None:
    assert percent(value) == as_percent
    assert fraction(value) == as_fraction


def test_the_ends_of_an_interval_are_worded_as_its_value() -> None:
    assert share(0.004, Interval(0.0, 0.02, 0.95)) == "0.4 % [0, 2]"
    assert share(2e-4, Interval(1.8e-9, 0.9996, 0.95)) == "0.02 % [< 0.001, 99.96]"
    assert number(0.004, 1.8e-4, 0.9996, "p") == "0.004 [0.00018, 0.9996]"
    assert number(0.9996, 0.004, 1.1) == "1.00 [0.004, 1.10]", "what has no end at 1"
    assert between([2e-4, 0.9]) == "0.0002 to 0.90"


@pytest.mark.parametrize(
    ("items", "text"),
    [([], "none"), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_lists_read_as_sentences(items, text) -> None:
    assert listing(items) == text


def test_ranges_collapse_where_ends_round_alike() -> None:
    assert between([0.501, 0.499]) == "0.50"
    assert between([-1.0, 0.25]) == "−1.00 to 0.25"


OPEN, CAREFUL, OUTGOING = Trait.OPENNESS, Trait.CONSCIENTIOUSNESS, Trait.EXTRAVERSION


def test_an_extent_names_the_traits_at_its_ends() -> None:
    values = {OPEN: (0.5, 0.4, 0.6), CAREFUL: (0.1, 0.0, 0.2), OUTGOING: (0.9, 0.8, 1.0)}
    ends = "0.10 [0.00, 0.20] (conscientiousness) to 0.90 [0.80, 1.00] (extraversion)"
    assert extent(values) == ends
    assert extent({OPEN: values[OPEN]}, "+") == "+0.50 [+0.40, +0.60]"
    assert extent({OPEN: values[OPEN]}, notes={OPEN: "head 1.2"}) == "0.50 [0.40, 0.60] (head 1.2)"


@pytest.mark.parametrize(
    ("some", "of", "text"),
    [
        ([OPEN, CAREFUL], [OPEN, CAREFUL], "for all 2 traits"),
        ([], [OPEN, CAREFUL], "for none of the 2 traits"),
        ([OUTGOING], [OPEN, CAREFUL, OUTGOING], "for 1 of 3 traits (extraversion)"),
        ([OPEN], [OPEN], "for openness"),
        ([], [OPEN], "not for openness"),
    ],
)
def test_traits_are_counted_and_named(some, of, text) -> None:
    assert for_traits(some, of) == text


@pytest.mark.parametrize(
    ("yes", "no", "text"),
    [
        (
            [],
            [OPEN],
            "Whether it is there is not settled for 2 of 3 traits; it is absent for openness.",
        ),
        (
            [OPEN],
            [OUTGOING],
            "It is there for 1 of 3 traits; it is absent for extraversion; "
            "not settled for conscientiousness.",
        ),
        ([OPEN, OUTGOING], [], "It is there for 2 of 3 traits; not settled for conscientiousness."),
        ([OPEN, CAREFUL, OUTGOING], [], "It is there."),
        ([], [OPEN, CAREFUL, OUTGOING], "It is absent."),
        (
            [OPEN, CAREFUL],
            [OUTGOING],
            "It is there for 2 of 3 traits; it is absent for extraversion.",
        ),
        (
            [CAREFUL],
            [OUTGOING, OPEN],
            "It is absent for 2 of 3 traits; it is there for conscientiousness.",
        ),
    ],
)
def test_a_verdict_says_for_whom(yes, no, text) -> None:
    groups = [("It is there", yes), ("It is absent", no)]
    unsettled = "Whether it is there is not settled"
    assert verdict(groups, unsettled, [OPEN, CAREFUL, OUTGOING]) == text


def test_a_circuit_is_told_block_by_block() -> None:
    nodes = ("input", "a0.h0", "a0.h3", "m0", "a2.h1", "m11", "logits")
    found = SimpleNamespace(circuit=SimpleNamespace(nodes=nodes), contrast="voice")
    assert _words(found) == (
        "Voice contrast: the circuit runs through block 0 (heads 0 and 3, MLP), block 2 (head 1) "
        "and block 11 (MLP)."
    )
    large = [f"a{block}.h{head}" for block in range(30) for head in range(8)] + ["m0", "m29"]
    found = SimpleNamespace(circuit=SimpleNamespace(nodes=large), contrast="model")
    assert _words(found) == (
        "Model contrast: the circuit runs through 30 blocks: 240 heads and 2 MLPs."
    )


def _found(kept: float, muted: str = "", edges: int = 3) -> Found:
    circuit = SimpleNamespace(n_edges=edges, members=range(40))
    ends = (kept, kept - 0.1, kept + 0.1)
    return Found(OPEN, "voice", "log_odds", True, circuit, ends, 0.1, 0.02, 0.3, ends, muted)


def test_a_circuit_is_small_where_it_is_and_for_most_where_it_is() -> None:
    assert finding([_found(0.9)] * 2).verdict.startswith("A small circuit carries")
    assert finding([_found(0.9), _found(0.9, edges=20)]).verdict.startswith("A circuit carries")
    one_of_many = finding([_found(0.9)] + [_found(0.1)] * 3)
    assert one_of_many.verdict.startswith("Of most differences no circuit")
    assert "One does for 1 of 4" in one_of_many.numbers


@pytest.mark.parametrize(("kept", "verdict"), [(0.2, "No circuit keeps"), (0.9, "Of most diff")])
def test_a_circuits_section_opens_with_one_circuit(kept, verdict) -> None:
    """The one that tells most, however many there are; those with nothing to carry are not told."""
    said = finding([_found(0.1), _found(kept), _found(0.15), _found(5.0, "too small")])
    assert said.verdict.startswith(verdict)
    assert said.numbers.count("3 of 40 edges between heads and MLPs") == 1
    assert f"keep {kept:.2f} [" in said.numbers
    assert "too small" not in said.text
    alone = finding([_found(5.0, "too small")])
    assert "too small: no circuit of it is named" in alone.text
