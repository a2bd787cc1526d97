"""What can be said of a command's inputs before torch is imported, which takes seconds."""

from collections.abc import Iterable
from pathlib import Path

from interp.base.errors import AdapterError, DataError, InputError, ModelError
from interp.base.files import kind_of
from interp.base.hub import is_hub_id
from interp.study.config import StudyConfig, texts


def check(config: StudyConfig) -> None:
    """Check what a study is given: what lies here is looked into, what may be on the hub is not.

    Raises:
        InputError: that names the first that cannot be used.
    """
    check_places(config.base, config.adapters.values(), config.data)
    for adapter in () if config.tuned else config.adapters.values():
        if kind_of(adapter) == "folder" and kind_of(f"{adapter}/adapter_config.json") == "absent":
            raise AdapterError(
                f"{adapter}: no adapter_config.json; is this the folder that PEFT saved?"
            )
    if kind_of(config.data) != "absent":
        texts(config)


def check_places(base: str, adapters: Iterable[str], data: str) -> None:
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
