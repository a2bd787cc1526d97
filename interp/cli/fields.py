"""Options made of a configuration's fields, so that each is written once: name, choices, help."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_TAKES = "fields"


def options(
    kind: type[BaseModel],
    *,
    without: tuple[str, ...] = (),
    only_given: bool = False,
    **defaults: Any,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of `kind`.

    The command has a parameter `fields`, in whose place the options stand; it gets what they say as
    a dictionary. Choices are those of a field's `Literal`, the help is its docstring, bounds are
    checked before anything is loaded. A tuple is written with commas.

    Args:
        kind: the configuration.
        without: fields that the command sets itself.
        only_given: leave out of the dictionary what the user left out, for a command whose
            defaults depend on another option.
        **defaults: other defaults than the configuration's.
    """
    made = {name: one for name, one in kind.model_fields.items() if name not in without}
    lists = [name for name, one in made.items() if get_origin(one.annotation) is tuple]

    def default(name: str, one: FieldInfo) -> Any:
        if only_given:
            return None
        return inspect.Parameter.empty if one.is_required() else defaults.get(name, one.default)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def called(**values: Any) -> None:
            for name in (one for one in lists if values[one] is not None):
                values[name] = tuple(part.strip() for part in values[name].split(",") if part)
            fields = {name: values.pop(name) for name in made}
            if only_given:
                fields = {name: one for name, one in fields.items() if one is not None}
            command(**values, **{_TAKES: fields})

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name == _TAKES:
                parameters += [_option(name, one, default(name, one)) for name, one in made.items()]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        described: Any = called
        described.__signature__ = inspect.Signature(parameters)
        described.__annotations__ = {one.name: one.annotation for one in parameters}
        return called

    return decorate


def _option(name: str, field: FieldInfo, default: Any) -> inspect.Parameter:
    """One field as typer reads it from a signature."""
    kind: Any = field.annotation
    if any(get_origin(one) is tuple for one in (kind, *get_args(kind))):
        kind = str
    if isinstance(default, tuple):
        default = ",".join(default)
    if default is None:
        kind = kind | None
    limits = {
        end: getattr(one, bound)
        for one in field.metadata
        for end, bound in (("min", "ge"), ("max", "le"))
        if hasattr(one, bound)
    }
    flag = f"--{name.replace('_', '-')}"
    if field.annotation is bool and default is not False:
        flag += f"/--no-{flag[2:]}"
    option = typer.Option(flag, help=field.description, **limits)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind, option],
        default=default,
    )
