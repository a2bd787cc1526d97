"""How far the merged model is from its adapter, and what both were read from."""

from typing import Any

from interp.models.merge import MergeReport
from interp.study.models import TraitModels


def report(models: TraitModels) -> MergeReport:
    """The merge report of the pair."""
    return models.pair.merge_report


def hashes(models: TraitModels) -> dict[str, Any]:
    """What base, data and adapter are, for the manifest."""
    pair, trait = models.pair, str(models.trait)
    tuned = pair.adapter.sha256 if pair.adapter else pair.tuned_identity
    found = {"base": pair.identity, "data": models.study.texts.sha256, trait: tuned}
    return {"hashes": found, "template": {trait: pair.format.told}}
