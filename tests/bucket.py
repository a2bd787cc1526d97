"""A kind of URL that is nowhere but here: `bucket://`, a folder that is slow to write to.

A file that is put appears at once under the name given and grows before one's eyes, as it would on
a server without atomic writes. Importing this module makes the kind known to fsspec.
"""

import os
import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

FOLDER = "INTERP_TEST_BUCKET"
"""Environment variable: where the bucket really is."""


class Bucket(LocalFileSystem):
    protocol = "bucket"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        name = str(path).removeprefix("bucket://")
        where = name if name.startswith("/") else f"{os.environ[FOLDER]}/{name}"
        return super()._strip_protocol(where)

    def unstrip_protocol(self, name: str) -> str:
        return f"bucket://{name.removeprefix(os.environ[FOLDER]).lstrip('/')}"

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        content = Path(lpath).read_bytes()
        middle = len(content) // 2
        with Path(self._strip_protocol(rpath)).open("wb") as file:
            for part in (content[:middle], content[middle:]):
                file.write(part)
                file.flush()
                time.sleep(0.02)


fsspec.register_implementation("bucket", Bucket, clobber=True)
