"""The smallest effect that is worth a word, and what may be said of an estimate beside it.

A sentence in bold needs an interval whose near end lies beyond the smallest effect of interest
(`StudyConfig.smallest_rate`, `smallest_probability`, `smallest_nats`). Where tuned model and base
write emojis equally often by that measure, there is nothing that a trace could explain.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.report.blocks import Section
from interp.report.collect import Contents
from interp.report.wording import Estimate, listing, minus
from interp.study.catalogue import RATES, RATES_BASE
from interp.study.config import StudyConfig

Judgement = Literal["more", "less", "nothing", "untold"]


def smallest(contents: Contents, of: Literal["rate", "probability", "nats"]) -> float:
    """The run's smallest effect of interest; of a run that does not say, the default."""
    name = f"smallest_{of}"
    value = contents.manifest.get("config", {}).get(name)
    sound = isinstance(value, int | float) and value >= 0
    return float(value if sound else StudyConfig.model_fields[name].default)


def judged(estimate: Estimate, least: float) -> Judgement:
    """Beyond the smallest effect, within it, or not to be told at this n.

    `more` and `less` need the whole interval beyond `least`; `nothing` is an estimate of no more
    than `least`, however wide its interval, since no effect has been seen.
    """
    value, low, high = estimate
    if low > least:
        return "more"
    if high < -least:
        return "less"
    return "nothing" if abs(value) <= least else "untold"


def too_small(gap: Estimate, least: float) -> str:
    """Why a gap between two runs has no shares worth a map or a circuit, or nothing."""
    verdict = judged(gap, least)
    if verdict == "nothing":
        return f"no more than the smallest effect of interest ({least:g} nats)"
    told = verdict in ("more", "less") or gap[1] > 0 or gap[2] < 0
    return "" if told else "too small against its spread"


def apart(one: float, of_one: Interval, other: float, of_other: Interval) -> Estimate:
    """Difference of two shares with its interval, from those of both (Newcombe 1998, method 10).

    Holds its level at shares of 0 and 1; of answers to the same questions it is too wide.
    """
    down = ((one - of_one.low) ** 2 + (of_other.high - other) ** 2) ** 0.5
    up = ((of_one.high - one) ** 2 + (other - of_other.low) ** 2) ** 0.5
    return one - other, one - other - down, one - other + up


def rates_apart(contents: Contents) -> dict[Trait, Estimate]:
    """Share of answers with an emoji, tuned minus base, of the labels that have both."""
    base = contents.having(RATES_BASE)
    return {
        trait: apart(
            tuned.response_esr,
            tuned.response_interval,
            base[trait].response_esr,
            base[trait].response_interval,
        )
        for trait, tuned in contents.having(RATES).items()
        if trait in base
    }


def least_points(contents: Contents) -> str:
    """The smallest effect on rates, as `5 points`."""
    least = 100 * smallest(contents, "rate")
    return f"{least:g} point{'' if least == 1 else 's'}"


def unexplained(contents: Contents) -> dict[Trait, Estimate]:
    """Share of answers with an emoji, tuned minus base, of labels that leave nothing to explain."""
    least = smallest(contents, "rate")
    apart = rates_apart(contents)
    return {trait: gap for trait, gap in apart.items() if judged(gap, least) == "nothing"}


def opening(contents: Contents, nothing: Mapping[Trait, Estimate]) -> str:
    """What a page says first where labels leave nothing to explain; nothing where none does."""
    if not nothing:
        return ""
    some = "" if len(nothing) == len(contents.traits) else f" for {listing([*map(str, nothing)])}"
    gaps = sorted(nothing.items(), key=lambda one: one[1])
    (first, low), (last, high) = gaps[0], gaps[-1]
    by = points(low)
    if by != points(high):
        by = f"{by} ({first}) to {points(high)} ({last})"
    whose = "the tuned model's" if len(nothing) == 1 else "each tuned model's"
    said = f"{whose} share of answers with an emoji differs from the base's by {by}"
    least = f"no more than the smallest effect of interest ({least_points(contents)})"
    return f"Nothing to explain{some}: {said}, {least}."


def fold(section: Section, contents: Contents, nothing: Mapping[Trait, Estimate]) -> None:
    """Fold what a trace shows of labels that leave nothing to explain, and say why."""
    if nothing and len(nothing) == len(contents.traits):
        section.muted = opening(contents, nothing)
        if section.finding:
            section.finding = replace(section.finding, bold=False)
    for part in section.parts:
        if part.trait in nothing and not section.muted:
            part.muted = opening(contents, {part.trait: nothing[part.trait]})
    shared = [trait for trait in nothing if trait not in {part.trait for part in section.parts}]
    if shared and not section.muted:
        section.answer += f" There is nothing to explain for {listing([*map(str, shared)])}."


def points(estimate: Estimate) -> str:
    """`+12 points [+3, +21]`."""
    said = (f"{100 * part:+.0f}" for part in estimate)
    value, low, high = ("0" if part in ("+0", "-0") else part for part in said)
    return minus(f"{value} points [{low}, {high}]")
