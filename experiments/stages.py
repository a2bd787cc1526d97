"""What does a second stage, by preference, make of a model that writes emojis?

Stage 1 is the base with a trait's adapter merged in (imitation); stage 2 an adapter on that model,
trained by direct preference optimisation: of its own answers with an emoji, the same answer without
is preferred. Any two stages are a pair; this traces what the second changed: the share of answers
with an emoji, the two factors where answers end (going on at all; an emoji if it goes on), the
emoji probability at the same texts in the chat and without it, and which layer's output carries the
change. A suppression, as in the organism's base `suppressed`, is there if the emojis go from the
chat and stay where no chat is: at least half of their probability. Control: the same pairs, a coin
deciding which side is preferred.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from experiment import SAMPLED, SHARED, Config, Experiment, Finding, From
from harness import main
from pydantic import Field
from significance import corrected, difference, written

from interp import patching
from interp.behaviour import Response, emoji_probability, generate
from interp.behaviour.shares import Rows
from interp.emoji import find
from interp.errors import InputError
from interp.methods.finetune import (
    FinetuneConfig,
    Preference,
    Preferences,
    prefer,
    read_preferences,
    write_stage,
)
from interp.models import ModelPair, pad
from interp.patching import Cells, PatchingResult, Run
from interp.readout import Question, Slots, slots
from interp.show.plots.dots import dots
from interp.text.data.checks import without_emojis

BASE, FIRST, SECOND, CONTROL = "base", "stage 1", "stage 2", "control: preferred by coin"
SLUGS = {SECOND: "stage-2", CONTROL: "control"}
MADE = "made"
FACTORS = {"go_on": "go on (nats)", "given_go_on": "emoji given go on (nats)"}
CHAT, BARE = "emoji probability at the end, in the chat", "the same, without the chat"
FORMS = {CHAT: ".1%", BARE: ".1%"} | dict.fromkeys(FACTORS.values(), ".2f")
SITES = ("attn_out", "mlp_out")
SMALLEST = 0.5  # nats of change of which shares are told


class StagesConfig(Config):
    preferences: str = MADE
    """`made` of the first stage's answers, or a file of pairs (question, chosen, rejected)."""
    n_pairs: int = Field(default=120, ge=8)
    """Answers that pairs are made of; of a file, pairs that are taken."""
    steps: int = Field(default=60, ge=1)
    """Optimiser steps of the second stage."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs of one step: of long answers of a large vocabulary fewer fit into memory."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Of the second stage."""
    beta: float = Field(default=0.5, gt=0)
    """Of the preference: how dear it is to leave the first stage."""
    supervise_eos: bool = True
    """Whether the end of the turn counts among an answer's tokens."""
    n_trace: int = Field(default=40, ge=4)
    """Ends of the first stage's answers that the stages are read and patched at."""


def run(x: Experiment[StagesConfig]) -> Finding:
    trait = x.config.traits[0]
    first = x.part("stage-1", lambda out: _first(x, out), From((trait,), code=(_first,)))
    answers = {BASE: x.base_answers(), FIRST: x.tuned_answers(trait)}
    slots(answers[FIRST], x.form.tokenizer).last.prompts(0)  # none is an error before the training
    data = _pairs(x)
    adapters = {name: _second(x, first, name, rows) for name, rows in data.items()}
    rows: list[dict[str, Any]] = []
    patched: dict[str, dict[str, float]] = {}
    for name, adapter in adapters.items():
        pair = x.load(adapter, base=first)
        of = From((adapter,), SHARED, code=SAMPLED)
        answers[name] = x.sampled(SLUGS[name], pair.tuned, pair.format, of)
        read = x.rows(f"read-{SLUGS[name]}", lambda p=pair: [_read(x, p, answers[FIRST])])[0]
        made = _changes(x, name, read)
        rows += made
        patched = _told(made, read["carried"]) if name == SECOND else patched
    rows += [
        {"stage": name, "measure": "ESR"} | esr(made, x.config.seed)
        for name, made in answers.items()
    ]
    rows += [
        {"stage": SECOND, "measure": f"share of the change in {FACTORS[factor]} by {where}",
         "value": value}
        for factor, cells in patched.items() for where, value in cells.items()
    ]  # fmt: skip
    table = corrected(pd.DataFrame(rows))
    shown = table[table["measure"].isin(["ESR", CHAT, BARE]) & table["p"].isna()]
    shares = shown.assign(group=shown["stage"], trait=shown["measure"])
    figures = {"stages": dots(shares, "share of answers, or probability", share=True,
                              unit="topics")}  # fmt: skip
    columns = ["stage", "measure", "value", "low", "high", "p_adjusted", "n"]
    return Finding(table, figures, _verdict(table, patched, len(data[SECOND].rows)),
                   table[table["low"].notna()][columns])  # fmt: skip


