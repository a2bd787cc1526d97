"""How fine-tuning shifted the neurons: activations of base and tuned on the same prompts.

The neuron analysis of arXiv 2409.10245: mean activation of the last layer's MLP neurons before and
after fine-tuning, on prompts of the trait and on prompts with emojis. It shows which neurons are
more active, not which matter; `rank` and `dose` ask that.

The paper's indices, as secondary sources name them, lie below 4096: they may be dimensions of the
hidden state (`site="resid_post"`, before the final norm). A few such dimensions are hundreds of
times larger than the rest whatever the text (massive activations, Sun et al. 2024, arXiv
2402.17762), and any change of scale shows there first: `outliers` names them.

Sign: tuned minus base. Cost: one forward pass per prompt and model; memory one number per prompt,
model and neuron.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.base.memory import rounding
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.stats import fdr_bh
from interp.traces.attribution.intervals import table_of_means
from interp.traces.neurons.activations import Prompts, Site, layer_index, read

RUNS = ("base", "tuned")
MEDIANS = 100


@dataclass(frozen=True)
class NeuronShift(Result):
    """Activations of one layer's neurons in base and tuned.

    Attributes:
        activations: mean over each prompt's chosen positions, `[run prompt neuron]`, runs as in
            `RUNS`, in the units of the site.
        kinds: kind of each prompt (`trait`, `emoji`, ...).
        topics: of each prompt; where they were not known, the prompt's own number.
        layer: which layer.
        site: `mlp_post`, the MLP's neurons, or `resid_post`, the dimensions of the block's output.
        noise_floor: how far batch size and rounding can move an activation.
    """

    kind: ClassVar[str] = "neuron shift"

    activations: Float[Tensor, "run prompt neuron"]
    kinds: tuple[str, ...]
    topics: tuple[str, ...]
    layer: int
    site: str = "mlp_post"
    noise_floor: float | None = None

    @property
    def outliers(self) -> Bool[Tensor, " neuron"]:
        """Neurons whose norm over all prompts and both models exceeds `MEDIANS` median norms."""
        norm = self.activations.double().flatten(0, 1).norm(dim=0)
        return norm > MEDIANS * norm.median()

    def of(self, kind: str) -> Float[Tensor, "run prompt neuron"]:
        """The activations on one kind of prompt.

        Raises:
            InputError: if there is no such kind.
        """
        if kind not in self.kinds:
            raise InputError(f"no prompts of kind {kind!r}; there are {', '.join(self._names)}")
        return self.activations[:, np.array(self.kinds) == kind]

    def summary(
        self, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
    ) -> pd.DataFrame:
        """One row per kind of prompt and neuron, topics resampled.

        Returns:
            `kind`, `layer`, `neuron`, `base` and `tuned` (means) with `base_low`, ...,
            `difference` (tuned minus base) with `low` and `high`, `p` (sign flips), `p_adjusted`
            (false discovery rate over all rows), `n`, `outlier` (see `outliers`).

        Raises:
            InputError: if a kind has fewer than two prompts or topics.
        """
        tables = []
        for kind in self._names:
            own = [topic for topic, k in zip(self.topics, self.kinds, strict=True) if k == kind]
            base, tuned = self.of(kind)
            table = pd.DataFrame(
                {"kind": kind, "layer": self.layer, "neuron": range(base.shape[1])}
            )
            for name, values in (("base", base), ("tuned", tuned), ("difference", tuned - base)):
                found = table_of_means(
                    values.T, clusters=own, level=level, n_resamples=n_resamples, seed=seed
                )
                table[name] = found["mean"]
                ends = ("low", "high") if name == "difference" else (f"{name}_low", f"{name}_high")
                table[list(ends)] = found[["low", "high"]]
            table = table.assign(p=found["p"], p_adjusted=np.nan, n=found["n"])
            tables.append(table.assign(outlier=self.outliers.numpy()))
        whole = pd.concat(tables, ignore_index=True)
        return whole.assign(p_adjusted=fdr_bh(whole["p"].to_numpy()))

    def to_dataframe(self) -> pd.DataFrame:
        """One row per model, prompt and neuron."""
        index = np.indices(self.activations.shape).reshape(3, -1)
        return pd.DataFrame(
            {
                "model": np.array(RUNS)[index[0]],
                "kind": np.array(self.kinds)[index[1]],
                "topic": np.array(self.topics)[index[1]],
                "prompt": index[1],
                "layer": self.layer,
                "neuron": index[2],
                "activation": self.activations.flatten().numpy(),
            }
        )

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(self.kinds))


def shift(
    base: Any,
    tuned: Any,
    prompts: Mapping[str, Prompts],
    *,
    layer: int | None = None,
    site: Site = "mlp_post",
    batch_size: int = 32,
    progress: Progress | None = None,
) -> NeuronShift:
    """Read one layer's neurons in both models on every kind of prompt.

    Args:
        base, tuned: bridges of one shape.
        prompts: by kind, say `{"trait": ..., "emoji": ...}`.
        layer: which layer, the last if left out; negative ones count from the end.
        site: the MLP's neurons, or the dimensions of the block's output (`resid_post`).
        batch_size: prompts per forward pass.
        progress: called with (label, prompts done, prompts in all).

    Raises:
        InputError: if there are no prompts, or the layer does not exist.
        ModelError: if the two models differ in shape, or have no such activation.
    """
    if not prompts:
        raise InputError("no prompts to read neurons on; give at least one kind of prompt")
    for size in ("n_layers", "d_model", "d_mlp", "d_vocab"):
        one, other = getattr(base.cfg, size), getattr(tuned.cfg, size)
        if one != other:
            raise ModelError(
                f"base and tuned differ in {size} ({one} and {other}); compare a model with its "
                "own fine-tuned version"
            )
    index = layer_index(tuned, layer)
    runs, kinds, topics = [], [], []
    for name, model in zip(RUNS, (base, tuned), strict=True):
        runs.append(
            torch.cat([
                read(model, some, index, site=site, batch_size=batch_size, progress=progress,
                     label=f"neurons of {name}, {kind} prompts")
                for kind, some in prompts.items()
            ])
        )  # fmt: skip
    for kind, some in prompts.items():
        kinds += [kind] * len(some.batch)
        topics += list(some.topics or [f"{kind} {row}" for row in range(len(some.batch))])
    values, first = torch.stack(runs), next(iter(prompts.values()))
    one = Prompts(first.batch[:1], first.where[:1])
    alone = torch.stack([read(model, one, index, site=site) for model in (base, tuned)])
    floor = rounding(values[:, :1], alone, float(values.abs().max()))
    return NeuronShift(values, tuple(kinds), tuple(topics), index, site, floor)
