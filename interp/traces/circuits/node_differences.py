"""What corrupting each node changes: its clean output minus its corrupted one, by node and column.

Heads are kept as their `d_head` numbers per column and written out into the residual stream
(`W_O z`) when they are needed, all at once where that fits the budget, else layer by layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from interp.traces.circuits.checked_runs import CheckedRuns, Taken


class Differences:
    """Clean minus corrupted node outputs of a chunk's prompts."""

    def __init__(self, contrast: CheckedRuns, taken: Taken) -> None:
        self.contrast, self.taken = contrast, taken
        self.n_layers, self.graph = contrast.graph.n_layers, contrast.graph
        self.writes = [contrast.writes(layer) for layer in range(self.n_layers)]

    def heads(self, layer: int, prompt: int, rows: slice) -> Float[Tensor, "head rows d_model"]:
        clean, corrupted = (
            rearrange(side.z[layer][prompt, rows].float(), "pos head d_head -> head pos d_head")
            for side in (self.taken.clean, self.taken.corrupted)
        )
        writes = self.writes[layer]
        if len(writes) == 1:
            return torch.bmm(clean - corrupted, writes[0])
        return torch.bmm(clean, writes[0]).sub_(torch.bmm(corrupted, writes[1]))

    def heads_along(
        self, layer: int, prompt: int, rows: slice, gain: Float[Tensor, "rows d_model"]
    ) -> Float[Tensor, " head"]:
        """Each head's difference times a gradient of the residual stream, nothing written out."""
        total = torch.zeros(self.graph.n_heads, device=gain.device)
        sides = (self.taken.clean, self.taken.corrupted)
        writes = self.writes[layer]
        for sign, side, write in zip((1, -1), sides, (writes[0], writes[-1]), strict=True):
            inward = einsum(gain, write, "pos d, head d_head d -> pos head d_head")
            total += sign * (side.z[layer][prompt, rows].float() * inward).sum((0, 2))
        return total

    def mlp(self, layer: int, prompt: int, rows: slice) -> Float[Tensor, "rows d_model"]:
        clean, corrupted = self.taken.clean.mlp[layer], self.taken.corrupted.mlp[layer]
        return clean[prompt, rows].float() - corrupted[prompt, rows].float()

    def input(self, prompt: int, rows: slice) -> Float[Tensor, "rows d_model"]:
        clean, corrupted = self.taken.clean.stream[0], self.taken.corrupted.stream[0]
        return clean[prompt, rows].float() - corrupted[prompt, rows].float()

    def written(self, prompt: int, rows: slice, size: int) -> "Written":
        """All nodes of one prompt, written out once if that takes at most `size` bytes."""
        one = (rows.stop - rows.start) * self.taken.clean.stream[0].shape[-1] * 4
        kept = None
        if len(self.graph.sources) * one <= size:
            kept = torch.cat(list(self.each(prompt, rows, self.n_layers)))
        return Written(self, prompt, rows, kept)

    def each(
        self, prompt: int, rows: slice, layers: int
    ) -> Iterator[Float[Tensor, "source rows d_model"]]:
        """The input, then each layer's heads and MLP."""
        yield self.input(prompt, rows)[None]
        for layer in range(layers):
            mlp = self.mlp(layer, prompt, rows)[None]
            yield torch.cat((self.heads(layer, prompt, rows), mlp))


@dataclass
class Written:
    """One prompt's differences in the residual stream, kept or made when asked for."""

    made: Differences
    prompt: int
    rows: slice
    kept: Tensor | None

    def below(self, layer: int) -> Iterator[tuple[slice, Float[Tensor, "source rows d_model"]]]:
        """The sources up to and with `layer`, in pieces, and where they stand."""
        graph = self.made.graph
        count = graph.mlp(layer) + 1
        if self.kept is not None:
            yield slice(0, count), self.kept[:count]
            return
        start = 0
        for piece in self.made.each(self.prompt, self.rows, layer + 1):
            yield slice(start, start + len(piece)), piece
            start += len(piece)
