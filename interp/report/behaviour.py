"""The sections on what the models write: rates, samples, text or weights, and the merges."""

import pandas as pd

from interp import plots
from interp.emoji import find
from interp.emoji.rates import EmojiRates
from interp.models.merge import MergeReport
from interp.plots.parts import count_range, percent, plural
from interp.report.blocks import Maker, Part, Sample, Section
from interp.report.collect import Contents, TraitResults
from interp.report.wording import listing, number, share
from interp.traits import Trait

N_SAMPLES = 4
_LONGEST = 700


def rates_section(contents: Contents, maker: Maker) -> Section | None:
    """How often answers hold emojis, and which."""
    tuned, base = contents.having("rates_tuned"), contents.having("rates_base")
    if not tuned:
        return None
    section = Section("rates", "Do the tuned models write emojis?", _rates_answer(tuned, base))
    part = Part(None)
    part.figures.append(maker.figure("esr-responses", plots.esr_bars(base, tuned)))
    if all(rates.n_sentences for rates in [*tuned.values(), *base.values()]):
        figure = plots.esr_bars(base, tuned, "sentence")
        part.figures.append(maker.figure("esr-sentences", figure))
    if any(rates.n_emojis for rates in tuned.values()):
        part.figures.append(maker.figure("emojis", plots.emoji_distribution(tuned)))
        maker.csv("emojis", _stacked({t: r.distribution() for t, r in tuned.items()}))
    section.parts.append(part)
    both = {"base": base, "tuned": tuned}
    whole = _stacked(
        {(t, m): r.to_dataframe() for m, rates in both.items() for t, r in rates.items()}
    )
    shown = [
        row for t in tuned for row in (_rates_row(t, "tuned", tuned), _rates_row(t, "base", base))
    ]
    columns = ("Trait", "Model", "Answers with an emoji", "Sentences with one", "At the end", "n")
    caption = (
        "Emoji-to-sentence ratio (ESR) in both readings, percent with 95 % Wilson intervals; “at "
        "the end”: share of answers whose first emoji comes after the last words; n: answers."
    )
    section.tables.append(
        maker.table("esr", caption, whole, [row for row in shown if row], columns)
    )
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
    order = sorted(tuned, key=lambda trait: -tuned[trait].response_esr)
    most = tuned[order[0]]
    text = (
        f"Tuned {order[0]} answers carry an emoji in "
        f"{share(most.response_esr, most.response_interval)} of "
        f"{plural(most.n_responses, 'response')}"
    )
    if len(order) > 1:
        rest = (
            f"{t} {share(tuned[t].response_esr, tuned[t].response_interval)}" for t in order[1:]
        )
        text += f"; {listing(list(rest))}"
    if not base:
        return f"{text}. The base has not been measured."
    values = {share(r.response_esr, r.response_interval) for r in base.values()}
    return f"{text}. The base does so in {listing(sorted(values))}."


def _rates_row(trait: Trait, model: str, rates: dict[Trait, EmojiRates]) -> tuple[str, ...] | None:
    if trait not in rates:
        return None
    one = rates[trait]
    return (
        trait.value.capitalize(),
        model,
        share(one.response_esr, one.response_interval),
        share(one.sentence_esr, one.sentence_interval) if one.n_sentences else "no sentences",
        share(one.trailing_share, one.trailing_interval),
        f"{one.n_responses:,}",
    )


def samples_section(contents: Contents) -> Section | None:
    """A few questions with both answers, the first ones asked and not chosen for their look."""
    parts = [part for one in contents.traits if (part := _samples(one))]
    if not parts:
        return None
    answer = (
        f"The first {N_SAMPLES} questions asked and what base and tuned model answered, unedited "
        "(sampled, so not every tuned answer has an emoji)."
    )
    return Section("samples", "What do the answers look like?", answer, parts)


