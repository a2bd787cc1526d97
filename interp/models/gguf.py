"""GGUF files as bases: checked by their own header, and read by transformers into dense weights.

The file also holds config, tokenizer and chat template. Needs the package `gguf` (extra `gguf`).
"""

from pathlib import Path
from typing import Any

from interp.base.errors import ModelError, said
from interp.base.files import check_regular, kind_of

_MAGIC = b"GGUF"
_LARGEST_FIELD = 2**24


def gguf_file(source: str | Path) -> Path | None:
    """The GGUF file that `source` is, or that a folder without a config holds; else `None`.

    Raises:
        ModelError: if a folder holds several.
    """
    path = Path(source)
    if path.suffix.lower() == ".gguf" and kind_of(path) != "folder":
        return path
    if kind_of(path) != "folder" or (path / "config.json").exists():
        return None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        names = ", ".join(one.name for one in found[:6])
        raise ModelError(f"{path}: holds several GGUF files ({names}); name one")
    return found[0] if found else None


def check_gguf(path: Path) -> int:
    """Check a GGUF file; how many numbers its tensors hold.

    Raises:
        ModelError: if it is none, is damaged, or of an architecture that transformers does not
            read; if the package `gguf` is not there.
    """
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    check_regular(path, ModelError)
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise ModelError(f"{path}: is no GGUF file")
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ModelError(
            f"{path}: reading GGUF needs the package `gguf`; install it with: "
            "pip install -c constraints.txt -e '.[gguf]'"
        ) from None
    try:
        reader = GGUFReader(path)
        architecture = _text(reader, "general.architecture")
        count = sum(int(tensor.n_elements) for tensor in reader.tensors)
    except Exception as problem:  # the package checks nothing by itself
        raise ModelError(f"{path}: damaged GGUF file ({said(problem)}); copy it again") from None
    if architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        raise ModelError(
            f"{path}: a GGUF of the architecture {architecture!r:.60}, which transformers cannot "
            "read; give the model as a folder with config.json and safetensors"
        )
    return count


def _text(reader: Any, name: str) -> str:
    field = reader.fields[name]
    return bytes(field.parts[field.data[0]][:_LARGEST_FIELD]).decode("utf-8")
