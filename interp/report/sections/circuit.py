"""Which circuit carries a contrast, and what random circuits of its size carry."""

from collections.abc import Sequence
from dataclasses import dataclass

from interp.base.traits import Trait
from interp.report import best_places, factors
from interp.report.blocks import Cell, Face, Finding, Fold, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.effect import smallest, too_small
from interp.report.wording import Estimate, fraction, listing, number
from interp.show import plots
from interp.show.plots.parts import count_range, plural
from interp.study.catalogue import CIRCUITS
from interp.traces.circuits import Circuit, Faithfulness, compare

_ENDS = ("input", "logits")
_NAMED = 8  # blocks whose heads are named one by one
SMALL = 0.1
"""The share of all edges up to which a circuit is called small."""
_CONTRASTS = {"voice": "voices", "model": "models"}
_DIFFERENCE = {
    "voice": "the difference between the tuned model's text and the base's, in the tuned model",
    "model": "the difference between tuned model and base on the same text",
}


@dataclass(frozen=True)
class Found:
    """One trait's circuit of one contrast, chosen on half of the topics and judged on the other.

    Attributes:
        factor: what it is a circuit of; `log_odds` holds both factors.
        leads: whether that factor carries the contrast, or none is known to and it is the log-odds.
        kept: share of the contrast that it keeps, with the interval over topics.
        without: what the rest keeps where the circuit is ablated.
        random, most: mean and largest of what random circuits of its size keep.
        muted: why none of it says anything, where it does not.
    """

    trait: Trait
    contrast: str
    factor: str
    leads: bool
    circuit: Circuit
    kept: Estimate
    without: float
    random: float
    most: float
    gap: Estimate
    muted: str

    @property
    def stands_out(self) -> bool:
        """Whether it surely keeps more than every random circuit of its size."""
        return not self.muted and self.kept[1] > self.most


def found(contents: Contents) -> list[Found]:
    """The circuits that a study has, of the voice contrast first."""
    carried = _carried(contents)
    least, seed = smallest(contents, "nats"), int(contents.manifest.get("seed") or 0)
    made = []
    for (contrast, factor), rows in CIRCUITS.items():
        circuits, judged = contents.having(rows.circuit), contents.having(rows.judged)
        for trait in (trait for trait in circuits if trait in judged):
            row = judged[trait].to_dataframe(seed=seed).iloc[0]
            kept = (float(row["faithfulness"]), float(row["low"]), float(row["high"]))
            rest, random, most = (float(row[n]) for n in ("without", "random", "random_most"))
            gap = judged[trait].gap(seed=seed)
            muted = too_small(gap, least)
            leads = factor == carried[contrast].get(trait, "log_odds")
            made.append(
                Found(trait, contrast, factor, leads, circuits[trait], kept, rest, random, most,
                      gap, muted)
            )  # fmt: skip
    return made


def _carried(contents: Contents) -> dict[str, dict[Trait, str]]:
    """By contrast and trait, the factor that carries the difference and has a circuit."""
    return {
        contrast: {
            trait: split.carries
            for trait, split in best_places.splits(contents, contrast).items()
            if split.carries and trait in contents.having(CIRCUITS[contrast, split.carries].judged)
        }
        for contrast in _CONTRASTS
    }


