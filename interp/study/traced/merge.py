"""How far the merged model is from its adapter, and what both were read from."""

from typing import Any

from interp.models.merge import MergeReport
from interp.study.models import TraitModels


def report(models: TraitModels) -> MergeReport:
    """The merge report of the pair."""
    return models.pair.merge_report


def hashes(models: TraitModels) -> dict[str, Any]:
    """What base, data and adapter are, for the manifest."""
    pair, texts = models.pair, models.study.texts
    found = {"base": pair.identity, "data": texts.sha256, str(models.trait): pair.adapter.sha256}
    return {"hashes": found}
