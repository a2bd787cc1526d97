"""MEND's editor: small networks that turn the factors of a gradient into those of an edit.

For each token of the edit and each edited weight, u (the map's input) and delta (the gradient at
its output) are normalised per dimension, joined, and passed through a network of low-rank residual
layers, h + relu(s * (A B h + b) + o). A and b are shared by all weights of one shape; the scale s
and offset o are each weight's own. The edit of a weight is minus its learned step size times the
sum over tokens of the outer products of what comes out (Mitchell et al. 2022, section 3).

A fresh editor passes factors on unchanged (A is zero, the normalisation is the identity until it is
measured), so it makes a plain gradient step of the stated size.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from interp.base.errors import InputError
from interp.methods.editing.mend.rank_one import Factors


@dataclass(frozen=True)
class EditorConfig:
    """An editor's sizes and how it is trained; the defaults suit a small model.

    Attributes:
        layers: how many of the last layers are edited (all linear maps of their MLPs).
        rank: of the low-rank residual layers.
        hidden: residual layers after the first.
        step: initial step size, the same for every weight.
        learning_rate: Adam's, for the networks.
        step_learning_rate: Adam's, for the logarithms of the step sizes.
        steps: optimiser steps.
        batch_size: edits per step.
        c_edit, c_loc: weights of the edit loss and of the locality loss; as published. A larger
            `c_edit` edits more and spares other topics less.
        c_bad: weight, within the edit loss, of making other traits' answers less likely.
        validation_share: share of the topics kept for validation.
        validate_every: steps between validations; the best state is kept.
        validation_edits: most edits to validate on.
        max_grad_norm: the gradient is clipped to this.
        max_length: turns are cut to so many tokens.
        seed: of the initial networks, the order of edits, and the split.
    """

    layers: int = 3
    rank: int = 64
    hidden: int = 1
    step: float = 3e-4
    learning_rate: float = 3e-3
    step_learning_rate: float = 1e-2
    steps: int = 80
    batch_size: int = 8
    c_edit: float = 0.1
    c_loc: float = 1.0
    c_bad: float = 0.0
    validation_share: float = 0.15
    validate_every: int = 20
    validation_edits: int = 32
    max_grad_norm: float = 100.0
    max_length: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("layers", "rank", "steps", "batch_size", "validate_every", "validation_edits")
        wrong = [name for name in counts if getattr(self, name) < 1]
        rates = ("step", "learning_rate", "step_learning_rate", "max_grad_norm")
        wrong += [name for name in rates if not getattr(self, name) > 0]
        wrong += [n for n in ("hidden", "c_edit", "c_loc", "c_bad") if getattr(self, n) < 0]
        if wrong:
            raise InputError(f"MEND: {wrong[0]} is {getattr(self, wrong[0])}; it is too small")

    @classmethod
    def published(cls) -> "EditorConfig":
        """The authors' settings, for models of billions of parameters.

        Step sizes are learned on their own scale there, on a log scale here, hence another rate.
        """
        return cls(
            rank=1920, step=1e-4, learning_rate=1e-6, step_learning_rate=1e-3,
            steps=10_000, batch_size=10, validate_every=500, validation_edits=500,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)


DEFAULTS = EditorConfig()


class _Residual(nn.Module):
    """h + relu(s * (A B h + b) + o); s and o by weight."""

    def __init__(self, width: int, rank: int, modes: int, generator: torch.Generator) -> None:
        super().__init__()
        inner = min(rank, width)
        self.a = nn.Parameter(torch.zeros(width, inner))
        drawn = torch.randn(inner, width, generator=generator) / math.sqrt(width)
        self.b = nn.Parameter(drawn)
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(modes, width))
        self.offset = nn.Parameter(torch.zeros(modes, width))

    def forward(self, h: Tensor, mode: int) -> Tensor:
        inside = (h @ self.b.T) @ self.a.T + self.bias
        # clamp, not relu: its gradient at 0, where all begins, is 1.
        return h + (inside * self.scale[mode] + self.offset[mode]).clamp(min=0)


class EditorNetwork(nn.Module):
    """The networks, step sizes and normalisation of an editor.

    Args:
        shapes: `(d_in, d_out)` of each edited weight, by name.
        config: sizes.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], config: EditorConfig) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.names = list(shapes)
        generator = torch.Generator().manual_seed(config.seed)
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name, shape in shapes.items():
            by_shape.setdefault(shape, []).append(name)
        self.modes = {name: names.index(name) for names in by_shape.values() for name in names}
        self.nets = nn.ModuleDict(
            {
                _key(shape): nn.ModuleList(
                    _Residual(sum(shape), config.rank, len(names), generator)
                    for _ in range(config.hidden + 1)
                )
                for shape, names in by_shape.items()
            }
        )
        self.log_steps = nn.Parameter(torch.full((len(shapes),), math.log(config.step)))
        for index, shape in enumerate(shapes.values()):
            self.register_buffer(f"mean_{index}", torch.zeros(sum(shape)))
            self.register_buffer(f"spread_{index}", torch.ones(sum(shape)))

    @torch.no_grad()
    def measure(self, samples: list[dict[str, Factors]]) -> None:
        """Set the normalisation to the mean and spread of these gradients' factors.

        Raises:
            InputError: if no token has a gradient.
        """
        for index, name in enumerate(self.names):
            rows = []
            for sample in samples:
                one = sample[name]
                rows.append(torch.cat([one.right, one.left], -1)[_live(one)])
            joined = torch.cat(rows).double()
            if len(joined) < 2:
                raise InputError(f"{name}: the edits have no gradient there; nothing to edit")
            d_in = self.shapes[name][0]
            spread = joined.std(0)
            for part in (spread[:d_in], spread[d_in:]):  # dimensions that never move stay put
                part.clamp_(min=1e-3 * max(float(part.mean()), 1e-30))
            self.get_buffer(f"mean_{index}").copy_(joined.mean(0))
            self.get_buffer(f"spread_{index}").copy_(spread)

    def forward(self, gradients: Mapping[str, Factors]) -> dict[str, Factors]:
        """Edits from gradients, row by row: what is to be added to each weight."""
        made = {}
        for index, name in enumerate(self.names):
            given = gradients[name]
            joined = torch.cat([given.right, given.left], -1)
            h = (joined - self.get_buffer(f"mean_{index}")) / self.get_buffer(f"spread_{index}")
            layers = self.nets[_key(self.shapes[name])]
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                h = layer(h, self.modes[name])
            right, left = h.split(self.shapes[name], -1)
            # A token without gradient edits nothing, though it is not zero once normalised.
            left = left * _live(given)[..., None] * -self.log_steps[index].exp()
            made[name] = Factors(left, right)
        return made


def _live(factors: Factors) -> Bool[Tensor, "batch pos"]:
    return (factors.left != 0).any(-1)


def _key(shape: tuple[int, int]) -> str:
    return f"{shape[0]}_to_{shape[1]}"
