"""How much of two runs' difference each neuron makes: directly, or in total to first order."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.readout import Question
from interp.readout.metric import measure
from interp.readout.run import metric_columns
from interp.traces.attribution.projection import Read
from interp.traces.attribution.trace import directions_of
from interp.traces.patching import Run
from interp.traces.patching.first_order import Backward
from interp.traces.patching.sweep_plan import Cells, make_plan


@dataclass(frozen=True)
class Scores:
    """Scores of the neurons of some layers; see `NeuronRanking` for the fields of that name.

    Attributes:
        change: mean over prompts of |change of activation|, at the metric column or, for total
            scores, summed over positions, `[neuron]`.
        norm: of the output weights, mean of the two models, `[neuron]`.
    """

    score: Float[Tensor, "neuron batch"]
    delta: Float[Tensor, "neuron batch"]
    alignment: Float[Tensor, "neuron batch"]
    change: Float[Tensor, " neuron"]
    norm: Float[Tensor, " neuron"]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]
    unexplained: float | None

    def size(self, match: str) -> Float[Tensor, " neuron"]:
        """What controls are matched on."""
        write = self.change * self.norm
        return {"write": write, "activation": self.change, "norm": self.norm}[match]


def scores(
    clean: Run,
    corrupted: Run,
    layers: tuple[int, ...],
    *,
    by: str,
    direction: str,
    ask: Question,
) -> Scores:
    """Score the neurons of `layers`; arguments as for `rank`, the question with its metric."""
    metric = ask.metric
    assert metric is not None  # see rank
    sides = [
        Read(run, metric_columns(run, ask.places), metric, neurons=layers,
             batch_size=ask.batch_size or 32, progress=ask.progress)
        for run in (corrupted, clean)
    ]  # fmt: skip
    with torch.no_grad():
        ways, unexplained = directions_of(sides, direction, metric)
        pairs = [
            [side.neurons(i, way) for side, way in zip(sides, ways, strict=True)] for i in layers
        ]
        delta = torch.cat([high - low for (low, _), (high, _) in pairs], 1)
        alignment = torch.cat([(one + other) / 2 for (_, one), (_, other) in pairs], 1)
        norm = torch.cat(
            [torch.stack([s.parts[0].out_weights(i).norm(dim=1) for s in sides]).mean(0)
             for i in layers]
        )  # fmt: skip
        ends = [measure(metric, side.logits).cpu() for side in sides]
    score, change = (delta * alignment).sum(0), delta.abs().mean((0, 2))
    if by == "total":
        score, change = _total(clean, corrupted, layers, ask)
    return Scores(
        score=score.cpu(), delta=delta.mean(0).cpu(), alignment=alignment.mean(0).cpu(),
        change=change.cpu(), norm=norm.cpu(), clean=ends[1], corrupted=ends[0],
        unexplained=unexplained,
    )  # fmt: skip


def _total(
    clean: Run,
    corrupted: Run,
    layers: tuple[int, ...],
    ask: Question,
) -> tuple[Float[Tensor, "neuron batch"], Float[Tensor, " neuron"]]:
    """Change times the mean of both runs' gradients, summed over positions; and its size."""
    both = []
    for run in (corrupted, clean):
        plan = make_plan(
            run, None, "mlp_post", direction="denoising", contrast="", ask=ask,
            cells=Cells(layers=layers),
        )  # fmt: skip
        both.append(Backward(plan, {"mlp_post"}))
    low, high = both
    mask = corrupted.mask[..., None]
    score, change = [], []
    for i in layers:
        moved = (high.acts["mlp_post"][i] - low.acts["mlp_post"][i]).float() * mask
        slope = (high.grads["mlp_post"][i] + low.grads["mlp_post"][i]).float() / 2
        score.append((moved * slope).sum(1).T)
        change.append(moved.abs().sum(1).mean(0))
    return torch.cat(score), torch.cat(change)
