"""The Hugging Face hub: asked last, waited for ten seconds, its files held to the limits of files.

A repository is fetched into the library's own cache and then is a folder like any other. Where the
hub cannot be reached, what the cache holds is taken. Sizes are asked for before anything is
downloaded.
"""

import re
import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from interp.base.errors import InputError, said
from interp.base.files import LARGEST_JSON

SECONDS = 10.0
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(?:@[\w./-]+)?")
_WEIGHTS = (".safetensors", ".gguf")


def is_hub_id(source: object) -> bool:
    """Whether `source` reads as `owner/name` or `owner/name@revision`."""
    return isinstance(source, str) and bool(_ID.fullmatch(source)) and "..." not in source


def split_id(source: str) -> tuple[str, str | None]:
    """Name and revision of a hub id."""
    name, _, revision = source.partition("@")
    return name, revision or None


def snapshot(source: str, patterns: Sequence[str], error: type[InputError]) -> Path:
    """The folder that holds the files of a model repository that fit `patterns`.

    Raises:
        InputError: (the subclass given as `error`) if there is no such repository or revision, a
            file is too large, or the hub cannot be reached and the cache does not have it.
    """
    from huggingface_hub import snapshot_download

    name, revision = split_id(source)
    known = describe(source, "model", error)
    if known is not None:
        check_sizes(known, patterns, source, error)
    try:
        if known is None:
            kept = snapshot_download(name, revision=revision, local_files_only=True)
            return Path(kept)
        return Path(snapshot_download(name, revision=known.sha, allow_patterns=list(patterns)))
    except Exception as problem:  # the library's errors have no common base
        why = "cannot be reached" if known is None else f"fails ({said(problem)})"
        raise error(
            f"{source}: no such folder, not in the cache, and the hub {why}; check the name and "
            "the network, or give a local folder"
        ) from None


def describe(source: str, kind: Literal["model", "dataset"], error: type[InputError]) -> Any | None:
    """What the hub says of a repository, its files' sizes included; `None` if it says nothing.

    Raises:
        InputError: (the subclass given as `error`) if it says that there is no such thing.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    name, revision = split_id(source)
    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        return within(
            SECONDS, lambda: ask(name, revision=revision, files_metadata=True, timeout=SECONDS)
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as problem:
        raise error(
            f"{source}: the hub has no such {kind}, or not for you ({said(problem)})"
        ) from None
    except Exception:  # offline, cut off, slow: the cache is asked next
        return None


def check_sizes(known: Any, patterns: Sequence[str], source: str, error: type[InputError]) -> None:
    """Refuse files other than weights that are larger than such a file is read.

    Raises:
        InputError: (the subclass given as `error`) naming the file.
    """
    for file in known.siblings or []:
        wanted = any(fnmatch(file.rfilename, pattern) for pattern in patterns)
        if wanted and not file.rfilename.endswith(_WEIGHTS) and (file.size or 0) > LARGEST_JSON:
            raise error(
                f"{source}: {file.rfilename} has {file.size / 2**20:.0f} MiB, above the "
                f"{LARGEST_JSON // 2**20} MiB that are read of such a file"
            )


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns, if it does so in time; a slow thread is left behind.

    Raises:
        TimeoutError: if it does not. Else what `work` raises.
    """
    made: list[Any] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            made.append(work())
        except Exception as problem:
            failed.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not made:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return made[0]
