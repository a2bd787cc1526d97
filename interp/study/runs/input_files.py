"""Input files: which of a folder are read, and their hashes."""

from pathlib import Path
from typing import Any

from interp.base.errors import InputError
from interp.base.files import check_regular, sha256

# What no library reads of a folder with a model, an adapter or a tokenizer in it.
_UNREAD = {
    ".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".bin", ".pt", ".pth", ".ckpt", ".h5",
    ".msgpack", ".onnx", ".ot", ".pkl", ".log", ".lock",
}  # fmt: skip
_INNER = "additional_chat_templates"


def input_files(place: Path) -> list[Path]:
    """An input file, or what may be read of an input folder: all but pictures, pickles and notes.

    Pipes and devices are among them, to be refused.
    """
    if not place.is_dir():
        return [place]
    found = [*place.iterdir(), *(place / _INNER).glob("*")]
    return sorted(
        path
        for path in found
        if path.suffix.lower() not in _UNREAD and path.name[0] != "." and not path.is_dir()
    )


def hashed(path: Path, known: dict[str, Any], error: type[InputError]) -> dict[str, str]:
    """An input file's hash, with what shows that it is unchanged."""
    check_regular(path, error)
    stat = path.stat()
    stamp = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}"
    facts: dict[str, str] = known.get(str(path.resolve()), {})
    if facts.get("stamp") == stamp and "sha256" in facts:
        return facts
    return {"stamp": stamp, "sha256": sha256(path, error)}
