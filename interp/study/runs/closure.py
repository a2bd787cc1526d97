"""What code a result depends on: the definitions that a function reaches, found by reading sources.

A definition is a function, a class or an assignment at the top of a module. From the roots on,
every name that a definition mentions is followed: to a definition of the same module, or through
an import (wherever it stands, also inside a function) to the module that defines it; what a
package's `__init__` only passes on is looked up there and no further. Of the files beside a module
those count that a definition names next to `__file__`. Statements at the top that bind no name
count as soon as anything of their module does.

The digest is over syntax trees without comments, docstrings and positions: an edit of those
changes no result. Not followed are imports for types only (`TYPE_CHECKING`), other packages
(their versions stand for them), and the rooms that run steps, draw or talk (`OUTSIDE`), which
change no number. What is reached by a computed name is not seen: do not look functions up so.
"""

import ast
import functools
import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import interp
from interp.base.errors import RunError

PACKAGE = "interp"
OUTSIDE = (
    "interp.base.cards", "interp.base.console", "interp.base.html", "interp.show.plots",
    "interp.study.runs", "interp.report", "interp.cli",
)  # fmt: skip
"""Modules and packages that change no result."""


def closure(functions: Iterable[Callable[..., Any]]) -> str:
    """Digest of all code that these functions and classes can reach.

    Raises:
        RunError: if the source of one of them cannot be found.
    """
    return _sources().digest(tuple(map(_root, functions)))


@functools.cache
def _sources() -> "Sources":
    return Sources(Path(interp.__file__).parent)


