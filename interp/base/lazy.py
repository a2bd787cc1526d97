"""Names of a package that are imported on first use, where torch behind them takes seconds."""

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def on_first_use(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`: what it has under `if TYPE_CHECKING:`, when asked.

    So readers, type checkers and this function have the names from one place. None of them may be
    a module of the package, too: which one is meant would depend on who came first.
    """

    def get(name: str) -> Any:
        home = _homes(package).get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *_homes(package)})


@cache
def _homes(package: str) -> dict[str, str]:
    """The module of each name that a package imports for type checkers."""
    path = Path(sys.modules[package].__file__ or "")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    blocks = [node.body for node in body if isinstance(node, ast.If)]
    return {
        alias.name: node.module
        for block in blocks
        for node in block
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if node.module.partition(".")[0] == package.partition(".")[0]
    }
