"""A run of small sums in two groups, for executors: every making of a step leaves a mark.

A worker makes the steps by the name `toy_steps:steps`.
"""

import logging
import os
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bucket  # noqa: F401 (makes bucket:// known to a worker)

from interp.base.files import write_text
from interp.errors import DataError
from interp.study.runs import RunFolder, Step

TARGET = "toy_steps:steps"
NAMES = [f"{group}/{number}" for group in "ab" for number in range(4)]


def steps(config: Mapping[str, Any], folder: RunFolder) -> list[Step]:
    """Four numbers and their sum in each of two groups, and the sum of the sums.

    Config: `marks`, a folder, if any; `dies` and `hangs`, steps that kill their process, or never
    end, when they are made first; `starves`, one that asks for more memory than there is; `pause`,
    seconds that each takes; `warns`, whether they warn; `refuses`, whether the input is bad.
    """
    if config.get("refuses"):
        raise DataError("questions.csv: no such file")
    made = [
        _step(name, name[0], (), lambda _, n=number: n**2, config, folder)
        for number, name in enumerate(NAMES)
    ]
    for group in "ab":
        needs = tuple(name for name in NAMES if name[0] == group)
        made.append(_step(f"{group}/sum", group, needs, sum, config, folder))
    made.append(_step("sum", "b", ("a/sum", "b/sum"), sum, config, folder))
    return made


def makings(marks: Path) -> Counter[str]:
    """How often each step was begun."""
    return Counter(line for path in marks.iterdir() for line in path.read_text().split())


def makers(marks: Path) -> dict[str, list[str]]:
    """The steps that each process began, in order."""
    return {path.name: path.read_text().split() for path in marks.iterdir()}


def _step(
    name: str,
    group: str,
    needs: tuple[str, ...],
    compute: Callable[[list[int]], int],
    config: Mapping[str, Any],
    folder: RunFolder,
) -> Step:
    def write(path: Path) -> None:
        marks, first = config.get("marks"), False
        if marks is not None:
            first = name not in makings(Path(marks))
            with Path(marks, str(os.getpid())).open("a") as file:
                file.write(f"{name}\n")
        if name == config.get("dies") and first:
            print("about to die", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if name == config.get("hangs") and first:
            time.sleep(3600)
        if name == config.get("starves"):
            bytearray(2**46)
        print("noise on standard output")
        logging.getLogger("interp.toy").info("sums for %s", name)
        if config.get("warns"):
            warnings.warn(f"{name} is small", stacklevel=1)
        time.sleep(config.get("pause", 0.05))
        found = [int(folder.file(f"{need}.txt").read_text()) for need in needs]
        write_text(path, str(compute(found)))

    return Step(name, f"{name}.txt", write, {"of": config.get("of", 1)}, needs, group)
