"""The adapter folder: whole or absent, and never over somebody else's files."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interp.errors import RunError
from interp.files import read_json

PROVENANCE = "interp.json"
FORMAT = "interp adapter 1"


def check_out(out: Path) -> dict[str, Any] | None:
    """What stands at `out`: `None` if it is free (absent, or an empty folder), else its provenance.

    Raises:
        RunError: if it holds something that `train` did not write.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    mend = "choose another output folder"
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
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.replace(out)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            check_out(out)
            old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
            out.replace(old)
            temporary.replace(out)
            shutil.rmtree(old)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)
