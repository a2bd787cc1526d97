"""What states would make the model write, on average: the Jacobian lens."""

from interp.base.traits import Trait
from interp.report.blocks import Face, Maker, Section
from interp.report.collect import Contents
from interp.report.wording import Estimate, extent, for_traits
from interp.show import plots
from interp.study.catalogue import JACOBIAN

METHOD = (
    "Each state where the tuned model's answers end is multiplied by the mean Jacobian of the last "
    "layer with respect to it, fitted on the base over its own answers, and then read through the "
    "model's own final norm and unembedding. Both models are read through the same matrices. "
    "Intervals resample topics (bootstrap-t)."
)


def section(contents: Contents, maker: Maker) -> Section | None:
    """From where on the Jacobian lens tells tuned from base."""
    results = contents.having(JACOBIAN)
    if not results:
        return None
    first: dict[Trait, str] = {}
    gaps: dict[Trait, Estimate] = {}
    for trait, result in results.items():
        curve = result.by_layer()
        maker.csv(f"lens-jacobian-{trait}", curve)
        apart = curve[curve["model"] == "difference"].reset_index()
        beyond = apart[(apart["low"] > 0) | (apart["high"] < 0)]
        if not beyond.empty:
            row = beyond.iloc[0]
            first[trait] = str(row["reading"])
            gaps[trait] = (float(row["mean"]), float(row["low"]), float(row["high"]))
    some = "" if len(first) == len(results) else f" {for_traits(first, results)}"
    said = (
        f"Read by what later layers make of a state, tuned and base are first told apart at "
        f"reading point {' or '.join(dict.fromkeys(first.values()))}{some}, by "
        f"{extent(gaps, '+')} nats."
        if first
        else "Read by what later layers make of a state, no reading point tells tuned from base."
    )
    made = Section("Where do states come to call for an emoji?", said, method=METHOD)
    every = {str(trait): result for trait, result in results.items()}
    made.figures.append(maker.figure("lens-jacobian", plots.lens_curves(every)))
    return made


FACE = Face("Jacobian lens", section)
