"""One run at its metric columns, split into what each component wrote, along any direction.

The residual stream after the last layer is the sum of the embedding and of every attention and MLP
output; heads and neurons add up to these (with grouped-query attention too: a head's output has its
own slice of W_O, whichever head its keys are shared with). Norms between a component and the
logits, the final one and Gemma 2's post-norms, are frozen at the run's own scale. Biases (of the
output projections, of the final norm) are one component of their own, `bias`; a value bias reaches
the stream through its head and counts there. The unembedding's bias is no part of the stream and is
left out.

Names: `input`, `a{layer}`, `m{layer}`, `a{layer}.h{head}`, `m{layer}.n{neuron}`, `bias`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.devices import check_one_device
from interp.base.errors import ModelError
from interp.base.progress import Progress
from interp.readout.metric import read_columns as metric_reads
from interp.readout.question import Metric
from interp.readout.run import Run
from interp.traces.attribution.direction import Unembedding
from interp.traces.attribution.frozen_norm import FrozenNorm
from interp.traces.attribution.metric_columns import Place, read_columns

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}


class Projection:
    """What a run's components wrote at the metric columns.

    Args:
        run: the run.
        at: the metric column of each prompt.
        heads, neurons: layers whose heads and neurons will be asked for.

    Attributes:
        logits: `[batch vocab]`.
        output: the final norm's output, `[batch d_model]`.

    Raises:
        ModelError: if the logits are not unembedding of final norm of the last residual stream.
    """

    def __init__(
        self,
        run: Run,
        at: Int[Tensor, " batch"],
        *,
        heads: Sequence[int] = (),
        neurons: Sequence[int] = (),
        batch_size: int = 32,
        progress: Progress | None = None,
    ) -> None:
        check_one_device(
            run.model, "direct attribution", "Load it on one device (in bfloat16, or as nf4)"
        )
        self.model = run.model
        self.layers = range(int(run.model.cfg.n_layers))
        # Behind a post-norm the bias cannot be told from the rest without the norm's input.
        zs = [i for i in self.layers if i in heads or self._splits(i, "ln1_post", "attn", "b_O")]
        posts = [
            i for i in self.layers if i in neurons or self._splits(i, "ln2_post", "mlp", "b_out")
        ]
        places: list[Place] = [("resid_pre", 0), ("resid_post", self.layers[-1])]
        places += [(site, i) for site in ("attn_out", "mlp_out") for i in self.layers]
        places += [("z", i) for i in zs] + [("mlp_post", i) for i in posts]
        found = read_columns(run, at, places, batch_size=batch_size, progress=progress)
        self.logits, self.acts = found.logits, found.acts
        self.unembed = Unembedding.of(run.model)
        final = self.acts["resid_post", self.layers[-1]]
        self.norm = FrozenNorm.of(run.model.ln_final.original_component, final)
        with torch.no_grad():
            self.output = self.norm(final.float())
        self._check_readout(final.dtype)

    def _splits(self, i: int, norm: str, part: str, bias: str) -> bool:
        block = self.model.blocks[i]
        return (
            getattr(block, norm, None) is not None and _bias(getattr(block, part), bias) is not None
        )

    def _check_readout(self, dtype: torch.dtype) -> None:
        with torch.no_grad():
            ours = self.unembed(self.output)
        error, spread = float((ours - self.logits.float()).abs().max()), float(ours.abs().max())
        if not error <= _TOLERANCE.get(dtype, 0.1) * max(1.0, spread):
            raise ModelError(
                f"{type(self.model.original_model).__name__}: its logits differ by {error:.3g} "
                "from unembedding and final norm of its last residual stream; direct attribution "
                "does not hold for it"
            )

    def components(self, direction: Float[Tensor, "batch d_model"]) -> dict[str, Tensor]:
        """`input`, `a0`, `m0`, ..., `bias`, each `[batch]`: they sum to `output . direction`."""
        back = self.norm.back(direction)
        parts = {"input": _along(self.acts["resid_pre", 0], back)}
        bias = self.norm.constant(direction)
        for i in self.layers:
            for name, site, part, key in (
                (f"a{i}", "attn_out", "attn", "b_O"),
                (f"m{i}", "mlp_out", "mlp", "b_out"),
            ):
                whole = _along(self.acts[site, i], back)
                constant = _bias(getattr(self.model.blocks[i], part), key)
                if constant is not None:
                    inner = self.attn_back(i, back) if part == "attn" else self.mlp_back(i, back)
                    share = inner @ constant.float()
                    whole, bias = whole - share, bias + share
                parts[name] = whole
        return parts | {"bias": bias}

    def heads(
        self, i: int, direction: Float[Tensor, "batch d_model"]
    ) -> Float[Tensor, "head batch"]:
        """What each head of layer `i` contributes along `direction`."""
        back = self.attn_back(i, self.norm.back(direction))
        weight = self.model.blocks[i].attn.W_O.detach().float()
        return einsum(
            self.acts["z", i].float(), weight, back,
            "batch head d_head, head d_head d_model, batch d_model -> head batch",
        )  # fmt: skip

    def neurons(
        self, i: int, direction: Float[Tensor, "batch d_model"]
    ) -> tuple[Float[Tensor, "neuron batch"], Float[Tensor, "neuron batch"]]:
        """Activation of each neuron of layer `i`, and its output weights along `direction`.

        Their product is the neuron's contribution.
        """
        back = self.mlp_back(i, self.norm.back(direction))
        return self.acts["mlp_post", i].float().T, self.out_weights(i) @ back.T

    def out_weights(self, i: int) -> Float[Tensor, "neuron d_model"]:
        """What each neuron of layer `i` writes per unit of activation."""
        return self.model.blocks[i].mlp.W_out.detach().float()

    def attn_back(
        self, i: int, back: Float[Tensor, "batch d_model"]
    ) -> Float[Tensor, "batch d_model"]:
        """A direction of the stream, as the output projection of layer `i`'s attention sees it."""
        attn, norm = self.model.blocks[i].attn, getattr(self.model.blocks[i], "ln1_post", None)
        if norm is None:
            return back
        weight = attn.W_O.detach().float()
        inner = einsum(
            self.acts["z", i].float(), weight,
            "batch head d_head, head d_head d_model -> batch d_model",
        )  # fmt: skip
        return self._through(norm, inner, _bias(attn, "b_O"), back, ("attn_out", i))

    def mlp_back(
        self, i: int, back: Float[Tensor, "batch d_model"]
    ) -> Float[Tensor, "batch d_model"]:
        """The same for layer `i`'s MLP."""
        mlp, norm = self.model.blocks[i].mlp, getattr(self.model.blocks[i], "ln2_post", None)
        if norm is None:
            return back
        inner = self.acts["mlp_post", i].float() @ self.out_weights(i)
        return self._through(norm, inner, _bias(mlp, "b_out"), back, ("mlp_out", i))

    def _through(
        self, norm: Any, inner: Tensor, bias: Tensor | None, back: Tensor, place: Place
    ) -> Float[Tensor, "batch d_model"]:
        inner = inner if bias is None else inner + bias.float()
        outer = self.acts[place]
        frozen = FrozenNorm.of(norm.original_component, inner.to(outer.dtype))
        if frozen.bias is not None:
            raise ModelError(
                f"the post-norm of {place[0]} in layer {place[1]} has a bias; heads and neurons "
                "cannot be told from it, so attribute by component"
            )
        return frozen.back(back)


