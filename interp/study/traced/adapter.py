"""Which matrices of the adapter it takes."""

from interp.base.outcomes import Asked
from interp.behaviour.generate import Response
from interp.readout import Question
from interp.study.models import TraitModels
from interp.study.traced.contrasts import onsets
from interp.traces import adapters
from interp.traces.adapters import EffectsByMetric, PartEffects


def necessity(models: TraitModels) -> PartEffects:
    """What is no longer written without each module of the adapter."""
    study = models.study
    asked = study.questions[: models.config.n_switched]
    return adapters.necessity(
        models.pair,
        adapters.Written(tuple(asked), study.sampling, Asked.parse(models.config.outcome)),
        ask=Question(seed=models.config.seed, progress=models.progress),
    )


def exact(models: TraitModels, tuned: list[Response]) -> EffectsByMetric:
    """What the log-odds and both factors lose without each module, where the tuned answers end."""
    prompts = onsets(models, tuned)
    ask = Question(topics=prompts.topics, seed=models.config.seed, progress=models.progress)
    found = adapters.necessity_each(models.pair, prompts.batch, models.outcome.metrics(), ask=ask)
    return EffectsByMetric.stack(found)
