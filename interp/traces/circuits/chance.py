"""What random circuits of equal size carry: a faithfulness says little where any circuit has it.

The scores are dealt out anew within each kind of edge (source: input, head, MLP; destination: q,
k, v, MLP, logits), and circuits grow from the logits along them as they do along the true ones, up
to as many edges that lie on a path. So a random circuit is connected, is of the same size, and
favours the same kinds; only which edge of a kind it holds is chance.

Cost: `draws` circuits more for each circuit.
"""

from dataclasses import replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.readout.question import Question
from interp.readout.run import Run
from interp.traces.circuits.circuit import Circuit, cut, ranking
from interp.traces.circuits.compare import edge_kinds
from interp.traces.circuits.evaluate import faithfulness
from interp.traces.circuits.faithfulness import Faithfulness
from interp.traces.circuits.scores import CircuitScores


def beside_chance(
    found: Faithfulness,
    scores: CircuitScores,
    clean: Run,
    corrupted: Run,
    *,
    draws: int = 5,
    ask: Question | None = None,
) -> Faithfulness:
    """The same result with `chance`: what random circuits of each size carry.

    Args:
        found: of circuits that were chosen by `scores`.
        scores: of edges.
        clean, corrupted, ask: as `found` was made with; `ask.seed` draws.
        draws: random circuits of each size.

    Raises:
        InputError, ModelError: as `faithfulness`; or no draw, or scores of nodes.
    """
    if draws < 1 or scores.level != "edge":
        raise InputError(f"chance needs a draw and scores of edges, got {draws}, {scores.level}s")
    generator = np.random.default_rng(ask.seed if ask else 0)
    dealt = [_dealt(scores, generator) for _ in range(draws)]
    made = [circuit for one in dealt for circuit in _grown(one, found.n_edges)]
    values = faithfulness(made, clean, corrupted, ask=ask).values
    chance = rearrange(values, "(draw size) prompt -> size draw prompt", draw=draws)
    return replace(found, chance=chance)


def _dealt(scores: CircuitScores, generator: np.random.Generator) -> CircuitScores:
    """The mean scores, dealt out anew within kinds of edges."""
    mean = scores.mean()
    kinds = edge_kinds(scores.graph)
    order = torch.from_numpy(np.argsort(kinds, kind="stable"))
    shuffled = torch.from_numpy(np.lexsort((generator.random(len(kinds)), kinds)))
    dealt: Float[Tensor, " edge"] = torch.empty_like(mean)
    dealt[order] = mean[shuffled]
    return replace(
        scores, values=dealt[None], clean=torch.ones(1), corrupted=torch.zeros(1), min_gap=0.0,
        topics=None,
    )  # fmt: skip


def _grown(scores: CircuitScores, sizes: tuple[int, ...]) -> list[Circuit]:
    """The first circuits along a ranking with at least so many edges, found by bisection."""
    order, made = ranking(scores), []
    for size in sizes:
        low, high = size - 1, len(order)  # too few edges, enough
        while high - low > 1:
            middle = (low + high) // 2
            if cut(scores, order, middle).n_edges >= size:
                high = middle
            else:
                low = middle
        made.append(cut(scores, order, high, name="random"))
    return made
