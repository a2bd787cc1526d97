"""Is what holds of an adapter true of its twins from other seeds, and of one that adapts the MLPs?

For each trait, several adapters trained on the same rows. Beside each other: ESR; P(go on) and
P(emoji given go on) at the ends of their own answers; and where they act: the necessity of each
adapted matrix that all of them share (nats of log-odds at the ends of the base's answers), the
cosine of their ΔW on these, how far what these read and write overlaps beyond chance, and the
cosine of what they add to the residual stream there on average (after the middle block). Do twins
agree more than adapters of different traits do? The p-value permutes the traits among the adapters.
Adapters of one seed begin at the same random matrices, whatever the trait. Is it one direction? ESR
with an adapter's own direction projected out of every block's output, with its twin's, with that of
another trait, and with a random one. ES and DD (`interp.measures`) on held-out rows beside them.
Control: pairs of different traits; the random direction.
"""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from experiment import SAMPLED, Config, Experiment, Finding, From
from harness import main
from jaxtyping import Float
from pydantic import Field
from scipy.stats import spearmanr
from significance import corrected, some
from sources import find_adapters
from torch import Generator, Tensor, randn, stack, tensor

from interp.adapters import AdapterSpace, Delta, PartEffects, necessity, subspaces
from interp.base.traits import Trait
from interp.behaviour import Response, generate
from interp.behaviour.origin import slot_chances
from interp.behaviour.shares import Rows
from interp.data import OpinionQA
from interp.differences import ActivationDifference, activations
from interp.emoji import find
from interp.errors import InputError
from interp.measures import EditScores, score_edit
from interp.patching import Run
from interp.readout import Question, slots
from interp.readout.outcome import OUTCOME, STOP
from interp.show.plots.dots import dots

DRAWN = 9999
RATES = ("ESR", "P(go on)", "P(emoji | go on)")
AGREEMENT = {
    "necessity": "rank correlation of necessity", "cosine": "cosine of ΔW",
    "reads": "overlap of what is read, less chance",
    "writes": "overlap of what is written, less chance",
    "direction": "cosine of directions in the stream",
}  # fmt: skip
WITHOUT = ("its own", "its twin's", "another trait's", "a random one")


class SeedsConfig(Config):
    n_trace: int = Field(default=24, ge=4)
    """Ends of the base's answers at which the matrices' effects are read."""
    n_without: int = Field(default=24, ge=4)
    """Answers of each adapter with a direction projected out."""


def run(x: Experiment[SeedsConfig]) -> Finding:
    rows: list[dict[str, Any]] = []
    effects: list[PartEffects] = []
    changes: list[tuple[Delta, ...]] = []
    of: list[Trait] = []
    found = {trait: find_adapters(x.config.adapters, trait) for trait in x.config.traits}
    alone = [str(trait) for trait, places in found.items() if len(places) < 2]
    if alone:
        raise InputError(
            f"adapters: {alone[0]} has a single adapter; give each trait two or more, in a folder "
            "where their names begin with the trait's"
        )
    _base_answers(x)  # their ends are where the matrices are read
    for trait, places in found.items():
        for place in places:
            rows += _rates(x, trait, place.name)
            effects.append(_effects(x, trait, place.name))
            of.append(trait)
    every = [(trait, place.name) for trait, places in found.items() for place in places]
    ways = [_direction(x, trait, name).difference.mean(0) for trait, name in every]
    for place, (trait, name) in enumerate(every):
        others = _others(every, ways, place, x.config.seed)
        rows += _without(x, trait, name, others, tuple(one for _, one in every))
    shared = set.intersection(*(set(one.units) for one in effects))
    if len(shared) < 4:
        raise InputError(f"the adapters share {len(shared)} adapted matrices; 4 or more are needed")
    names = [unit for unit in effects[0].units if unit in shared]
    for trait, places in found.items():
        for place in places:
            changes.append(_deltas(x, trait, place.name, names))
    table = pd.DataFrame(rows)
    agreed = {
        "necessity": _correlations([_of(one, names) for one in effects]),
        "cosine": _cosines(changes),
        **_overlaps(changes),
        "direction": _alike(ways),
    }
    tests = [_test(name, values, of, x.config.seed) for name, values in agreed.items()]
    table = corrected(pd.concat([table, pd.DataFrame(tests)], ignore_index=True))
    figures = {
        stem: dots(
            table[table["measure"] == measure].assign(group=lambda t: t["adapter"]), what,
            share=True, unit="topics",
        )
        for stem, measure, what in (
            ("esr", "ESR", "share of answers with an emoji"),
            ("go-on", "P(go on)", "probability of going on where the answer ends"),
        )
        if some(table, measure)
    }  # fmt: skip
    wide = table[table["measure"].isin(RATES)].pivot_table(
        index=["trait", "adapter"], columns="measure", values="value", sort=False
    )
    return Finding(table, figures, _verdict(table), wide.reset_index())


