"""Which circuit carries the contrast between two voices."""

from collections.abc import Sequence

from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.wording import listing, number
from interp.show import plots
from interp.show.plots.parts import count_range
from interp.study.catalogue import CIRCUIT, CURVE
from interp.traces.circuits import Circuit, Faithfulness, compare

_ENDS = ("input", "logits")


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which heads, MLPs and edges between them carry the contrast between two voices."""
    curves, found = contents.having(CURVE), contents.having(CIRCUIT)
    if not curves:
        return None
    made = Section("Which circuit carries it?", _answer(curves, found), method=_method(curves))
    whole = Part(None)
    figure = plots.faithfulness_curve({str(trait): one for trait, one in curves.items()})
    whole.figures.append(maker.figure("circuit-curves", figure))
    if len(found) > 1:
        overlap = compare({str(trait): circuit for trait, circuit in found.items()})
        maker.csv("circuit-overlap", overlap.to_dataframe())
        whole.figures.append(maker.figure("circuit-overlap", plots.circuit_overlap(overlap)))
    made.parts.append(whole)
    rows = []
    for trait, result in curves.items():
        maker.csv(f"circuit-{trait}-curve", result.to_dataframe())
        rows.append(Row(trait, _cells(result, found.get(trait))))
        if trait in found:
            circuit = found[trait]
            maker.csv(f"circuit-{trait}-edges", circuit.to_dataframe())
            drawn = maker.figure(f"circuit-{trait}", plots.circuit_graph(circuit, trait))
            made.parts.append(Part(trait, _words(circuit.nodes), figures=[drawn]))
    caption = (
        "The smallest circuit that keeps 90 % of the contrast, and how faithful circuits of all "
        "sizes are, with 95 % intervals over pairs of prompts: CPR, the area under the curve below "
        "(1 is best), and CMD, the area between it and 1 (0 is best)."
    )
    columns = ("Edges", "Heads and MLPs", "CPR", "CMD", "Pairs")
    areas = stacked({trait: result.areas() for trait, result in curves.items()})
    made.tables.append(maker.table("circuits", caption, areas, rows, columns))
    return made


def _answer(curves: dict[Trait, Faithfulness], found: dict[Trait, Circuit]) -> str:
    total = next(iter(curves.values())).total
    order = sorted(found, key=lambda trait: found[trait].n_edges)
    ends = dict.fromkeys((order[0], order[-1])) if order else {}
    named = [
        f"{found[trait].n_edges:,}" + (f" ({trait})" if len(found) > 1 else "") for trait in ends
    ]
    first = (
        f"The smallest circuit that keeps 90 % of the contrast has {' to '.join(named)} of "
        f"{total:,} edges."
        if named
        else "No circuit was found that keeps 90 % of the contrast."
    )
    return (
        f"{first} The contrast is between the ends of the tuned model's and the base's answers "
        "to the same questions, in the tuned model; how their words came about is no part of it."
    )


def _cells(result: Faithfulness, circuit: Circuit | None) -> tuple[Cell, ...]:
    area = result.areas().set_index("name")
    sizes = (Cell("none found"), Cell("none found"))
    if circuit is not None:
        parts = sum(name not in _ENDS for name in circuit.nodes)
        sizes = (Cell(f"{circuit.n_edges:,}", circuit.n_edges), Cell(f"{parts:,}", parts))
    areas = []
    for name in ("CPR", "CMD"):
        value, low, high = (float(x) for x in area.loc[name, ["area", "low", "high"]].to_numpy())
        areas.append(Cell(number(value, low, high), value))
    return (*sizes, *areas, Cell(f"{result.n_prompts:,}", result.n_prompts))


def _words(nodes: Sequence[str]) -> str:
    """`The circuit runs through block 0 (heads 0 and 3, MLP) and block 3 (MLP).`"""
    blocks: dict[str, list[str]] = {}
    mlps: set[str] = set()
    for name in (name for name in nodes if name not in _ENDS):
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
    return f"The circuit runs through {listing(said)}."


def _method(curves: dict[Trait, Faithfulness]) -> str:
    counts = [result.n_prompts for result in curves.values()]
    return (
        "Edges scored by EAP-IG (Hanna et al. 2024, 5 steps) on the voice contrast "
        f"({count_range(counts, 'pair')}), taken greedily from the logits on, and tested by "
        "running the model with every other edge corrupted. Faithfulness is the share of the "
        "contrast that is left; CPR and CMD are its areas as MIB (Mueller et al. 2025) defines "
        "them. Bands are intervals over topics (bootstrap-t). Circuits are found and tested "
        "on the same prompts."
    )


FACE = Face("Circuit", section)
