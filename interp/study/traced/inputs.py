"""Which words of question and answer call for the emoji."""

from interp.behaviour.generate import Response
from interp.readout import Question
from interp.study.models import TraitModels
from interp.study.traced.contrasts import MIN_GAP, ends
from interp.text.emoji.encode import token_bytes
from interp.traces import inputs
from interp.traces.inputs import WordEffects


def words(models: TraitModels, base: list[Response], tuned: list[Response]) -> WordEffects:
    """What each word does at the slots of the tuned model, against the base's own words."""
    pair, config = models.pair, models.config
    own = inputs.neutral_ids(token_bytes(pair.tokenizer), [answer.ids for answer in base])
    return inputs.effects(
        pair.tuned, ends(models, tuned).spread(config.n_trace, config.seed),
        inputs.Neutral(pair.base, own), outcome=models.outcome,
        ask=Question(min_gap=MIN_GAP, seed=config.seed, progress=models.progress),
    )  # fmt: skip
