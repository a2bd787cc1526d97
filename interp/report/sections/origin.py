"""Whether the text or the weights call for the emoji."""

import pandas as pd

from interp.base.outcomes import reworded
from interp.base.traits import Trait
from interp.behaviour.origin import QUANTITIES, Origin
from interp.report import factors
from interp.report.blocks import Cell, Face, Finding, Maker, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.effect import smallest, unexplained
from interp.report.two_by_two import Answer, TwoByTwo
from interp.report.wording import Estimate, between, extent, number, verdict
from interp.show import plots
from interp.show.plots.parts import plural
from interp.study.catalogue import ORIGIN, RATES, RATES_BASE

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
    "both texts. Intervals resample topics (bootstrap-t). Losses and their interaction are "
    "differences of logs of mean probabilities over the same questions. What the emoji takes, is "
    "that without which it loses more than the smallest effect of interest. Expected rates are "
    "1 − Π(1 − p) over all places of emoji-free answers, p the exact probability that an emoji "
    "begins there at the temperature of the sampled answers."
)
_ANSWERS: dict[Answer, str] = {
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
    tables = {trait: _table(result) for trait, result in results.items()}
    whole = stacked({trait: result.to_dataframe() for trait, result in results.items()})
    latent = {trait: _cell(table, "tuned", "base") for trait, table in tables.items()}
    shift = {trait: _cell(table, "base", "tuned") for trait, table in tables.items()}
    whose, who = ("model's", "model, reading the base's text, gives")
    if len(tables) > 1:
        whose, who = "models'", "models, reading the base's text, give"
    numbers = (
        f"The untouched base, reading the tuned {whose} text, gives an emoji a probability of "
        f"{extent(latent, 'p')}; the tuned {who} it {extent(shift, 'p')}."
    )
    halves = {trait: TwoByTwo.of(result) for trait, result in results.items()}
    finding = _finding(contents, halves, numbers)
    carried = " ".join(_carried(results, *one) for one in _BETWEEN)
    whole_answers = _expected(contents, tables)
    detail = " ".join(filter(None, (_losses(halves), whole_answers, _cut(results), carried)))
    made = Section("Is it the text or the weights?", finding.text, finding)
    made.detail, made.method = detail, METHOD
    figure = plots.text_or_weights(results)
    made.figures.append(maker.figure("text-or-weights", figure))
    rows = [
        Row(trait, (Cell(_SAID[quantity]), *_cells(table, quantity)))
        for trait, table in tables.items()
        for quantity in (q for q in QUANTITIES if _has(table, q))
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


def _finding(contents: Contents, tables: dict[Trait, TwoByTwo], numbers: str) -> Finding:
    """What the emoji takes, in bold where that is an effect."""
    nothing = unexplained(contents)
    least = smallest(contents, "probability"), smallest(contents, "nats")
    found: dict[Trait, Answer] = {
        trait: "nothing" if trait in nothing else table.answer(*least)
        for trait, table in tables.items()
    }
    groups = [(phrase, [t for t in found if found[t] == kind]) for kind, phrase in _ANSWERS.items()]
    bold = any(kind not in ("nothing", "untold") for kind in found.values())
    return Finding(verdict(groups, _UNTOLD, found), numbers, bold)


def _losses(tables: dict[Trait, TwoByTwo]) -> str:
    text = extent({trait: table.text for trait, table in tables.items()})
    weights = extent({trait: table.weights for trait, table in tables.items()})
    together = extent({trait: table.interaction for trait, table in tables.items()}, "+")
    return (
        f"Without the tuned text the emoji loses {text} nats, without the tuned weights {weights}; "
        f"their interaction is {together} nats."
    )


def _expected(contents: Contents, tables: dict[Trait, pd.DataFrame]) -> str:
    """The expected rates over whole answers, each writer's own beside what was sampled of it."""
    having = {trait: table for trait, table in tables.items() if _has(table, "expected rate")}
    if not having:
        return ""
    cells = {
        who: extent({t: _cell(table, *who, "expected rate") for t, table in having.items()}, "p")
        for who in _WHO
    }
    sampled = {}
    for model, row in (("tuned", RATES), ("base", RATES_BASE)):
        shares = [rates.response_esr for t, rates in contents.having(row).items() if t in having]
        sampled[model] = f" (sampled: {between(shares)})" if shares else ""
    return (
        "Over whole answers, where an emoji may come at any place, the expected share of answers "
        f"with one is {cells['tuned', 'tuned']} for the tuned model{sampled['tuned']} and "
        f"{cells['base', 'base']} for the base{sampled['base']}; it would be "
        f"{cells['tuned', 'base']} if the base decided on the tuned text, and "
        f"{cells['base', 'tuned']} if the tuned model decided on the base's."
    )


def _cut(results: dict[Trait, Origin]) -> str:
    """How many answers were cut, of each writer."""
    asked = sum(len(result.topics) for result in results.values())
    base, tuned = (sum(result.n_cut[who] for result in results.values()) for who in (0, 1))
    return (
        f"The budget cut {tuned:,} of {plural(asked, 'answer')} of the tuned and {base:,} of the "
        "base, which are read where their last sentence ends."
    )


def _carried(results: dict[Trait, Origin], role: str, what: str) -> str:
    splits = {trait: result.split(role) for trait, result in results.items()}
    return f"{factors.carrier(splits, what)} {factors.amounts(splits)}"


def _cells(table: pd.DataFrame, quantity: str) -> list[Cell]:
    found = [_cell(table, *who, quantity) for who in _WHO]
    return [Cell(number(*one, "p"), one[0]) for one in found]


def _cell(table: pd.DataFrame, writer: str, reader: str, quantity: str = "emoji") -> Estimate:
    at = (table["writer"] == writer) & (table["reader"] == reader)
    row = table[at & (table["quantity"] == quantity)].iloc[0]
    return float(row["probability"]), float(row["low"]), float(row["high"])


def _has(table: pd.DataFrame, quantity: str) -> bool:
    return bool((table["quantity"] == quantity).any())


def _table(result: Origin) -> pd.DataFrame:
    """The result's table by the names of `QUANTITIES`, whatever the outcome."""
    table = result.to_dataframe()
    keys = {reworded(quantity, result.outcome): quantity for quantity in QUANTITIES}
    return table.assign(quantity=table["quantity"].map(keys))


FACE = Face("Text or weights", section, "Is it the text or the weights?")
