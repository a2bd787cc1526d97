"""Does more of an adapter make more emojis: through its text, or through its weights?

Models with dose * ΔW for several doses answer the same questions with the same sampling noise. For
each dose: ESR; the expected rate (an emoji anywhere in an answer; seen long before a sample holds
one) of the dosed model on its own text, of the base on that text (*text*), of the dosed model on
the base's text (*weights*); and the two factors where answers end: P(go on), P(emoji | go on). Is
the way from base to adapter monotone? Several adapters of a trait (other seeds) stand side by side.
Control: the full ΔW of the first adapter with the rows of each matrix dealt out at random, which
has the same norm and points nowhere.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from experiment import SAMPLED, Config, Experiment, Finding, From
from harness import main
from pydantic import Field
from significance import corrected, difference, shortened
from sources import find_adapters
from torch import Generator, Tensor, no_grad, randperm

from interp.behaviour import (
    Origin,
    Response,
    emoji_free,
    expected_rates,
    generate,
    text_or_weights,
)
from interp.behaviour.shares import Rows
from interp.emoji import find
from interp.errors import InputError
from interp.models import ModelPair
from interp.show.plots.dose import dose_curves

OWN, TEXT, WEIGHTS = "own text and weights", "its text, the base reads", "the base's text, it reads"
READINGS = {OWN: (1, 1), TEXT: (1, 0), WEIGHTS: (0, 1)}  # writer, reader: 0 is the base
FACTORS = {"go on": "P(go on)", "emoji given go on": "P(emoji | go on)"}
DEALT = "ΔW dealt at random"


class DoseConfig(Config):
    doses: tuple[float, ...] = Field(default=(0.125, 0.375, 0.75, 1, 1.5), min_length=1)
    """What ΔW is multiplied with; 0 is the base, and always there."""
    n_expected: int = Field(default=16, ge=4)
    """Answers of each writer that are read place by place for the expected rate."""


def run(x: Experiment[DoseConfig]) -> Finding:
    c = x.config
    if c.temperature == 0:
        raise InputError("temperature: greedy answers draw nothing and have no expected rate")
    doses = sorted(set(c.doses) - {0.0})
    if not doses or not all(abs(dose) < 100 for dose in doses):
        raise InputError("doses: give at least one number between -100 and 100 that is not 0")
    rows: list[dict[str, Any]] = []
    for trait in c.traits:
        for nth, place in enumerate(find_adapters(c.adapters, trait)):
            name = place.name.removeprefix(str(trait)).strip("-_ ") or place.name
            asked: list[tuple[float, bool]] = [(dose, False) for dose in doses]
            asked += [(1.0, True)] if nth == 0 else []
            own: dict[float, Tensor] = {}  # expected rates of each answer; dose 0 is the base
            for dose, dealt in asked:
                made, origin = _dosed(x, place, dose, dealt)
                about = {"trait": str(trait), "adapter": DEALT if dealt else name, "dose": dose}
                rows += [about | row for row in _measured(made, origin, c.seed)]
                if not dealt:
                    own |= {0.0: origin.expected[0, 0], dose: origin.expected[1, 1]}
            topics = origin.topics[: len(_read_ones(own[0.0]))]
            for low, high in pairwise(sorted(own)):
                change = _read_ones(own[high] - own[low])
                step = difference("step", change, topics, c.seed)
                rows.append({"trait": str(trait), "adapter": name, "dose": high} | step)
    table = corrected(pd.DataFrame(rows))
    shown = table[table["measure"].isin(["ESR", *READINGS])]
    rates = table[table["measure"].isin(["base", *READINGS])]["value"]
    figures = {}
    if (rates > 0).any():  # on a scale of powers of ten
        figures["expected-rates"] = dose_curves(table, tuple(READINGS), DEALT)
    wide = shown.pivot_table(
        index=["trait", "adapter", "dose"], columns="measure", values="value", sort=False
    )
    return Finding(table, figures, _verdict(table), wide.reset_index())


def _dosed(
    x: Experiment[DoseConfig], place: Path, dose: float, dealt: bool
) -> tuple[list[Response], Origin]:
    """A dosed model's answers, and both models' readings of both models' answers."""
    stem = f"{place.name}-{'dealt' if dealt else f'{dose:g}'}"
    pair = cache(lambda: _scaled(x.load(place), dose, x.config.seed if dealt else None))
    code = (_scaled, _texts, _read, *SAMPLED)

    def base() -> list[Response]:
        return generate(
            pair().base, pair().format, x.questions(), x.sampling(), progress=x.progress,
            label="base",
        )  # fmt: skip

    def tuned() -> list[Response]:
        return generate(
            pair().tuned, pair().format, x.questions(), x.sampling(), progress=x.progress,
            label=stem,
        )  # fmt: skip

    first = From((find_adapters(x.config.adapters, x.config.traits[0])[0],), code=code)
    here = From((place,), code=code)
    written_by = (x.answers("base", base, first), x.answers(stem, tuned, here))
    free = x.answers("base-free", lambda: _texts(x, pair().base, pair(), written_by[0]), first)
    needs = From((place,), parts=("base.json", "base-free.json", f"{stem}.json"), code=code)
    found = x.kept(Origin, f"{stem}-read", lambda: _read(x, pair(), written_by, free), needs)
    return written_by[1], found