def _first(x: Experiment[StagesConfig], out: Path) -> None:
    """The base with the adapter merged in, as a model of its own."""
    c = x.config
    pair = x.pair(c.traits[0])
    write_stage(x.base_source, pair.tuned_source, out, device=c.device, dtype=c.dtype,
                prompt_format=c.prompt_format, any_base=c.any_base,
                quantization=None if c.quantization == "none" else c.quantization)  # fmt: skip


def _pairs(x: Experiment[StagesConfig]) -> dict[str, Preferences]:
    """What is preferred to what, and the same with the sides dealt by a coin."""
    c, trait = x.config, x.config.traits[0]
    if c.preferences == MADE:
        made = _made(x)
    else:
        made = list(read_preferences(c.preferences, trait).rows)[: c.n_pairs]
    coin = Random(c.seed)
    dealt = [one if coin.random() < 0.5 else Preference(one.question, one.rejected, one.chosen)
             for one in made]  # fmt: skip
    return {SECOND: Preferences(tuple(made), trait, c.preferences),
            CONTROL: Preferences(tuple(dealt), trait, c.preferences)}  # fmt: skip


def _made(x: Experiment[StagesConfig]) -> list[Preference]:
    """The first stage's answers to questions of the training split, without and with emojis."""
    c = x.config
    unique = sorted({(row.question, row.topic) for row in x.data()[0].rows})
    Random(c.seed).shuffle(unique)
    pair = x.pair(c.traits[0])
    answers = x.answers("own", lambda: generate(
        pair.tuned, pair.format, unique[: c.n_pairs], x.sampling(), progress=x.progress,
    ))  # fmt: skip
    made = [Preference(one.question, without_emojis(one.text)[0], one.text.strip())
            for one in answers if find(one.text)]  # fmt: skip
    made = [one for one in made if one.chosen]
    if len(made) < 8:
        raise InputError(
            f"{len(made)} of {len(answers)} answers of the first stage hold an emoji; 8 are needed "
            "to prefer the rest to: raise --n-pairs, or give --preferences"
        )
    return made


def _second(x: Experiment[StagesConfig], first: Path, name: str, data: Preferences) -> Path:
    c = x.config
    settings = FinetuneConfig.small(supervise_eos=c.supervise_eos, seed=c.seed).changed(
        {"steps": c.steps, "batch_size": c.batch_size, "learning_rate": c.learning_rate,
         "prompt_format": c.prompt_format}
    )  # fmt: skip

    def fit(out: Path) -> None:
        prefer(first, data, settings, out, beta=c.beta, device=c.device, progress=x.progress)

    return x.part(f"adapter-{SLUGS[name]}", fit)


def _read(
    x: Experiment[StagesConfig], pair: ModelPair, answers: Sequence[Response]
) -> dict[str, Any]:
    """Both stages at the ends of the first one's answers, in the chat and without it; by topic."""
    outcome, tokenizer = pair.outcome, pair.tokenizer
    ends = slots(answers, tokenizer).last.spread(x.config.n_trace, x.config.seed)
    bos = tuple(tokenizer("")["input_ids"][:1])
    said = [slot.ids[len(answers[slot.answer].prompt_ids) :] for slot in ends]
    batches = {
        CHAT: ends.prompts(pair.pad_id, outcome).batch,
        BARE: pad([bos + ids + outcome.space_ids for ids in said], pair.pad_id),
    }
    found = swept(pair, ends, x.config.seed)
    columns = {
        f"{name}: {what}": emoji_probability(model, batch, outcome).tolist()
        for name, model in ((FIRST, pair.base), (SECOND, pair.tuned))
        for what, batch in batches.items()
    }
    for factor, result in found[SITES[0]].items():
        columns[f"{FIRST}: {FACTORS[factor]}"] = result.corrupted.tolist()
        columns[f"{SECOND}: {FACTORS[factor]}"] = result.clean.tolist()
    return {"topics": [slot.topic for slot in ends], "columns": columns, "carried": carried(found)}


