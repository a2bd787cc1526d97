"""Activations at the metric columns only, read through TransformerLens' hooks.

Memory: one vector per prompt, site and layer, whatever the prompts' length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.base import memory
from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.readout.capture import hook_name, logits_at
from interp.readout.run import Run

Place = tuple[str, int]


@dataclass
class Columns:
    """What one run holds at each prompt's metric column.

    Attributes:
        logits: `[batch vocab]`.
        acts: by site and layer, `[batch ...]`, in the model's own precision.
    """

    logits: Float[Tensor, "batch vocab"]
    acts: dict[Place, Tensor] = field(default_factory=dict)


def read_columns(
    run: Run,
    at: Int[Tensor, " batch"],
    places: Sequence[Place],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Columns:
    """Run the model, `batch_size` prompts at a time, and keep `places` at each prompt's column.

    Raises:
        ModelError: if the architecture lacks a site.
        InputError: if logits are not finite.
    """
    names = {place: hook_name(run.model, *place) for place in places}

    def read(rows: list[int]) -> tuple[Tensor, dict[Place, Tensor]]:
        part = Run(run.model, run.tokens[rows], run.mask[rows])
        kept: dict[Place, Tensor] = {}
        hooks = [(name, _keep(kept, place, at[rows])) for place, name in names.items()]
        with torch.no_grad():
            logits = logits_at(part, at[rows], hooks).detach()
        return logits, kept

    batches = memory.in_batches(
        len(at), batch_size, read, what="reading activations", device=run.tokens.device,
        progress=progress, unit="prompt",
    )  # fmt: skip
    parts = [part for _, part in batches]
    whole = torch.cat([logits for logits, _ in parts])
    finite = torch.isfinite(whole).all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise InputError(
            f"the logits of prompt {row} at its metric position are not finite: the model's "
            "weights hold NaN or infinity (or its precision overflows); reload or upcast the model"
        )
    return Columns(whole, {place: torch.cat([kept[place] for _, kept in parts]) for place in names})


def _keep(
    store: dict[Place, Tensor], place: Place, at: Int[Tensor, " batch"]
) -> Callable[..., None]:
    def keep(value: Tensor, hook: Any) -> None:  # noqa: ARG001
        each = torch.arange(len(at), device=value.device)
        store[place] = value[each, at.to(value.device)].detach()

    return keep
