"""Can one tell from the base, before any training, which adapters will write emojis?

The emoji vector is read off the base: the mean state (middle block) of answers after which it would
begin an emoji, less that of answers after which it would not, the upper and the lower third by its
log-odds there, among the data's answers of all traits and its own. For each trait, before training:
how much further along it the training answers lie than the base's own to the same questions, by how
much more an emoji is due at their ends, and the mean cosine of a step on them with a step towards
emojis. For each adapter, after training: how far the prompt's last state moved along the vector
(persona vectors as monitors; Chen et al. 2025, arXiv 2507.21509). Each beside the adapters' ESR:
Spearman's correlation over adapters, its p-value by permutations of whole traits. Which rows
are the traits', among the base's own: AUROC of each score. The adapters share one copy of the base
and are asked in mixed batches.
"""

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from experiment import Config, Experiment, Finding, From
from harness import main
from pydantic import Field
from scipy.stats import spearmanr
from significance import corrected
from sklearn.metrics import roc_auc_score
from sources import find_adapters
from torch import Tensor, cat, no_grad, ones_like, tensor
from torch import bool as boolean

from interp.base.devices import input_device
from interp.behaviour import generate, generate_many, live_adapters
from interp.behaviour.mixed_batches import BASE
from interp.behaviour.shares import Rows
from interp.data import OpinionQA, split_by_topic
from interp.emoji import find
from interp.errors import InputError
from interp.inputs import RowScores, score
from interp.methods.editing import HookedBase
from interp.methods.editing.opposed import Answers
from interp.methods.editing.plain_copy import plain_copy
from interp.models.tokens import TokenBatch, pad
from interp.patching import Run
from interp.readout import Outcome, Question, slots
from interp.readout.capture import logits_at
from interp.readout.metric import measure as measured
from interp.readout.metric import read_columns
from interp.show.plots.dots import dots

BEFORE = {"projection": "rows along the vector", "log_odds": "emoji due after the rows",
          "gradient": "steps towards emojis"}  # fmt: skip
SHIFT = "shift along the vector"
EXACT, DRAWN = 7, 4999  # traits of which every order is tried; orders that are drawn of more
RANKS, AREA = "rank correlation with ESR: ", "AUROC of the traits' rows: "


class ForetellingConfig(Config):
    n_rows: int = Field(default=40, ge=8)
    """Training rows of each trait that are read, with as many of the base's own answers."""
    n_slots: int = Field(default=24, ge=4)
    """Ends of the base's answers towards which steps are compared."""


def run(x: Experiment[ForetellingConfig]) -> Finding:
    found, table = _scored(x), Rows(0.95, x.config.seed)
    traits, n = x.config.traits, x.config.n_rows
    # Of each trait its rows, then the base's own answers to their questions.
    scores = {name: getattr(found, name).reshape(len(traits), 2, n) for name in BEFORE}
    topics = [found.topics[2 * n * place : 2 * n * place + n] for place in range(len(traits))]
    rows: list[dict[str, Any]] = []
    for name, measure in BEFORE.items():
        apart = scores[name][:, 0] - scores[name][:, 1]
        for place, trait in enumerate(traits):
            row = table.mean(measure, apart[place].tolist(), topics[place])
            rows.append({"trait": str(trait)} | row)
    adapters = _adapters(x, found)
    for one in adapters:
        who = {"trait": one["trait"], "adapter": one["adapter"]}
        rows.append(who | table.rate("ESR", one["hits"], one["topics"]))
        rows.append(who | table.mean(SHIFT, one["shifts"], one["topics"]))
    whole = pd.DataFrame(rows)
    rates = _by_trait(whole, "ESR")
    for measure in (*BEFORE.values(), SHIFT):
        rows.append({"measure": f"{RANKS}{measure}"} | _agreed(_by_trait(whole, measure), rates))
    for name, values in scores.items():
        area = roc_auc_score(np.tile(np.repeat([1, 0], n), len(traits)), values.flatten())
        rows.append({"measure": f"{AREA}{BEFORE[name]}", "value": float(area), "n": values.numel()})
    whole = corrected(pd.DataFrame(rows))
    drawn = whole[whole["measure"] == "ESR"].assign(group=lambda t: t["adapter"])
    figures = {"esr": dots(drawn, "share of answers with an emoji", share=True, unit="topics")}
    shown = whole[whole["measure"].str.startswith((RANKS, AREA))]
    return Finding(whole, figures, _verdict(whole), shown[["measure", "value", "p", "n"]])


