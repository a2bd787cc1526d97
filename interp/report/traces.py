"""The sections on the traces: logit lens, patching and probing, trait by trait."""

from dataclasses import replace

import pandas as pd

from interp import plots
from interp.logit_lens import LensResult
from interp.patching import PatchingResult
from interp.plots.parts import plural
from interp.probing import ProbeResult
from interp.report.blocks import Maker, Part, Section
from interp.report.collect import POSITION_SITES, Contents, TraitResults
from interp.report.wording import between, listing, minus, number
from interp.traits import Trait

LAST = 16
_PATCHED = {
    "resid_pre": "the residual stream",
    "attn_out": "an attention output",
    "mlp_out": "an MLP output",
    "z": "a head",
}


def lens_section(contents: Contents, maker: Maker) -> Section | None:
    """Where in the layers the decision forms."""
    results: dict[Trait, LensResult] = contents.having("lens")
    if not results:
        return None
    parts, gaps, crossed = [], [], []
    for trait, result in results.items():
        curve = result.by_layer()
        maker.csv(f"lens-{trait}", curve)
        gap = curve[curve["model"] == "difference"].iloc[-1]
        tuned = result.onset_summary().iloc[1]
        gaps.append(float(gap["mean"]))
        crossed += [trait] if tuned["of_mean"] is not None else []
        part = Part(trait, _lens_words(gap, tuned))
        for quantity, name in (("log_odds", "log-odds"), ("probability", "probability")):
            figure = plots.lens_curves(result, trait, quantity)
            part.figures.append(maker.figure(f"lens-{trait}-{name}", figure))
        heatmap = plots.lens_heatmap(result, trait, last=LAST)
        part.figures.append(maker.figure(f"lens-{trait}-positions", heatmap))
        parts.append(part)
    answer = (
        f"At the onset, the emoji log-odds at the last layer differ between the tuned models and "
        f"the base by {between(gaps, '+.2f')} nats (tuned minus base, same tokens). The tuned "
        f"models' mean emoji log-odds end above zero, where emojis hold more than half of the "
        f"probability, for {_counted(crossed, results)}."
    )
    return Section("lens", "Where in the layers does the decision form?", answer, parts)


def _counted(some: list[Trait], of: dict[Trait, LensResult]) -> str:
    """`2 of 5 traits (openness and extraversion)`."""
    named = f" ({listing([str(trait) for trait in some])})" if 0 < len(some) < len(of) else ""
    return f"{len(some)} of {plural(len(of), 'trait')}{named}"


def _lens_words(gap: pd.Series, tuned: pd.Series) -> str:
    place = {"embedding": "from the embedding", "final": "only after the last block"}
    of_mean = tuned["of_mean"]
    when = (
        "do not end above zero"
        if of_mean is None
        else f"stay above zero {place.get(of_mean, f'after block {of_mean}')}"
    )
    return (
        f"Tuned minus base at the last layer: {number(gap['mean'], gap['low'], gap['high'], '+')} "
        f"nats over {plural(int(gap['n']), 'prompt')}; the tuned model's mean log-odds {when}."
    )


def patching_section(contents: Contents, maker: Maker) -> Section | None:
    """Which layers, positions and heads carry the decision."""
    having = [one for one in contents.traits if one.patching]
    if not having:
        return None
    parts, heads = [], []
    for one in having:
        part, best = _patching_part(one, maker)
        parts.append(part)
        heads += [f"{one.trait} {best}"] if best else []
    answer = (
        "Single head with the largest recovery between the models (0 none, 1 the whole gap in "
        f"emoji log-odds): {'; '.join(heads) or 'not measured'}. Red marks what carries the "
        "difference between two runs; intervals are over prompts, and dots survive correction for "
        "all cells drawn."
    )
    return Section("patching", "Which layers, positions and heads carry it?", answer, parts)


def _patching_part(one: TraitResults, maker: Maker) -> tuple[Part, str]:
    part, head = Part(one.trait), ""
    sentences = []
    for contrast, direction in dict.fromkeys(key[:2] for key in one.patching):
        stem = f"patching-{one.trait}-{contrast}-{direction}"
        into = part.folded if direction == "noising" else part.figures
        found = {
            site: _in_view(sweep)
            for (c, d, site), sweep in one.patching.items()
            if (c, d) == (contrast, direction)
        }
        tables = {site: sweep.summary() for site, sweep in found.items()}
        maker.csv(stem, _by_site(tables))
        sites = [site for site in POSITION_SITES if site in found]
        if sites:
            figure = plots.patching_maps(
                [found[s] for s in sites],
                one.trait,
                last=LAST,
                summaries=[tables[s] for s in sites],
            )
            into.append(maker.figure(f"{stem}-positions", figure))
        if "z" in found:
            figure = plots.patching_heads(found["z"], one.trait, summary=tables["z"])
            into.append(maker.figure(f"{stem}-heads", figure))
        if direction == "denoising":
            sentences.append(_patching_words(contrast, tables))
            if contrast == "model" and "z" in tables:
                head = _best(tables["z"])
    part.answer = " ".join(sentences)
    part.figures.sort(key=lambda block: not block.wide)  # heads of both contrasts side by side
    return part, head