class Read:
    """A run's projections at the columns that a metric reads: one, or a slot and the `▁` after it.

    Directions, outputs and logits are those of the one, or have an axis of columns, `[batch reads
    ...]`; what a component contributes is the sum over columns.

    Args:
        run, at: the run and its metric columns.
        metric: says how many are read.
        options: of each `Projection`.
    """

    def __init__(self, run: Run, at: Int[Tensor, " batch"], metric: Metric, **options: Any) -> None:
        columns = metric_reads(metric, run, at).reshape(len(at), -1)
        self.parts = [Projection(run, column, **options) for column in columns.T]
        self.unembed, self.model = self.parts[0].unembed, run.model
        self.output = self._joined([part.output for part in self.parts])
        self.logits = self._joined([part.logits for part in self.parts])

    @staticmethod
    def _joined(parts: list[Tensor]) -> Float[Tensor, "batch *reads size"]:
        return parts[0] if len(parts) == 1 else torch.stack(parts, 1)

    def each(
        self, direction: Float[Tensor, "batch *reads d_model"]
    ) -> list[tuple[Projection, Tensor]]:
        """Each column's projection and direction."""
        ways = direction.unsqueeze(1) if direction.ndim == 2 else direction
        return list(zip(self.parts, ways.unbind(1), strict=True))

    def components(self, direction: Float[Tensor, "batch *reads d_model"]) -> dict[str, Tensor]:
        """As `Projection.components`."""
        found = [part.components(way) for part, way in self.each(direction)]
        return {name: torch.stack([one[name] for one in found]).sum(0) for name in found[0]}

    def heads(
        self, i: int, direction: Float[Tensor, "batch *reads d_model"]
    ) -> Float[Tensor, "head batch"]:
        """As `Projection.heads`."""
        return torch.stack([part.heads(i, way) for part, way in self.each(direction)]).sum(0)

    def neurons(
        self, i: int, direction: Float[Tensor, "batch *reads d_model"]
    ) -> tuple[Float[Tensor, "reads neuron batch"], Float[Tensor, "reads neuron batch"]]:
        """As `Projection.neurons`, at each column."""
        acts, ways = zip(*(part.neurons(i, way) for part, way in self.each(direction)), strict=True)
        return torch.stack(acts), torch.stack(ways)


def _bias(part: Any, name: str) -> Tensor | None:
    """An output projection's bias where it is not all zeros."""
    bias = getattr(part, name, None)
    return None if bias is None or not bool(bias.any()) else bias.detach()


def _along(
    x: Float[Tensor, "batch d_model"], back: Float[Tensor, "batch d_model"]
) -> Float[Tensor, " batch"]:
    return (x.float() * back).sum(-1)