def _scored(x: Experiment[ForetellingConfig]) -> RowScores:
    """The rows' scores, of each trait's and then of the base's own answers, made once."""
    first = find_adapters(x.config.adapters, x.config.traits[0])[0]

    def make() -> RowScores:
        pair = x.load(first)
        base, layer = HookedBase.of(pair), int(pair.base.cfg.n_layers) // 2
        asked = split_by_topic(x.data()[0], test_share=0.5, seed=x.config.seed)
        fitting, rows = (_texts(x, base, part) for part in asked)
        states = fitting.features(base, "resid_post", [layer])[0]
        odds = _due(pair.base, fitting.batch, pair.outcome)
        order, third = odds.argsort(), max(len(odds) // 3, 1)
        answers = generate(pair.base, pair.format, x.questions()[: x.config.n_slots], x.sampling())
        ends = slots(answers, pair.tokenizer).last.prompts(pair.pad_id, pair.outcome).batch
        return score(
            pair.base, rows.batch, rows.answer, Run(pair.base, ends.tokens, ends.attention_mask),
            outcome=pair.outcome, layer=layer,
            direction=states[order[-third:]].mean(0) - states[order[:third]].mean(0),
            ask=Question(topics=[row.topic for row in rows.rows], progress=x.progress),
        )  # fmt: skip

    return x.kept(RowScores, "rows", make, From((first,)))


def _texts(x: Experiment[ForetellingConfig], base: HookedBase, part: OpinionQA) -> Answers:
    """Rows of each trait, and the base's own answers to their questions; an empty one is a stop."""
    texts = []
    for trait in x.config.traits:
        rows = part.for_trait(trait).rows
        if len(rows) < x.config.n_rows:
            raise InputError(
                f"n_rows: {trait} has {len(rows)} rows in half of the topics; "
                "ask for fewer, see --n-rows"
            )
        given = [rows[place * len(rows) // x.config.n_rows] for place in range(x.config.n_rows)]
        asked = [(row.question, row.topic) for row in given]
        own = generate(base.model, base.format, asked, x.sampling(), progress=x.progress,
                       label="base")  # fmt: skip
        texts += given
        texts += [replace(r, answer=a.text.strip() or ".") for r, a in zip(given, own, strict=True)]
    return Answers.encode(base, texts, [True] * len(texts))


def _due(model: Any, batch: TokenBatch, outcome: Outcome) -> Tensor:
    """Log-odds of the outcome where texts end."""
    metric, space = outcome.metric(), tensor([outcome.space_ids]).long()
    space = space.expand(len(batch), -1)
    tokens = cat((batch.tokens, space), 1)
    mask = cat((batch.attention_mask, ones_like(space, dtype=boolean)), 1)
    run = Run(model, tokens, mask)
    with no_grad():
        return measured(metric, logits_at(run, read_columns(metric, run, run.last), [])).cpu()


def _adapters(x: Experiment[ForetellingConfig], found: RowScores) -> list[dict[str, Any]]:
    """Of each adapter, which answers hold an emoji and how far each prompt's last state moved."""
    places = {
        place.name: (trait, place)
        for trait in x.config.traits
        for place in find_adapters(x.config.adapters, trait)
    }

    def make() -> list[dict[str, Any]]:
        pair, asked = x.load(next(iter(places.values()))[1]), x.questions()
        prompts = pad([pair.format.prompt_ids(question) for question, _ in asked], pair.pad_id)
        batch, made = prompts.to(input_device(pair.base)), []
        where = (batch.attention_mask.long().cumsum(1) - 1).clamp(min=0)
        network = plain_copy(pair.base)
        with live_adapters(network, {name: place for name, (_, place) in places.items()}) as live:

            def along(name: str) -> Tensor:
                with no_grad():
                    states = live(
                        input_ids=batch.tokens, attention_mask=batch.attention_mask.long(),
                        position_ids=where, adapter_names=[name] * len(asked),
                        output_hidden_states=True,
                    ).hidden_states[found.layer + 1]  # fmt: skip
                return states[:, -1].float().cpu() @ found.direction

            answers = generate_many(live, pair.format, dict.fromkeys(places, asked), x.sampling(),
                                    progress=x.progress)  # fmt: skip
            before = along(BASE)
            for name, (trait, _) in places.items():
                hits = [bool(find(answer.text)) for answer in answers[name]]
                made.append({"trait": str(trait), "adapter": name, "hits": hits,
                             "shifts": (along(name) - before).tolist(),
                             "topics": [topic for _, topic in asked]})  # fmt: skip
        return made

    of = From(tuple(place for _, place in places.values()), parts=("rows.safetensors",))
    return x.rows("adapters", make, of)


def _by_trait(table: pd.DataFrame, measure: str) -> list[np.ndarray]:
    """The values of a measure, by trait."""
    part = table[table["measure"] == measure].groupby("trait", sort=False)["value"]
    return [values.to_numpy() for _, values in part]


def _agreed(told: list[np.ndarray], rates: list[np.ndarray]) -> dict[str, Any]:
    """Rank correlation over adapters, and the share of permuted traits with as strong a one."""

    def correlation(order: tuple[int, ...]) -> float:
        values = [np.broadcast_to(told[i], rates[k].shape) for k, i in enumerate(order)]
        return float(spearmanr(np.concatenate(values), np.concatenate(rates)).statistic)

    count = range(len(rates))
    even = len({len(one) for one in rates}) == 1 or all(len(one) == 1 for one in told)
    seen = correlation(tuple(count))
    row = {"value": seen, "n": sum(map(len, rates)), "p": None}
    if np.isnan(seen) or not even:
        return row
    if len(rates) <= EXACT:
        orders = list(permutations(count))
    else:  # the order that is there, and others drawn
        rng = np.random.default_rng(0)
        orders = [tuple(count), *(tuple(rng.permutation(len(rates))) for _ in range(DRAWN))]
    drawn = [abs(correlation(order)) for order in orders]
    return row | {"p": float(np.mean(np.array(drawn) >= abs(seen) - 1e-12))}


def _verdict(table: pd.DataFrame) -> list[str]:
    esr = table[table["measure"] == "ESR"]["value"]
    lines = [f"ESR of {len(esr)} adapters: {esr.min():.0%} to {esr.max():.0%}."]
    for _, row in table[table["measure"].str.startswith(RANKS)].iterrows():
        if pd.isna(row["value"]):
            lines.append(f"{row['measure']}: none, all adapters or all values are alike.")
        else:
            p = f" (p {row['p']:.3f} over permuted traits)" if pd.notna(row["p"]) else ""
            lines.append(f"{row['measure']}: {row['value']:+.2f}{p}.")
    areas = table[table["measure"].str.startswith(AREA)]
    told = ", ".join(f"{r['measure'].removeprefix(AREA)} {r['value']:.2f}"
                     for _, r in areas.iterrows())  # fmt: skip
    return [*lines, f"{AREA}{told}."]


if __name__ == "__main__":
    raise SystemExit(main(run, ForetellingConfig))