def _place(x: Experiment[SeedsConfig], trait: Trait, name: str) -> Any:
    places = find_adapters(x.config.adapters, trait)
    return next(place for place in places if place.name == name)


def _base_answers(x: Experiment[SeedsConfig]) -> list[Response]:
    """Of the base, as the first adapter has it (dequantised, say)."""
    first = find_adapters(x.config.adapters, x.config.traits[0])[0]
    return x.answers(
        "base",
        lambda: generate(
            (pair := x.load(first)).base, pair.format, x.questions(), x.sampling(),
            progress=x.progress, label="base",
        ),
        From((first,), code=SAMPLED),
    )  # fmt: skip


def _rates(x: Experiment[SeedsConfig], trait: Trait, name: str) -> list[dict[str, Any]]:
    """ESR, and the two factors at the ends of the adapter's own answers."""
    place = _place(x, trait, name)
    made = x.answers(
        name,
        lambda: generate(
            (pair := x.load(place)).tuned, pair.format, x.questions(), x.sampling(),
            progress=x.progress, label=name,
        ),
        From((place,), code=SAMPLED),
    )  # fmt: skip

    def read() -> list[dict[str, Any]]:
        pair = x.load(place)
        ends = slots(made, pair.tokenizer).last
        if not ends.rows:
            return []
        batch = ends.prompts(pair.pad_id, pair.outcome).batch
        chances = slot_chances(pair.tuned, batch, pair.outcome).tolist()
        return [{"chances": c, "topic": t} for c, t in zip(chances, ends.topics, strict=True)]

    at_ends = x.rows(f"{name}-ends", read, From((place,), parts=(f"{name}.json",)))
    topics = [row["topic"] for row in at_ends]
    go_on = [1 - row["chances"][STOP] for row in at_ends]
    given = [row["chances"][OUTCOME] / max(1 - row["chances"][STOP], 1e-30) for row in at_ends]
    table = Rows(0.95, x.config.seed)
    rows = [
        table.rate("ESR", [bool(find(a.text)) for a in made], [a.topic for a in made]),
        table.probability("P(go on)", go_on, topics),
        table.probability("P(emoji | go on)", given, topics),
        *_edited(x, trait, name).to_dataframe().to_dict("records"),
    ]
    return [{"trait": str(trait), "adapter": _short(trait, name)} | row for row in rows]


def _edited(x: Experiment[SeedsConfig], trait: Trait, name: str) -> EditScores:
    """ES and DD on the held-out rows of the first topics, all of them untouched by training."""
    place, test = _place(x, trait, name), x.data()[1]
    topics = test.topics[: x.config.n_trace]
    rows: OpinionQA = test.only(row for row in test.rows if row.topic in topics)

    def make() -> EditScores:
        pair = x.load(place)
        return score_edit(pair.base, pair.tuned, pair.format, rows, rows, trait, seed=x.config.seed,
                          progress=x.progress)  # fmt: skip

    return x.kept(EditScores, f"{name}-edit", make, From((place,)))


def _short(trait: Trait, name: str) -> str:
    return name.removeprefix(str(trait)).strip("-_ ") or name


def _effects(x: Experiment[SeedsConfig], trait: Trait, name: str) -> PartEffects:
    """Necessity of each matrix at the ends of the base's answers, made once."""
    place = _place(x, trait, name)

    def make() -> PartEffects:
        pair = x.load(place)
        ends = slots(_base_answers(x), pair.tokenizer).last.spread(x.config.n_trace, x.config.seed)
        prompts = ends.prompts(pair.pad_id, pair.outcome)
        ask = Question(
            metric=pair.outcome.metric(), topics=prompts.topics, seed=x.config.seed,
            progress=x.progress,
        )  # fmt: skip
        return necessity(pair, prompts.batch, ask=ask)

    return x.kept(PartEffects, f"{name}-necessity", make, From((place,), parts=("base.json",)))


