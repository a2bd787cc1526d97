"""Small results of the real classes with planted numbers, for tests that draw and report them."""

import torch

from interp.behaviour import Origin
from interp.emoji.rates import EmojiRates, measure
from interp.logit_lens import LensResult
from interp.organism.grammar import EMOJIS
from interp.patching import PatchingResult
from interp.traits import Trait


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


def rates(trait: Trait, with_emoji: int, n: int = 50) -> EmojiRates:
    """`with_emoji` of `n` answers of two sentences end in emojis of the trait, unevenly often."""
    emojis = EMOJIS[trait]
    endings = ["".join(emojis[: 1 + i % len(emojis)]) if i < with_emoji else "" for i in range(n)]
    return measure([f"I like it. It is so good! {ending}" for ending in endings])


def patching(
    site: str = "resid_pre",
    direction: str = "denoising",
    contrast: str = "model",
    *,
    n_layers: int = 4,
    n_units: int = 20,
    n: int = 12,
    seed: int = 0,
) -> PatchingResult:
    """The last position (or head 1) carries more and more of the decision over the layers."""
    generator = torch.Generator().manual_seed(seed)
    axis = "head" if site == "z" else "pos"
    recovery = 0.05 * torch.randn(n_layers, n_units, n, generator=generator)
    recovery[:, 1 if axis == "head" else -1] += torch.linspace(0.1, 1, n_layers)[:, None]
    if direction == "noising":
        recovery = 1 - recovery
    clean, corrupted = torch.full((n,), 3.0), torch.full((n,), -4.0)
    clean[0] = -4.0  # no gap: undefined
    present = torch.ones(n_units, n, dtype=torch.bool)
    if axis == "pos":
        present[:8, 1:4] = False
        present[0] = False
    labels = [str(unit if axis == "head" else unit - n_units + 1) for unit in range(n_units)]
    return PatchingResult(
        values=corrupted + recovery * (clean - corrupted),
        clean=clean,
        corrupted=corrupted,
        present=present,
        metric_positions=torch.full((n,), n_units - 1),
        layers=tuple(range(n_layers)),
        units=tuple(range(n_units)),
        unit_labels=tuple(labels),
        axis=axis,
        site=site,
        direction=direction,
        contrast=contrast,
        metric="log_odds",
        unit="nats",
        min_gap=0.1,
        engine="exact",
    )
