"""Whether the emoji could be read, and whether before fine-tuning: linear probes."""

from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Finding, Fold, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.wording import Estimate, extent, listing, number, verdict
from interp.show import plots
from interp.show.plots.parts import count_range, plural
from interp.study.catalogue import PROBE_EMOJI, PROBE_TRAIT
from interp.traces.probing import ProbeResult

# An AUROC that falls by less than this, counts as kept.
_KEPT = 0.1
_TRANSFER = "base→tuned"


def section(contents: Contents, maker: Maker) -> Section | None:
    """Whether the signal could be read, and whether before fine-tuning."""
    emoji, voice = contents.having(PROBE_EMOJI), contents.having(PROBE_TRAIT)
    if not emoji and not voice:
        return None
    moved = {trait: gap for trait, probe in emoji.items() if (gap := _transfer(probe))}
    finding = _finding(emoji, moved) if moved else None
    made = Section(
        "Was the emoji readable before fine-tuning?",
        finding.text if finding else _untransferred(emoji),
        finding,
        method=_method([*emoji.values(), *voice.values()]),
    )
    _figures(made, emoji, voice, maker)
    for one in contents.traits:
        probes = [emoji.get(one.trait), voice.get(one.trait)]
        words = " ".join(_words(probe) for probe in probes if probe is not None)
        made.parts += [Part(one.trait, words)] if words else []
    rows = [Row(trait, _cells(probe, moved.get(trait))) for trait, probe in emoji.items()]
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
        made.tables.append(maker.table("probing", caption, whole, rows, columns))
    return made


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


def _finding(emoji: dict[Trait, ProbeResult], moved: dict[Trait, Estimate]) -> Finding:
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


def _cells(probe: ProbeResult, moved: Estimate | None) -> tuple[Cell, ...]:
    found = [
        Cell(number(*_best(probe, read)), _best(probe, read)[0])
        if read in probe.reads
        else Cell("not measured")
        for read in ("base", "tuned", _TRANSFER)
    ]
    gap = Cell(number(*moved, "+"), moved[0]) if moved else Cell("not measured")
    n = len(probe.labels)
    return (*found, gap, Cell(f"{n:,}", n))


def _figures(
    made: Section, emoji: dict[Trait, ProbeResult], voice: dict[Trait, ProbeResult], maker: Maker
) -> None:
    """The emoji's AUROC is shown; balanced accuracies, of the voice as well, are folded."""
    more = []
    for task, found in (("emoji", emoji), ("trait", voice)):
        every = {str(trait): probe for trait, probe in found.items()}
        for trait, probe in every.items():
            maker.csv(f"probing-{trait}-{task}", probe.to_dataframe())
        if every and task == "emoji":
            figure = plots.probing_curves(every)
            made.figures.append(maker.figure("probing-emoji-auroc", figure))
        if every:
            figure = plots.probing_curves(every, measure="accuracy")
            more.append(maker.figure(f"probing-{task}-accuracy", figure))
    made.folds.append(Fold("more", "Balanced accuracy, of the emoji and of the voice", more))


def _words(result: ProbeResult) -> str:
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


def _method(probes: list[ProbeResult]) -> str:
    sizes = count_range([len(probe.labels) for probe in probes], "example")
    return (
        f"Logistic regressions on {sizes}, folds by topic, so that no topic is in training and "
        "held-out data at once. Floor: labels shuffled; control: labels drawn once per type "
        "(Hewitt and Liang 2019). Where the best layer is named, it was picked among all layers, "
        "so its interval is optimistic."
    )


FACE = Face("Before fine-tuning", section, "Was it there before?")
