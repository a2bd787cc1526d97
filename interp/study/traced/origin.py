"""Is it the text or the weights that call for the emoji?"""

from interp.behaviour.generate import Response
from interp.behaviour.origin import Origin, text_or_weights
from interp.study.models import TraitModels


def origin(models: TraitModels, base: list[Response], tuned: list[Response]) -> Origin:
    """Both models' expectation of an emoji on both models' answers."""
    return text_or_weights(
        (models.pair.base, models.pair.tuned),
        (base, tuned),
        models.pair.tokenizer,
        models.outcome,
        models.pair.pad_id,
        seed=models.config.seed,
    )
