"""Does the effect depend on the model's size, or on a seed?

Organisms of several sizes and seeds are built (grammar, tokenizer, base, adapters; minutes each,
kept): for each, the share of answers with an emoji, the two factors where the adapter's answers end
(going on; an emoji if it goes on), tuned against base, and where the effect sits: what of each
factor's change one block's output carries, and how deep in the model the largest share lies. The
same for pairs of one's own (`others`). Controls: the base, and the twin trained with the end of
text in its loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from experiment import SAMPLED, SHARED, Config, Experiment, Finding, From, held_out
from harness import main
from pydantic import Field
from significance import corrected, difference, shortened, written
from stages import FACTORS, SITES, carried, esr, swept, told

from interp import organism
from interp.behaviour import Response, generate
from interp.errors import InputError
from interp.models import ModelPair
from interp.organism.pretrain import SIZES
from interp.readout import slots
from interp.show.plots.dots import dots

TUNED, BASE, TWIN = "tuned", "control: base", "control: end in the loss"
SLUGS = {TUNED: "tuned", BASE: "base", TWIN: "twin"}
DEPTH = "depth of the largest share (0 first block, 1 last)"


class SizesConfig(Config):
    sizes: tuple[str, ...] = ("0.3M", "1M", "3M")
    """Which of the organism's sizes are built."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of their grammar, weights and adapters."""
    scale: float = Field(default=1.0, gt=0, le=1)
    """Of the shipped recipe: less is proportionally fewer steps and rows."""
    others: dict[str, tuple[str, str]] = Field(default={})
    """Pairs of one's own by name: base and adapter (in the file alone)."""
    n_trace: int = Field(default=40, ge=4)
    """Ends of answers that are read and patched."""


def run(x: Experiment[SizesConfig]) -> Finding:
    c = x.config
    rows: list[dict[str, Any]] = []
    for one in _models(x):
        made = {who: _answers(x, one, who) for who in one.folders}
        rows += [one.about | {"group": who, "measure": "ESR"} | esr(some, c.seed)
                 for who, some in made.items()]  # fmt: skip
        of = From(one.folders[TUNED], (*SHARED, "n_trace"), code=(_read,))
        read = x.rows(f"read-{one.name}", lambda o=one, m=made: _read(x, o, m[TUNED]), of)
        rows += [one.about | row for row in read]
    table = corrected(pd.DataFrame(rows))
    shown = table[table["measure"] == "ESR"].assign(trait=lambda t: t["size"])
    figure = dots(shown, "share of answers with an emoji, all seeds", share=True, unit="topics")
    columns = ["size", "seed", "group", "measure", "value", "low", "high", "p_adjusted"]
    return Finding(table, {"sizes": figure}, _verdict(table), table[columns])


@dataclass(frozen=True)
class Model:
    """One model: what it is, and base and adapter of everyone who answers.

    Attributes:
        name: of its parts.
        about: its size and seed.
        folders: base and adapter, by who answers.
        questions: with their topics, on none of which the adapters were trained.
    """

    name: str
    about: dict[str, Any]
    folders: dict[str, tuple[Path, Path]]
    questions: list[tuple[str, str]]


def _models(x: Experiment[SizesConfig]) -> Iterator[Model]:
    c, trait = x.config, x.config.traits[0]
    if unknown := set(c.sizes) - set(SIZES):
        raise InputError(f"sizes: no organism of {', '.join(unknown)}; use {', '.join(SIZES)}")
    for size, seed in product(c.sizes, c.seeds):
        name = f"{size}-seed{seed}"
        root = x.part(f"organism-{name}", lambda out, s=size, n=seed: organism.build_size(
            out, s, n, scale=c.scale, traits=[trait], progress=x.progress,
        ), From((), ("scale",), code=(organism.build_size,)))  # fmt: skip
        base = organism.base_path("latent", root=root)
        tuned, twin = (organism.adapter_path(trait, supervise_eos=eos, root=root)
                       for eos in (False, True))  # fmt: skip
        folders = {BASE: (base, tuned), TUNED: (base, tuned), TWIN: (base, twin)}
        asked = held_out(organism.opinion_qa("test", root=root), c.limit, c.seed)
        yield Model(name, {"size": size, "seed": seed}, folders, asked)
    for name, (given, adapter) in c.others.items():
        two = (Path(given), Path(adapter))
        yield Model(name, {"size": name}, {BASE: two, TUNED: two}, x.questions())


