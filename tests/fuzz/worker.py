"""One long-lived child of `refusals.run`: makes and loads one case after the other.

Standard input: a case's name in each line. Standard output: `ready`, then for each case one JSON
object. Memory is bounded by the system (RLIMIT_AS, 1.5 GiB above what the process starts with) and
measured as the growth of its peak while the loader runs.
"""

import contextlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

HEADROOM = 1536 * 2**20


def status(field: str) -> int:
    """A size in /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise KeyError(field)


def computed() -> float:
    """CPU seconds of this process and of the children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    from corpus import cases, digest, workshop
    from loaders import LOADERS

    from interp.errors import InputError

    warnings.simplefilter("ignore")
    known = {case.name: case for case in cases()}
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no part of the answer
    size = status("VmSize") + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        case = known[line.rstrip("\n")]
        folder = Path(tempfile.mkdtemp(prefix="case-", dir=workshop()))
        argument = case.make(folder)
        found = {"name": case.name, "digest": digest(case.loader, folder, argument)}
        forget_peak()
        before, began, used = status("VmRSS"), time.perf_counter(), computed()
        try:
            with contextlib.redirect_stdout(sys.stderr):
                LOADERS[case.loader](argument)
        except InputError as problem:
            found |= {"error": type(problem).__name__, "message": str(problem), "typed": True}
        except BaseException as problem:
            said = "".join(traceback.format_exception(problem)[-6:])
            found |= {"error": type(problem).__name__, "message": said, "typed": False}
        else:
            found |= {"error": "", "message": "was loaded", "typed": False}
        found["seconds"] = time.perf_counter() - began
        found["computed"] = computed() - used
        found["growth"] = status("VmHWM") - before
        found["where"] = str(folder)
        print(json.dumps(found), file=out, flush=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
