"""What do two trait adapters make of each other? ESR and TA along the line between them.

For pairs of adapters on one base, answers with `(1 - t) ΔW_a + t ΔW_b` for t from 0 to 1, and with
the sum of both. Is the emoji behaviour of a mixture what a straight line between its ends says?
Control: the second adapter with the rows of each ΔW dealt out at random, which has the same norm
and rank and points nowhere: adding it must not do what adding the real one does.
"""

from functools import cache
from itertools import combinations
from typing import Any

import pandas as pd
from experiment import SAMPLED, SHARED, Config, Experiment, Finding, From
from harness import main
from pydantic import Field
from significance import corrected, difference, written
from torch import Generator, cat, randperm, tensor

from interp.adapters import AdapterSpace, Delta
from interp.adapters.generation import write
from interp.base.traits import Trait
from interp.behaviour import Response
from interp.behaviour.shares import Rows
from interp.emoji import find
from interp.errors import InputError
from interp.measures import TraitClassifier, trait_alignment
from interp.show.plots.dots import dots

CONTROL = "control: a + dealt b"


class SoupConfig(Config):
    pairs: tuple[tuple[Trait, Trait], ...] = ()
    """Pairs of traits to mix; all pairs of `traits` if left out."""
    steps: int = Field(default=4, ge=2)
    """Steps of t from 0 to 1."""


def run(x: Experiment[SoupConfig]) -> Finding:
    pairs = [p for p in x.config.pairs if set(p) <= set(x.config.traits)]
    pairs = pairs or list(combinations(x.config.traits, 2))
    if not pairs:
        raise InputError("traits: mixing needs two traits or more; see --traits")
    classifier = TraitClassifier.fit(*x.data(), seed=x.config.seed)
    rows: list[dict[str, Any]] = []
    for a, b in pairs:
        found = cache(lambda a=a, b=b: _answers(x, a, b))
        of = From((a, b), (*SHARED, "steps"), code=(_answers, *SAMPLED))
        made = {name: x.answers(f"{a}-{b}-{_slug(name)}", lambda f=found, n=name: f()[n], of)
                for name in _settings(x)}  # fmt: skip
        rows += _measured(x, a, b, made, classifier)
    table = corrected(pd.DataFrame(rows))
    figures = {}
    for a, b in pairs:
        part = table[(table["pair"] == f"{a} + {b}") & table["measure"].isin(["ESR", "TA"])]
        names = {"": "with an emoji (ESR)"}
        part = part.assign(group=part["setting"], trait=part["trait"].replace(names))
        what = f"share of answers: with an emoji, and in the voice of a = {a}, b = {b} (TA)"
        figures[f"{a}-{b}"] = dots(part, what, share=True, unit="topics")
    shown = table[table["measure"] == "ESR"][["pair", "setting", "value", "low", "high"]]
    return Finding(table, figures, _verdict(table), shown)


def _settings(x: Experiment[SoupConfig]) -> dict[str, tuple[float, float, float]]:
    """Weights of a, b and the dealt b, by name."""
    path = [i / x.config.steps for i in range(x.config.steps + 1)]
    settings = {f"{1 - t:g} a + {t:g} b": (1 - t, t, 0.0) for t in path}
    return settings | {"a + b": (1.0, 1.0, 0.0), CONTROL: (1.0, 0.0, 1.0)}


def _slug(name: str) -> str:
    return name.replace(":", "").replace(" ", "").replace("+", "-")


def _answers(x: Experiment[SoupConfig], a: Trait, b: Trait) -> dict[str, list[Response]]:
    """Answers under every mixture; all settings of a pair share batches."""
    other = AdapterSpace.of(x.pair(b)).deltas
    one = AdapterSpace.of(x.pair(a))  # the adapters' own check refuses another base
    dealt = _dealt(other, x.config.seed)
    parts = [one.deltas, other, dealt]
    weights = tensor(list(_settings(x).values()))
    gates = cat(
        [weights[:, [i]].expand(-1, sum(d.rank for d in part)) for i, part in enumerate(parts)], 1
    )
    joint = AdapterSpace(one.pair, tuple(d for part in parts for d in part), one.error, one.effect)
    found = write(joint, gates, x.questions(), x.sampling(), x.progress, f"{a} + {b}")
    return dict(zip(_settings(x), found, strict=True))


