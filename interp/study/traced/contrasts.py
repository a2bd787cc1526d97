"""The runs that are traced and patched between: two models on one text, one model on two texts."""

from interp.behaviour.generate import Response
from interp.behaviour.onsets import PromptContrast, prompt_contrast
from interp.readout import SlotPrompts, Slots, slots
from interp.readout.run import Run
from interp.study.models import TraitModels

MIN_GAP = 0.25
"""Prompts whose two runs differ by less than this (nats) say nothing about recovery."""


def ends(models: TraitModels, tuned: list[Response]) -> Slots:
    """Where the tuned model's answers decide: whatever was drawn there."""
    return slots(tuned, models.pair.tokenizer, writer="tuned").last


def onsets(models: TraitModels, tuned: list[Response]) -> SlotPrompts:
    """Prompts that end where the tuned model decides, spread over the topics."""
    chosen = ends(models, tuned).spread(models.config.n_trace, models.config.seed)
    return chosen.prompts(models.pair.pad_id, models.outcome)


def prompt_pairs(
    models: TraitModels, base: list[Response], tuned: list[Response]
) -> PromptContrast:
    """The tuned model's answers up to their ends, each with the plain end of one of the base's."""
    found, pad = ends(models, tuned), models.pair.pad_id
    prompts = found.spread(len(found), models.config.seed).prompts(pad, models.outcome)
    return prompt_contrast(prompts, base, pad, models.config.n_trace, models.outcome)


def model_runs(
    models: TraitModels, prompts: SlotPrompts, rows: slice = slice(None)
) -> tuple[Run, Run]:
    """Tuned and base on the same tokens, up to a slot."""
    batch = prompts.batch[rows]
    return (
        Run(models.pair.tuned, batch.tokens, batch.attention_mask),
        Run(models.pair.base, batch.tokens, batch.attention_mask),
    )


def prompt_runs(
    models: TraitModels, pairs: PromptContrast, rows: slice = slice(None)
) -> tuple[Run, Run]:
    """The tuned model at a slot of its own text, and at the end of a plain answer."""
    clean, corrupted = pairs.clean[rows], pairs.corrupted[rows]
    return (
        Run(models.pair.tuned, clean.tokens, clean.attention_mask),
        Run(models.pair.tuned, corrupted.tokens, corrupted.attention_mask),
    )