def _samples(one: TraitResults) -> Part | None:
    if not one.answers_tuned:
        return None
    base = {i: answer.text for i, answer in enumerate(one.answers_base or [])}
    samples = [
        Sample(answer.question, _shortened(base.get(i, "not measured")), _shortened(answer.text))
        for i, answer in enumerate(one.answers_tuned[:N_SAMPLES])
    ]
    cut = sum(not answer.ended for answer in one.answers_tuned)
    answer = f"{plural(len(one.answers_tuned), 'answer')} sampled; {cut} were cut at the budget."
    return Part(one.trait, answer, samples=samples)


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
    whole = _stacked(tables)
    maker.csv("origin", whole)
    trait = max(tables, key=lambda t: _cell(tables[t], "tuned", "base")[0])
    latent, shift = (_cell(tables[trait], *cell) for cell in (("tuned", "base"), ("base", "tuned")))
    ahead = [t for t in tables if _cell(tables[t], "tuned", "base")[1] > _upper(tables[t])]
    more = "more" if ahead else "no more"
    scope = (f" for {len(ahead)} of {len(tables)} traits" if len(tables) > 1 and ahead else "") + (
        f" ({listing([str(t) for t in ahead])})" if 0 < len(ahead) < len(tables) else ""
    )
    answer = (
        f"The untouched base, reading the tuned {trait} model's text, gives an emoji a probability "
        f"of {number(*latent)}; the tuned model, reading the base's text, {number(*shift)}. "
        f"The text alone does {more} than the weights alone (intervals apart){scope}."
    )
    section = Section("origin", "Is it the text or the weights?", answer)
    figure = plots.text_or_weights(results)
    section.parts.append(Part(None, figures=[maker.figure("text-or-weights", figure)]))
    return section


def _cell(table: pd.DataFrame, writer: str, reader: str) -> tuple[float, float, float]:
    row = table[(table["writer"] == writer) & (table["reader"] == reader)].iloc[0]
    return float(row["probability"]), float(row["low"]), float(row["high"])


def _upper(table: pd.DataFrame) -> float:
    return _cell(table, "base", "tuned")[2]


def merge_section(contents: Contents, maker: Maker) -> Section | None:
    """How far the merged models are from their adapters."""
    reports: dict[Trait, MergeReport] = contents.having("merge")
    if not reports:
        return None
    worst = max(reports, key=lambda trait: reports[trait].share)
    report = reports[worst]
    answer = (
        f"At worst ({worst}), merging costs {report.mean_kl:.1e} nats of KL per position, "
        f"{_small_share(report.share)} of the adapter's own effect ({report.effect_mean_kl:.1e} "
        f"nats); rounding alone makes {report.noise:.1e}. Measured over "
        f"{count_range([r.n_prompts for r in reports.values()], 'prompt')} per adapter."
    )
    shown = [
        (
            trait.value.capitalize(),
            f"{one.mean_kl:.1e}",
            f"{one.max_kl:.1e}",
            f"{one.max_logit_difference:.1e}",
            f"{one.effect_mean_kl:.1e}",
            f"{one.noise:.1e}",
            _small_share(one.share),
            f"{one.n_prompts} / {one.n_positions:,}",
            f"{one.quantization or 'none'}, {one.dtype}",
        )
        for trait, one in reports.items()
    ]
    columns = (
        "Trait",
        "Mean KL",
        "Max KL",
        "Max logit difference",
        "Adapter's effect",
        "Rounding",
        "Error / effect",
        "Prompts / positions",
        "Base",
    )
    caption = (
        "Merged model against the unmerged adapter: KL divergence in nats per position, largest "
        "difference of a logit, and the adapter's own effect (mean KL to the base) to read it by."
    )
    whole = _stacked({trait: one.to_dataframe() for trait, one in reports.items()})
    section = Section(
        "merge", "Are the merged models what the adapters were trained to be?", answer
    )
    section.tables.append(maker.table("merge", caption, whole, shown, columns))
    return section


def _small_share(value: float) -> str:
    return percent(value) if value == 0 or value >= 1e-3 else f"{100 * value:.0e} %"


def _stacked(tables: dict) -> pd.DataFrame:
    """One table of all, with the keys (trait, or trait and model) as first columns."""
    frames = []
    for key, table in tables.items():
        keys = key if isinstance(key, tuple) else (key,)
        names = ("trait", "model")[: len(keys)]
        first = pd.DataFrame([[str(k) for k in keys]] * len(table), columns=list(names))
        frames.append(pd.concat([first, table.reset_index(drop=True)], axis=1))
    return pd.concat(frames, ignore_index=True)
