"""Neurons ranked by what they contribute to the emoji decision, then tested exactly.

Two scores. `direct`: the change of a neuron's activation between two runs, times its output
weights along the emoji direction through the final norm (see `interp.attribution.direction`), at
the metric column: how much of the runs' difference it writes itself. Along `path` these scores are
in nats, and those of the last layer with everything else sum to the measured difference. `total`:
the change times the metric's gradient (mean of the two runs'), over all positions: attribution
patching (Nanda 2023), which also sees what a neuron does by way of later components and other
positions.

A score is an account, not an experiment. The top `k` are therefore patched (clean activation into
the corrupted run) and ablated (in the clean run), alone and together, at all positions, by whole
exact computations, beside random neurons of the same layer and size (see `matched`).

Sign: positive scores and patching effects push the corrupted run towards emojis; a neuron that
drives them has a negative ablation effect.

Cost: one forward pass per run for the scores (`total`: two more, and two backward, with the neurons
of all layers in memory); `k * (1 + draws)` single patches and as many ablations, and `1 + draws`
joint ones of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.readout.metric import label, resolve, unit_of
from interp.readout.question import Metric, Question, asked
from interp.readout.run import check_pair
from interp.traces.attribution.trace import chosen_layers
from interp.traces.neurons.ablated_metric import metric_under
from interp.traces.neurons.ablation import Ablation, mean_activations
from interp.traces.neurons.matched import matched
from interp.traces.neurons.rank_result import NeuronRanking
from interp.traces.neurons.scores import scores
from interp.traces.patching import Cells, Node, Run, ablate, patch_nodes, sweep

WAYS = ("direct", "total")
MATCHES = ("write", "activation", "norm")


@dataclass(frozen=True)
class TopTest:
    """How the top neurons of a ranking are put to the test.

    Attributes:
        k: how many are patched and ablated.
        draws: sets of matched random neurons to compare them with.
        using: ablation by `mean` (over all attended tokens of the clean run) or `zero`.
        match: what controls are like the top neurons in: `write` (|change of activation| times the
            norm of the output weights), `activation` (the first alone) or `norm` (the second).
            For total scores the change is summed over positions.

    Raises:
        InputError: for a choice that does not exist.
    """

    k: int = 10
    draws: int = 5
    using: str = "mean"
    match: str = "write"

    def __post_init__(self) -> None:
        for what, given, known in (("match", self.match, MATCHES),
                                   ("ablation", self.using, ("mean", "zero"))):  # fmt: skip
            if given not in known:
                raise InputError(f"unknown {what} {given!r}; use one of {', '.join(known)}")
        if self.k < 1:
            raise InputError(f"k must be at least 1, got {self.k}")


TEN = TopTest()


@dataclass(frozen=True)
class _Runs:
    """The two runs and how they are measured."""

    clean: Run
    corrupted: Run
    using: str
    ask: Question


def rank(
    clean: Run,
    corrupted: Run,
    *,
    layers: Sequence[int] | None = None,
    by: str = "direct",
    direction: str = "path",
    test: TopTest = TEN,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> NeuronRanking:
    """Rank neurons by what they write of the difference between two runs, and test the top `k`.

    Args:
        clean, corrupted: tuned and base on the same tokens, or one model on two prompts of equal
            token length.
        layers: layers whose neurons are ranked together; the last if left out.
        by: `direct` or `total`, see above.
        direction: of direct scores: `path`, `gradient` or `fixed`.
        test: how many are tested, and against what.
        metric: short for `ask=Question(metric=...)`.
        ask: metric, metric positions, smallest gap, seed of the draws and prompts per forward pass
            (32 if left out), see `Question`.

    Raises:
        InputError: for a choice that does not exist, runs that do not fit or agree on every prompt,
            or a layer with fewer than `2 k` neurons.
        ModelError: as `interp.attribution.compare` and `interp.patching.sweep`.
    """
    contrast = check_pair(clean, corrupted)
    ask = asked(ask, metric)
    metric = resolve(ask.metric, clean.model)
    ask = replace(ask, metric=metric)
    wanted = chosen_layers(clean.model, "neuron", layers)
    if by not in WAYS:
        raise InputError(f"unknown score {by!r}; use one of {', '.join(WAYS)}")
    found = scores(clean, corrupted, wanted, by=by, direction=direction, ask=ask)
    order = found.score.mean(1).argsort(descending=True, stable=True)
    size = found.size(test.match)
    d_mlp, top = len(size) // len(wanted), order[: test.k]
    controls = _controls(size, d_mlp, top, test.draws, ask.seed)
    tested = torch.tensor(list(dict.fromkeys([*top.tolist(), *controls.flatten().tolist()])))
    numbered = (top.tolist(), *controls.tolist())
    sets = [[_place(i, wanted, d_mlp) for i in some] for some in numbered]
    runs = _Runs(clean, corrupted, test.using, ask)
    single, floor = _single(runs, [_place(i, wanted, d_mlp) for i in tested.tolist()])
    return NeuronRanking(
        score=found.score, delta=found.delta, alignment=found.alignment, size=size, order=order,
        controls=controls, tested=tested, single=single, noise_floor=floor,
        joint=_joint(runs, sets, found.clean), clean=found.clean, corrupted=found.corrupted,
        layers=wanted, d_mlp=d_mlp, k=test.k, by=by, using=test.using, match=test.match,
        direction=direction, unexplained=found.unexplained, contrast=contrast,
        metric=label(metric), unit=unit_of(metric, ask.unit),
        seed=ask.seed,
        topics=ask.topics_of(len(found.clean), clean.tokens, corrupted.tokens),
    )  # fmt: skip


def _controls(
    size: Float[Tensor, " neuron"], d_mlp: int, top: Int[Tensor, " top"], draws: int, seed: int
) -> Int[Tensor, "draw top"]:
    layer = torch.arange(len(size)) // d_mlp
    found = matched(size, layer, top.tolist(), draws, seed=seed)
    if found is None:
        raise InputError(
            f"a layer has too few neurons ({d_mlp}) to match {len(top)} of them with others; "
            "lower k"
        )
    return found


def _place(index: int, layers: tuple[int, ...], d_mlp: int) -> tuple[int, int]:
    """Layer and neuron of a number."""
    return layers[index // d_mlp], index % d_mlp


def _single(
    runs: _Runs, places: list[tuple[int, int]]
) -> tuple[Float[Tensor, "intervention tested batch"], float]:
    """Exact effect of every neuron by itself: patched into corrupted, ablated in clean.

    And how far rounding can move it: of the metric, patched and not.
    """
    found, floor = torch.empty(2, len(places), len(runs.clean.tokens)), 0.0
    for layer in sorted({layer for layer, _ in places}):
        rows = [row for row, place in enumerate(places) if place[0] == layer]
        cells = Cells(layers=[layer], neurons=[places[row][1] for row in rows])
        patched = sweep(runs.clean, runs.corrupted, "mlp_post", cells=cells, ask=runs.ask)
        without = ablate(runs.clean, "mlp_post", using=runs.using, cells=cells, ask=runs.ask)
        found[0, rows], found[1, rows] = patched.effect()[0], without.effect()[0]
        floor = max(floor, 2 * (patched.noise_floor or 0.0), 2 * (without.noise_floor or 0.0))
    return found, floor


def _joint(
    runs: _Runs, sets: list[list[tuple[int, int]]], clean: Float[Tensor, " batch"]
) -> Float[Tensor, "intervention set batch"]:
    """Exact effect of every set at once."""
    groups = [[Node("mlp_post", layer, neuron=neuron) for layer, neuron in some] for some in sets]
    patched = patch_nodes(runs.clean, runs.corrupted, groups, ask=runs.ask)
    layers = sorted({layer for some in sets for layer, _ in some})
    means = mean_activations(runs.clean, layers) if runs.using == "mean" else None
    assert runs.ask.metric is not None  # see rank
    without = metric_under(
        runs.clean, [Ablation(tuple(some), runs.using) for some in sets], runs.ask.metric,
        means=means, metric_positions=runs.ask.places, progress=runs.ask.progress,
    )  # fmt: skip
    return torch.stack((patched.values - patched.corrupted, without - clean))


def control_sets(
    ranking: NeuronRanking, k: int, draws: int, seed: int
) -> Int[Tensor, "draw top"] | None:
    """Controls for the top `k` of a ranking that is already made; None if neurons run out."""
    layer = torch.arange(len(ranking.size)) // ranking.d_mlp
    return matched(ranking.size, layer, ranking.order[:k].tolist(), draws, seed=seed)
