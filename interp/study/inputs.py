"""What results depend on beside configuration and code: models, and questions as they are put."""

from collections.abc import Iterable
from typing import Any

from transformers import AutoConfig

from interp.base.errors import ModelError
from interp.models import ChatFormat
from interp.models.folders import check_folder
from interp.study.runs import RunFolder
from interp.study.runs.steps import digest


def model_facts(base: str, trusted: str | None, folder: RunFolder) -> dict[str, Any]:
    """Hashes of a model's files, or its hub id and commit.

    Raises:
        ModelError: if there is no such model.
    """
    place = check_folder(base, trusted)
    if place is not None:
        return dict(folder.input_hashes(place, ModelError))
    try:
        commit = getattr(AutoConfig.from_pretrained(base), "_commit_hash", None)
    except (OSError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise ModelError(f"{base}: cannot be had from the hub ({reason})") from None
    return {"hub_id": base, "commit": commit}


def prompts_digest(form: ChatFormat, questions: Iterable[str]) -> str:
    """Digest of questions as they are put: a template may print today's date."""
    return digest([form.prompt_ids(text) for text in sorted(set(questions))])
