"""Latents of a dictionary: which differ between base and tuned, and what each does alone."""

from typing import Any

from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.factors import SHORT
from interp.report.wording import extent, listing, number, percent
from interp.show import plots
from interp.study.catalogue import LATENT_PATCHES, LATENTS
from interp.traces.dictionaries import LatentDifference, LatentPatches

METHOD = (
    "Latents of one dictionary at the slots where the tuned model's answers end, in both models on "
    "the same tokens. Explained: 1 minus squared errors over what they are when no latent fires. "
    "Ranked by their mean difference times the length of their decoder rows, or, "
    "to be patched, by first-order estimates of their effects, on half of the topics; all numbers "
    "are of the other half. Patched: the other model's value of one latent at the slot, the other "
    "latents and the error as they were; effects are nats of the emoji log-odds and its two "
    "factors, positive where the latent carries what fine-tuning raised. Intervals resample topics "
    "(bootstrap-t); p-values are by sign flips of topics, one family per label."
)
ENOUGH = 0.5
"""Share of the activations that a dictionary has to explain before its latents are spoken of."""


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which latents differ, and their patches."""
    differ, patched = contents.having(LATENTS), contents.having(LATENT_PATCHES)
    if not (differ or patched):
        return None
    said = [_differ(differ)] if differ else []
    said += [_patched(patched)] if patched else []
    made = Section(
        "Which latents of a dictionary carry the difference?", " ".join(said), method=METHOD
    )
    if differ:
        whole = stacked({trait: result.to_dataframe() for trait, result in differ.items()})
        rows = [Row(trait, _cells(result)) for trait, result in differ.items()]
        caption = (
            "The latents that differ most between tuned and base, with the tokens that they write: "
            "tuned minus base in the latent's own units (95 % intervals over topics)."
        )
        columns = ("First", "Second", "Third")
        made.tables.append(maker.table("latents", caption, whole, rows, columns))
    if patched:
        for trait, result in patched.items():
            figures = [
                maker.figure(
                    f"latents-{trait}-{factor.replace('_', '-')}",
                    plots.latent_effects(result, trait, factor=factor),
                )
                for factor in SHORT
            ]
            made.parts.append(Part(trait, figures=figures))
        maker.csv("latents-patched", stacked({t: r.to_dataframe() for t, r in patched.items()}))
    return made


def _differ(results: dict[Trait, LatentDifference]) -> str:
    one = next(iter(results.values()))
    least = max(0.0, min(float(result.explained.min()) for result in results.values()))
    says = (
        f"The dictionary {one.dictionary} ({one.hook}) explains {percent(least)} of the activations"
    )
    if least < ENOUGH:
        return (
            f"{says} at the slots, too little to speak of its latents: is it of this model, this "
            "place, and such text?"
        )
    values, names = {}, []
    for trait, result in results.items():
        row = result.to_dataframe().iloc[0]
        values[trait] = (float(row["difference"]), float(row["low"]), float(row["high"]))
        names.append(f"{int(row['latent'])}")
    which = listing(list(dict.fromkeys(names)))
    return (
        f"{says} at the slots, or more. What it writes differs most by latent {which}: "
        f"{extent(values, '+')}."
    )


def _patched(results: dict[Trait, LatentPatches]) -> str:
    said = []
    for factor, words in SHORT.items():
        one, every, names = {}, {}, []
        for trait, result in results.items():
            table = result.to_dataframe()
            table = table[(table["direction"] == "denoising") & (table["factor"] == factor)]
            best = table.iloc[result.best(factor=factor)]
            one[trait], every[trait] = (_estimate(r) for r in (best, table.iloc[len(result.ids)]))
            names.append(str(best["latent"]))
        which = listing(list(dict.fromkeys(names)))
        said.append(f"{words}: latent {which} {extent(one, '+')}, all latents {extent(every, '+')}")
    return (
        "Put into the base alone, the one that did most on the choosing topics, and all of them "
        f"together, move (nats) {'; '.join(said)}."
    )


def _estimate(row: Any) -> tuple[float, float, float]:
    return float(row["effect"]), float(row["low"]), float(row["high"])


def _cells(result: LatentDifference) -> tuple[Cell, ...]:
    table, cells = result.to_dataframe(), []
    for place in range(min(3, len(table))):
        row = table.iloc[place]
        value = (float(row["difference"]), float(row["low"]), float(row["high"]))
        tokens = ", ".join(f"“{name.strip()}”" for name in result.names[place][:3])
        cells.append(Cell(f"{int(row['latent'])}: {number(*value, '+')}", value[0], tokens))
    return (*cells, *[Cell("none")] * (3 - len(cells)))


FACE = Face("Dictionaries", section)
