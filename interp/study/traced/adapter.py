"""Which matrices of the adapter it takes."""

from interp import adapters
from interp.adapters import PartEffects
from interp.readout import Question
from interp.study.models import TraitModels


def necessity(models: TraitModels) -> PartEffects:
    """What is no longer written without each module of the adapter."""
    study = models.study
    asked = study.questions[: models.config.n_switched]
    return adapters.necessity(
        models.pair,
        adapters.Written(tuple(asked), study.sampling),
        ask=Question(seed=models.config.seed, progress=models.progress),
    )
