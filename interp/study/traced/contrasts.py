"""The runs that are traced and patched between: two models on one text, one model on two voices."""

from jaxtyping import Bool
from torch import Tensor

from interp.behaviour.generate import Response
from interp.behaviour.voices import VoiceContrast, voice_contrast
from interp.readout import SlotPrompts, Slots, slots
from interp.readout.run import Run
from interp.study.models import TraitModels

MIN_GAP = 1e-3
"""Prompts whose two runs agree to this (nats) have no gap; all others count in ratios of means."""


def ends(models: TraitModels, answers: list[Response], writer: str = "tuned") -> Slots:
    """Where a model's answers decide: whatever was drawn there."""
    return slots(answers, models.pair.tokenizer, writer=writer).last


def onsets(models: TraitModels, tuned: list[Response]) -> SlotPrompts:
    """Prompts that end where the tuned model decides, spread over the topics."""
    chosen = ends(models, tuned).spread(models.config.n_trace, models.config.seed)
    return chosen.prompts(models.pair.pad_id, models.outcome)


def voice_pairs(models: TraitModels, base: list[Response], tuned: list[Response]) -> VoiceContrast:
    """The tuned model's answers up to their ends, each with the base's to the same question."""
    return voice_contrast(
        ends(models, tuned), ends(models, base, "base"), models.pair.pad_id,
        models.config.n_trace, seed=models.config.seed, outcome=models.outcome,
    )  # fmt: skip


def model_runs(
    models: TraitModels, prompts: SlotPrompts, rows: slice | Bool[Tensor, " batch"] = slice(None)
) -> tuple[Run, Run]:
    """Tuned and base on the same tokens, up to a slot."""
    batch = prompts.batch[rows]
    return (
        Run(models.pair.tuned, batch.tokens, batch.attention_mask),
        Run(models.pair.base, batch.tokens, batch.attention_mask),
    )


def voice_runs(
    models: TraitModels, pairs: VoiceContrast, rows: slice | Bool[Tensor, " batch"] = slice(None)
) -> tuple[Run, Run]:
    """The tuned model at a slot of its own text, and at one of the base's text."""
    clean, corrupted = pairs.clean[rows], pairs.corrupted[rows]
    return (
        Run(models.pair.tuned, clean.tokens, clean.attention_mask, "voice"),
        Run(models.pair.tuned, corrupted.tokens, corrupted.attention_mask, "voice"),
    )
