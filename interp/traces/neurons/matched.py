"""Random neurons to compare the chosen ones with: of the same layer, writing about as much.

Ablating any neuron that writes much changes something. Controls are therefore matched on size, by
default how much the neuron's activation differs between the two runs times the norm of its output
weights: they would move the residual stream as far, but in a direction that was not looked for.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.errors import InputError


def matched(
    size: Float[Tensor, " neuron"],
    layer: Int[Tensor, " neuron"],
    top: Sequence[int],
    draws: int,
    *,
    near: int = 8,
    seed: int = 0,
) -> Int[Tensor, "draw top"] | None:
    """Draw controls for `top`: for each, one of the `near` neurons nearest to it in size.

    Nearness is by the ratio of sizes. Neurons of one draw are distinct and none is in `top`.

    Args:
        size: what is matched, nonnegative.
        layer: layer of each neuron.
        top: indices of the chosen neurons.
        draws: how many sets of controls.
        near: how many nearest candidates one is drawn from.
        seed: of the draw.

    Returns:
        Indices, the control of each chosen neuron in its place; None if some layer has too few
        other neurons.

    Raises:
        InputError: if `draws` or `near` is below 1.
    """
    if draws < 1 or near < 1:
        raise InputError("draws and near must be at least 1")
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.tensor(list(top))
    free = torch.ones(len(size), dtype=torch.bool)
    free[chosen] = False
    per_layer = torch.bincount(layer[chosen], minlength=int(layer.max()) + 1)
    if bool((torch.bincount(layer[free], minlength=len(per_layer)) < per_layer).any()):
        return None
    scale = (size.double() + 1e-6 * float(size.max()) + 1e-30).log()
    sets = []
    for _ in range(draws):
        unused, found = free.clone(), torch.empty_like(chosen)
        # In random order, so that no rank gets the better matches.
        for place in torch.randperm(len(chosen), generator=rng).tolist():
            wanted = chosen[place]
            candidates = (unused & (layer == layer[wanted])).nonzero().flatten()
            distance = (scale[candidates] - scale[wanted]).abs()
            nearest = candidates[distance.topk(min(near, len(candidates)), largest=False).indices]
            pick = nearest[torch.randint(len(nearest), (1,), generator=rng)]
            found[place], unused[pick] = pick[0], False
        sets.append(found)
    return torch.stack(sets)
