"""What causes the emojis while answers are being written."""

from interp.behaviour.generate import Response
from interp.readout import Question
from interp.study.models import TraitModels
from interp.study.traced.contrasts import onsets
from interp.traces import decoding
from interp.traces.decoding import Amplification, Crossed


def crossed(models: TraitModels) -> Crossed:
    """Answers of which one model writes the words, and one decides where they end."""
    study, pair = models.study, models.pair
    return decoding.crossed(
        (pair.base, pair.tuned), pair.format, study.questions[: models.config.n_switched],
        outcome=models.outcome, sampling=study.sampling, ask=Question(progress=models.progress),
    )  # fmt: skip


def amplified(models: TraitModels, tuned: list[Response]) -> Amplification:
    """Answers and slots with more, and with less, of what fine-tuning did to the logits."""
    study, pair = models.study, models.pair
    return decoding.amplification(
        (pair.base, pair.tuned), pair.format, study.questions[: models.config.n_switched],
        onsets(models, tuned), outcome=models.outcome, sampling=study.sampling,
    )  # fmt: skip