def _root(function: Any) -> tuple[Path, str]:
    """The file of a function, and the name of the definition at its top that holds it."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(getattr(function, "__func__", function))
    try:
        return Path(inspect.getfile(function)).resolve(), function.__qualname__.split(".")[0]
    except (TypeError, OSError, AttributeError):
        raise RunError(f"{function!r:.80}: is no function of a file; its code has no key") from None


@dataclass(frozen=True)
class Piece:
    """A statement at the top of a module.

    Attributes:
        digest: of its syntax tree and of the files that it names.
        names: dotted names that it mentions, split.
        imports: bound inside of it: local name to (module, name in it or `None`).
    """

    digest: str
    names: tuple[tuple[str, ...], ...]
    imports: dict[str, tuple[str, str | None]]


@dataclass
class Module:
    """A source file, taken apart."""

    name: str
    path: Path
    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    loose: list[Piece] = field(default_factory=list)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    for_types: dict[str, tuple[str, str | None]] = field(default_factory=dict)


class Sources:
    """The sources of a package, and of scripts that lie together in a folder elsewhere."""

    def __init__(self, package: Path) -> None:
        self.package = package.resolve()
        self._modules: dict[Path, Module] = {}
        self._digests: dict[tuple[tuple[Path, str], ...], str] = {}

    def digest(self, roots: tuple[tuple[Path, str], ...]) -> str:
        """Digest of all that is reached from (file, definition) pairs."""
        if roots not in self._digests:
            reached = self.reached(roots)
            lines = [
                f"{module.name}:{name}:{piece.digest}"
                for module, name in sorted(reached, key=lambda one: (one[0].name, one[1]))
                for piece in (module.pieces[name] if name else module.loose)
            ]
            self._digests[roots] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return self._digests[roots]

    def reached(self, roots: tuple[tuple[Path, str], ...]) -> "list[tuple[Module, str]]":
        """Definitions that are reached; of a module without a name, its loose statements."""
        found: dict[tuple[Path, str], Module] = {}
        waiting: list[tuple[Module, str]] = []
        for path, name in roots:
            module = self._module(path)
            waiting += [(module, name)] if name in module.pieces else self._all(module)
        while waiting:
            module, name = waiting.pop()
            if (module.path, name) in found:
                continue
            found[module.path, name] = module
            waiting.append((module, ""))
            for piece in module.pieces[name] if name else module.loose:
                for dotted in piece.names:
                    waiting += self._follow(module, dotted, piece.imports)
        return [(module, name) for (_, name), module in found.items()]

    def at(self, module: str, name: str) -> tuple[Path, str]:
        """A root by its names."""
        return self._file(module, self.package) or self.package, name

    def _follow(
        self,
        module: Module,
        dotted: tuple[str, ...],
        local: dict[str, tuple[str, str | None]],
        exported: bool = False,
    ) -> "list[tuple[Module, str]]":
        """What a dotted name in `module` stands for: definitions to go on from."""
        first, rest = dotted[0], dotted[1:]
        target = local.get(first) or module.imports.get(first)
        if target is None and exported:
            target = module.for_types.get(first)
        if target is None:
            return [(module, first)] if first in module.pieces else []
        name, attribute = target
        return self._inside(name, ((attribute,) if attribute else ()) + rest, module)

    def _inside(
        self, name: str, rest: tuple[str, ...], seen_from: Module
    ) -> "list[tuple[Module, str]]":
        """Definitions that `name.rest` stands for, `name` being a module."""
        if any(f"{name}.".startswith(f"{one}.") for one in OUTSIDE):
            return []
        path = self._file(name, seen_from.path)
        if path is None:
            return []
        module = self._module(path)
        if not rest:
            return self._all(module)
        if rest[0] in module.pieces:
            return [(module, rest[0])]
        target = module.imports.get(rest[0]) or module.for_types.get(rest[0])
        if target not in (None, (name, rest[0])):  # a package may name its own module
            return self._follow(module, rest, {}, exported=True)
        if self._file(f"{name}.{rest[0]}", seen_from.path):
            return self._inside(f"{name}.{rest[0]}", rest[1:], seen_from)
        if "__getattr__" in module.pieces and not rest[0].startswith("__"):
            made = getattr(importlib.import_module(name), rest[0])
            home = made.__name__ if inspect.ismodule(made) else made.__module__
            return self._inside(home, rest[1:] if inspect.ismodule(made) else rest, seen_from)
        return []

    def _all(self, module: Module) -> "list[tuple[Module, str]]":
        """Everything in a module, with all that it imports."""
        passed_on = [
            node for bound in module.imports for node in self._follow(module, (bound,), {})
        ]
        return [*((module, name) for name in ("", *module.pieces)), *passed_on]

    def _file(self, name: str, seen_from: Path) -> Path | None:
        """The file of a module that is ours, or `None`."""
        first, *rest = name.split(".")
        if first == PACKAGE:
            room = interp.ROOMS.get(rest[0], "") if rest else ""  # a short name
            rest = [*room.split(".")[1:], *rest[1:]] if room else rest
            place = self.package.joinpath(*rest)
        elif self.package not in seen_from.parents:
            place = seen_from.parent.joinpath(first, *rest)
        else:
            return None
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if path.is_file():
                return path
        return None

    def _module(self, path: Path) -> Module:
        if path not in self._modules:
            self._modules[path] = _taken_apart(path, self._name(path))
        return self._modules[path]

    def _name(self, path: Path) -> str:
        if self.package not in path.parents:
            return path.stem
        parts = path.relative_to(self.package).with_suffix("").parts
        return ".".join((PACKAGE, *parts)).removesuffix(".__init__")


def _taken_apart(path: Path, name: str) -> Module:
    module = Module(name, path)
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            module.imports.update(_bound(statement))
        elif isinstance(statement, ast.If) and _is_for_types(statement.test):
            for inner in statement.body:
                module.for_types.update(_bound(inner))
        elif not _is_text(statement):
            piece = _piece(statement, path)
            names = list(_binds(statement))
            for one in names:
                module.pieces.setdefault(one, []).append(piece)
            if not names or isinstance(statement, ast.If | ast.Try | ast.With):
                module.loose.append(piece)
                module.imports.update(piece.imports)
    module.pieces.pop("__all__", None)
    return module


def _piece(statement: ast.stmt, path: Path) -> Piece:
    imports: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(statement):
        imports.update(_bound(node))
    names = tuple(dict.fromkeys(_names(statement)))
    files = _files(statement, path) if ("__file__",) in {name[:1] for name in names} else ()
    text = ast.dump(_Bare().visit(statement), annotate_fields=False)
    whole = hashlib.sha256(text.encode())
    for file in files:
        whole.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    return Piece(whole.hexdigest(), names, imports)


class _Bare(ast.NodeTransformer):
    """Takes out statements that are a text and nothing else: docstrings."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if _is_text(node) else node


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_for_types(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _bound(node: ast.AST) -> dict[str, tuple[str, str | None]]:
    """Names that an import binds, with the module, and the name in it, that they stand for."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.split(".")[0]: (
                alias.name if alias.asname else alias.name.split(".")[0], None
            )
            for alias in node.names
        }  # fmt: skip
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return {}


def _binds(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement at the top of a module binds, other than by import."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.If | ast.Try | ast.With):
        for inner in ast.iter_child_nodes(statement):
            if isinstance(inner, ast.stmt):
                yield from _binds(inner)
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


def _names(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Dotted names that are mentioned, each as long as it goes."""
    chain, inner = [], node
    while isinstance(inner, ast.Attribute):
        chain.append(inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name):
        yield (inner.id, *reversed(chain))
        return
    for child in ast.iter_child_nodes(inner):
        yield from _names(child)


def _files(statement: ast.stmt, path: Path) -> list[Path]:
    """Files beside the module that a statement names, and those in folders that it names."""
    texts = {
        node.value
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value
    }
    places = [path.parent / text for text in sorted(texts) if re.fullmatch(r"\w[\w.-]*", text)]
    inside = [file for place in places for file in (place, *sorted(place.rglob("*")))]
    return [file for file in inside if file.is_file() and "__pycache__" not in file.parts]