def _dealt(deltas: tuple[Delta, ...], seed: int) -> tuple[Delta, ...]:
    """The same changes with their outputs dealt out at random: equal norm and singular values."""
    random = Generator().manual_seed(seed)
    made = []
    for delta in deltas:
        size = len(delta.b if delta.b is not None else delta.dense())
        made.append(delta.rows(randperm(size, generator=random)))
    return tuple(made)


def _measured(
    x: Experiment[SoupConfig],
    a: Trait,
    b: Trait,
    made: dict[str, list[Response]],
    classifier: TraitClassifier,
) -> list[dict[str, Any]]:
    seed, rows = x.config.seed, []
    has = {name: [bool(find(r.text)) for r in answers] for name, answers in made.items()}
    topics = [r.topic for r in next(iter(made.values()))]
    start, end = has["1 a + 0 b"], has["0 a + 1 b"]
    for name, (wa, wb, _) in _settings(x).items():
        about = {"pair": f"{a} + {b}", "setting": name, "trait": "", "n": len(topics)}
        rows.append(about | Rows(0.95, seed).rate("ESR", has[name], topics))
        for trait in (a, b):
            voice = trait_alignment(made[name], trait, classifier, seed=seed)
            low, high = voice.interval.low, voice.interval.high
            rows.append(about | {"measure": "TA", "trait": str(trait), "value": voice.share,
                                 "low": low, "high": high})  # fmt: skip
        if name in ("1 a + 0 b", "0 a + 1 b"):
            continue
        line = [wa * p + wb * q for p, q in zip(start, end, strict=True)]
        above = {CONTROL: "a alone", "a + b": "the sum"}.get(name, "the line")
        gap = [h - e for h, e in zip(has[name], line, strict=True)]
        rows.append(about | difference(f"ESR above {above}", gap, topics, seed))
    return rows


def _verdict(table: pd.DataFrame) -> list[str]:
    line = table[table["measure"] == "ESR above the line"]
    off = line[line["p_adjusted"] < 0.05]
    answer = "Not a straight line" if len(off) else "A straight line, as far as this can tell"
    answer += (f": ESR leaves the line between the two adapters at {len(off)} of {len(line)} "
               "mixtures (adjusted p < 0.05)")  # fmt: skip
    if len(off):
        far = off.loc[off["value"].abs().idxmax()]
        answer += (
            f", most at {far['setting']} of {far['pair']}: by {written(far, '+.0%')} of answers"
        )
    lines = [f"{answer}."]
    esr = table[table["measure"] == "ESR"].set_index(["pair", "setting"])
    pairs = list(dict.fromkeys(table["pair"]))
    for pair in pairs[:5]:
        one = esr.loc[pair]
        middle = one.index[(len(one) - 3) // 2]
        shown = {"1 a + 0 b": "a", "0 a + 1 b": "b", middle: middle, "a + b": "a + b",
                 CONTROL: "control, a with a dealt b"}  # fmt: skip
        lines.append(f"{pair}, ESR: " + "; ".join(
            f"{name} {written(one.loc[setting])}" for setting, name in shown.items()
        ) + ".")  # fmt: skip
    if len(pairs) > 5:
        lines[-1] += " The other pairs are in results.csv."
    dealt = table[table["measure"] == "ESR above a alone"]
    moved = int((dealt["p_adjusted"] < 0.05).sum())
    control = (f"Control: a ΔW of equal norm that points nowhere changes ESR in {moved} of "
               f"{len(dealt)} pairs")  # fmt: skip
    return [*lines, control + (
        "; there, adding anything of that size disturbs the model." if moved else "."
    )]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(run, SoupConfig))
