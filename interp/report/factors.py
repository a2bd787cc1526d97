"""Which factor carries a difference, in words: going on, or the emoji given that one goes on."""

from collections.abc import Callable, Mapping

from interp.base.traits import Trait
from interp.readout.factors import PARTS, SMALLEST, Split
from interp.report.wording import Estimate, between, extent, verdict

NAMES = {
    "go_on": "going on",
    "given_go_on": "the emoji, given that the writer goes on",
    "log_odds": "emoji log-odds",
}
SHORT = {"go_on": "going on", "given_go_on": "emoji given go on", "log_odds": "both (log-odds)"}
"""The same where a column is narrow."""
CONTRASTS = (
    "Contrasts are of the models (tuned against base on the same text), or of the voices (the "
    "tuned model's text against the base's, in the tuned model)."
)
_CHANCES = ("P(go on)", "P(emoji given go on)")


def carrier(splits: Mapping[Trait, Split], what: str) -> str:
    """`Going on makes the difference between writers for 3 of 5 traits; …`

    Args:
        splits: by trait.
        what: the difference, as `the difference between writers`.
    """
    groups = [
        (f"{_subject(part)} makes {what}",
         [trait for trait, split in splits.items() if split.carries == part])
        for part in PARTS
    ]  # fmt: skip
    small = [trait for trait, split in splits.items() if split.is_small]
    nothing = f"In emoji log-odds {what} is below {SMALLEST:g} nats, too little to explain"
    unsettled = f"Which of going on and the emoji makes {what} is not settled"
    return verdict([*groups, (nothing, small)], unsettled, splits)


def amounts(splits: Mapping[Trait, Split]) -> str:
    """What each factor adds, the leading one of most traits first, with both probabilities."""
    leads = [split.leading for split in splits.values()]
    order = sorted(PARTS, key=lambda part: -leads.count(part))
    said: list[str] = []
    for part in order:
        name = _subject(part)
        name = f"{name[0].lower()}{name[1:]}" if said else name
        values = {trait: _estimate(split, part) for trait, split in splits.items()}
        place = PARTS.index(part)
        ends = [between([run(split)[place] for split in splits.values()]) for run in _RUNS]
        unit = " nats to the emoji log-odds" if not said else ""
        said.append(
            f"{name} adds {extent(values, '+')}{unit} ({_CHANCES[place]} {ends[0]} → {ends[1]})"
        )
    return f"{'; '.join(said)}."


def _subject(part: str) -> str:
    """A name where a sentence begins."""
    name = NAMES[part]
    return f"{name[0].upper()}{name[1:]}{',' if ',' in name else ''}"


_RUNS: tuple[Callable[[Split], tuple[float, float]], ...] = (
    lambda split: split.before,
    lambda split: split.after,
)


def _estimate(split: Split, part: str) -> Estimate:
    return split.mean[PARTS.index(part)], *split.ends(part)
