"""The run's log file, and what goes into it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from interp.base.errors import RunError
from interp.base.files import kind_of
from interp.study.runs.folder import RunFolder

LOG = "run.log"
"""Steps with their times and peak memory, and every warning."""


@contextmanager
def logged(folder: RunFolder) -> Iterator[None]:
    """The package's log, and Python's warnings, into the run's log file while this lasts."""
    log = folder.path / LOG
    if log.is_symlink() or kind_of(log) not in ("file", "absent"):  # a pipe would be waited for
        raise RunError(f"{log}: is no file of this folder (a link, a pipe); remove it")
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    loggers = [logging.getLogger("interp"), logging.getLogger("py.warnings")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.addHandler(handler)
    if loggers[0].getEffectiveLevel() > logging.INFO:
        loggers[0].setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for one, level in zip(loggers, levels, strict=True):
            one.removeHandler(handler)
            one.setLevel(level)
        handler.close()
