"""The top of the page: each trait's emoji rate at a glance, and the findings in plain words."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from interp.base.outcomes import reworded
from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.report.blocks import Finding, Section
from interp.report.collect import Contents
from interp.report.effect import opening, unexplained
from interp.report.wording import share
from interp.show.plots.parts import count_range, plural
from interp.study import catalogue
from interp.study.catalogue import RATES, RATES_BASE
from interp.text.emoji.rates import EmojiRates

SUMMARY = "summary.csv"
"""The findings as a table, for who compares two runs."""
_TOP = 4


@dataclass(frozen=True)
class Bar:
    """A share with its interval, in percent of the strip's width, and in words."""

    at: float
    low: float
    width: float
    text: str

    @classmethod
    def of(cls, value: float, interval: Interval) -> "Bar":
        low, high = 100 * interval.low, 100 * interval.high
        return cls(
            round(100 * value, 2), round(low, 2), round(high - low, 2), share(value, interval)
        )


@dataclass(frozen=True)
class Headline:
    """One trait at a glance: shares of answers with an emoji, and its most frequent emojis."""

    trait: Trait
    tuned: Bar
    base: Bar | None
    emojis: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """What the page opens with.

    Attributes:
        opening: that there is nothing to explain, where there is not.
        findings: question, key of the section, and what was found; None where nothing was measured.
    """

    opening: str
    headlines: tuple[Headline, ...]
    caption: str
    findings: tuple[tuple[str, str, Finding | None], ...]

    def to_dataframe(self) -> pd.DataFrame:
        """Question, verdict and numbers, a row per finding."""
        rows = [(asked, one.verdict, one.numbers) for asked, _, one in self.findings if one]
        return pd.DataFrame(rows, columns=["question", "verdict", "numbers"])


def summarise(contents: Contents, sections: Sequence[Section]) -> Summary | None:
    """The summary, or None where there is nothing to sum up."""
    tuned, base = contents.having(RATES), contents.having(RATES_BASE)
    found = {section.key: section.finding for section in sections}
    asked = {row.section for row in catalogue.asked(contents.manifest.get("config", {}))}
    faces = {key: catalogue.section(key).FACE for key in catalogue.sections() if key in asked}
    name = contents.asked.name
    findings = tuple(
        (reworded(face.asked, name), key, found.get(key))
        for key, face in faces.items()
        if face.asked
    )
    if not tuned and not any(finding for _, _, finding in findings):
        return None
    counts = count_range([one.n_responses for one in tuned.values()], "answer") if tuned else ""
    caption = (
        f"Share of answers with an emoji, {counts} per model; lines are 95 % Wilson intervals. "
        f"Right: the emojis written most, of {_emojis(tuned)}. Below, log-odds are in nats: +0.7 "
        "doubles the odds."
    )
    first = opening(contents, unexplained(contents))
    headlines = tuple(_headline(t, tuned[t], base.get(t)) for t in tuned)
    return Summary(reworded(first, name), headlines, reworded(caption, name), findings)


def _emojis(tuned: dict[Trait, EmojiRates]) -> str:
    return f"{plural(sum(one.n_emojis for one in tuned.values()), 'emoji')} in all"


def _headline(trait: Trait, tuned: EmojiRates, base: EmojiRates | None) -> Headline:
    return Headline(
        trait,
        Bar.of(tuned.response_esr, tuned.response_interval),
        Bar.of(base.response_esr, base.response_interval) if base else None,
        tuple(emoji for emoji, _ in tuned.emoji_counts[:_TOP]),
    )
