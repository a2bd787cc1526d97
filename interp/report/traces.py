"""The sections on the traces by layer: logit lens, and linear probes."""

import pandas as pd

from interp.base.traits import Trait
from interp.report.behaviour import stacked
from interp.report.blocks import Cell, Finding, Maker, Part, Row, Section
from interp.report.collect import Contents
from interp.report.wording import Estimate, extent, for_traits, listing, number, verdict
from interp.show import plots
from interp.show.plots.parts import plural
from interp.traces.logit_lens import LensResult
from interp.traces.probing import ProbeResult

LAST = 16
# An AUROC that falls by less than this, counts as kept.
_KEPT = 0.1
_TRANSFER = "base→tuned"


def lens_section(contents: Contents, maker: Maker) -> Section | None:
    """Where in the layers the decision forms."""
    results: dict[Trait, LensResult] = contents.having("lens")
    if not results:
        return None
    curves = {trait: result.by_layer() for trait, result in results.items()}
    ends = {trait: result.onset_summary().iloc[1] for trait, result in results.items()}
    gaps: dict[Trait, Estimate] = {}
    for trait, curve in curves.items():
        last = curve[curve["model"] == "difference"].iloc[-1]
        gaps[trait] = (float(last["mean"]), float(last["low"]), float(last["high"]))
    section = Section(
        "lens",
        "Where in the layers does the decision form?",
        "Layer by layer",
        _lens_answer(gaps, ends),
    )
    rows = []
    for trait, result in results.items():
        rows.append(Row(trait, _lens_cells(gaps[trait], ends[trait])))
        part = Part(trait)
        for quantity, name in (("log_odds", "log-odds"), ("probability", "probability")):
            figure = plots.lens_curves(result, trait, quantity)
            part.figures.append(maker.figure(f"lens-{trait}-{name}", figure))
        heatmap = plots.lens_heatmap(result, trait, last=LAST)
        part.figures.append(maker.figure(f"lens-{trait}-positions", heatmap))
        section.parts.append(part)
        maker.csv(f"lens-{trait}", curves[trait])
    caption = (
        "The logit lens where the text ends: tuned minus base at the last layer (nats, with 95 % "
        "intervals over prompts), and from where on the tuned model's mean log-odds stay above "
        "zero."
    )
    columns = ("Tuned minus base", "Above zero", "Prompts that end above zero", "Prompts")
    whole = stacked({trait: result.onset_summary() for trait, result in results.items()})
    section.tables.append(maker.table("lens", caption, whole, rows, columns))
    return section


def _lens_answer(gaps: dict[Trait, Estimate], ends: dict[Trait, pd.Series]) -> str:
    """From which layer on an emoji is likelier than not, and how far base and tuned end apart."""
    above = [trait for trait, end in ends.items() if end["of_mean"] is not None]
    first = {trait: int(ends[trait]["of_mean_layer"]) for trait in above}
    order = sorted(above, key=lambda trait: first[trait])
    places = " to ".join(
        dict.fromkeys(_stays_from(ends[trait]["of_mean"]) for trait in (order[:1] + order[-1:]))
    )
    one = len(ends) == 1
    whose = "the tuned model's" if one else "the tuned models'"
    onset = "Where the text of an answer ends,"
    likelier = "above zero, where emojis hold more than half of the probability"
    start = (
        f"{onset} {whose} mean emoji log-odds stay {likelier}, {places}"
        if above
        else f"{onset} {whose} mean emoji log-odds do not end {likelier}"
    )
    if not one and above:
        start += f" {for_traits(above, ends)}"
    ended = "it ends" if one else "they end"
    return (
        f"{start}. After the last block {ended} {extent(gaps, '+')} nats above the base, on the "
        "same tokens."
    )


def _stays_from(of_mean: str | None) -> str:
    """From which reading point on log-odds stay above zero."""
    place = {"embedding": "from the embedding on", "final": "only after the last block"}
    return "never" if of_mean is None else place.get(of_mean, f"from block {of_mean} on")


def _lens_cells(gap: Estimate, end: pd.Series) -> tuple[Cell, ...]:
    of_mean = end["of_mean"]
    when = _stays_from(of_mean)
    low, high = 100 * end["low"], 100 * end["high"]
    reached = f"{100 * end['reached']:.0f} % [{low:.0f}, {high:.0f}]"
    return (
        Cell(number(*gap, "+"), gap[0]),
        Cell(when, None if of_mean is None else float(end["of_mean_layer"])),
        Cell(reached, float(end["reached"])),
        Cell(f"{int(end['n']):,}", float(end["n"])),
    )


