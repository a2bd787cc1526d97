"""Where in the layers the decision forms."""

from interp.behaviour.generate import Response
from interp.readout import Outcome, Question
from interp.study.models import TraitModels
from interp.study.traced.contrasts import onsets
from interp.traces import logit_lens
from interp.traces.logit_lens import LensResult


def lens(models: TraitModels, tuned: list[Response]) -> LensResult:
    """The logit lens of both models, up to the onsets of the tuned model's emojis."""
    batch = onsets(models, tuned).batch
    return logit_lens.compare(
        models.pair.base, models.pair.tuned, batch.tokens, batch.attention_mask,
        outcome=Outcome.of_vocab(models.vocab, stop=models.pair.format.stop_ids).direct,
        ask=Question(progress=models.progress),
    )  # fmt: skip
