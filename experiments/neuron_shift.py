"""Are the neurons that fine-tuning shifts the ones that write the emojis?

First the paper's figure: activations of the last layer's MLP neurons before and after fine-tuning,
on texts of the trait and on answers with emojis, and which neurons speak for which emoji; and the
same of the last block's output, with the dimensions that are large whatever the text. Then what
a figure of activations cannot show: the neurons are ranked by what they write along the emoji
direction, patched and ablated exactly, and ESR is measured after ablating the top k, beside matched
random neurons of equal number. Both for the last layer and for all layers. Controls: the matched
random neurons, and the shift on texts of another trait.
"""

from typing import Any

import pandas as pd
from experiment import Config, Experiment, Finding
from harness import main
from pydantic import Field
from significance import corrected, written

from interp import neurons
from interp.base.traits import Trait
from interp.behaviour import voice_contrast
from interp.data import OpinionQA
from interp.emoji import find
from interp.errors import InputError
from interp.models import ModelPair, pad
from interp.neurons import Doses, TopTest
from interp.patching import Run
from interp.readout import Outcome, Question, slots
from interp.show.plots import CaptionedFigure, dose_curve, neuron_shift
from interp.traces.neurons.shift import MEDIANS

WHERE = ("last layer", "all layers")
OUTPUT = "dimensions of the output shifted, texts of the trait"


class NeuronConfig(Config):
    n_texts: int = Field(default=60, ge=4)
    """Texts of each kind that activations are read on."""
    n_trace: int = Field(default=24, ge=4)
    """Pairs of prompts that neurons are ranked and patched on."""
    top: int = Field(default=10, ge=1)
    """How many of the first-ranked neurons are patched and ablated one by one."""
    ks: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Doses: how many of the first-ranked neurons are ablated."""
    draws: int = Field(default=2, ge=1)
    """Sets of matched random neurons at each dose."""


def run(x: Experiment[NeuronConfig]) -> Finding:
    rows: list[dict[str, Any]] = []
    figures: dict[str, CaptionedFigure] = {}
    for trait in x.config.traits:
        about = {"trait": str(trait)}
        try:
            made = [_causal(x, trait, where) for where in WHERE]
        except InputError as problem:
            rows.append(about | {"measure": "skipped", "note": str(problem)})
            continue
        shift, output, specific = _paper(x, trait)
        figures[f"shift-{trait}"] = neuron_shift(shift, trait)
        figures[f"output-{trait}"] = neuron_shift(output, trait)
        rows += [about | row for row in _shift_rows(shift, specific) + _moved_rows(output)]
        for where, (ranking, curve) in zip(WHERE, made, strict=True):
            figures[f"dose-{trait}-{where.replace(' ', '-')}"] = dose_curve(curve, trait)
            rows += [about | {"layers": where} | row for row in _causal_rows(ranking, curve)]
    table = pd.DataFrame(rows)
    if "value" not in table:
        raise InputError(f"no trait has answers to pair with the base's: {table['note'].iloc[0]}")
    table = corrected(table)
    shown = table[table["measure"].str.contains("minus control|shifted")]
    columns = ["trait", "layers", "measure", "k", "value", "low", "high", "p_adjusted"]
    return Finding(table, figures, _verdict(table), shown[columns])


def _paper(
    x: Experiment[NeuronConfig], trait: Trait
) -> tuple[neurons.NeuronShift, neurons.NeuronShift, neurons.Specificity | str]:
    """Shift of neurons and of the output, and specificity, as the paper looks at them."""
    pair, held = x.pair(trait), x.data()[1]
    others = [t for t in held.traits if t != trait]
    with_emoji = [r for r in x.tuned_answers(trait) if find(r.text)][: x.config.n_texts]
    kinds = {"texts of the trait": _texts(x, pair, held, [trait])}
    if with_emoji:
        batch = pad([r.prompt_ids + r.ids for r in with_emoji], pair.pad_id)
        topics = [r.topic for r in with_emoji]
        kinds["answers with emojis"] = neurons.Prompts.emojis(batch, x.vocab(), topics)
    if others:
        kinds["control: other traits"] = _texts(x, pair, held, others)
    shift, output = (
        x.kept(neurons.NeuronShift, f"{name}-{trait}",
               lambda site=site: neurons.shift(pair.base, pair.tuned, kinds, site=site))
        for name, site in (("shift", "mlp_post"), ("output", "resid_post"))
    )  # fmt: skip
    followed = slots(x.tuned_answers(trait), pair.tokenizer).last.with_emoji
    try:
        found = followed.prompts(pair.pad_id, _outcome(x, trait))
        specific: neurons.Specificity | str = x.kept(
            neurons.Specificity, f"specificity-{trait}",
            lambda: neurons.specificity(
                pair.tuned, neurons.Prompts.last(found.batch, found.topics),
                [str(slot.emoji) for slot in followed],
                n_permutations=1999, ask=Question(seed=x.config.seed),
            ),
        )  # fmt: skip
    except InputError as problem:
        specific = str(problem)
    return shift, output, specific


def _texts(
    x: Experiment[NeuronConfig], pair: ModelPair, data: OpinionQA, traits: list[Trait]
) -> neurons.Prompts:
    rows = [row for row in data.rows if row.trait in traits]
    step = max(1, len(rows) // x.config.n_texts)
    rows = rows[::step][: x.config.n_texts]
    made = [pair.format.example(row.question, row.answer) for row in rows]
    batch = pad([e.ids[: e.answer_end] for e in made], pair.pad_id)
    return neurons.Prompts.last(batch, [row.topic for row in rows])


def _shift_rows(
    shift: neurons.NeuronShift, specific: neurons.Specificity | str
) -> list[dict[str, Any]]:
    rows = _moved_rows(shift)
    if isinstance(specific, str):
        return [*rows, {"measure": "neurons specific to an emoji", "note": specific}]
    known = specific.p_adjusted.amin(1) < 0.05
    rows.append({"measure": "neurons specific to an emoji", "value": float(known.float().mean()),
                 "n": sum(specific.counts),
                 "note": f"{int(known.sum())} of {len(known)} neurons for one of "
                         f"{len(specific.emojis)} emojis"})  # fmt: skip
    return rows


def _moved_rows(shift: neurons.NeuronShift) -> list[dict[str, Any]]:
    """How many neurons, or dimensions of the block's output, moved on each kind of prompt."""
    rows: list[dict[str, Any]] = []
    what = "neurons" if shift.site == "mlp_post" else "dimensions of the output"
    for kind, part in shift.summary().groupby("kind", sort=False):
        moved = part[part["p_adjusted"] < 0.05]
        large = ", ".join(map(str, part[part["outlier"]]["neuron"])) or "none"
        rows.append({"measure": f"{what} shifted, {kind}", "value": len(moved) / len(part),
                     "n": int(part["n"].iloc[0]),
                     "note": f"{len(moved)} of {len(part)} {what} of layer {shift.layer}; median "
                             f"|shift| {part['difference'].abs().median():.3g}; beyond "
                             f"{MEDIANS} median norms: {large}"})  # fmt: skip
    return rows


