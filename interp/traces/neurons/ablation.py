"""Neurons switched off while a model runs or generates, a different set in every row if wished.

A hook on the input of each MLP's output projection overwrites the chosen neurons with zero or with
their mean. Zeroing a neuron so is the same as zeroing its column of the projection. Rows of a batch
may carry different sets, so that many ablations share one pass. Hooks last as long as the context;
the weights are never touched.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.base.errors import InputError
from interp.readout.run import Run
from interp.traces.patching.sweep_plan import attended_means

Neuron = tuple[int, int]


@dataclass(frozen=True)
class Ablation:
    """A set of neurons and what each is set to.

    Attributes:
        neurons: pairs of layer and neuron; empty for none.
        using: `zero` or `mean`.
    """

    neurons: tuple[Neuron, ...] = ()
    using: str = "zero"

    def __post_init__(self) -> None:
        if self.using not in ("mean", "zero"):
            raise InputError(f"unknown ablation {self.using!r}; use 'mean' or 'zero'")


@contextmanager
def ablated(
    model: Any,
    ablation: Ablation | Sequence[Ablation],
    means: Mapping[int, Float[Tensor, " neuron"]] | None = None,
) -> Iterator[None]:
    """The model with neurons switched off, for as long as the context is open.

    Args:
        model: a bridge; its Hugging Face model is under the same hooks, also when it generates.
        ablation: one for every row, or one for each row of the batches that will be run.
        means: mean activation of every neuron by layer, `[neuron]` (see `mean_activations`);
            needed for `mean`.

    Raises:
        InputError: for a neuron that does not exist, a mean ablation without means, or (when the
            model runs) a batch with another number of rows.
    """
    rows = [ablation] if isinstance(ablation, Ablation) else list(ablation)
    handles = []
    try:
        for layer, (mask, fill) in _masks(model, rows, means or {}).items():
            down = model.blocks[layer].mlp.out.original_component
            handles.append(down.register_forward_pre_hook(_overwrite(mask, fill)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def mean_activations(reference: Run, layers: Sequence[int]) -> dict[int, Tensor]:
    """Mean activation of every neuron over all attended tokens of `reference`, by layer.

    The same mean as `interp.patching.ablate` uses.
    """
    with torch.no_grad():
        return dict(zip(layers, attended_means(reference, "mlp_post", layers), strict=True))


def check_neurons(model: Any, neurons: Sequence[Neuron]) -> None:
    """Refuse neurons that the model does not have.

    Raises:
        InputError: naming the first one.
    """
    depth, width = int(model.cfg.n_layers), int(model.cfg.d_mlp)
    for layer, neuron in neurons:
        if not 0 <= layer < depth or not 0 <= neuron < width:
            raise InputError(
                f"neuron m{layer}.n{neuron} does not exist; this model has layers 0 to {depth - 1} "
                f"with neurons 0 to {width - 1}"
            )


def _masks(
    model: Any, rows: Sequence[Ablation], means: Mapping[int, Tensor]
) -> dict[int, tuple[Bool[Tensor, "row neuron"], Float[Tensor, "row neuron"]]]:
    check_neurons(model, [neuron for row in rows for neuron in row.neurons])
    first = next(model.parameters())
    shape = (len(rows), int(model.cfg.d_mlp))
    found = {}
    for layer in sorted({layer for row in rows for layer, _ in row.neurons}):
        mask = torch.zeros(shape, dtype=torch.bool, device=first.device)
        fill = torch.zeros(shape, dtype=first.dtype, device=first.device)
        for index, row in enumerate(rows):
            own = [neuron for at, neuron in row.neurons if at == layer]
            mask[index, own] = True
            if own and row.using == "mean":
                if layer not in means:
                    raise InputError(
                        f"a mean ablation in layer {layer} needs its mean activations; make them "
                        "with mean_activations(run, layers)"
                    )
                fill[index, own] = means[layer].to(fill)[own]
        found[layer] = mask, fill
    return found


def _overwrite(mask: Bool[Tensor, "row neuron"], fill: Float[Tensor, "row neuron"]) -> Any:
    def hook(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
        hidden = inputs[0]
        if len(mask) not in (1, len(hidden)):
            raise InputError(
                f"ablations were given for {len(mask)} rows, but the batch has {len(hidden)}"
            )
        changed = torch.where(mask[:, None], fill[:, None].to(hidden), hidden)
        return (changed, *inputs[1:])

    return hook
