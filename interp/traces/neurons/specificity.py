"""Which neurons speak for which emoji.

For prompts that each hold or call for one emoji, a neuron's score for an emoji is its mean
activation on that emoji's prompts minus its mean on all others, in units of the pooled standard
deviation within the two groups (Cohen's d). The p-value is a permutation test: emojis are dealt
anew over the prompts; with the group sizes fixed, the score rises with the difference of means, so
differences are what is compared. Two-sided; false discovery rate over all neurons and emojis.

Limits: prompts are taken as exchangeable. Emojis that stand in different sentences differ in
whatever the sentences differ in; give prompts that are alike but for the emoji where you can. With
`n` permutations no p-value is below 1 / (n + 1), which over many neurons and emojis limits what
survives correction.

Cost: `n_permutations * prompts * emojis * neurons` multiplications.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import fdr_bh
from interp.readout.question import Question, asked
from interp.traces.neurons.activations import Prompts, layer_index, read

_CELLS = 16_000_000


@dataclass(frozen=True)
class Specificity(Result):
    """How specific each neuron of a layer is to each emoji.

    Attributes:
        score: `[neuron emoji]`, in pooled standard deviations; 0 where a neuron never varies.
        mean: mean activation on the emoji's prompts, `[neuron emoji]`.
        p, p_adjusted: two-sided permutation p-value, and its false discovery rate over the table.
        emojis: columns; counts: prompts of each.
        left_out: emojis with fewer prompts than asked for, and how many; their prompts are not
            used, neither for others.
        layer, n_permutations, seed: how it was made.
    """

    kind: ClassVar[str] = "neuron specificity"

    score: Float[Tensor, "neuron emoji"]
    mean: Float[Tensor, "neuron emoji"]
    p: Float[Tensor, "neuron emoji"]
    p_adjusted: Float[Tensor, "neuron emoji"]
    emojis: tuple[str, ...]
    counts: tuple[int, ...]
    left_out: tuple[tuple[str, int], ...]
    layer: int
    n_permutations: int
    seed: int

    def to_dataframe(self) -> pd.DataFrame:
        """One row per neuron and emoji, highest score first."""
        neuron, emoji = np.indices(self.score.shape).reshape(2, -1)
        table = pd.DataFrame(
            {
                "layer": self.layer,
                "neuron": neuron,
                "emoji": np.array(self.emojis, dtype=object)[emoji],
                "n": np.array(self.counts)[emoji],
                "n_others": sum(self.counts) - np.array(self.counts)[emoji],
            }
        )
        for name in ("mean", "score", "p", "p_adjusted"):
            table[name] = getattr(self, name).flatten().numpy()
        return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def specificity(
    model: Any,
    prompts: Prompts,
    emojis: Sequence[str],
    *,
    layer: int | None = None,
    min_prompts: int = 3,
    n_permutations: int = 9999,
    ask: Question | None = None,
) -> Specificity:
    """Score one layer's neurons for each emoji.

    Args:
        model: a bridge.
        prompts: one emoji each, with the positions to read (`Prompts.last` of onset prompts: where
            it is about to be written; `Prompts.emojis`: where it stands).
        emojis: the emoji of each prompt.
        layer: which layer, the last if left out.
        min_prompts: emojis with fewer prompts are left out, with their prompts.
        n_permutations: of the test.
        ask: seed of the permutations and prompts per forward pass (32 if left out); there is no
            metric here.

    Raises:
        InputError: if emojis do not match prompts, or fewer than two have enough prompts.
        ModelError: if the architecture has no such activation.
    """
    if len(emojis) != len(prompts.batch):
        raise InputError(f"{len(prompts.batch)} prompts but {len(emojis)} emojis; give one each")
    index = layer_index(model, layer)
    ask = asked(ask)
    found = read(model, prompts, index, batch_size=ask.batch_size or 32, progress=ask.progress)
    return specificity_of(
        found, emojis, layer=index, min_prompts=min_prompts, n_permutations=n_permutations,
        seed=ask.seed,
    )  # fmt: skip


def specificity_of(
    activations: Float[Tensor, "batch neuron"],
    emojis: Sequence[str],
    *,
    layer: int,
    min_prompts: int = 3,
    n_permutations: int = 9999,
    seed: int = 0,
) -> Specificity:
    """As `specificity`, from activations that were read already."""
    counts = Counter(emojis)
    kept = sorted(e for e, n in counts.items() if n >= max(2, min_prompts))
    if len(kept) < 2:
        raise InputError(
            f"{len(kept)} emojis have at least {max(2, min_prompts)} prompts; specificity needs "
            "two. Give more prompts, or lower min_prompts"
        )
    if n_permutations < 1:
        raise InputError(f"n_permutations must be at least 1, got {n_permutations}")
    rows = torch.tensor([i for i, emoji in enumerate(emojis) if emoji in kept])
    label = torch.tensor([kept.index(emojis[i]) for i in rows.tolist()])
    acts = activations[rows].double()
    acts = acts - acts.mean(0)  # scores do not see the mean; sums of squares are exacter without
    difference = _differences(acts, label, len(kept))
    p = _p_values(acts, label, difference, n_permutations, seed)
    size = torch.bincount(label).double()
    weight = size * (len(rows) - size) / len(rows)
    within = acts.square().sum(0)[:, None] - weight * difference.square()
    sd = (within / (len(rows) - 2)).clamp(min=0).sqrt()
    floor = 1e-9 * acts.abs().amax(0)[:, None]
    score = torch.where(sd > floor, difference / sd, torch.sign(difference) * torch.inf)
    score = torch.where(difference.abs() <= floor, 0.0, score)
    own = torch.nn.functional.one_hot(label).double().T @ activations[rows].double()
    return Specificity(
        score=score.float(),
        mean=(own / size[:, None]).T.float().contiguous(),
        p=p.float(),
        p_adjusted=torch.from_numpy(fdr_bh(p)).float(),
        emojis=tuple(kept),
        counts=tuple(int(n) for n in size),
        left_out=tuple(sorted((e, n) for e, n in counts.items() if e not in kept)),
        layer=layer,
        n_permutations=n_permutations,
        seed=seed,
    )


def _differences(
    acts: Float[Tensor, "batch neuron"], label: Int[Tensor, "*draw batch"], n: int
) -> Float[Tensor, "*draw neuron emoji"]:
    """Mean on each emoji's prompts minus mean on all others; `acts` are centred."""
    chosen = torch.nn.functional.one_hot(label, n).double()
    size = chosen.sum(-2, keepdim=True)
    total = acts.T @ chosen
    return total / size + total / (len(acts) - size)  # the others sum to minus these


def _p_values(
    acts: Float[Tensor, "batch neuron"],
    label: Int[Tensor, " batch"],
    difference: Float[Tensor, "neuron emoji"],
    n_permutations: int,
    seed: int,
) -> Float[Tensor, "neuron emoji"]:
    rng, n = np.random.default_rng(seed), difference.shape[1]
    bar = difference.abs() - 1e-12 * acts.abs().sum(0)[:, None]
    hits = torch.zeros_like(difference)
    at_once = max(1, _CELLS // (difference.numel() + len(acts) * n))
    for start in range(0, n_permutations, at_once):
        some = min(at_once, n_permutations - start)
        order = rng.permuted(np.tile(np.arange(len(label)), (some, 1)), axis=1)
        dealt = _differences(acts, label[torch.from_numpy(order)], n)
        hits += (dealt.abs() >= bar).sum(0)
    return (1 + hits) / (1 + n_permutations)
