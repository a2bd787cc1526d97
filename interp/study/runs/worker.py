"""A worker process: reads a job and then requests from standard input, one JSON value a line.

Answers go to what was standard output; whatever else is printed goes to standard error, which the
driver puts into the run's log. The end of standard input is the end of the driver: the process ends
then, in the middle of a step if need be. Ctrl-C is the driver's business.
"""

import json
import logging
import os
import queue
import signal
import sys
import warnings
from threading import Thread
from typing import Any

from interp.study.runs.job import Job, Worker


def main() -> None:
    """Work until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("interp").setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    lines: queue.Queue[str] = queue.Queue()
    Thread(target=_read, args=(lines,), daemon=True).start()

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message, allow_nan=False) + "\n")
        answers.flush()

    worker = Worker(Job.from_json(lines.get()))
    answer(worker.hello())
    while True:
        answer(worker.perform(json.loads(lines.get())))


def _read(lines: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)  # the driver is gone; the main thread may be in the middle of a step


if __name__ == "__main__":
    main()
