"""Where in the layers the decision forms: the logit lens."""

import pandas as pd

from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.report.blocks import LAST, Cell, Face, Finding, Fold, Maker, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.effect import judged, smallest
from interp.report.wording import Estimate, extent, for_traits, number, percent, share
from interp.show import plots
from interp.show.plots.parts import count_range
from interp.study.catalogue import LENS
from interp.traces.logit_lens import LensResult


def section(contents: Contents, maker: Maker) -> Section | None:
    """Where in the layers the decision forms."""
    results = contents.having(LENS)
    if not results:
        return None
    curves = {trait: result.by_layer() for trait, result in results.items()}
    ends = {trait: result.onset_summary().iloc[1] for trait, result in results.items()}
    gaps: dict[Trait, Estimate] = {}
    for trait, curve in curves.items():
        last = curve[curve["model"] == "difference"].iloc[-1]
        gaps[trait] = (float(last["mean"]), float(last["low"]), float(last["high"]))
    found = _finding(contents, gaps, ends)
    made = Section("Where in the layers does the decision form?", found.text, found)
    made.method = _method(results)
    every = {str(trait): result for trait, result in results.items()}
    made.figures.append(maker.figure("lens-log-odds", plots.lens_curves(every)))
    more = [
        maker.figure("lens-probability", plots.lens_curves(every, quantity="probability")),
        maker.figure("lens-positions", plots.lens_heatmap(every, last=LAST)),
    ]
    stops = {who: one for who, one in every.items() if bool(one.go_on.isfinite().all())}
    if stops:  # a model without a stop token has no such curve
        made.figures.append(maker.figure("lens-go-on", plots.lens_curves(stops, quantity="go_on")))
    made.folds.append(Fold("more", "As probabilities, and by position", more))
    rows = []
    for trait in results:
        rows.append(Row(trait, _cells(gaps[trait], ends[trait])))
        maker.csv(f"lens-{trait}", curves[trait])
    caption = (
        "The logit lens where the text ends: tuned minus base at the last layer (nats, with 95 % "
        "intervals over topics), and from where on the tuned model's mean log-odds stay above "
        "zero."
    )
    columns = ("Tuned minus base", "Above zero", "Prompts that end above zero", "Prompts")
    whole = stacked({trait: result.onset_summary() for trait, result in results.items()})
    made.tables.append(maker.table("lens", caption, whole, rows, columns))
    return made


def _finding(
    contents: Contents, gaps: dict[Trait, Estimate], ends: dict[Trait, pd.Series]
) -> Finding:
    """From which layer on an emoji is likelier than not, and how far base and tuned end apart."""
    above = [trait for trait, end in ends.items() if end["of_mean"] is not None]
    first = {trait: int(ends[trait]["of_mean_layer"]) for trait in above}
    order = sorted(above, key=lambda trait: first[trait])
    places = " to ".join(
        dict.fromkeys(_stays_from(ends[trait]["of_mean"]) for trait in (order[:1] + order[-1:]))
    )
    whose = "the tuned model's" if len(ends) == 1 else "the tuned models'"
    onset = "Where the text of an answer ends,"
    start = f"{onset} an emoji is likelier than not {places}"
    if not above:
        start = f"{onset} no emoji is likelier than not"
    elif len(ends) > 1:
        start += f" {for_traits(above, ends)}"
    start += f", by {whose} mean log-odds"
    numbers = (
        f"After the last block they differ from the base's by {extent(gaps, '+')} nats, on the "
        "same tokens."
    )
    least = smallest(contents, "nats")
    told = any(judged(gap, least) in ("more", "less") for gap in gaps.values())
    return Finding(f"{start}.", numbers, bold=told)


def _stays_from(of_mean: str | None) -> str:
    """From which reading point on log-odds stay above zero."""
    place = {"embedding": "from the embedding on", "final": "only after the last block"}
    return "never" if of_mean is None else place.get(of_mean, f"from block {of_mean} on")


def _cells(gap: Estimate, end: pd.Series) -> tuple[Cell, ...]:
    of_mean = end["of_mean"]
    when = _stays_from(of_mean)
    reached = percent(end["reached"])
    if end["low"] == end["low"]:
        reached = share(end["reached"], Interval(end["low"], end["high"], end["level"]))
    return (
        Cell(number(*gap, "+"), gap[0]),
        Cell(when, None if of_mean is None else float(end["of_mean_layer"])),
        Cell(reached, float(end["reached"])),
        Cell(f"{int(end['n']):,}", float(end["n"])),
    )


def _method(results: dict[Trait, LensResult]) -> str:
    error = max(max(result.readout_error) for result in results.values())
    counts = [result.log_odds.shape[2] for result in results.values()]
    return (
        f"{count_range(counts, 'prompt')} per trait, each a tuned model's answer up to where its "
        "text ends; every state is read through the model's own final norm and unembedding. "
        "Largest difference between the last reading and the model's own logits: "
        f"{f'{error:.1e} nats' if error else 'none'}. Intervals resample topics (bootstrap-t)."
    )


FACE = Face("Layer by layer", section, "Where is it decided?")
