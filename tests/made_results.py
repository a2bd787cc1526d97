"""Small results of the real classes with planted numbers, for tests that draw and report them."""

import torch

from interp.behaviour import Origin
from interp.logit_lens import LensResult


def lens(n_layers: int = 4, n: int = 12, n_positions: int = 20, seed: int = 0) -> LensResult:
    """Noise about -6 nats everywhere; at the onset the tuned model rises to about +3."""
    generator = torch.Generator().manual_seed(seed)
    readings = n_layers + 1
    log_odds = torch.randn(2, readings, n, n_positions, generator=generator) - 6
    log_odds[1, :, :, -1] += torch.linspace(0, 9, readings)[:, None]
    valid = torch.ones(n, n_positions, dtype=torch.bool)
    valid[:3, :8] = False
    log_odds = log_odds.masked_fill(~valid, 0.0)
    rank = torch.full(log_odds.shape, 3).masked_fill(~valid, -1)
    return LensResult(
        log_odds=log_odds,
        probability=torch.sigmoid(log_odds).masked_fill(~valid, 0.0),
        rank=rank,
        best_id=rank,
        valid=valid,
        columns=torch.arange(n_positions).expand(n, -1).clone(),
        onset=torch.full((n,), n_positions - 1),
        labels=("embedding", *(str(i) for i in range(n_layers - 1)), "final"),
        readout_error=(1e-6, 1e-6),
    )


def origin(n: int = 40, seed: int = 0) -> Origin:
    """The tuned model's text raises the probability in both readers."""
    generator = torch.Generator().manual_seed(seed)
    probability = 0.1 * torch.rand(2, 2, n, generator=generator)
    probability[1] += 0.6
    probability[1, 1] += 0.2
    topics = tuple(f"topic {i % 8}" for i in range(n))
    return Origin(probability, topics, n_cut=(0, 2), seed=0)
