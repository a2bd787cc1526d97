"""The sections on what the models write: rates, samples, text or weights, and the merges."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.models.merge import MergeReport
from interp.report.blocks import Cell, Finding, Maker, Part, Row, Sample, Section
from interp.report.collect import Contents
from interp.report.wording import (
    Estimate,
    extent,
    for_traits,
    listing,
    number,
    share,
    small_share,
    verdict,
)
from interp.show import plots
from interp.show.plots.parts import count_range, plural
from interp.text.emoji import find
from interp.text.emoji.rates import EmojiRates

N_SAMPLES = 4
_LONGEST = 700
# Who wrote the answer, and who reads it.
_WHO = (("tuned", "tuned"), ("tuned", "base"), ("base", "tuned"), ("base", "base"))


def rates_section(contents: Contents, maker: Maker) -> Section | None:
    """How often answers hold emojis, and which."""
    tuned, base = contents.having("rates_tuned"), contents.having("rates_base")
    if not tuned:
        return None
    section = Section(
        "rates", "Do the tuned models write emojis?", "Emoji rates", _rates_answer(tuned, base)
    )
    part = Part(None)
    part.figures.append(maker.figure("esr-responses", plots.esr_bars(base, tuned)))
    if all(rates.n_sentences for rates in [*tuned.values(), *base.values()]):
        figure = plots.esr_bars(base, tuned, "sentence")
        part.figures.append(maker.figure("esr-sentences", figure))
    if any(rates.n_emojis for rates in tuned.values()):
        part.figures.append(maker.figure("emojis", plots.emoji_distribution(tuned)))
        maker.csv("emojis", stacked({t: r.distribution() for t, r in tuned.items()}))
    section.parts.append(part)
    both = {"base": base, "tuned": tuned}
    whole = stacked(
        {(t, m): r.to_dataframe() for m, rates in both.items() for t, r in rates.items()}
    )
    rows = [
        _rates_row(trait, model, both[model][trait])
        for trait in tuned
        for model in ("tuned", "base")
        if trait in both[model]
    ]
    columns = ("Model", "Answers with an emoji", "Sentences with one", "At the end", "Answers")
    caption = (
        "Emoji-to-sentence ratio in both readings, with 95 % Wilson intervals. At the end: answers "
        "whose first emoji comes after the last words."
    )
    section.tables.append(maker.table("esr", caption, whole, rows, columns))
    return section


def summary(contents: Contents) -> pd.DataFrame:
    """One row per trait for the terminal: the shares of answers with an emoji."""
    rows = []
    base = contents.having("rates_base")
    for trait, tuned in contents.having("rates_tuned").items():
        before = base.get(trait)
        plain = share(before.response_esr, before.response_interval) if before else "not measured"
        ours = share(tuned.response_esr, tuned.response_interval)
        rows.append((str(trait), ours, plain, tuned.n_responses))
    return pd.DataFrame(rows, columns=["trait", "tuned", "base", "answers"])


def _rates_answer(tuned: dict[Trait, EmojiRates], base: dict[Trait, EmojiRates]) -> str:
    shares = {t: share(r.response_esr, r.response_interval) for t, r in tuned.items()}
    counts = count_range([rates.n_responses for rates in tuned.values()], "answer")
    order = sorted(tuned, key=lambda trait: tuned[trait].response_esr)
    low, high = order[0], order[-1]
    if len(order) == 1:
        text = f"The model tuned for {low} writes an emoji in {shares[low]} of {counts}."
    else:
        text = (
            f"The tuned models write emojis in {shares[low]} ({low}) to {shares[high]} ({high}) "
            f"of {counts} each."
        )
    if not base:
        return f"{text} The base has not been measured."
    values = sorted({share(r.response_esr, r.response_interval) for r in base.values()})
    less = [t for t in base if base[t].response_interval.high < tuned[t].response_interval.low]
    where = f" {for_traits(less, base)}" if len(base) > 1 else ""
    than = f"which is less (intervals apart){where}" if less else "and the intervals overlap"
    return f"{text} The base does so in {listing(values)}, {than}."


def _rates_row(trait: Trait, model: str, one: EmojiRates) -> Row:
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


def samples_section(contents: Contents, _: Maker) -> Section | None:
    """A few questions with all answers, the first ones asked and not chosen for their look."""
    asked = [one for one in contents.traits if one.answers_tuned]
    if not asked:
        return None
    base: dict[str, str] = {}
    tuned: dict[str, dict[Trait, str]] = {}
    for one in asked:
        for answer in (one.answers_base or [])[:N_SAMPLES]:
            base.setdefault(answer.question, _shortened(answer.text))
        for answer in (one.answers_tuned or [])[:N_SAMPLES]:
            tuned.setdefault(answer.question, {}).setdefault(one.trait, _shortened(answer.text))
    every = [response for one in asked for response in one.answers_tuned or []]
    cut = sum(not response.ended for response in every)
    words = (
        f"These are the first {plural(len(tuned), 'question')} and what the base and each tuned "
        "model answered, unedited. Answers are sampled, so not every tuned answer has an emoji; "
        f"{cut:,} of {plural(len(every), 'answer')} in all were cut off at the token limit."
    )
    section = Section("samples", "What do the answers look like?", "Sample answers", words)
    section.samples = [
        Sample(question, base.get(question, "not measured"), tuple(answers.items()))
        for question, answers in tuned.items()
    ]
    return section


def _shortened(text: str) -> str:
    """Long answers lose their middle: emojis tend to stand at the end."""
    text = text.strip()
    if len(text) <= _LONGEST:
        return text
    cut = len(text) - _LONGEST // 2
    inside = (m for m in find(text) if m.start < cut < m.end)
    cut = next((m.start for m in inside), cut)  # never through an emoji
    return f"{text[: _LONGEST // 2]} […] {text[cut:]}"


def origin_section(contents: Contents, maker: Maker) -> Section | None:
    """Text or weights."""
    results = contents.having("origin")
    if not results:
        return None
    tables = {trait: result.to_dataframe() for trait, result in results.items()}
    whole = stacked(tables)
    latent = {trait: _cell(table, "tuned", "base") for trait, table in tables.items()}
    shift = {trait: _cell(table, "base", "tuned") for trait, table in tables.items()}
    whose, who = ("model's", "model, reading the base's text, gives")
    if len(tables) > 1:
        whose, who = "models'", "models, reading the base's text, give"
    numbers = (
        f"The untouched base, reading the tuned {whose} text, gives an emoji a probability of "
        f"{extent(latent)}; the tuned {who} it {extent(shift)}."
    )
    finding = Finding(_origin_verdict(latent, shift), numbers)
    section = Section(
        "origin", "Is it the text or the weights?", "Text or weights", finding.text, finding
    )
    figure = plots.text_or_weights(results)
    section.parts.append(Part(None, figures=[maker.figure("text-or-weights", figure)]))
    cells = {t: [_cell(table, *who) for who in _WHO] for t, table in tables.items()}
    rows = [
        Row(trait, tuple(Cell(number(*one), one[0]) for one in found))
        for trait, found in cells.items()
    ]
    columns = [f"{writer.capitalize()} text, {reader} reads" for writer, reader in _WHO]
    caption = (
        "Probability of an emoji at the place where it would begin, with 95 % bootstrap intervals "
        "over topics."
    )
    section.tables.append(maker.table("origin", caption, whole, rows, columns))
    return section


def _origin_verdict(latent: dict[Trait, Estimate], shift: dict[Trait, Estimate]) -> str:
    """Whether the text alone (read by the base) does more than the weights alone."""
    text = [trait for trait in latent if latent[trait][1] > shift[trait][2]]
    weights = [trait for trait in latent if shift[trait][1] > latent[trait][2]]
    groups = (
        ("The text calls for the emoji, more than the weights do", text),
        ("The weights call for the emoji, more than the text does", weights),
    )
    return verdict(groups, "Text and weights cannot be told apart", latent)


def _cell(table: pd.DataFrame, writer: str, reader: str) -> Estimate:
    row = table[(table["writer"] == writer) & (table["reader"] == reader)].iloc[0]
    return float(row["probability"]), float(row["low"]), float(row["high"])


def merge_section(contents: Contents, maker: Maker) -> Section | None:
    """How far the merged models are from their adapters."""
    reports: dict[Trait, MergeReport] = contents.having("merge")
    if not reports:
        return None
    worst = max(reports, key=lambda trait: reports[trait].share)
    report = reports[worst]
    answer = (
        f"To within {small_share(report.share)} of the adapter's own effect: at worst ({worst}), "
        f"merging costs {report.mean_kl:.1e} nats of KL per position, and the adapter makes "
        f"{report.effect_mean_kl:.2g}. Rounding alone makes {report.noise:.1e}."
    )
    rows = [Row(trait, _merge_cells(one)) for trait, one in reports.items()]
    columns = (
        "Mean KL",
        "Max KL",
        "Max logit difference",
        "Adapter's effect",
        "Rounding",
        "Error / effect",
        "Positions",
        "Base",
    )
    caption = (
        "Merged model against the unmerged adapter: KL divergence in nats per position, largest "
        "difference of a logit, and the adapter's own effect (mean KL to the base) to read it by."
    )
    whole = stacked({trait: one.to_dataframe() for trait, one in reports.items()})
    section = Section(
        "merge",
        "Are the merged models what the adapters were trained to be?",
        "Merge errors",
        answer,
    )
    section.tables.append(maker.table("merge", caption, whole, rows, columns))
    return section


def _merge_cells(one: MergeReport) -> tuple[Cell, ...]:
    errors = (one.mean_kl, one.max_kl, one.max_logit_difference)
    return (
        *(Cell(f"{value:.1e}", value) for value in errors),
        Cell(f"{one.effect_mean_kl:#.2g}", one.effect_mean_kl),
        Cell(f"{one.noise:.1e}", one.noise),
        Cell(small_share(one.share), one.share),
        Cell(f"{one.n_positions:,}", one.n_positions, f"{plural(one.n_prompts, 'prompt')}"),
        Cell(one.dtype, note=one.quantization or "not quantised"),
    )


def stacked(tables: Mapping[Any, pd.DataFrame]) -> pd.DataFrame:
    """One table of all, with the keys (trait, or trait and model) as first columns."""
    frames = []
    for key, table in tables.items():
        keys = key if isinstance(key, tuple) else (key,)
        names = ("trait", "model")[: len(keys)]
        first = pd.DataFrame([[str(k) for k in keys]] * len(table), columns=list(names))
        frames.append(pd.concat([first, table.reset_index(drop=True)], axis=1))
    return pd.concat(frames, ignore_index=True)
