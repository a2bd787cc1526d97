"""The command line: reads options, calls the library, prints a table and where the files are.

Exit codes: 0 done, 2 bad input, 1 anything else. Heavy imports happen inside the commands, so that
`interp --help` answers at once.
"""

import logging
import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

from interp import __version__
from interp.base import console
from interp.base.errors import InputError
from interp.cli import prepare, stopping, trace

_INTERRUPTED = 130  # what typer returns after Ctrl-C

app = typer.Typer(
    name="interp",
    help="Trace which components of a fine-tuned chat model make it write emojis.",
    epilog="Exit codes: 0 done; 2 bad input; 1 anything else (stopped, or an error of ours: "
    "INTERP_DEBUG=1 shows its traceback).",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(trace.app)
app.add_typer(prepare.app)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(f"interp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what is done, with times, as it happens.")
    ] = False,
    version: Annotated[  # noqa: ARG001 (its callback does it)
        bool | None,
        typer.Option("--version", callback=_print_version, is_eager=True, help="The version."),
    ] = None,
) -> None:
    console.log_to_terminal(verbose)


def main() -> None:
    """Run the command line and exit with 0, 2 (bad input) or 1 (anything else)."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve their neighbours
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _quiet_libraries()
    if isinstance(sys.stdout, TextIOWrapper):  # what an ASCII terminal lacks, and odd paths' bytes
        sys.stdout.reconfigure(errors="backslashreplace")
    with stopping.stoppable():
        code = console.guarded(_command)
    sys.exit(code)


def _command() -> int | None:
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:  # torch would end the process there, with no word on why
        raise InputError("the current folder has been deleted; change to another one") from None
    code = app(prog_name="interp", standalone_mode=False)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else None


def _quiet_libraries() -> None:
    """Keep the libraries' advice to their callers off the user's screen."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    # An optional kernel package that speeds up 4-bit layers on some CPUs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # That its cache is elsewhere where the home cannot be written; it costs a second, no more.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # What is cut off in training is in the command's closing lines.
    logging.getLogger("interp.methods.finetune").setLevel(logging.ERROR)
