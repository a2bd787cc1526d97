"""Whether the emoji was there before fine-tuning: what the untouched base does with what is read.

A probe reads where an emoji comes off any model of the text, one that never saw an emoji among
them. So the verdict is the push's: whether the base's own emoji goes with the direction.
"""

from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Finding, Fold, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.effect import judged, smallest
from interp.report.wording import Estimate, between, extent, listing, number, verdict
from interp.show import plots
from interp.show.plots.parts import count_range, plural
from interp.study.catalogue import PROBE_EMOJI, PROBE_TRAIT, PUSH
from interp.traces.probing import ProbeResult, Pushed

_UNPUSHED = "Whether the base used what is read has not been measured (probing-push)."
_TRANSFER = "base→tuned"


def section(contents: Contents, maker: Maker) -> Section | None:
    """Whether the signal could be read, and whether before fine-tuning."""
    emoji, voice = contents.having(PROBE_EMOJI), contents.having(PROBE_TRAIT)
    if not emoji and not voice and not contents.having(PUSH):
        return None
    moved = {trait: gap for trait, probe in emoji.items() if (gap := _transfer(probe))}
    pushes = contents.having(PUSH)
    read = _transferred(emoji, moved) if moved else _untransferred(emoji)
    finding = used(contents) if pushes else None
    made = Section(
        "Was the emoji there before fine-tuning?",
        f"{finding.text} {read}" if finding else f"{_UNPUSHED} {read}",
        finding,
        method=_method([*emoji.values(), *voice.values()], pushes),
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


def used(contents: Contents) -> Finding:
    """Whether the untouched base turned what is read into an emoji, by the smallest effects."""
    pushes = contents.having(PUSH)
    least, nats = smallest(contents, "probability"), smallest(contents, "nats")
    gone = {trait: judged(one.probability(), least) for trait, one in pushes.items()}
    beyond = {trait: judged(one.beyond_random(), nats) for trait, one in pushes.items()}
    yes = [trait for trait in pushes if gone[trait] == beyond[trait] == "less"]
    no = [trait for trait in pushes if gone[trait] == "nothing" or beyond[trait] == "nothing"]
    groups = (
        ("The untouched base already turns what tells the two voices apart into an emoji", yes),
        ("No: what tells the two voices apart brings no emoji in the untouched base", no),
    )
    said = verdict(groups, "Whether the base already brought the emoji is not settled", pushes)
    along = extent({trait: one.along() for trait, one in pushes.items()}, "+")
    others = extent({trait: one.at_random() for trait, one in pushes.items()}, "+")
    ends = [one.probabilities() for one in pushes.values()]
    before, after = (between([end[place] for end in ends]) for place in (0, 1))
    return Finding(
        said,
        f"Taking away what tells them apart, where the tuned voice ends, changes the base's emoji "
        f"log-odds by {along} nats, an equally long push at random by {others}; its probability of "
        f"an emoji: {before} → {after}.",
        bold=bool(yes),
    )


def _transferred(emoji: dict[Trait, ProbeResult], moved: dict[Trait, Estimate]) -> str:
    """How well probes of the base read, and how well they read the tuned model."""
    base = {trait: _best(emoji[trait], "base") for trait in moved}
    return (
        f"Linear probes of the untouched base find the emoji's place with an AUROC of "
        f"{extent(base)}, where 0.50 is chance; read on the tuned model, they differ from its own "
        f"probes by {extent(moved, '+')}. That alone says little: so they do on a base that never "
        "saw an emoji."
    )


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
        f"{number(*best('selectivity'), kind='+')}; {plural(len(result.labels), 'example')}."
    )


def _method(probes: list[ProbeResult], pushes: dict[Trait, Pushed]) -> str:
    said = []
    if pushes:
        one = next(iter(pushes.values()))
        counts = count_range([int(push.judges.sum()) for push in pushes.values()], "prompt")
        said.append(
            "The push takes the difference of means between the ends of both voices away, after "
            "the block that half of the topics chose; the other half gave the numbers "
            f"({counts}, beside {one.values.shape[1] - 1} random pushes)."
        )
    if probes:
        sizes = count_range([len(probe.labels) for probe in probes], "example")
        said.append(
            f"Logistic regressions on {sizes}, folds by topic, so that no topic is in training and "
            "held-out data at once. Floor: labels shuffled; control: labels drawn once per type "
            "(Hewitt and Liang 2019). Where the best layer is named, it was picked among all "
            "layers, so its interval is optimistic."
        )
    return " ".join(said)


FACE = Face("Before fine-tuning", section, "Was it there before?")