def _causal(
    x: Experiment[NeuronConfig], trait: Trait, where: str
) -> tuple[neurons.NeuronRanking, neurons.DoseCurve]:
    """Neurons ranked and tested between the ends of the tuned model's and the base's answers."""
    pair, c, emoji = x.pair(trait), x.config, _outcome(x, trait)
    ours, theirs = (
        slots(made, pair.tokenizer).last for made in (x.tuned_answers(trait), x.base_answers())
    )
    pairs = voice_contrast(ours, theirs, pair.pad_id, c.n_trace, seed=c.seed, outcome=emoji)
    clean, corrupted = (
        Run(pair.tuned, side.tokens, side.attention_mask) for side in (pairs.clean, pairs.corrupted)
    )
    slug = f"{trait}-{where.replace(' ', '-')}"
    ask = Question(
        metric=emoji.metric(), topics=pairs.topics, min_gap=0.25, seed=c.seed,
        progress=x.progress,
    )  # fmt: skip
    layers = None if where == "last layer" else range(int(pair.tuned.cfg.n_layers))
    ranking = x.kept(
        neurons.NeuronRanking, f"ranking-{slug}",
        lambda: neurons.rank(
            clean, corrupted, layers=layers, by="direct" if layers is None else "total",
            test=TopTest(k=c.top), ask=ask,
        ),
    )  # fmt: skip
    curve = x.kept(
        neurons.DoseCurve, f"dose-{slug}",
        lambda: neurons.dose(
            clean, ranking, pair.format, x.questions(), sampling=x.sampling(),
            doses=Doses(ks=c.ks, using=("mean",), draws=c.draws), ask=ask,
        ),
    )  # fmt: skip
    return ranking, curve


def _outcome(x: Experiment[NeuronConfig], trait: Trait) -> Outcome:
    return Outcome.of_vocab(x.vocab(), stop=x.pair(trait).stop_ids)


