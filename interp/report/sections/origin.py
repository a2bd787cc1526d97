"""Whether the text or the weights call for the emoji."""

import pandas as pd

from interp.base.traits import Trait
from interp.behaviour import Origin
from interp.report.blocks import Cell, Face, Finding, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.effect import smallest, unexplained
from interp.report.two_by_two import Answer, TwoByTwo
from interp.report.wording import Estimate, extent, number, verdict
from interp.show import plots
from interp.show.plots.parts import plural
from interp.study.catalogue import ORIGIN

# Who wrote the answer, and who reads it.
_WHO = (("tuned", "tuned"), ("tuned", "base"), ("base", "tuned"), ("base", "base"))
METHOD = (
    "Answers of both models are read by both where their text ends, before any emoji. "
    "Intervals resample topics (bootstrap). Losses and their interaction are differences of logs "
    "of mean probabilities over the same questions. What the emoji takes, is that without which it "
    "loses more than the smallest effect of interest."
)
_SAID: dict[Answer, str] = {
    "both": "Both: the emoji takes the tuned model's text and its weights",
    "text": "The text: the base, too, expects the emoji after it",
    "weights": "The weights: they call for the emoji after the base's text, too",
    "either": "Either is enough: the text alone calls for the emoji, and so do the weights alone",
    "less": "Fine-tuning makes the emoji rarer where the text ends",
    "nothing": "Nothing to explain",
}
_UNTOLD = "Text and weights cannot be told apart at this number of answers"


def section(contents: Contents, maker: Maker) -> Section | None:
    """Text or weights."""
    results = contents.having(ORIGIN)
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
    halves = {trait: TwoByTwo.of(result) for trait, result in results.items()}
    said, bold = _verdict(contents, halves)
    finding = Finding(said, numbers, bold)
    answer = f"{finding.text} {_losses(halves)} {_cut(results)}"
    made = Section("Is it the text or the weights?", answer, finding, method=METHOD)
    figure = plots.text_or_weights(results)
    made.parts.append(Part(None, figures=[maker.figure("text-or-weights", figure)]))
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
    made.tables.append(maker.table("origin", caption, whole, rows, columns))
    return made


def _verdict(contents: Contents, tables: dict[Trait, TwoByTwo]) -> tuple[str, bool]:
    """What the emoji takes, and whether that is an effect worth bold type."""
    nothing = unexplained(contents)
    least = smallest(contents, "probability"), smallest(contents, "nats")
    found: dict[Trait, Answer] = {
        trait: "nothing" if trait in nothing else table.answer(*least)
        for trait, table in tables.items()
    }
    groups = [(phrase, [t for t in found if found[t] == kind]) for kind, phrase in _SAID.items()]
    bold = any(kind not in ("nothing", "untold") for kind in found.values())
    return verdict(groups, _UNTOLD, found), bold


def _losses(tables: dict[Trait, TwoByTwo]) -> str:
    text = extent({trait: table.text for trait, table in tables.items()})
    weights = extent({trait: table.weights for trait, table in tables.items()})
    together = extent({trait: table.interaction for trait, table in tables.items()}, "+")
    return (
        f"Without the tuned text the emoji loses {text} nats, without the tuned weights {weights}; "
        f"their interaction is {together} nats."
    )


def _cut(results: dict[Trait, Origin]) -> str:
    """How many answers were cut, of each writer."""
    asked = sum(len(result.topics) for result in results.values())
    base, tuned = (sum(result.n_cut[who] for result in results.values()) for who in (0, 1))
    return (
        f"The budget cut {tuned:,} of {plural(asked, 'answer')} of the tuned and {base:,} of the "
        "base, which are read where their last sentence ends."
    )


def _cell(table: pd.DataFrame, writer: str, reader: str) -> Estimate:
    row = table[(table["writer"] == writer) & (table["reader"] == reader)].iloc[0]
    return float(row["probability"]), float(row["low"]), float(row["high"])


FACE = Face("Text or weights", section, "Text or weights?")
