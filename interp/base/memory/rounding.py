"""How far a number moves with the batch size it was computed at."""

import torch
from torch import Tensor


def rounding(stored: Tensor, again: Tensor, scale: float) -> float:
    """The noise floor of numbers that were computed in batches.

    Args:
        stored: some of the numbers.
        again: the same numbers, computed at another batch size.
        scale: size of the numbers that they are differences of (the largest logit, say).

    Returns:
        four times the largest difference seen (a few rows stand for all), and at least 16 units in
        the last place of `scale`.
    """
    moved = float((stored.double() - again.double()).abs().max()) if stored.numel() else 0.0
    return max(4 * moved, 16 * torch.finfo(torch.float32).eps * scale)
