"""Options made of a configuration's fields, so that each is written once: name, choices, help."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_TAKES = "fields"


def options(
    kind: type[BaseModel], *, without: tuple[str, ...] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of `kind`.

    The command has a parameter `fields`, in whose place the options stand; it gets what they say as
    a dictionary. Choices are those of a field's `Literal`, the help is its docstring, bounds are
    checked before anything is loaded. A tuple is written with commas.

    Args:
        kind: the configuration.
        without: fields that the command sets itself.
        **defaults: other defaults than the configuration's.
    """
    made = {name: one for name, one in kind.model_fields.items() if name not in without}
    lists = [name for name, one in made.items() if get_origin(one.annotation) is tuple]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def called(**values: Any) -> None:
            for name in lists:
                values[name] = tuple(part.strip() for part in values[name].split(",") if part)
            fields = {name: values.pop(name) for name in made}
            command(**values, **{_TAKES: fields})

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name == _TAKES:
                parameters += [
                    _option(name, one, defaults.get(name, one.get_default()), one.is_required())
                    for name, one in made.items()
                ]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        described: Any = called
        described.__signature__ = inspect.Signature(parameters)
        described.__annotations__ = {one.name: one.annotation for one in parameters}
        return called

    return decorate


def _option(name: str, field: FieldInfo, default: Any, required: bool) -> inspect.Parameter:
    """One field as typer reads it from a signature."""
    kind: Any = field.annotation
    if get_origin(kind) is tuple:
        kind, default = str, ",".join(default)
    limits = {
        end: getattr(one, bound)
        for one in field.metadata
        for end, bound in (("min", "ge"), ("max", "le"))
        if hasattr(one, bound)
    }
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, help=field.description, **limits)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind, option],
        default=inspect.Parameter.empty if required else default,
    )
