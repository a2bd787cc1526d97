"""How often answers hold emojis, and which."""

from typing import Any

import pandas as pd

from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Finding, Fold, Maker, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.effect import Judgement, judged, least_points, rates_apart, smallest
from interp.report.wording import listing, share, verdict
from interp.show import plots
from interp.show.plots.parts import count_range
from interp.study.catalogue import MERGE, RATES, RATES_BASE
from interp.text.emoji.rates import EmojiRates


def section(contents: Contents, maker: Maker) -> Section | None:
    """How often answers hold emojis, and which."""
    tuned, base = contents.having(RATES), contents.having(RATES_BASE)
    if not tuned:
        return None
    finding = _finding(contents)
    made = Section("Do the tuned models write emojis?", finding.text, finding)
    made.method = _method(contents)
    made.figures.append(maker.figure("esr-responses", plots.esr_bars(base, tuned)))
    if all(rates.n_sentences for rates in [*tuned.values(), *base.values()]):
        figure = plots.esr_bars(base, tuned, "sentence")
        made.figures.append(maker.figure("esr-sentences", figure))
    if contents.asked.kind == "emoji" and any(rates.n_emojis for rates in tuned.values()):
        drawn = maker.figure("emojis", plots.emoji_distribution(tuned))
        made.folds.append(Fold("emojis", "Which emojis they write", [drawn]))
        maker.csv("emojis", stacked({t: r.distribution() for t, r in tuned.items()}))
    both = {"base": base, "tuned": tuned}
    whole = stacked(
        {(t, m): r.to_dataframe() for m, rates in both.items() for t, r in rates.items()}
    )
    rows = [
        _row(trait, model, both[model][trait])
        for trait in tuned
        for model in ("tuned", "base")
        if trait in both[model]
    ]
    columns = ("Model", "Answers with an emoji", "Sentences with one", "At the end", "Answers")
    caption = (
        "Emoji-to-sentence ratio in both readings, with 95 % Wilson intervals. At the end: answers "
        "whose first emoji comes after the last words."
    )
    made.tables.append(maker.table("esr", caption, whole, rows, columns))
    return made


def summary(contents: Contents) -> pd.DataFrame:
    """One row per trait for the terminal: the shares of answers with an emoji."""
    rows = []
    base = contents.having(RATES_BASE)
    for trait, tuned in contents.having(RATES).items():
        before = base.get(trait)
        plain = share(before.response_esr, before.response_interval) if before else "not measured"
        ours = share(tuned.response_esr, tuned.response_interval)
        rows.append((str(trait), ours, plain, tuned.n_responses))
    return pd.DataFrame(rows, columns=["trait", "tuned", "base", "answers"])


def numbers(contents: Contents) -> list[dict[str, Any]]:
    """The same for programs: estimates by trait, see `estimate`."""
    base, merged = contents.having(RATES_BASE), contents.having(MERGE)
    made = []
    for trait, tuned in contents.having(RATES).items():
        row = {"trait": str(trait), "tuned": estimate(tuned), "base": estimate(base.get(trait))}
        if (report := merged.get(trait)) is not None:
            over = {"low": None, "high": None, "n": report.n_positions}
            row["merge_error"] = {"value": report.mean_kl} | over
            row["adapter_effect"] = {"value": report.effect_mean_kl} | over
        made.append(row)
    return made


def estimate(rates: EmojiRates | None) -> dict[str, Any] | None:
    """The share of answers with an emoji, its 95 % interval, and of how many answers."""
    if rates is None:
        return None
    low, high = rates.response_interval.low, rates.response_interval.high
    return {"value": rates.response_esr, "low": low, "high": high, "n": rates.n_responses}


def _finding(contents: Contents) -> Finding:
    """Who writes emojis more often than the base, by more than the smallest effect."""
    tuned, base = contents.having(RATES), contents.having(RATES_BASE)
    numbers = _numbers(tuned)
    if not base:
        return Finding(f"{numbers} The base has not been measured.", "", bold=False)
    least = smallest(contents, "rate")
    found = {trait: judged(one, least) for trait, one in rates_apart(contents).items()}
    they = "The tuned models write" if len(tuned) > 1 else "The tuned model writes"
    beyond = f"by more than {least_points(contents)}"
    said: dict[Judgement, str] = {
        "more": f"{they} more emojis than the base, {beyond}",
        "less": f"{they} fewer emojis than the base, {beyond}",
        "nothing": "Nothing to explain",
    }
    groups = [(phrase, [t for t in found if found[t] == kind]) for kind, phrase in said.items()]
    untold = f"Whether the rates differ {beyond} cannot be told from this many answers"
    values = sorted({share(r.response_esr, r.response_interval) for r in base.values()})
    numbers += f" The base does so in {listing(values)}."
    bold = any(kind in ("more", "less") for kind in found.values())
    return Finding(verdict(groups, untold, found), numbers, bold)


def _numbers(tuned: dict[Trait, EmojiRates]) -> str:
    shares = {t: share(r.response_esr, r.response_interval) for t, r in tuned.items()}
    counts = count_range([rates.n_responses for rates in tuned.values()], "answer")
    order = sorted(tuned, key=lambda trait: tuned[trait].response_esr)
    low, high = order[0], order[-1]
    if len(order) == 1:
        return f"The model tuned for {low} writes an emoji in {shares[low]} of {counts}."
    return (
        f"The tuned models write emojis in {shares[low]} ({low}) to {shares[high]} ({high}) "
        f"of {counts} each."
    )


def _row(trait: Trait, model: str, one: EmojiRates) -> Row:
    def cell(value: float, interval: Interval) -> Cell:
        return Cell(share(value, interval), value)

    cells = (
        Cell(model),
        cell(one.response_esr, one.response_interval),
        cell(one.sentence_esr, one.sentence_interval) if one.n_sentences else Cell("no sentences"),
        cell(one.trailing_share, one.trailing_interval),
        Cell(f"{one.n_responses:,}", one.n_responses),
    )
    return Row(trait, cells)


def _method(contents: Contents) -> str:
    config = contents.manifest.get("config", {})
    return (
        f"{config.get('n_responses')} questions of held-out topics "
        f"({contents.manifest.get('n_topics', 'an unknown number of')} topics), one sampled "
        f"answer per model and question, temperature {config.get('temperature')}, at most "
        f"{config.get('max_new_tokens')} tokens. Rates have Wilson intervals on the effective "
        "number of answers: topics are the unit. At temperature 0 every question is asked once: a "
        "second answer would be a copy."
    )


FACE = Face("Emoji rates", section, "Does it write emojis?", trace=False)
