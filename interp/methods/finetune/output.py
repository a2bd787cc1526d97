"""The adapter folder: whole or absent, and never over somebody else's files."""

import errno
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save

from interp.base.errors import RunError
from interp.base.files import read_json, write_bytes, write_json

PROVENANCE = "interp.json"
FORMAT = "interp adapter 1"


def check_out(out: Path) -> dict[str, Any] | None:
    """What stands at `out`: `None` if it is free (absent, or an empty folder), else its provenance.

    Raises:
        RunError: if it holds something that `train` did not write, or cannot be written.
    """
    mend = "choose another output folder"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}."):
            pass  # better to fail now than after the training
    except OSError as problem:
        raise RunError(f"{out}: cannot be written ({problem.strerror}); {mend}") from None
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not out.is_dir():
        raise RunError(f"{out}: is a file; {mend}")
    if not (out / PROVENANCE).is_file():
        raise RunError(f"{out}: is not empty and was not written by a fine-tuning run; {mend}")
    found = read_json(out / PROVENANCE, RunError)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RunError(f"{out / PROVENANCE}: was not written by a fine-tuning run; {mend}")
    return found


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place once the block has ended well.

    If the block fails or is killed, `out` is as it was. A folder of ours that stands at `out` is
    replaced; in the moment between its removal and the renaming `out` is absent, never mixed.
    """
    temporary = _beside(out)
    try:
        yield temporary
        try:
            temporary.replace(out)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            check_out(out)
            old = _beside(out)
            out.replace(old)
            temporary.replace(out)
            shutil.rmtree(old)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def _beside(out: Path) -> Path:
    """A new folder, as open to others as the umask says."""
    made = out.parent / f".{out.name}.{secrets.token_hex(4)}"
    made.mkdir()
    return made


def write_adapter(
    folder: Path, model: PeftModel, base: str, store_dtype: Literal["float32", "float16"]
) -> None:
    """Write the two files that PEFT reads, in an order that does not change from run to run."""
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base, "inference_mode": True}
    for name, value in config.items():
        if isinstance(value, set):
            config[name] = sorted(value)
    write_json(folder / "adapter_config.json", config)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    dtype = getattr(torch, store_dtype)
    tensors = {name: state[name].detach().to("cpu", dtype).contiguous() for name in sorted(state)}
    write_bytes(folder / "adapter_model.safetensors", save(tensors, {"format": "pt"}))
