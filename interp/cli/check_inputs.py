"""What can be said of a command's inputs before torch is imported, which takes seconds."""

from collections.abc import Iterable
from pathlib import Path

from interp.base.errors import AdapterError, DataError, InputError, ModelError
from interp.base.files import kind_of, where_else
from interp.base.hub import is_hub_id
from interp.study.config import StudyConfig, texts

_ADAPTER = "adapter_config.json"


def check(config: StudyConfig) -> None:
    """Check what a study is given: what lies here is looked into, what may be on the hub is not.

    Raises:
        InputError: that names the first that cannot be used.
    """
    check_places(config.base, config.adapters.values(), config.data)
    for model in (config.base, *(config.adapters.values() if config.tuned else ())):
        _check_model(model)
    for adapter in () if config.tuned else config.adapters.values():
        if kind_of(adapter) == "folder" and kind_of(f"{adapter}/{_ADAPTER}") == "absent":
            mend = where_else(adapter, _ADAPTER) or "is this the folder that PEFT saved?"
            raise AdapterError(f"{adapter}: no {_ADAPTER}; {mend}")
    if kind_of(config.data) != "absent":
        texts(config)


def _check_model(folder: str) -> None:
    """Check that a folder may hold a model."""
    if kind_of(folder) != "folder" or any(Path(folder).glob("*.gguf")):
        return
    if kind_of(f"{folder}/config.json") != "absent":
        return
    if kind_of(f"{folder}/{_ADAPTER}") != "absent":
        raise ModelError(f"{folder}: holds an adapter ({_ADAPTER}); name its base instead")
    mend = where_else(folder, "config.json") or "name the folder of a model"
    raise ModelError(f"{folder}: no config.json; {mend}")


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
