"""The command line: reads options, calls the library, prints a table and where the files are.

Exit codes: 0 done, 2 bad input, 1 anything else. Heavy imports happen inside the commands, so that
`interp --help` answers at once.
"""

import logging
import os
import sys
import warnings

import typer
from typer.exceptions import Abort, TyperException

from interp import console
from interp.cli import prepare, trace
from interp.errors import InputError

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve their neighbours
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_INTERRUPTED = 130  # what typer returns after Ctrl-C

app = typer.Typer(
    name="interp",
    help="Trace which components of a fine-tuned chat model make it write emojis.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(trace.app)
app.add_typer(prepare.app)


def main() -> None:
    """Run the command line and exit with 0, 2 (bad input) or 1 (anything else)."""
    _quiet_libraries()
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except InputError as problem:
        console.fail(str(problem))
        code = 2
    except TyperException as problem:  # a wrong option or argument
        console.fail(f"{problem.format_message()} (try: interp --help)")
        code = 2
    except (Abort, KeyboardInterrupt):
        console.fail("stopped; what is finished is kept, and the same command goes on from there")
        code = 1
    except Exception as problem:
        if os.environ.get("INTERP_DEBUG"):
            raise
        kind = type(problem).__name__
        console.fail(f"internal: {kind}: {problem} (INTERP_DEBUG=1 shows the traceback)")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _quiet_libraries() -> None:
    """Keep the libraries' advice to their callers off the user's screen."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    # An optional kernel package that speeds up 4-bit layers on some CPUs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # What is cut off in training is in the command's closing lines.
    logging.getLogger("interp.finetune").setLevel(logging.ERROR)
