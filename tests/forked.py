"""Commands in processes of their own that need not import torch first: six seconds each."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence

_SERVER = """
import json, os, signal, sys, traceback
from interp import cli, report, study
study.run  # is imported when it is asked for
for line in sys.stdin:
    argv, error = json.loads(line)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv, code = argv, 1
        for stream, place in ((0, os.devnull), (1, os.devnull), (2, error)):
            os.dup2(os.open(place, os.O_RDWR | os.O_CREAT), stream)
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """A process that has imported everything, and forks for each command, one after the other."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def start(self, words: Sequence[str], error: str = os.devnull) -> "Command":
        """Begin `interp WORDS`; standard error goes to the file `error`."""
        self.process.stdin.write(json.dumps([["interp", *words], error]).encode() + b"\n")
        return Command(self)

    def answer(self) -> int:
        """The next number that the server says."""
        return int(self.process.stdout.readline())


class Command:
    """A command that runs, used as `subprocess.Popen` is."""

    def __init__(self, server: Server) -> None:
        self.server, self.pid = server, server.answer()
        self.returncode: int | None = None

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)
        self.wait()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """The exit code, as soon as there is one."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code.

        Raises:
            TimeoutExpired: if it takes longer than `timeout` seconds.
        """
        if self.returncode is None:
            with selectors.DefaultSelector() as ready:
                ready.register(self.server.process.stdout, selectors.EVENT_READ)
                if not ready.select(timeout):
                    raise subprocess.TimeoutExpired("interp", timeout or 0)
            self.returncode = self.server.answer()
        return self.returncode