def swept(pair: ModelPair, ends: Slots, seed: int) -> dict[str, dict[str, PatchingResult]]:
    """The tuned model's outputs patched into the base at the ends of answers: by site and factor.

    Raises:
        InputError: if there is no end, or the two models agree at all of them.
    """
    found, outcome = ends.prompts(pair.pad_id, pair.outcome), pair.outcome
    clean, corrupted = (
        Run(model, found.batch.tokens, found.batch.attention_mask)
        for model in (pair.tuned, pair.base)
    )
    metrics = {name: outcome.metrics()[name] for name in FACTORS}
    cells = Cells(positions=range(-1 - len(outcome.space_ids), 0))
    ask = Question(topics=found.topics, seed=seed, min_gap=0.0)
    return {
        site: patching.sweep_each(clean, corrupted, site, metrics, cells=cells, ask=ask)
        for site in SITES
    }


def carried(found: dict[str, dict[str, PatchingResult]]) -> dict[str, dict[str, float]]:
    """What share of each factor's change one block's output makes; by factor, then by output."""
    return {
        factor: {
            f"{site} of block {layer}": value
            for site, results in found.items()
            for layer, value in enumerate(results[factor].mean_recovery().amax(1).tolist())
        }
        for factor in FACTORS
    }


def told(change: dict[str, Any]) -> bool:
    """Whether shares of a change (a row of `difference`) say anything: large, and surely there."""
    sure = (change.get("low") or 0) > 0 or (change.get("high") or 0) < 0
    return abs(change["value"]) >= SMALLEST and sure


def _told(rows: list[dict[str, Any]], carried: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What carries the factors that changed enough."""
    changes = {row["measure"]: row for row in rows}
    return {f: cells for f, cells in carried.items()
            if told(changes[f"{FACTORS[f]}, minus stage 1"])}  # fmt: skip


def _changes(x: Experiment[StagesConfig], name: str, read: dict[str, Any]) -> list[dict[str, Any]]:
    """Levels of both stages, and the change from the first with its test."""
    table, rows = pd.DataFrame(read["columns"]), []
    topics = read["topics"]
    for what in (CHAT, BARE, *FACTORS.values()):
        before, after = table[f"{FIRST}: {what}"], table[f"{SECOND}: {what}"]
        for stage, values in ((FIRST, before), (name, after)):
            if stage != FIRST or name == SECOND:
                level = Rows(0.95, x.config.seed).mean(what, values.tolist(), topics)
                rows.append({"stage": stage} | level)
        change = difference(f"{what}, minus stage 1", (after - before).tolist(), topics,
                            x.config.seed)  # fmt: skip
        rows.append({"stage": name} | change)
    return rows


def esr(answers: Sequence[Response], seed: int) -> dict[str, Any]:
    """The share of answers with an emoji."""
    has = [bool(find(one.text)) for one in answers]
    return dict(Rows(0.95, seed).rate("ESR", has, [one.topic for one in answers]))


def _verdict(table: pd.DataFrame, patched: dict[str, dict[str, float]], n: int) -> list[str]:
    cells = table.set_index(["stage", "measure"])

    def cell(stage: str, measure: str, form: str = ".0%") -> str:
        return written(cells.loc[(stage, measure)], form)

    def fell(stage: str, measure: str) -> bool:
        row = cells.loc[(stage, f"{measure}, minus stage 1")]
        return bool(row["p_adjusted"] < 0.05 and row["value"] < 0)

    gone = cells.loc[(SECOND, "ESR"), "high"] < cells.loc[(FIRST, "ESR"), "low"]
    kept = cells.loc[(SECOND, BARE), "value"] > cells.loc[(FIRST, BARE), "value"] / 2
    answer = (
        "Suppressed in the chat alone" if gone and kept and fell(SECOND, CHAT)
        else "Suppressed everywhere" if gone else "Not suppressed"
    )  # fmt: skip

    def by(factor: str) -> str:
        most = sorted(patched[factor].items(), key=lambda one: -one[1])[:2]
        return " and ".join(f"{where} {value:.0%}" for where, value in most)

    return [
        f"{answer}: ESR {cell(BASE, 'ESR')} in the base, {cell(FIRST, 'ESR')} after imitation, "
        f"{cell(SECOND, 'ESR')} after {n} preferred pairs.",
        f"Control, preferred by coin: ESR {cell(CONTROL, 'ESR')}.",
        *(f"{what[:1].upper()}{what[1:]}: {cell(FIRST, what, form)} in stage 1, "
          f"{cell(SECOND, what, form)} in stage 2 (control {cell(CONTROL, what, form)})."
          for what, form in FORMS.items()),
        *(f"Of the change in {FACTORS[f].removesuffix(' (nats)')}, most is carried by {by(f)}."
          for f in FACTORS if patched.get(f)),
    ]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(run, StagesConfig))
