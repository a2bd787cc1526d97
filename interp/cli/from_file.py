"""`--config run.yaml`: a command's options from a file; what is on the command line goes first."""

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.base.errors import InputError
from interp.base.yaml_files import meant, read_mapping


def _taken(context: typer.Context, _: typer.CallbackParam, path: Path | None) -> Path | None:
    """Make the file's fields the options' defaults, before any of them is read."""
    if path is None or context.resilient_parsing:
        return path
    known = {one.name: one for one in context.command.params if one.name and one.name != "config"}
    values = read_mapping(path)
    if values.pop("tuned", None) is True:
        values["tuned"] = values.pop("adapters", None)
    found: dict[str, Any] = {}
    for field, value in values.items():
        name = str(field).replace("-", "_")
        if name == "adapters" and isinstance(value, dict):
            name = "adapter"
        if name not in known:
            raise InputError(
                f"{path}: {context.info_name} has no option {str(field)!r:.60}"
                f"{meant(name, [*known, 'adapters'])}"
            )
        if value is not None:
            found[name] = _as_option(value, many=bool(getattr(known[name], "multiple", False)))
    context.default_map = found
    return path


def _as_option(value: Any, *, many: bool) -> Any:
    """A value as the option takes it: `a,b` for a list, `name=value` for each of a mapping."""
    if isinstance(value, dict):
        return [f"{name}={one}" for name, one in value.items()]
    if isinstance(value, list):
        return [str(one) for one in value] if many else ",".join(map(str, value))
    return value


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="YAML with this command's options, such as a run's config.yaml; options given "
        "here go first.",
        is_eager=True,
        callback=_taken,
    ),
]
