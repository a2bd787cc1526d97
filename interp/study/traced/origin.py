"""Is it the text or the weights that call for the emoji?"""

from jaxtyping import Float
from torch import Tensor

from interp.base.outcomes import EMOJI
from interp.behaviour.emoji_free import emoji_free
from interp.behaviour.generate import Response
from interp.behaviour.origin import Origin, expected_rates, text_or_weights
from interp.study.models import TraitModels

MOST_EXPECTED = 24


def n_expected(n_responses: int) -> int:
    """Answers of each writer that are read place by place: far dearer than a slot, and far surer
    than a sample.
    """
    return min(MOST_EXPECTED, n_responses, max(8, n_responses // 4))


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
) -> Float[Tensor, "two writer reader batch"] | None:
    """Of the first answers; none of greedy ones, which draw nothing, and of other outcomes than
    emojis, of which no trie is known.
    """
    pair, how = models.pair, models.study.sampling
    if how.temperature == 0 or models.config.outcome != EMOJI:
        return None
    readers = (pair.base, pair.tuned)
    base, tuned = (
        emoji_free(reader, pair.format, answers[: n_expected(len(answers))], models.vocab, how,
                   progress=models.progress)
        for reader, answers in zip(readers, written, strict=True)
    )  # fmt: skip
    return expected_rates(
        readers, (base, tuned), models.vocab, len(written[0]), temperature=how.temperature,
        seed=how.seed, progress=models.progress,
    )  # fmt: skip
