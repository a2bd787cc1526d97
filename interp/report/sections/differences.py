"""What base and tuned model differ in, without a dictionary."""

from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Maker, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.wording import extent, listing, minus, number
from interp.study.catalogue import ACTIVATIONS, KL, SHIFTS
from interp.traces.differences import ActivationDifference, TokenKL, TokenShifts

METHOD = (
    "KL of the tuned model's next token from the base's, after every token of both models' answers "
    "(nats). Logits, less their mean over the vocabulary, where the tuned model's answers end: of "
    "tokens that either model gives a mean probability of at least the floor. The mean difference "
    "of the residual stream after the middle block, up to where the base's answers end, is read "
    "through the base's final norm and unembedding, and added to the base's stream at every "
    "position. Intervals resample topics (bootstrap-t)."
)


def section(contents: Contents, maker: Maker) -> Section | None:
    """KL by token, the tokens that moved most, the mean activation difference."""
    moved, apart = contents.having(SHIFTS), contents.having(KL)
    mean = contents.having(ACTIVATIONS)
    if not (moved or apart or mean):
        return None
    said = [_shifts(moved)] if moved else []
    said += [_apart(apart)] if apart else []
    said += [_steered(mean)] if mean else []
    made = Section("What do base and tuned model differ in?", " ".join(said), method=METHOD)
    if moved:
        rows = [Row(trait, _cells(result)) for trait, result in moved.items()]
        caption = (
            "The tokens whose logits rose and fell most where the tuned model's answers end: tuned "
            "minus base (nats, centred over the vocabulary; 95 % intervals over topics)."
        )
        whole = stacked({trait: result.to_dataframe() for trait, result in moved.items()})
        columns = ("Rose most", "Second", "Fell most", "Second")
        made.tables.append(maker.table("logit-shifts", caption, whole, rows, columns))
    for trait, divergence in apart.items():
        maker.csv(f"divergence-{trait}", divergence.by_token())
    if apart:
        maker.csv("divergence", stacked({t: result.to_dataframe() for t, result in apart.items()}))
    if mean:
        maker.csv("steered", stacked({t: result.steered() for t, result in mean.items()}))
        maker.csv("difference", stacked({t: result.to_dataframe() for t, result in mean.items()}))
    return made


def _shifts(results: dict[Trait, TokenShifts]) -> str:
    risen, fallen = (_most(results, way) for way in (0, 1))
    rose = f"the logit that rose most is that of {risen}" if risen else "no logit rose"
    fell = f"the one that fell most is that of {fallen}" if fallen else "none fell"
    return f"Where the tuned model's answers end, {rose}, and {fell}."


def _most(results: dict[Trait, TokenShifts], way: int) -> str:
    """The tokens that rose (0) or fell (1) most, and by how much; nothing where none did."""
    places = {t: moved[0] for t, result in results.items() if (moved := _moved(result)[way])}
    if not places:
        return ""
    names = dict.fromkeys(results[trait].names[place] for trait, place in places.items())
    by = {trait: _estimate(results[trait], place) for trait, place in places.items()}
    return f"{listing([f'“{name}”' for name in names])}, by {extent(by, '+')} nats"


def _moved(result: TokenShifts) -> tuple[range, range]:
    """Places of the tokens that rose and that fell, the one that did most first."""
    return range(result.n_rose), range(len(result.names) - 1, result.n_rose - 1, -1)


def _estimate(result: TokenShifts, place: int) -> tuple[float, float, float]:
    row = result.to_dataframe().iloc[place]
    return float(row["change"]), float(row["low"]), float(row["high"])


def _cells(result: TokenShifts) -> tuple[Cell, ...]:
    cells = []
    for places in _moved(result):
        for nth in (0, 1):
            if nth >= len(places):
                cells.append(Cell("none"))
                continue
            value = _estimate(result, places[nth])
            said = f"“{result.names[places[nth]]}” {number(*value, '+')}"
            cells.append(Cell(said, value[0]))
    return tuple(cells)


def _apart(results: dict[Trait, TokenKL]) -> str:
    tables = {trait: result.to_dataframe().set_index("group") for trait, result in results.items()}
    groups = list(next(iter(tables.values())).index)
    parts = []
    for group in groups:
        found = {
            trait: tuple(map(float, table.loc[group, ["mean", "low", "high"]]))
            for trait, table in tables.items()
            if group in table.index
        }
        parts.append(f"{extent(found)} nats on the {group}")  # type: ignore[arg-type]
    return f"Their next tokens differ by a KL of {listing(parts)}, per token."


def _steered(results: dict[Trait, ActivationDifference]) -> str:
    said = []
    for trait, result in results.items():
        base, added, tuned = result.log_odds.mean(1).tolist()
        whose = f" ({trait})" if len(results) > 1 else ""
        said.append(f"{base:.2f} → {added:.2f}, where the tuned model has {tuned:.2f}{whose}")
    return minus(
        "The mean activation difference, added to the base on its own text, moves its emoji "
        f"log-odds {'; '.join(said)}."
    )


FACE = Face("Differences", section)
