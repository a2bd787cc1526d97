"""One split of a dataset on the Hugging Face hub, read with the `datasets` library.

Since version 4 `datasets` cannot run a dataset's own code, and it is not asked to. The hash is of
the records. The table's name carries the commit that the library says it read: offline it takes
whatever version its cache holds, so a commit that was asked for is compared with it.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from interp.base.errors import DataError, said
from interp.base.hub import check_sizes, describe, split_id
from interp.text.data.records import Table

_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_hub(source: str, split: str | None) -> Table:
    """Read `owner/name` or `owner/name@revision`; without `split` the dataset must have just one.

    Raises:
        DataError: if the hub or the dataset cannot be reached, or the split is not there.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{source}: reading from the hub needs the package `datasets`; "
            "pip install datasets, or give a local file"
        ) from None
    name, revision = split_id(source)
    known = describe(source, "dataset", DataError)
    if known is not None:
        check_sizes(known, ["*"], source, DataError)
    try:
        with _offline(datasets, known is None):
            loaded = datasets.load_dataset(name, revision=revision)
    except Exception as problem:  # the library's errors have no common base
        raise DataError(
            f"{source}: no such file, and the hub dataset cannot be loaded "
            f"({said(problem)}); check name and network, or give a local file"
        ) from None
    if split is None and len(loaded) == 1:
        split = next(iter(loaded))
    if split not in loaded:
        what = f"no split {split!r}" if split else "it has several splits; say which"
        raise DataError(f"{source}: {what}; it has {', '.join(map(str, loaded))}")
    part = loaded[split]
    records = tuple(part.to_list())
    text = json.dumps(records, ensure_ascii=False, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    commit = _commit(part)
    if commit and _COMMIT.fullmatch(revision or "") and commit != revision:
        raise DataError(f"{source}: the cache holds commit {commit}; load it once with network")
    where = f"{name}@{commit or revision}" if commit or revision else name
    return Table(f"{where}[{split}]", tuple(part.column_names), records, digest)


@contextmanager
def _offline(datasets: Any, cut_off: bool) -> Iterator[None]:
    """Keep the library from asking a hub that does not answer, over and over."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or cut_off
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _commit(part: Any) -> str | None:
    """The commit in the addresses that the library says it read, if it is one and the same."""
    addresses = part.info.download_checksums or {}
    found = {commit for address in addresses for commit in _COMMIT.findall(address)}
    return found.pop() if len(found) == 1 else None