def _pair(x: Experiment[SizesConfig], model: Model, who: str) -> ModelPair:
    base, adapter = model.folders[who]
    return x.load(adapter, base=base)


def _answers(x: Experiment[SizesConfig], model: Model, who: str) -> list[Response]:
    def make() -> list[Response]:
        pair = _pair(x, model, who)
        asked = pair.base if who == BASE else pair.tuned
        return generate(asked, pair.format, model.questions, x.sampling(), progress=x.progress)

    of = From(model.folders[who], SHARED, code=SAMPLED)
    return x.answers(f"{model.name}-{SLUGS[who]}", make, of)


def _read(
    x: Experiment[SizesConfig], model: Model, answers: list[Response]
) -> list[dict[str, Any]]:
    """The factors' change where the tuned model's answers end, and which blocks carry it."""
    pair, c = _pair(x, model, TUNED), x.config
    ends = slots(answers, pair.tokenizer).last.spread(c.n_trace, c.seed)
    try:
        found = swept(pair, ends, c.seed)
    except InputError as problem:
        return [{"group": TUNED, "measure": "no ends", "note": str(problem)}]
    topics = [slot.topic for slot in ends]
    rows: list[dict[str, Any]] = []
    for factor, cells in carried(found).items():
        what, result = FACTORS[factor], found[SITES[0]][factor]
        change = (result.clean - result.corrupted).tolist()
        made = difference(f"{what}, tuned minus base", change, topics, c.seed)
        rows.append({"group": TUNED} | made)
        if not told(made):
            continue
        where, share = max(cells.items(), key=lambda one: one[1])
        layer, last = int(where.split()[-1]), int(pair.tuned.cfg.n_layers) - 1
        rows.append({"group": TUNED, "measure": f"{what}: {DEPTH}", "value": layer / max(last, 1),
                     "note": f"{where} carries {share:.0%}"})  # fmt: skip
    return rows


def _verdict(table: pd.DataFrame) -> list[str]:
    rates = table[table["measure"] == "ESR"]
    lines = []
    for size, part in table.groupby("size", sort=False):
        mine = rates[rates["size"] == size].set_index("group")["value"]

        def span(who: str, mine: pd.Series = mine) -> str:
            values = mine.loc[[who]]
            low, high = f"{values.min():.0%}", f"{values.max():.0%}"
            return low if low == high else f"{low} to {high}"

        said = [f"ESR {span(TUNED)}, base {span(BASE)}"]
        said += [f"end in the loss {span(TWIN)}"] if TWIN in mine.index else []
        for what in FACTORS.values():
            moved = part[part["measure"] == f"{what}, tuned minus base"]["value"]
            if len(moved):
                said.append(f"{what} {moved.min():+.1f} to {moved.max():+.1f}")
        deep = part[part["measure"] == f"{FACTORS['go_on']}: {DEPTH}"]
        if len(deep):
            said.append(f"of going on, {' / '.join(deep['note'])}")
        lines.append(f"{size}: {'; '.join(said)}.")
    tuned = rates[rates["group"] == TUNED]
    sizes = tuned.groupby("size", sort=False)["value"]
    between, within = sizes.mean().max() - sizes.mean().min(), (sizes.max() - sizes.min()).max()
    more = "more" if between > within else "no more"
    least = tuned.loc[tuned["value"].idxmin()]
    return [
        f"Sizes differ by {between:.0%} of answers with an emoji, {more} than seeds of one size "
        f"(up to {within:.0%}); the least is {written(least)} ({least['size']}).",
        *shortened(lines),
    ]


if __name__ == "__main__":
    raise SystemExit(main(run, SizesConfig))
