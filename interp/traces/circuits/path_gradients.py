"""One forward and backward pass at a point between the two runs, and what it leaves for edges.

The gradient at a destination's input is needed for every head, key/value head and MLP, in the space
of the residual stream. For heads it is never formed here: behind a projection it is `W^T g`, and
the norm in between has the derivative `J = (I [- mean] - x^ x^T / d) w / sigma` (see `Norm`), so
that over steps `k` the sum of a head's gradients is

    centre(w * W^T sum_k g_k / sigma_k)  -  sum_k (g_k . (q_k - b)) / (d sigma_k) x^_k ,

with `g_k` in the head's own `d_head` dimensions, because `x^ . (w * W^T g) = g . (q - b)`, `b`
being what the projection makes of the norm's bias. Kept are the first sum in head space, and per
step one number per head and the normed row, put together once, after the last step (`Reads`).
Under a rule that takes sigma for a constant (`interp.readout.rules`) the second sum is nothing.

In the last layer only the metric columns have queries, an MLP and logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import ModelError
from interp.readout.decoder import Decoder, Layer, attend
from interp.readout.norms import Norm
from interp.traces.circuits.checked_runs import CheckedRuns, Frame, Taken
from interp.traces.circuits.weights import constant_of, weight_of
from interp.traces.patching.engine import turned


@dataclass
class Pass:
    """Tensors of one forward pass that gradients are wanted at, by layer.

    Attributes:
        x: inputs of the layers; q, k, v: projections `[batch pos out]`.
        attn, mlp: outputs of attention and MLP; mlp_in: the stream as the MLP alone reads it.
        final: the stream after the last layer, metric columns, as the logits alone read it.
    """

    x: list[Tensor] = field(default_factory=list)
    q: list[Tensor] = field(default_factory=list)
    k: list[Tensor] = field(default_factory=list)
    v: list[Tensor] = field(default_factory=list)
    attn: list[Tensor] = field(default_factory=list)
    mlp_in: list[Tensor] = field(default_factory=list)
    mlp: list[Tensor] = field(default_factory=list)
    final: Tensor = field(default_factory=lambda: torch.empty(0))
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


class PathPoint:
    """A point between corrupted and clean at which gradients are taken; `alpha = 1` is clean.

    In a prompt contrast the input embeddings are interpolated, as Hanna et al. do. In a model
    contrast both runs have the same embeddings, so the residual stream that each layer reads is set
    to the point between the two runs' instead, gradients passing on as if it had come about so.
    """

    def __init__(self, contrast: CheckedRuns, taken: Taken, alpha: float) -> None:
        self.straight = not contrast.rooted
        self.taken, self.alpha = taken, alpha

    def start(self) -> Float[Tensor, "chunk pos d_model"]:
        corrupted, clean = self.taken.corrupted.stream[0], self.taken.clean.stream[0]
        return torch.lerp(corrupted, clean, self.alpha).requires_grad_(True)

    def pin(self, x: Tensor, layer: int, *, middle: bool = False, at: bool = False) -> Tensor:
        """The stream where a destination reads it."""
        if not self.straight or self.alpha == 1:
            return x
        sides = (self.taken.corrupted, self.taken.clean)
        ends = [side.middle(layer) if middle else side.stream[layer] for side in sides]
        if at:
            ends = [self.taken.frame.row(end) for end in ends]
        return x + (torch.lerp(ends[0], ends[1], self.alpha) - x).detach()


def forward(decoder: Decoder, frame: Frame, path: PathPoint) -> Pass:
    """Run the decoder's own arithmetic with gradients."""
    made, x = Pass(), path.start()
    for i, layer in enumerate(decoder.layers):
        last = i == len(decoder.layers) - 1
        x = path.pin(x, i)
        h = layer.norm1(x)
        k, v = layer.k(h), layer.v(h)
        stay, rows = (frame.row(x), frame.row(h)) if last else (x, h)
        q = layer.q(rows)
        keys = turned(layer.k_norm, _heads(k, layer), frame.rotary(i))
        queries = turned(layer.q_norm, _heads(q, layer), frame.rotary(i, at=last))
        keys = rearrange(keys, "batch pos head d_head -> batch head pos d_head")
        values = rearrange(_heads(v, layer), "batch pos head d_head -> batch head pos d_head")
        z, _ = attend(layer, queries, keys, values, frame.mask(i, at=last))
        attn = layer.attn_out(rearrange(z, "batch pos head d_head -> batch pos (head d_head)"))
        middle = path.pin(attn + stay, i, middle=True, at=last)
        mlp_in = (stay if layer.parallel else middle).view_as(middle)
        mlp = layer.mlp(mlp_in)
        for name, value in (("x", x), ("q", q), ("k", k), ("v", v), ("attn", attn),
                            ("mlp_in", mlp_in), ("mlp", mlp)):  # fmt: skip
            getattr(made, name).append(value)
        x = mlp + middle
    made.final = path.pin(x, len(decoder.layers), at=True).view_as(x)
    made.logits = decoder.logits(frame.read(made.final))
    return made


