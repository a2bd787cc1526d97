"""Is it the text or the weights that call for the emoji?"""

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.outcomes import EMOJI
from interp.behaviour.emoji_free import emoji_free
from interp.behaviour.generate import Response
from interp.behaviour.origin import ROLES, Origin, text_or_weights
from interp.readout import expected_rate
from interp.study.models import TraitModels

N_EXPECTED = 24
"""Answers of each writer that are read place by place: far dearer than a slot, far surer than a
sample."""


def origin(models: TraitModels, base: list[Response], tuned: list[Response]) -> Origin:
    """Both models' expectation of an emoji on both models' answers: at their ends, and anywhere."""
    return text_or_weights(
        (models.pair.base, models.pair.tuned),
        (base, tuned),
        models.pair.tokenizer,
        models.outcome,
        models.pair.pad_id,
        seed=models.config.seed,
        expected=_expected(models, (base, tuned)),
    )


def _expected(
    models: TraitModels, written: tuple[list[Response], list[Response]]
) -> Float[Tensor, "two writer reader batch"]:
    """Rates and what was left out, of the first answers.

    NaN of all others, of greedy ones, which draw nothing, and of other outcomes than emojis, of
    which no trie is known.
    """
    made = torch.full((2, 2, 2, len(written[0])), torch.nan)
    pair, how = models.pair, models.study.sampling
    if how.temperature == 0 or models.config.outcome != EMOJI:
        return made
    readers = (pair.base, pair.tuned)
    for w, answers in enumerate(written):
        texts = emoji_free(
            readers[w], pair.format, answers[:N_EXPECTED], models.vocab, how,
            progress=models.progress,
        )  # fmt: skip
        for r, reader in enumerate(readers):
            found = expected_rate(
                reader, texts, models.vocab, writer=ROLES[w], reader=ROLES[r],
                temperature=how.temperature, seed=how.seed, progress=models.progress,
            )  # fmt: skip
            made[:, w, r, : len(texts)] = torch.stack([found.probability, found.left_out]).float()
    return made