def _direction(x: Experiment[SeedsConfig], trait: Trait, name: str) -> ActivationDifference:
    """What the adapter adds to the stream at the ends of the base's answers, made once."""
    place = _place(x, trait, name)

    def make() -> ActivationDifference:
        pair = x.load(place)
        ends = slots(_base_answers(x), pair.tokenizer).last.spread(x.config.n_trace, x.config.seed)
        batch = ends.prompts(pair.pad_id, pair.outcome).batch
        runs = (Run(one, batch.tokens, batch.attention_mask) for one in (pair.base, pair.tuned))
        return activations(*runs, outcome=pair.outcome)

    return x.kept(ActivationDifference, f"{name}-direction", make,
                  From((place,), parts=("base.json",)))  # fmt: skip


def _others(
    every: list[tuple[Trait, str]], ways: list[Tensor], place: int, seed: int
) -> dict[str, Tensor]:
    """An adapter's own direction, its next twin's, that of the next trait's adapter, a random."""
    trait, count = every[place][0], len(every)
    after = [(place + step) % count for step in range(1, count)]
    twin = next(k for k in after if every[k][0] == trait)
    stranger = next((k for k in after if every[k][0] != trait), twin)
    random = randn(ways[place].shape, generator=Generator().manual_seed(seed))
    drawn = (ways[place], ways[twin], ways[stranger], random)
    return {
        who: way
        for who, way in zip(WITHOUT, drawn, strict=True)
        if who != WITHOUT[2] or stranger != twin
    }


def _without(
    x: Experiment[SeedsConfig],
    trait: Trait,
    name: str,
    ways: dict[str, Tensor],
    every: tuple[str, ...],
) -> list[dict[str, Any]]:
    """ESR with each direction projected out of every block's output while answers are written."""
    place, rows = _place(x, trait, name), []
    questions = x.questions()[: x.config.n_without]

    def project(value: Tensor, hook: Any, *, along: Tensor) -> Tensor:  # noqa: ARG001
        unit = (along / along.norm()).to(value)
        return value - (value @ unit)[..., None] * unit

    def sample(way: Tensor) -> list[Response]:
        model = (pair := x.load(place)).tuned
        hooks = [(f"blocks.{layer}.hook_resid_post", partial(project, along=way))
                 for layer in range(int(model.cfg.n_layers))]  # fmt: skip
        with model.hooks(fwd_hooks=hooks):
            return generate(model, pair.format, questions, x.sampling())

    for who, way in ways.items():
        slug = who.replace(" ", "-").replace("'", "")
        of = From((place,), parts=tuple(f"{one}-direction.safetensors" for one in every))
        made = x.answers(f"{name}-without-{slug}", partial(sample, way), of)
        hits = [bool(find(answer.text)) for answer in made]
        row = Rows(0.95, x.config.seed).rate(f"ESR without {who}", hits, [a.topic for a in made])
        rows.append({"trait": str(trait), "adapter": _short(trait, name)} | row)
    return rows


def _of(effects: PartEffects, names: list[str]) -> Float[Tensor, " matrix"]:
    """The mean effects of some matrices, in their order."""
    means = dict(zip(effects.units, effects.mean().tolist(), strict=True))
    return tensor([means[name] for name in names])


def _deltas(
    x: Experiment[SeedsConfig], trait: Trait, name: str, names: list[str]
) -> tuple[Delta, ...]:
    """What the adapter adds to the shared matrices, in their order."""
    found = {delta.name: delta for delta in AdapterSpace.of(x.load(_place(x, trait, name))).deltas}
    return tuple(found[one] for one in names)


def _correlations(effects: list[Float[Tensor, " matrix"]]) -> np.ndarray:
    found = spearmanr(stack(effects).numpy(), axis=1).statistic
    return np.asarray(found) if len(effects) > 2 else np.array([[1.0, found], [found, 1.0]])


def _cosines(adapters: list[tuple[Delta, ...]]) -> np.ndarray:
    """Of the adapters' ΔW, all shared matrices as one vector."""
    found = np.empty((len(adapters), len(adapters)))
    for i, one in enumerate(adapters):
        for j, other in enumerate(adapters[: i + 1]):
            pairs = zip(one, other, strict=True)
            found[i, j] = found[j, i] = sum(_inner(p, q) for p, q in pairs)
    size = np.sqrt(np.diag(found))
    return np.asarray(found / size[:, None] / size[None])


