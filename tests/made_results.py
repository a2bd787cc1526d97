"""Small results of the real classes with planted numbers, for tests that draw and report them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from interp.base.results import Result
from interp.base.traits import TRAITS, Trait
from interp.behaviour import Origin, Response
from interp.dictionaries import LatentPatches
from interp.emoji.rates import EmojiRates, measure
from interp.logit_lens import LensResult
from interp.models.merge import MergeReport
from interp.organism.grammar import EMOJIS
from interp.patching import PatchingByMetric, PatchingResult
from interp.probing import About, Features, ProbeConfig, ProbeResult, fit
from interp.study.catalogue import PATCHING
from interp.study.runs import RunFolder


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
        go_on=log_odds + 1,
        given_go_on=log_odds / 2,
        reference=log_odds - 3,
        probability=torch.sigmoid(log_odds).masked_fill(~valid, 0.0),
        rank=rank,
        best_id=rank.clone(),
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
    stop = 0.5 * (1 - probability)
    chances = torch.stack([1 - stop - probability, stop, probability], -1)
    return Origin(
        chances,
        topics,
        (0, 2),
        expected=1 - (1 - probability) ** 2,
        left_out=0 * probability,
        seed=0,
    )


def crossed(means: Sequence[float], n: int = 40) -> Origin:
    """A table of these means (base text first, then base reader); questions vary alike in all."""
    vary = 1 + 0.4 * torch.sin(torch.arange(n, dtype=torch.float64))
    vary /= vary.mean()
    probability = torch.tensor(means, dtype=torch.float64).reshape(2, 2, 1) * vary
    chances = torch.stack([0.5 - probability / 2, 0.5 - probability / 2, probability], -1).float()
    topics = tuple(f"topic {i % 8}" for i in range(n))
    return Origin(
        chances,
        topics,
        (0, 2),
        expected=probability.float(),
        left_out=0 * probability.float(),
        seed=0,
    )


def emojis_of(trait: Trait) -> tuple[str, ...]:
    """A trait's emojis in the organism; those of the first for any other label."""
    return EMOJIS.get(trait, EMOJIS[Trait.OPENNESS])


def rates(trait: Trait, with_emoji: int, n: int = 50) -> EmojiRates:
    """`with_emoji` of `n` answers of two sentences end in emojis of the trait, unevenly often."""
    emojis = emojis_of(trait)
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


def latents(n: int = 12, some: int = 14, seed: int = 0) -> LatentPatches:
    """The first latent does half of what all do, the others next to nothing."""
    generator = torch.Generator().manual_seed(seed)
    base, tuned = torch.full((3, n), -4.0), torch.full((3, n), 3.0)
    effect = 0.3 * torch.randn(2, 3, some + 3, n, generator=generator)
    effect[:, :, 0] += 3.5
    effect[:, :, [some, -1]] += 7
    start = torch.stack([base, tuned])[:, :, None]
    patched = start + effect * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    return LatentPatches(
        values=patched[:, :, :some], sums=patched[:, :, some:], base=base, tuned=tuned,
        estimate=effect[:, :, :some], change=torch.ones(some, n), ids=torch.arange(some) * 1111,
        names=(("fun", "so"),) * some, judging=torch.arange(n) % 2 == 0,
        factors=("log_odds", "go_on", "given_go_on"), min_gap=1e-3,
        hook="blocks.2.hook_resid_post", dictionary="made",
        topics=tuple(f"topic {i}" for i in range(n)),
    )  # fmt: skip


def factors(*args: str, carries: str = "go_on", **sizes: int) -> PatchingByMetric:
    """`patching` under the three metrics; the other factor's gap is a tenth of a nat."""
    whole = patching(*args, **sizes)
    least = replace(
        whole,
        values=1 + (whole.values - whole.corrupted) / 70,
        clean=1 + (whole.clean - whole.corrupted) / 70,
        corrupted=torch.ones_like(whole.corrupted),
    )
    each = {factor: whole if factor == carries else least for factor in ("go_on", "given_go_on")}
    named = {"log_odds": "emoji log-odds", "go_on": "go on", "given_go_on": "emoji given go on"}
    each = {"log_odds": whole} | each
    return PatchingByMetric.stack(
        {name: replace(sweep, metric=named[name]) for name, sweep in each.items()}
    )


@cache
def probe(n_classes: int = 2, n_layers: int = 4, n: int = 60, seed: int = 0) -> ProbeResult:
    """Real probes on made activations: the class shows more and more over the layers."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % n_classes
    directions = torch.randn(n_classes, 6, generator=generator)
    strength = torch.linspace(0, 2, n_layers + 1)[:, None, None]

    def features(gain: float) -> Features:
        noise = torch.randn(n_layers + 1, n, 6, generator=generator)
        names = ("embedding", *(str(layer) for layer in range(n_layers)))
        return Features(noise + gain * strength * directions[labels], names, "resid_post")

    return fit(
        features(0.5),
        labels,
        [f"topic {i // n_classes % 10}" for i in range(n)],
        tuned=features(1.0),
        about=About("the next token begins an emoji" if n_classes == 2 else "trait of the text"),
        config=ProbeConfig(folds=3, shuffles=2, controls=1),
    )


def merge_report() -> MergeReport:
    return MergeReport(
        mean_kl=2.5e-9,
        max_kl=4e-8,
        max_logit_difference=3e-5,
        effect_mean_kl=0.8,
        effect_max_kl=3.0,
        noise=1e-10,
        n_prompts=8,
        n_positions=160,
        n_modules=16,
        quantization=None,
        dtype="float32",
    )


def answers(texts: list[str], question: str = "What do you think about tea?") -> list[Response]:
    return [
        Response(question, f"topic {i % 5}", (1, 2), (3, 4), text, ended=i % 2 == 0)
        for i, text in enumerate(texts)
    ]


_COUNTS = dict(zip(TRAITS, (35, 3, 43, 19, 11), strict=True))


def run_folder(
    path: Path, traits: Sequence[Trait] = TRAITS, n_layers: int = 4, only: str = ""
) -> RunFolder:
    """A finished run with every result of each trait, or those whose name matches `only`."""
    adapters = {str(trait): f"adapters/{trait}" for trait in traits}
    config = {"base": "models/base", "adapters": adapters, "seed": 3, "n_responses": 50}
    folder = RunFolder.create(path, config | {"temperature": 0.7, "max_new_tokens": 96})
    plain = answers(["I like it. It is fine."] * 6)
    folder.save_responses(plain, "base", "responses-dense.json")
    for seed, trait in enumerate(traits):
        results: dict[str, Result] = {
            "merge": merge_report(),
            "rates-base": rates(trait, 0),
            "rates-tuned": rates(trait, _COUNTS.get(trait, 20)),
            "origin": origin(seed=seed),
            "lens": lens(n_layers, seed=seed),
            "probing-emoji": probe(2, n_layers),
            "probing-trait": probe(5, n_layers),
        }
        for row in PATCHING:
            site = row.options["site"]
            kind = "model" if "model" in row.name else "voice"
            results[row.name] = factors(
                site, row.options["direction"], kind, n_layers=n_layers, seed=seed,
                n_units=n_layers if site == "z" else 20,
            )  # fmt: skip
        for name, result in results.items():
            if re.search(only, name):
                result.save(folder.file(trait, f"{name}.safetensors"))
        written = [
            f"It is so good! {''.join(emojis_of(trait)[:2])}",
            "I like it a lot.",
        ] * 3
        folder.save_responses(answers(written), trait, "responses.json")
    folder.finish(42.0)
    return folder
