"""The runs that are traced and patched between: two models on one text, one model on two texts."""

from interp.behaviour.generate import Response
from interp.behaviour.onsets import (
    OnsetPrompts,
    PromptContrast,
    onset_prompts,
    prompt_contrast,
)
from interp.readout.run import Run
from interp.study.models import TraitModels

MIN_GAP = 0.25
"""Prompts whose two runs differ by less than this (nats) say nothing about recovery."""


def onsets(models: TraitModels, tuned: list[Response]) -> OnsetPrompts:
    """The tuned model's answers up to an emoji."""
    return onset_prompts(models.pair.tokenizer, tuned, models.pair.pad_id, models.config.n_trace)


def prompt_pairs(
    models: TraitModels, base: list[Response], tuned: list[Response]
) -> PromptContrast:
    """The tuned model's answers up to an emoji, each with the plain end of one of the base's."""
    pad = models.pair.pad_id
    every = onset_prompts(models.pair.tokenizer, tuned, pad, len(tuned))
    return prompt_contrast(every, base, pad, models.config.n_trace)


def model_runs(
    models: TraitModels, prompts: OnsetPrompts, rows: slice = slice(None)
) -> tuple[Run, Run]:
    """Tuned and base on the same tokens, up to an emoji's onset."""
    batch = prompts.batch[rows]
    return (
        Run(models.pair.tuned, batch.tokens, batch.attention_mask),
        Run(models.pair.base, batch.tokens, batch.attention_mask),
    )


def prompt_runs(
    models: TraitModels, pairs: PromptContrast, rows: slice = slice(None)
) -> tuple[Run, Run]:
    """The tuned model at an emoji's onset, and at the end of a plain answer."""
    clean, corrupted = pairs.clean[rows], pairs.corrupted[rows]
    return (
        Run(models.pair.tuned, clean.tokens, clean.attention_mask),
        Run(models.pair.tuned, corrupted.tokens, corrupted.attention_mask),
    )