def _in_view(sweep: PatchingResult) -> PatchingResult:
    """The part of a sweep that is drawn: p-values are corrected for what the reader looks at."""
    if sweep.axis != "pos" or len(sweep.units) <= LAST:
        return sweep
    return replace(
        sweep,
        values=sweep.values[:, -LAST:],
        present=sweep.present[-LAST:],
        units=sweep.units[-LAST:],
        unit_labels=sweep.unit_labels[-LAST:],
    )


def _patching_words(contrast: str, tables: dict[str, pd.DataFrame]) -> str:
    what = "Between the models" if contrast == "model" else "Between prompts"
    best = [
        f"{_PATCHED[site]} ({_best(tables[site])})"
        for site in ("attn_out", "mlp_out", "z")
        if site in tables
    ]
    return f"{what}, most is restored by {listing(best)}." if best else ""


def _best(table: pd.DataFrame) -> str:
    row = table.iloc[int(table["recovery"].to_numpy().argmax())]
    place = f"{row['layer']}.{row['label']}" if "head" in table else f"block {row['layer']}"
    at = "" if "head" in table else f", position {minus(str(row['label']))}"
    told_apart = "" if row["p_adjusted"] < 0.05 else ", its effect in nats not told apart from zero"
    return f"{place}{at}: {number(row['recovery'], row['low'], row['high'])}{told_apart}"


def _by_site(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    frames = [
        table.rename(columns={"pos": "unit", "head": "unit"}).assign(site=site)
        for site, table in tables.items()
    ]
    return pd.concat(frames, ignore_index=True)


def probing_section(contents: Contents, maker: Maker) -> Section | None:
    """Whether the signal could be read, and whether before fine-tuning."""
    having = [one for one in contents.traits if one.probing]
    if not having:
        return None
    parts = [_probing_part(one, maker) for one in having]
    emoji = [one.probing["emoji"] for one in having if "emoji" in one.probing]
    reads = {
        read: [float(p.auroc[p.reads.index(read)].max()) for p in emoji if read in p.reads]
        for read in ("base", "tuned", "base→tuned")
    }
    said = [
        f"{label} {between(reads[read])}"
        for read, label in (
            ("base", "base"),
            ("tuned", "tuned"),
            ("base→tuned", "trained on the base and read on the tuned model"),
        )
        if reads[read]
    ]
    answer = (
        "“The next token begins an emoji” can be read off the best layer with an AUROC of: "
        f"{listing(said) if said else 'not measured'} (chance 0.50). The transferred probe minus "
        f"the tuned one, at the latter's best layer: {_transfer(having)}; at zero, the direction "
        "was there before fine-tuning."
    )
    return Section("probing", "Was the signal there before fine-tuning?", answer, parts)


def _transfer(having: list[TraitResults]) -> str:
    """AUROC of `base→tuned` minus `tuned`, paired over topics, for each trait."""
    found = []
    for one in having:
        result = one.probing.get("emoji")
        if result is not None and {"tuned", "base→tuned"} <= set(result.reads):
            best = result.layers[int(result.auroc[result.reads.index("tuned")].argmax())]
            table = result.difference("base→tuned", "tuned")
            row = table[(table["layer"] == best) & (table["metric"] == "auroc")].iloc[0]
            gap = number(row["difference"], row["low"], row["high"], "+")
            found.append(f"{one.trait} {gap}")
    return "; ".join(found) or "not measured"


def _probing_part(one: TraitResults, maker: Maker) -> Part:
    part, sentences = Part(one.trait), []
    for task, result in one.probing.items():
        stem = f"probing-{one.trait}-{task}"
        maker.csv(stem, result.to_dataframe())
        measures = ("auroc", "accuracy") if task == "emoji" else ("accuracy",)
        for measure in measures:
            figure = plots.probing_curves(result, one.trait, measure)
            part.figures.append(maker.figure(f"{stem}-{measure}", figure))
        sentences.append(_probing_words(result))
    part.answer = " ".join(sentences)
    return part


def _probing_words(result: ProbeResult) -> str:
    read = "tuned" if "tuned" in result.reads else result.reads[0]
    row = result.reads.index(read)
    layer = int(result.accuracy[row].argmax())

    def best(name: str) -> tuple[float, float, float]:
        value, low, high = (
            float(getattr(result, f"{name}{end}")[row, layer]) for end in ("", "_low", "_high")
        )
        return value, low, high

    name = result.layers[layer]
    place = "the embedding" if name == "embedding" else f"block {name}"
    return (
        f"“{result.task}”, {read}, best after {place}: balanced accuracy "
        f"{number(*best('accuracy'))} (chance {result.chance:.2f}), selectivity "
        f"{number(*best('selectivity'), sign='+')}."
    )