def probing_section(contents: Contents, maker: Maker) -> Section | None:
    """Whether the signal could be read, and whether before fine-tuning."""
    having = {one.trait: one.probing for one in contents.traits if one.probing}
    if not having:
        return None
    emoji = {trait: probes["emoji"] for trait, probes in having.items() if "emoji" in probes}
    moved = {trait: gap for trait, probe in emoji.items() if (gap := _transfer(probe))}
    finding = _probing_finding(emoji, moved) if moved else None
    section = Section(
        "probing",
        "Was the emoji readable before fine-tuning?",
        "Before fine-tuning",
        finding.text if finding else _untransferred(emoji),
        finding,
    )
    for trait, probes in having.items():
        section.parts.append(_probing_part(trait, probes, maker))
    rows = [Row(trait, _probing_cells(probe, moved.get(trait))) for trait, probe in emoji.items()]
    if rows:
        caption = (
            "Reading “the next token begins an emoji” off the best layer: AUROC (0.50 is chance) "
            "with 95 % intervals over topics. Transferred: trained on the base, read on the tuned "
            "model. Last: transferred minus tuned, at the latter's best layer. At zero, what is "
            "read was there before fine-tuning. It need not be the emoji: a base that never saw "
            "one passes, too, since a probe can read where an answer ends."
        )
        columns = ("Base", "Tuned", "Transferred", "Transferred minus tuned", "Examples")
        whole = stacked({trait: probe.to_dataframe() for trait, probe in emoji.items()})
        section.tables.append(maker.table("probing", caption, whole, rows, columns))
    return section


def _untransferred(emoji: dict[Trait, ProbeResult]) -> str:
    """The answer where no probe was trained on the base and read on the tuned model."""
    said = []
    for read, label in (("base", "the base"), ("tuned", "the tuned model")):
        values = {t: _best(probe, read) for t, probe in emoji.items() if read in probe.reads}
        said += [f"off {label} with an AUROC of {extent(values)}"] if values else []
    answer = (
        f"“The next token begins an emoji” can be read {listing(said)}, at the best layer, where "
        "0.50 is chance."
        if said
        else "Whether the next token begins an emoji has not been probed."
    )
    return f"{answer} The transfer from base to tuned has not been measured."


def _probing_finding(emoji: dict[Trait, ProbeResult], moved: dict[Trait, Estimate]) -> Finding:
    """Kept: the transferred probe reads better than chance and loses less than `_KEPT`."""
    kept = [
        trait
        for trait, gap in moved.items()
        if gap[1] > -_KEPT and _best(emoji[trait], _TRANSFER)[1] > 0.5
    ]
    base = {trait: _best(emoji[trait], "base") for trait in moved}
    place = "he emoji's place was readable before fine-tuning"
    numbers = (
        f"Linear probes of the untouched base find it with an AUROC of {extent(base)}, where 0.50 "
        "is chance; read on the tuned model, they differ from its own probes by "
        f"{extent(moved, '+')}, where down to −{_KEPT} counts as kept."
    )
    return Finding(verdict([(f"T{place}", kept)], f"That t{place} is not settled", moved), numbers)


def _best(probe: ProbeResult, read: str) -> Estimate:
    """AUROC at the best layer of one read, with its interval."""
    row = probe.reads.index(read)
    layer = int(probe.auroc[row].argmax())
    ends = (probe.auroc, probe.auroc_low, probe.auroc_high)
    value, low, high = (float(end[row, layer]) for end in ends)
    return value, low, high


def _transfer(probe: ProbeResult) -> Estimate | None:
    """AUROC of `base→tuned` minus `tuned` at the latter's best layer, paired over topics."""
    if not {"tuned", _TRANSFER} <= set(probe.reads):
        return None
    best = probe.layers[int(probe.auroc[probe.reads.index("tuned")].argmax())]
    table = probe.difference(_TRANSFER, "tuned")
    row = table[(table["layer"] == best) & (table["metric"] == "auroc")].iloc[0]
    return float(row["difference"]), float(row["low"]), float(row["high"])


def _probing_cells(probe: ProbeResult, moved: Estimate | None) -> tuple[Cell, ...]:
    found = [
        Cell(number(*_best(probe, read)), _best(probe, read)[0])
        if read in probe.reads
        else Cell("not measured")
        for read in ("base", "tuned", _TRANSFER)
    ]
    gap = Cell(number(*moved, "+"), moved[0]) if moved else Cell("not measured")
    n = len(probe.labels)
    return (*found, gap, Cell(f"{n:,}", n))


def _probing_part(trait: Trait, probes: dict[str, ProbeResult], maker: Maker) -> Part:
    part, sentences = Part(trait), []
    for task, result in probes.items():
        stem = f"probing-{trait}-{task}"
        maker.csv(stem, result.to_dataframe())
        measures = ("auroc", "accuracy") if task == "emoji" else ("accuracy",)
        for measure in measures:
            figure = plots.probing_curves(result, trait, measure)
            part.figures.append(maker.figure(f"{stem}-{measure}", figure))
        sentences.append(_probing_words(result))
    part.answer = " ".join(sentences)
    return part


def _probing_words(result: ProbeResult) -> str:
    read = "tuned" if "tuned" in result.reads else result.reads[0]
    row = result.reads.index(read)
    layer = int(result.accuracy[row].argmax())

    def best(name: str) -> Estimate:
        value, low, high = (
            float(getattr(result, f"{name}{end}")[row, layer]) for end in ("", "_low", "_high")
        )
        return value, low, high

    name = result.layers[layer]
    place = "the embedding" if name == "embedding" else f"block {name}"
    return (
        f"“{result.task[:1].upper()}{result.task[1:]}” ({read}) is read best after {place}: "
        f"balanced accuracy {number(*best('accuracy'))}, chance {result.chance:.2f}; selectivity "
        f"{number(*best('selectivity'), sign='+')}; {plural(len(result.labels), 'example')}."
    )