def _factors(contents: Contents, contrast: str) -> str:
    """Which factor carries a contrast, and how much each adds."""
    splits = best_places.splits(contents, contrast)
    if not splits:
        return ""
    return f"{factors.carrier(splits, _DIFFERENCE[contrast])} {factors.amounts(splits)}"


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which heads, MLPs and edges between them carry each contrast."""
    circuits = found(contents)
    curves = {
        contrast: contents.having(rows.curve)
        for (contrast, _), rows in CIRCUITS.items()
        if rows.curve is not None
    }
    if not circuits and not any(curves.values()):
        return None
    said = finding(circuits)
    carriers = [_factors(contents, contrast) for contrast in _CONTRASTS]
    made = Section(
        "Which circuit carries it?",
        said.text if said else "No circuit was found.", said,
        detail=" ".join(filter(None, carriers)), method=_method(curves),
    )  # fmt: skip
    _draw(made, curves, circuits, maker)
    areas = {}
    for contrast, by_trait in curves.items():
        for trait, curve in by_trait.items():
            maker.csv(f"circuit-{trait}-{contrast}-curve", curve.to_dataframe())
            areas[trait, contrast] = curve.areas()
    rows = []
    parts: dict[Trait, Part] = {}
    for one in circuits:
        name = f"circuit-{one.trait}-{one.contrast}"
        kind = "" if one.factor == "log_odds" else f"-{one.factor.replace('_', '-')}"
        maker.csv(f"{name}{kind}-edges", one.circuit.to_dataframe())
        sizes = curves[one.contrast].get(one.trait) if one.factor == "log_odds" else None
        rows.append(Row(one.trait, _cells(one, sizes)))
        if one.leads and not one.muted:
            part = parts.setdefault(one.trait, Part(one.trait))
            part.answer = f"{part.answer} {_words(one)}".strip()
            figure = plots.circuit_graph(one.circuit, one.trait)
            part.figures.append(maker.figure(name, figure))
    made.parts += parts.values()
    if rows and areas:
        caption = (
            "The smallest circuit that keeps 90 % of the contrast on half of the topics, and what "
            "it keeps on the other half, with 95 % intervals over topics; what is left without it; "
            "the mean (the largest) of random circuits of its size. CPR is the area under the "
            "curve over sizes (1 is best), CMD that between it and 1 (0 is best). Scores add up "
            f"to 1 where gradients missed nothing. {factors.CONTRASTS}"
        )
        columns = ("Contrast", "Factor", "Edges", "Heads and MLPs", "Kept", "Without it", "Random",
                   "CPR", "CMD", "Scores add up to", "Prompts")  # fmt: skip
        made.tables.append(maker.table("circuits", caption, stacked(areas), rows, columns))
    return made


def finding(every: Sequence[Found]) -> Finding | None:
    """Whether a circuit of what carries the contrasts keeps more than chance does, and which."""
    circuits = [one for one in every if one.leads]
    if not circuits:
        return None
    sure = [one for one in circuits if one.stands_out]
    small = all(one.circuit.n_edges <= SMALL * len(one.circuit.members) for one in sure)
    most = 2 * len(sure) >= sum(not one.muted for one in circuits)
    if sure and most:
        verdict = (
            f"A {'small ' if small else ''}circuit carries the difference, and random ones of its "
            "size do not."
        )
    elif sure:
        verdict = "Of most differences no circuit keeps more than random circuits of its size."
    elif all(one.muted for one in circuits):
        verdict = "There is no difference that a circuit could carry."
    else:
        verdict = "No circuit keeps more than random circuits of its size."
    many = len(circuits) > len(_CONTRASTS)
    told = [one for one in circuits if not one.muted] or circuits
    if many:
        told = [max(sure or told, key=lambda one: one.kept[0] - one.most)]
    numbers = " ".join(_sentence(one, len(circuits)) for one in told)
    if many and sure:
        numbers = (
            f"One does for {len(sure)} of {len(circuits)}, one for each contrast and label; "
            f"clearest: {numbers[0].lower()}{numbers[1:]}"
        )
    return Finding(verdict, numbers, bool(sure) and most)


def _sentence(one: Found, many: int) -> str:
    what = f"{_DIFFERENCE[one.contrast]}, in {factors.NAMES[one.factor]}"
    whose = f" ({one.trait})" if many > len(_CONTRASTS) else ""
    if one.muted:
        return (
            f"{what[0].upper()}{what[1:]}{whose}, is {number(*one.gap, '+')} nats, {one.muted}: "
            "no circuit of it is named."
        )
    return (
        f"{one.circuit.n_edges:,} of {len(one.circuit.members):,} edges between heads and MLPs "
        f"keep {number(*one.kept)} of {what}{whose} (chosen on half of the topics, judged on the "
        f"other); random circuits of this size keep {fraction(one.random)}, the best of them "
        f"{fraction(one.most)}."
    )


def _draw(
    made: Section,
    curves: dict[str, dict[Trait, Faithfulness]],
    circuits: Sequence[Found],
    maker: Maker,
) -> None:
    """The figures of all traits: curves of each contrast, and how much circuits overlap."""
    muted = {(one.trait, one.contrast) for one in circuits
             if one.muted and one.factor == "log_odds"}  # fmt: skip
    drawn = {}
    for contrast, by_trait in curves.items():
        shown = {str(t): curve for t, curve in by_trait.items() if (t, contrast) not in muted}
        if shown:
            figure = plots.faithfulness_curve(shown)
            drawn[contrast] = maker.figure(f"circuit-{contrast}-curves", figure)
    made.figures += list(drawn.values())[:1]
    if len(drawn) > 1:
        made.folds.append(Fold("other", "The other contrast", list(drawn.values())[1:]))
    voices = {str(one.trait): one.circuit for one in circuits
              if one.contrast == "voice" and one.leads and not one.muted}  # fmt: skip
    if len(voices) > 1:
        overlap = compare(voices)
        maker.csv("circuit-overlap", overlap.to_dataframe())
        shared = maker.figure("circuit-overlap", plots.circuit_overlap(overlap))
        made.folds.append(Fold("overlap", "What the circuits share", [shared]))


def _cells(one: Found, curve: Faithfulness | None) -> tuple[Cell, ...]:
    circuit = one.circuit
    parts = sum(name not in _ENDS for name in circuit.nodes)
    cells = [Cell(_CONTRASTS[one.contrast]), Cell(factors.SHORT[one.factor]),
             Cell(f"{circuit.n_edges:,}", circuit.n_edges), Cell(f"{parts:,}", parts)]  # fmt: skip
    if one.muted:
        cells += [Cell("not said", None, one.muted), *[Cell("not said")] * 4]
    else:
        area = None if curve is None else curve.areas().set_index("name")
        cells += [
            Cell(number(*one.kept), one.kept[0]),
            Cell(fraction(one.without), one.without),
            Cell(f"{fraction(one.random)} ({fraction(one.most)})", one.random),
        ]
        for name in ("CPR", "CMD"):
            if area is None:
                cells.append(Cell("not measured"))
                continue
            ends = area.loc[name, ["area", "low", "high"]].to_numpy()
            value, low, high = (float(x) for x in ends)
            cells.append(Cell(number(value, low, high), value))
    complete = circuit.complete
    cells.append(Cell("not known") if complete is None else Cell(f"{complete:.2f}", complete))
    return (*cells, Cell(f"{circuit.n_prompts:,}", circuit.n_prompts))


def _words(one: Found) -> str:
    """`Voice contrast: the circuit runs through block 0 (heads 0 and 3, MLP) and block 3 (MLP).`

    Of more than `_NAMED` blocks it says how many, and of how many heads and MLPs.
    """
    blocks: dict[str, list[str]] = {}
    mlps: set[str] = set()
    for name in (name for name in one.circuit.nodes if name not in _ENDS):
        block, _, head = name[1:].partition(".h")
        heads = blocks.setdefault(block, [])
        if head:
            heads.append(head)
        else:
            mlps.add(block)
    said = []
    for block, heads in blocks.items():
        parts = [f"head{'s' if len(heads) > 1 else ''} {listing(heads)}"] if heads else []
        parts += ["MLP"] if block in mlps else []
        said.append(f"block {block} ({', '.join(parts)})")
    where = listing(said)
    if len(blocks) > _NAMED:
        parts = [plural(sum(map(len, blocks.values())), "head"), plural(len(mlps), "MLP")]
        where = f"{len(blocks)} blocks: {listing(parts)}"
    return f"{one.contrast.capitalize()} contrast: the circuit runs through {where}."


def _method(curves: dict[str, dict[Trait, Faithfulness]]) -> str:
    counts = [one.n_prompts for by_trait in curves.values() for one in by_trait.values()]
    over = f" ({count_range(counts, 'prompt')} judge)" if counts else ""
    return (
        f"Edges scored by EAP-IG (Hanna et al. 2024) on half of the topics{over}: 5 steps, doubled "
        "until the scores add up to the gap but for a tenth. Taken greedily from the logits on, "
        "and tested on the other half by running the model with every other edge corrupted. "
        "Faithfulness is the share of the contrast that is left; CPR and CMD are its areas as MIB "
        "(Mueller et al. 2025) defines them. Random circuits are grown the same way after the "
        "scores were dealt out anew within kinds of edges. Bands are intervals over topics "
        "(bootstrap-t)."
    )


FACE = Face("Circuit", section, "Which circuit?")