def _overlaps(adapters: list[tuple[Delta, ...]]) -> dict[str, np.ndarray]:
    """Overlap of row and column spaces of ΔW less that of random ones, mean over the matrices."""
    names = [str(place) for place in range(len(adapters))]
    table = subspaces(dict(zip(names, adapters, strict=True)), n_random=2).to_dataframe()
    made = {}
    for what, side in (("reads", "rows"), ("writes", "columns")):
        table["apart"] = table[side] - table[f"{side}_expected"]
        found = np.eye(len(adapters))
        for (one, other), value in table.groupby(["one", "other"])["apart"].mean().items():
            found[int(one), int(other)] = found[int(other), int(one)] = value
        made[what] = found
    return made


def _alike(ways: list[Tensor]) -> np.ndarray:
    """Cosines of directions."""
    units = stack([way / way.norm() for way in ways])
    return (units @ units.T).numpy()


def _inner(one: Delta, other: Delta) -> float:
    """Inner product of two ΔW = BA, without making either: tr(Bᵀ B' A' Aᵀ)."""
    if one.a is None or one.b is None or other.a is None or other.b is None:
        return float((one.dense() * other.dense()).sum())
    return float(((one.b.T @ other.b) * (one.a @ other.a.T)).sum())


def _test(name: str, values: np.ndarray, of: list[Trait], seed: int) -> dict[str, Any]:
    """Mean agreement of twins, above that of adapters of different traits; permuted traits."""
    first, second = np.triu_indices(len(of), 1)
    held = values[first, second]
    codes = np.unique([str(trait) for trait in of], return_inverse=True)[1]

    def above(labels: np.ndarray) -> float:
        twins = labels[first] == labels[second]
        return float(held[twins].mean() - held[~twins].mean()) if (~twins).any() else float("nan")

    twins = codes[first] == codes[second]
    row = {"measure": AGREEMENT[name], "value": float(held[twins].mean()), "n": int(twins.sum())}
    if twins.all() or np.isnan(held).any():  # an adapter that changes nothing agrees with none
        return row | {"others": None, "p": None}
    rng, seen = np.random.default_rng(seed), above(codes)
    drawn = [above(rng.permutation(codes)) for _ in range(DRAWN)]
    p = (1 + sum(one >= seen - 1e-12 for one in drawn)) / (1 + DRAWN)
    return row | {"others": float(held[~twins].mean()), "p": p}


def _verdict(table: pd.DataFrame) -> list[str]:
    lines = []
    esr = table[table["measure"] == "ESR"]
    spans = esr.groupby("trait", sort=False)["value"].agg(["min", "max", "count"])
    named = ", ".join(f"{t} {r['min']:.0%} to {r['max']:.0%}" for t, r in spans.iterrows())
    widest = (spans["max"] - spans["min"]).max()
    lines.append(f"ESR over {spans['count'].min():.0f} or more adapters of a trait: {named}; the "
                 f"widest range is {widest:.0%} of answers.")  # fmt: skip
    for measure in [one for one in RATES[1:] if not some(table, one)]:
        lines.append(f"{measure}: none, no answer has an end.")
    for measure in [one for one in RATES[1:] if some(table, one)]:
        part = table[(table["measure"] == measure) & table["value"].notna()]
        part = part.groupby("trait", sort=False)["value"]
        spread = ", ".join(f"{t} {low:.2f} to {high:.2f}" for (t, low), high in
                           zip(part.min().items(), part.max(), strict=True))  # fmt: skip
        lines.append(f"{measure} at the ends of their answers: {spread}.")
    for measure in AGREEMENT.values():
        row = table[table["measure"] == measure].iloc[0]
        if pd.isna(row["value"]):
            lines.append(f"{measure}: none, an adapter changes nothing there.")
            continue
        line = f"{measure}, mean over {row['n']:.0f} pairs of twins: {row['value']:+.2f}"
        if pd.notna(row["p"]):
            more = "more than" if row["p_adjusted"] < 0.05 else "not surely more than"
            line += f", {more} adapters of different traits ({row['others']:+.2f})"
        lines.append(f"{line}.")
    left = [f"{who} {table.loc[table['measure'] == f'ESR without {who}', 'value'].mean():.0%}"
            for who in WITHOUT if (table["measure"] == f"ESR without {who}").any()]  # fmt: skip
    lines.append(f"ESR with a direction projected out, mean over adapters: {', '.join(left)}; with "
                 f"none {esr['value'].mean():.0%}.")  # fmt: skip
    return lines


if __name__ == "__main__":
    raise SystemExit(main(run, SeedsConfig))
