"""What can be said of a command's inputs before torch is imported, which takes seconds."""

from collections.abc import Iterable
from pathlib import Path

from interp.base.errors import AdapterError, DataError, InputError, ModelError
from interp.base.files import kind_of
from interp.base.hub import is_hub_id


def check(base: str, adapters: Iterable[str], data: str) -> None:
    """Check that base, adapters and data are there, or may be on the hub.

    Raises:
        InputError: that names the first which is neither.
    """
    _check(base, "folder", ModelError)
    for adapter in adapters:
        _check(adapter, "adapter folder", AdapterError)
    _check(data, "file or folder", DataError)


def _check(source: str, what: str, error: type[InputError]) -> None:
    there = kind_of(source) != "absent" or Path(source).is_symlink()
    if not there and not is_hub_id(source):
        raise error(f"{source}: no such {what}, and no hub id (owner/name)")
