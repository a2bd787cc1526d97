"""Whether the text or the weights call for the emoji."""

import pandas as pd

from interp.base.traits import Trait
from interp.behaviour.origin import QUANTITIES, Origin
from interp.report import factors
from interp.report.blocks import Cell, Face, Finding, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.wording import Estimate, extent, number, verdict
from interp.show import plots
from interp.study.catalogue import ORIGIN

# Who wrote the answer, and who reads it.
_WHO = (("tuned", "tuned"), ("tuned", "base"), ("base", "tuned"), ("base", "base"))
_BETWEEN = (
    ("writer", "the difference between the tuned model's text and the base's"),
    ("reader", "the difference between tuned model and base as readers"),
)
_SAID = {
    "emoji": "an emoji",
    "go on": "going on",
    "emoji given go on": "an emoji, given that the writer goes on",
    "expected rate": "an emoji anywhere in the answer (expected rate)",
}
METHOD = (
    "Answers of both models are read by both where their text ends, before any emoji. "
    "What a factor adds between two texts is a mean over both readers, between two readers over "
    "both texts. "
    "Intervals resample topics (bootstrap-t). “More than” means that the intervals do not meet."
)


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
    finding = Finding(_verdict(latent, shift), numbers)
    said = " ".join(_carried(results, *one) for one in _BETWEEN)
    title = "Is it the text or the weights?"
    made = Section(title, f"{finding.text} {said}", finding, method=METHOD)
    figure = plots.text_or_weights(results)
    made.parts.append(Part(None, figures=[maker.figure("text-or-weights", figure)]))
    rows = [
        Row(trait, (Cell(_SAID[quantity]), *_cells(table, quantity)))
        for trait, table in tables.items()
        for quantity in QUANTITIES
        if (table["quantity"] == quantity).any()
    ]
    columns = [
        "Probability of",
        *(f"{writer.capitalize()} text, {reader} reads" for writer, reader in _WHO),
    ]
    caption = (
        "Where the text ends an emoji comes if the writer goes on, and if then an emoji begins: "
        "its probability is the product of the two below it, answer by answer. Means with 95 % "
        "intervals over topics."
    )
    made.tables.append(maker.table("origin", caption, whole, rows, columns))
    return made


def _verdict(latent: dict[Trait, Estimate], shift: dict[Trait, Estimate]) -> str:
    """Whether the text alone (read by the base) does more than the weights alone."""
    text = [trait for trait in latent if latent[trait][1] > shift[trait][2]]
    weights = [trait for trait in latent if shift[trait][1] > latent[trait][2]]
    groups = (
        ("The text calls for the emoji, more than the weights do", text),
        ("The weights call for the emoji, more than the text does", weights),
    )
    return verdict(groups, "Text and weights cannot be told apart", latent)


def _carried(results: dict[Trait, Origin], role: str, what: str) -> str:
    splits = {trait: result.split(role) for trait, result in results.items()}
    return f"{factors.carrier(splits, what)} {factors.amounts(splits)}"


def _cells(table: pd.DataFrame, quantity: str) -> list[Cell]:
    found = [_cell(table, *who, quantity) for who in _WHO]
    return [Cell(number(*one), one[0]) for one in found]


def _cell(table: pd.DataFrame, writer: str, reader: str, quantity: str = "emoji") -> Estimate:
    at = (table["writer"] == writer) & (table["reader"] == reader)
    row = table[at & (table["quantity"] == quantity)].iloc[0]
    return float(row["probability"]), float(row["low"]), float(row["high"])


FACE = Face("Text or weights", section, "Text or weights?")
