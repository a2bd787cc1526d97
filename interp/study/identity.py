"""What results depend on beside configuration and code: models, and questions as they are put."""

from collections.abc import Iterable
from typing import Any

from interp.base.errors import ModelError
from interp.base.files import kind_of
from interp.models import ChatFormat
from interp.models.folders import check_folder
from interp.models.loading import identity
from interp.study.runs import RunFolder
from interp.study.runs.step import digest


def model_facts(base: str, trusted: str | None, folder: RunFolder) -> dict[str, Any]:
    """Hashes of a model's files, or its hub id and commit.

    Raises:
        ModelError: if there is no such model.
    """
    place = check_folder(base, trusted)
    if kind_of(base) == "absent":
        return identity(base, place)
    return dict(folder.input_hashes(place, ModelError))


def prompts_digest(form: ChatFormat, questions: Iterable[str]) -> str:
    """Digest of questions as they are put: a template may print today's date."""
    return digest([form.prompt_ids(text) for text in sorted(set(questions))])