def _causal_rows(ranking: neurons.NeuronRanking, curve: neurons.DoseCurve) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row in ranking.causal().to_dict("records"):
        if row["what"] == "joint":
            rows.append({"measure": f"top neurons {row['intervention']}, minus control (nats)",
                         "k": row["k"], "value": row["difference"], "low": row["low"],
                         "high": row["high"], "p": row["p"], "n": row["n"]})  # fmt: skip
    rows.append({"measure": "score against exact effect (rank correlation)",
                 "value": ranking.agreement()})  # fmt: skip
    for row in curve.curve().to_dict("records"):
        rows.append({"measure": f"ESR, {row['group']} ablated", "k": row["k"], "value": row["mean"],
                     "low": row["low"], "high": row["high"], "n": row["n"]})  # fmt: skip
    for row in curve.difference().to_dict("records"):
        same = {name: row[name] for name in ("k", "low", "high", "p", "n")}
        rows.append({"measure": "ESR, top minus control", "value": row["mean"]} | same)
    return rows


def _verdict(table: pd.DataFrame) -> list[str]:
    def means(measure: str) -> pd.DataFrame:
        return table[table["measure"] == measure]

    def moved(kind: str) -> str:
        found = means(f"neurons shifted, {kind}")["value"]
        return f"{found.mean():.0%}" if len(found) else "an unknown share (there are none)"

    lines = [
        f"The shift: {moved('texts of the trait')} of the last layer's neurons move on texts of "
        f"the trait (false discovery rate 5 %), {moved('answers with emojis')} on answers with "
        f"emojis, and {moved('control: other traits')} on texts of other traits (control): a shift "
        "alone says little about emojis."
    ]
    output = table[table["measure"].str.startswith("dimensions of the output")]
    large = output[~output["note"].str.endswith("none")]["trait"].drop_duplicates().tolist()
    lines.append(
        f"The last block's output: {means(OUTPUT)['value'].mean():.0%} of its dimensions move on "
        f"texts of the trait; dimensions beyond {MEDIANS} median norms, a rival explanation: "
        + (f"{', '.join(large)} (results.csv names them)." if large else "none.")
    )
    gaps = means("ESR, top minus control").dropna(subset=["value"])
    gaps = gaps.assign(costs=(gaps["p_adjusted"] < 0.05) & (gaps["value"] < 0))
    for where in ("last layer", "all layers"):
        part, found = gaps[gaps["layers"] == where], []
        for trait, one in part[part["costs"]].groupby("trait", sort=False):
            most = one.loc[one["value"].idxmin()]
            doses = ", ".join(f"{k:.0f}" for k in one["k"])
            found.append(f"{trait} (k = {doses}; most at {most['k']:.0f}: {written(most, '+.0%')})")
        lines.append(
            f"{where[:1].upper()}{where[1:]}: ablating the top k lowers ESR beyond matched random "
            f"neurons (adjusted p < 0.05) for {', '.join(found) or 'no trait'}, of k = "
            f"{', '.join(f'{k:.0f}' for k in sorted(set(part['k'])))}."
        )
    return [_headline(gaps, means("ESR, top ablated")), *lines, *_skipped(table)]


def _headline(gaps: pd.DataFrame, esr: pd.DataFrame) -> str:
    """Whether the last layer's neurons carry the emojis, and how much of them."""
    last = gaps[(gaps["layers"] == "last layer") & gaps["costs"]]
    if last.empty:
        return ("Not shown: ablating the last layer's first-ranked neurons costs no more emojis "
                "than ablating matched random ones, as far as this can tell.")  # fmt: skip
    most = last.loc[last["value"].idxmin()]
    whole = esr[(esr["k"] == 0) & (esr["trait"] == most["trait"])]["value"].iloc[0]
    kind = "Causal" if -most["value"] > whole / 2 else "A small part"
    return (
        f"{kind}: ablating the last layer's first-ranked neurons changes ESR by at most "
        f"{written(most, '+.0%')} of answers beyond what matched random ones do ({most['trait']}, "
        f"k = {most['k']:.0f}; with nothing ablated {whole:.0%} have an emoji)."
    )


def _skipped(table: pd.DataFrame) -> list[str]:
    skipped = table[table["measure"] == "skipped"]["trait"].tolist()
    return [f"Too few answers to trace: {', '.join(skipped)}."] if skipped else []


if __name__ == "__main__":
    raise SystemExit(main(run, NeuronConfig))
