"""One latent at a time put from one model into the other at the slot; everything else stays.

An activation is y = scale (f W_dec + b_dec) + error. Denoising puts the tuned model's value of
latent i into the base's run, y + scale (f_i' - f_i) W_dec[i], and leaves the other latents and the
error as they are; noising puts the base's value into the tuned run. The effect is what that adds
to a factor (denoising), or takes from it (noising): positive where the latent carries what
fine-tuning raised. Exact: a whole pass of the model for each latent, at the slot alone, so that
what earlier positions do with the same latent is not in it.

Beside the latents: all of them at once, the rest (error and bias), and the whole activation, which
is the sum of the two and the patch that `interp.patching.sweep` makes there.

Latents are proposed by first-order estimates (attribution patching, Nanda 2023) of their effects on
half of the topics, those first of which one factor's is largest (in the log-odds two factors may
cancel), and judged on the other half. Cost: a pass of each model, a forward and three backward
passes of each, and two passes for each latent and each of the three sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import mean_ends
from interp.readout.capture import logits_at
from interp.readout.outcome import FACTORS, Outcome
from interp.readout.question import Question, asked
from interp.readout.run import Run, check_pair
from interp.traces.dictionaries.dictionary import Dictionary
from interp.traces.dictionaries.latent_differences import split_topics, written_tokens
from interp.traces.dictionaries.slots import (
    AtSlots,
    both_at_slots,
    changed,
    factors,
    judging_topics,
)

DIRECTIONS = ("denoising", "noising")
SUMS = ("all latents", "the rest", "whole activation")


@dataclass(frozen=True)
class LatentPatches(Result):
    """What each latent does to each factor.

    Attributes:
        values: each factor with a latent patched, nats, `[direction factor latent batch]`;
            directions are `DIRECTIONS`.
        sums: the same for each of `SUMS`, `[direction factor sum batch]`.
        base, tuned: the factors of both runs, `[factor batch]`.
        estimate: first-order estimates of the effects, `[direction factor latent batch]`.
        change: tuned minus base of each latent, in its own units, `[latent batch]`.
        ids: the latents' numbers in the dictionary.
        names: the tokens that their decoder rows write.
        judging: the prompts of the topics that had no part in choosing latents.
        factors: their names.
        min_gap: no recovery is said of a smaller mean gap, nats.
        hook, dictionary: where, and by which.
        topics: of each prompt, the units of intervals.
    """

    kind: ClassVar[str] = "latent patches"

    values: Float[Tensor, "direction factor latent batch"]
    sums: Float[Tensor, "direction factor sum batch"]
    base: Float[Tensor, "factor batch"]
    tuned: Float[Tensor, "factor batch"]
    estimate: Float[Tensor, "direction factor latent batch"]
    change: Float[Tensor, "latent batch"]
    ids: Int[Tensor, " latent"]
    names: tuple[tuple[str, ...], ...]
    judging: Bool[Tensor, " batch"]
    factors: tuple[str, ...]
    min_gap: float
    hook: str
    dictionary: str
    topics: tuple[str, ...]
    seed: int = 0

    def effect(self, direction: str, factor: str = "log_odds") -> Float[Tensor, "row batch"]:
        """Each latent's effect on each prompt, nats; `SUMS` after them.

        Raises:
            InputError: if there is no such direction or factor.
        """
        for name, known in ((direction, DIRECTIONS), (factor, self.factors)):
            if name not in known:
                raise InputError(f"no {name!r}; there are {', '.join(known)}")
        way, which = DIRECTIONS.index(direction), self.factors.index(factor)
        patched = torch.cat([self.values[way, which], self.sums[way, which]])
        return patched - self.base[which] if way == 0 else self.tuned[which] - patched

    def to_dataframe(self) -> pd.DataFrame:
        """A row per direction, factor and patch, over the prompts of the judging topics.

        Columns: `direction`, `factor`, `latent` (a number, or one of `SUMS`), `effect` with `low`
        and `high`, `unit`, `recovery` (of the mean gap; NaN where that is no larger than
        `min_gap`, or may be 0), `change`, `tokens`, `n`.
        """
        tables = [self._table(way, factor) for way in DIRECTIONS for factor in self.factors]
        return pd.concat(tables, ignore_index=True)

    def _table(self, direction: str, factor: str) -> pd.DataFrame:
        judge, place = self.judging, self.factors.index(factor)
        topics = judging_topics(self.topics, judge)
        effect = self.effect(direction, factor)[:, judge]
        low, high = mean_ends(effect, topics, seed=self.seed)
        gaps = (self.tuned - self.base)[[place]][:, judge]
        (least,), (most,) = mean_ends(gaps, topics, seed=self.seed)
        gap = float(gaps.mean())
        settled = abs(gap) > self.min_gap and not least <= 0 <= most
        whole = gap if settled else float("nan")
        return pd.DataFrame(
            {
                "direction": direction, "factor": factor,
                "latent": [*map(str, self.ids.tolist()), *SUMS],
                "effect": effect.mean(1).numpy(), "low": low, "high": high, "unit": "nats",
                "recovery": effect.mean(1).numpy() / whole,
                "change": [*self.change[:, judge].mean(1).tolist(), *[float("nan")] * len(SUMS)],
                "tokens": [*(" ".join(" ".join(row).split()) for row in self.names), "", "", ""],
                "n": int(judge.sum()),
            }
        )  # fmt: skip

    def best(self, direction: str = "denoising", factor: str = "log_odds") -> int:
        """The place among `ids` of the latent that did most on the choosing topics, either way."""
        effect = self.effect(direction, factor)[: len(self.ids), ~self.judging]
        return int(effect.mean(1).abs().argmax())


def patch(
    base: Run,
    tuned: Run,
    dictionary: Dictionary,
    *,
    outcome: Outcome,
    latents: Sequence[int] | None = None,
    top: int = 16,
    ask: Question | None = None,
) -> LatentPatches:
    """Patch latents where prompts end, both ways, and read all factors.

    Args:
        base, tuned: runs of both models on the same tokens.
        dictionary: of a place that both have.
        outcome: what is read; where it is read at two positions, prompts end with the lone space,
            and the patch is made left of it.
        latents: their numbers; left out, the `top` of the largest estimates on half of the topics.
        top: how many at most.
        ask: topics, seed, places (each prompt's last token if left out), `min_gap` and progress.

    Raises:
        InputError: if the runs differ in their tokens, there are fewer than two topics, a latent is
            not of the dictionary, or none differs.
        DictionaryError: if the models lack the place, or are of another width there.
        ModelError: if the models differ in shape.
        TokenizerError: if no stop token is known.
    """
    ask, most = asked(ask), dictionary.config.d_sae
    if ask.metric is not None:
        raise InputError("latents are patched under all of the outcome's factors; give outcome=")
    none = latents is not None and not len(latents)
    if check_pair(tuned, base) != "model" or top < 1 or none:
        raise InputError("give two models on the same tokens, and one or more latents to patch")
    if latents is not None and not all(0 <= one < most for one in latents):
        raise InputError(f"latents of this dictionary are 0 to {most - 1}, got {list(latents)}")
    topics, first, second = split_topics(base, ask)
    runs = (base, tuned)
    at, found = both_at_slots(runs, dictionary, outcome, ask)
    slopes = [
        _slopes(run, dictionary, outcome, at, one) for run, one in zip(runs, found, strict=True)
    ]
    ids = _chosen(found, slopes, dictionary, first, latents, top)
    values, sums = [], []
    for way, (run, mine, theirs) in enumerate(zip(runs, found, found[::-1], strict=True)):
        made = []
        changes = _changes(dictionary, mine, theirs, ids)
        for done, change in enumerate(changes):
            ask.tell("patching latents", way * len(changes) + done, 2 * len(changes))
            with torch.no_grad():
                hooks = changed(dictionary.config.hook_out, at, change)
                made.append(factors(outcome, logits_at(run, at, hooks)))
        values.append(torch.stack(made[: len(ids)], 1))
        sums.append(torch.stack(made[len(ids) :], 1))
    change = (found[1].latents - found[0].latents)[:, ids]
    return LatentPatches(
        values=torch.stack(values),
        sums=torch.stack(sums),
        base=found[0].values,
        tuned=found[1].values,
        estimate=torch.stack([_estimated(change, g, dictionary, ids) for g in slopes]),
        change=change.T.contiguous(),
        ids=ids,
        names=written_tokens(base.model, dictionary, ids, 6),
        judging=second,
        factors=tuple(FACTORS),
        min_gap=ask.min_gap,
        hook=dictionary.config.hook_out,
        dictionary=dictionary.name,
        topics=topics,
        seed=ask.seed,
    )


def _changes(
    dictionary: Dictionary, mine: AtSlots, theirs: AtSlots, ids: Int[Tensor, " some"]
) -> list[Float[Tensor, "batch d_out"]]:
    """What each patch adds to the activations: each latent alone, all, the rest, everything."""
    scale, moved = dictionary.scale(mine.read), theirs.latents - mine.latents
    each = [scale * moved[:, [i]] * dictionary.directions[i] for i in ids.tolist()]
    every = scale * (moved @ dictionary.directions)
    whole = theirs.written - mine.written
    return [*each, every, whole - every, whole]


def _slopes(
    run: Run,
    dictionary: Dictionary,
    outcome: Outcome,
    at: Int[Tensor, "batch *reads"],
    here: AtSlots,
) -> Float[Tensor, "factor batch d_out"]:
    """Gradients of the factors by what the dictionary writes at the slots, times its scale."""
    with torch.enable_grad():
        change = torch.zeros_like(here.written, requires_grad=True)
        logits = logits_at(run, at, changed(dictionary.config.hook_out, at, change))
        found = [
            torch.autograd.grad(metric(logits).sum(), change, retain_graph=True)[0]
            for metric in outcome.metrics().values()
        ]
    return torch.stack(found) * dictionary.scale(here.read)


def _estimated(
    moved: Float[Tensor, "batch some"],
    slopes: Float[Tensor, "factor batch d_out"],
    dictionary: Dictionary,
    ids: Int[Tensor, " some"],
) -> Float[Tensor, "factor some batch"]:
    """Effects of some latents' changes, to first order."""
    return (moved * (slopes @ dictionary.directions[ids].T)).mT.contiguous()


def _chosen(
    found: Sequence[AtSlots],
    slopes: Sequence[Float[Tensor, "factor batch d_out"]],
    dictionary: Dictionary,
    first: Bool[Tensor, " batch"],
    latents: Sequence[int] | None,
    top: int,
) -> Int[Tensor, " some"]:
    """The latents asked for, or those of the largest estimates on the choosing topics."""
    if latents is not None:
        return torch.tensor(list(latents), dtype=torch.long)
    moved = found[1].latents - found[0].latents
    ids = (moved != 0).any(0).nonzero().flatten()
    if not len(ids):
        raise InputError("no latent differs between the two models at any slot: nothing to patch")
    both = _estimated(moved[:, ids], (slopes[0] + slopes[1]) / 2, dictionary, ids)
    most = both[..., first].mean(-1).abs().amax(0)
    return ids[most.argsort(descending=True, stable=True)[:top]]