@no_grad()
def _scaled(pair: ModelPair, dose: float, dealt: int | None) -> ModelPair:
    """The pair with dose * ΔW in place of ΔW; `dealt`: a seed to deal the rows of each ΔW out."""
    before = dict(pair.base.original_model.named_parameters())
    random = Generator().manual_seed(dealt or 0)
    for name, weight in pair.tuned.original_model.named_parameters():
        change: Tensor = weight - before[name]
        if not bool(change.any()):
            continue
        if dealt is not None:
            change = change[randperm(len(change), generator=random).to(change.device)]
        weight.copy_(before[name] + dose * change)
    return pair


def _texts(
    x: Experiment[DoseConfig], model: Any, pair: ModelPair, made: list[Response]
) -> list[Response]:
    return emoji_free(
        model, pair.format, made[: x.config.n_expected], pair.vocab, x.sampling(),
        progress=x.progress,
    )  # fmt: skip


def _read(
    x: Experiment[DoseConfig],
    pair: ModelPair,
    made: tuple[list[Response], list[Response]],
    free: list[Response],
) -> Origin:
    models, c = (pair.base, pair.tuned), x.config
    expected = expected_rates(
        models, (free, _texts(x, pair.tuned, pair, made[1])), pair.vocab, len(made[0]),
        temperature=c.temperature, seed=c.seed, progress=x.progress,
    )  # fmt: skip
    return text_or_weights(
        models, made, pair.tokenizer, pair.outcome, pair.pad_id, seed=c.seed, expected=expected
    )


def _read_ones(values: Tensor) -> list[float]:
    """The expected rates of the answers that were read place by place: the first ones."""
    return values[~values.isnan()].tolist()


def _measured(made: list[Response], origin: Origin, seed: int) -> list[dict[str, Any]]:
    """Rows of one dose; of expected rates with their p-value against the base's on its own text."""
    topics, table = [answer.topic for answer in made], Rows(0.95, seed)
    rows = [table.rate("ESR", [bool(find(answer.text)) for answer in made], topics)]
    rows.append(table.rate("cut", [not answer.ended for answer in made], topics))
    n = int((~origin.expected[0, 0].isnan()).sum())
    base = origin.expected[0, 0, :n]
    rows.append(table.probability("base", base.tolist(), topics[:n]))
    _widen(rows[-1], origin.left_out[0, 0, :n])
    for name, (writer, reader) in READINGS.items():
        values = origin.expected[writer, reader, :n]
        p = difference(name, (values - base).tolist(), topics[:n], seed)["p"]
        rows.append(table.probability(name, values.tolist(), topics[:n]) | {"p": p})
        _widen(rows[-1], origin.left_out[writer, reader, :n])
    for quantity, name in FACTORS.items():
        values = origin.values(quantity)[1, 1]
        there = (~values.isnan()).nonzero().flatten().tolist()
        rows.append(table.probability(name, values[there].tolist(), [topics[i] for i in there]))
    return rows


def _widen(row: dict[str, Any], left_out: Tensor) -> None:
    """An expected rate may be so much more than what was followed."""
    if row["high"] is not None:  # answers to one topic have no interval
        row["high"] = min(1.0, row["high"] + float(left_out.mean()))


def _verdict(table: pd.DataFrame) -> list[str]:
    """A line per trait, its adapters' ranges in it, and one for the control."""
    lines, dealt = [], table[table["adapter"] == DEALT]
    for trait, part in table[table["adapter"] != DEALT].groupby("trait", sort=False):
        full = part.loc[(part["dose"] - 1).abs().idxmin(), "dose"]
        at = part[part["dose"] == full].set_index("measure")["value"]
        own = part[part["measure"] == OWN]
        base = part[part["measure"] == "base"].drop_duplicates("adapter").assign(dose=0.0)
        own = pd.concat([base, own], ignore_index=True)
        peaks = own.loc[own.groupby("adapter")["value"].idxmax(), "dose"]
        ways = ", ".join(dict.fromkeys(_way(one) for _, one in part.groupby("adapter")))
        lines.append(
            f"{trait}: expected rate of the base {_range(at.loc[['base']])}; at dose {full:g} "
            f"{_range(at.loc[[OWN]])} on its own text, {_range(at.loc[[TEXT]])} of the base on "
            f"that text, {_range(at.loc[[WEIGHTS]])} on the base's; highest at dose "
            f"{_range(peaks)}; {ways}."
        )
    readings = dealt[dealt["measure"].isin(READINGS)]
    base = dealt[dealt["measure"] == "base"].set_index("trait")["value"]
    away = (readings["value"] - readings["trait"].map(base)).abs().max()
    moved = (readings["p_adjusted"] < 0.05).sum()
    control = (f"Control ({DEALT}): told apart from the base's own rate in {moved} of "
               f"{len(readings)} readings, and at most {away:.2g} from it.")  # fmt: skip
    return [*shortened(lines), control]


def _range(values: pd.Series) -> str:
    low, high = (f"{value:.2g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _way(part: pd.DataFrame) -> str:
    """Whether one adapter's steps from dose to dose go one way."""
    steps = part.loc[(part["measure"] == "step") & (part["p_adjusted"] < 0.05), "value"]
    if (steps > 0).any() and (steps < 0).any():
        return "not monotone (steps up and down, adjusted p < .05)"
    if steps.empty:
        return "no step from dose to dose told apart from none"
    return f"every step that is told apart from none {'rises' if steps.iloc[0] > 0 else 'falls'}"


if __name__ == "__main__":
    raise SystemExit(main(run, DoseConfig))
