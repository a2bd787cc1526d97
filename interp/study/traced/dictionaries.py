"""Latents of a dictionary where the tuned model's answers end, in both models, and patched."""

from interp.behaviour.generate import Response
from interp.readout import Question
from interp.study.models import TraitModels
from interp.study.traced.contrasts import model_runs, onsets
from interp.traces import dictionaries
from interp.traces.dictionaries import LatentDifference, LatentPatches


def latents(models: TraitModels, tuned: list[Response]) -> LatentDifference:
    """Which latents differ between base and tuned."""
    prompts = onsets(models, tuned)
    one, other = model_runs(models, prompts)
    ask = Question(topics=prompts.topics, seed=models.config.seed)
    held = dictionaries.read_dictionary(models.config.dictionary)
    return dictionaries.compare(other, one, held, outcome=models.outcome, ask=ask)


def patches(models: TraitModels, tuned: list[Response]) -> LatentPatches:
    """What each of the likeliest latents does to the three metrics, put from one into the other."""
    prompts = onsets(models, tuned)
    one, other = model_runs(models, prompts)
    ask = Question(topics=prompts.topics, seed=models.config.seed, progress=models.progress)
    held = dictionaries.read_dictionary(models.config.dictionary)
    return dictionaries.patch(other, one, held, outcome=models.outcome, ask=ask)