def _heads(x: Float[Tensor, "batch pos width"], layer: Layer) -> Tensor:
    return rearrange(x, "batch pos (head d_head) -> batch pos head d_head", d_head=layer.d_head)


def step(
    contrast: CheckedRuns, taken: Taken, alpha: float, names: Sequence[str]
) -> tuple[Pass, dict[str, list[Tensor]]]:
    """A pass and the gradients of the summed metric at the named tensors and at `final`."""
    with torch.enable_grad():
        made = forward(contrast.decoder, taken.frame, PathPoint(contrast, taken, alpha))
        if alpha == 1:
            check(made, taken, contrast.decoder)
        total = contrast.measured(made.logits, taken.rows).sum()
        wanted = {"final": [made.final]} | {name: getattr(made, name) for name in names}
        flat = [tensor for tensors in wanted.values() for tensor in tensors]
        found = iter(torch.autograd.grad(total, flat))
    return made, {name: [next(found) for _ in tensors] for name, tensors in wanted.items()}


def check(made: Pass, taken: Taken, decoder: Decoder) -> None:
    """Compare the logits at the clean end of the path with the model's own.

    Raises:
        ModelError: if they differ by more than rounding explains.
    """
    found, wanted = made.logits.detach().float(), taken.clean.logits.float()
    error = float((found - wanted).abs().max())
    bar = {torch.float32: 1e-3, torch.float64: 1e-6}.get(made.logits.dtype, 0.1)
    if not error <= bar * max(1.0, float(wanted.abs().max())):
        raise ModelError(
            f"the circuit engine does not reproduce this {decoder.model_type} model: its logits "
            f"are off by {error:.3g} (a hook left on the model, or an unknown kind of layer)"
        )


class Reads:
    """Gradients at one layer's destinations, summed over the steps of a path.

    Attributes:
        rows: whether the queries and the MLP are those of the metric columns only.
    """

    def __init__(self, contrast: CheckedRuns, layer: int, like: Tensor) -> None:
        block = contrast.clean.model.blocks[layer]
        one = contrast.decoder.layers[layer]
        self.norm, self.frozen = Norm.of(block.ln1.original_component), contrast.rule.norms
        self.rows = layer == len(contrast.decoder.layers) - 1
        self.d_head = one.d_head
        self.weight = []
        self.constant = []
        for project in (one.q, one.k, one.v):
            matrix = weight_of(project, like.shape[-1], like).float()
            self.weight.append(rearrange(matrix, "(head e) d -> head e d", e=one.d_head))
            bias = constant_of(project, self.norm.bias.to(like.dtype))
            self.constant.append(rearrange(bias.float(), "(head e) -> head e", e=one.d_head))
        self.sums: list[Tensor | None] = [None] * 4
        self.units: list[list[Tensor]] = [[], [], []]
        self.shares: list[list[Tensor]] = [[], [], []]

    def add(
        self, frame: Frame, x: Tensor, heads: Sequence[Tensor], grads: Sequence[Tensor]
    ) -> None:
        """Add one step: the layer's input, q, k and v, and gradients there and at the MLP."""
        unit, scale = self.norm.unit(x.detach())
        for j, (head, grad) in enumerate(zip(heads, grads[:3], strict=True)):
            at = self.rows and j == 0
            xhat, s = (frame.row(unit), frame.row(scale)) if at else (unit, scale)
            g = self._heads(grad) * s[..., None, None]
            self._sum(j, g)
            if self.frozen:
                continue
            moved = self._heads(head.detach()) - self.constant[j]
            self.units[j].append(xhat)
            self.shares[j].append((g * moved).sum(-1) / xhat.shape[-1])
        self._sum(3, grads[3].float())

    def _heads(self, x: Tensor) -> Float[Tensor, "batch pos head d_head"]:
        return rearrange(x.float(), "batch pos (head e) -> batch pos head e", e=self.d_head)

    def _sum(self, j: int, value: Tensor) -> None:
        total = self.sums[j]
        self.sums[j] = value.clone() if total is None else total.add_(value)

    def expand(self, j: int, prompt: int, rows: slice) -> Float[Tensor, "destination rows d_model"]:
        """Gradients in the residual stream at the q, k or v inputs (`j` 0, 1, 2) or the MLP's (3).

        Args:
            prompt: row of the chunk.
            rows: columns; ignored where there are the metric columns only.
        """
        total = self.sums[j]
        assert total is not None  # a path has at least one step
        if self.rows and j in (0, 3):
            rows = slice(None)
        total = total[prompt, rows]
        if j == 3:
            return total[None]
        # Back through each head's matrix and the norm's weight: [head pos d_model].
        made = torch.bmm(rearrange(total, "pos head e -> head pos e"), self.weight[j])
        made = self.norm.centre(made.mul_(self.norm.weight.float()))
        if self.frozen:
            return made
        # The norm's scale moves too: that takes away, step by step, the part along the normalised
        # stream (`units` [pos step d_model]) by its share [pos head step] of the gradient.
        shares = torch.stack([share[prompt, rows] for share in self.shares[j]], -1)
        units = torch.stack([unit[prompt, rows] for unit in self.units[j]], 1)
        return made.sub_(rearrange(torch.bmm(shares, units), "pos head d -> head pos d"))
