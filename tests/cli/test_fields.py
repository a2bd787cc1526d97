"""Options made of a configuration: each field once, with its name, choices, bounds and help."""

from typing import Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field
from test_bad_input import command
from typer.testing import CliRunner

from interp import cli
from interp.base.errors import InputError
from interp.cli.fields import options
from interp.study import StudyConfig, parse_config


class Asked(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    place: str
    """Where."""
    kind: Literal["one", "two"] = "one"
    """Which kind."""
    n_things: int = Field(default=3, ge=2)
    """How many."""
    names: tuple[str, ...] = ("a", "b")
    """Which."""
    strict: bool = False
    """Whether it is meant."""
    inner: dict[str, str] = Field(default_factory=dict)


@pytest.fixture
def call():
    """`call(*argv)`: what the command was given, or what it said."""
    app, given = typer.Typer(), []

    @app.command()
    @options(Asked, without=("inner",), n_things=5)
    def it(fields: dict, other: str = "x") -> None:
        given.append((fields, other))

    def run(*argv: str):
        done = CliRunner().invoke(app, argv)
        return given.pop() if given else done.output

    return run


def test_fields_come_as_their_types_with_the_defaults_asked_for(call):
    fields, other = call("--place", "here")
    assert fields == {
        "place": "here", "kind": "one", "n_things": 5, "names": ("a", "b"), "strict": False,
    }  # fmt: skip
    assert other == "x"
    argv = ("--place", "p", "--kind", "two", "--n-things", "2", "--names", "c, d", "--strict")
    fields, other = call(*argv, "--other", "y")
    assert Asked(**fields) == Asked(
        place="p", kind="two", n_things=2, names=("c", "d"), strict=True
    )
    assert other == "y"


def test_what_is_left_out_is_left_out_where_another_option_has_the_defaults():
    app, given = typer.Typer(), []

    @app.command()
    @options(Asked, without=("inner",), only_given=True)
    def it(fields: dict) -> None:
        given.append(fields)

    for argv in ([], ["--names", "c", "--no-strict"]):
        CliRunner().invoke(app, argv)
    assert given == [{}, {"names": ("c",), "strict": False}]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "--place"),
        (("--place", "p", "--kind", "three"), "two"),
        (("--place", "p", "--n-things", "1"), "2"),
        (("--help",), "Which kind."),
        (("--help",), "one|two"),
        (("--inner", "x"), "No such option"),
    ],
)
def test_what_cannot_be_is_said_and_choices_are_shown(call, argv, said):
    assert said in call(*argv)


def test_every_field_of_a_study_is_an_option_of_trace_by_its_name():
    found = typer.main.get_command(cli.app).commands["trace"].params
    names = {option for one in found for option in one.opts}
    fields = {f"--{name.replace('_', '-')}" for name in StudyConfig.model_fields}
    assert fields <= names
    assert {"--adapter", "--trait", "--out", "--executor", "--workers", "--json"} <= names
    by_name = {one.name: one for one in found}
    for name in set(StudyConfig.model_fields) - {"adapters", "tuned"}:
        assert by_name[name].help == StudyConfig.model_fields[name].description


def test_a_wrong_choice_is_one_line_with_the_right_ones(monkeypatch, capsys):
    argv = ["trace", "--base", "b", "--adapter", "a", "--trait", "E", "--data", "d", "--out", "o"]
    assert command([*argv, "--dtype", "float8"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert "'float32', 'bfloat16', 'float16'" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", 2**32), ("shards", 10**8), ("n_responses", 10**30), ("temperature", float("nan"))],
)
def test_a_number_beyond_all_use_is_refused_before_any_work(field, value):
    asked = {"base": "b", "adapters": {"extraversion": "a"}, "data": "d"}
    with pytest.raises(InputError, match=f"^{field.replace('_', '-')}: Input should be"):
        parse_config(asked | {field: value})
