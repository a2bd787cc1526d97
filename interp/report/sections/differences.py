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
    fallen = {trait: result.names[-1] for trait, result in results.items()}
    risen = {trait: result.names[0] for trait, result in results.items()}
    one, other = (listing([f"“{n}”" for n in dict.fromkeys(w.values())]) for w in (risen, fallen))
    falls = {trait: _estimate(result, -1) for trait, result in results.items()}
    rises = {trait: _estimate(result, 0) for trait, result in results.items()}
    return (
        f"Where the tuned model's answers end, the logit that rose most is that of {one}, by "
        f"{extent(rises, '+')} nats, and the one that fell most that of {other}, by "
        f"{extent(falls, '+')}."
    )


def _estimate(result: TokenShifts, place: int) -> tuple[float, float, float]:
    row = result.to_dataframe().iloc[place]
    return float(row["change"]), float(row["low"]), float(row["high"])


def _cells(result: TokenShifts) -> tuple[Cell, ...]:
    cells = []
    for place in (0, 1, -1, -2):
        inside = -len(result.names) <= place < len(result.names)
        if not inside:
            cells.append(Cell("none"))
            continue
        value = _estimate(result, place)
        cells.append(Cell(f"“{result.names[place]}” {number(*value, '+')}", value[0]))
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
