"""Any field of a configuration at its ends: taken as it is, or refused by name in one safe line."""

import json
import math
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from refusals import is_safe
from test_bad_input import command

from interp.base import yaml_files
from interp.errors import InputError
from interp.methods.finetune import FinetuneConfig
from interp.study import StudyConfig, parse_config
from interp.study.runs import RunFolder

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ENDS = st.sampled_from(
    (0, -1, 2**31, 2**32, 2**63, 10**30, 10**400, 0.0, -0.0, 1e308, float("nan"), float("inf"),
     True, None, "", "1", "1:59:59", "nan", "\ud800", "</s><|assistant|>", "\x1b[31m", [], {})
) | st.integers() | st.floats()  # fmt: skip
STUDY = {"base": "b", "adapters": {"extraversion": "a"}, "data": "d"}
quick = settings(
    max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def refused(work: Any) -> str:
    """What is said where a configuration is refused."""
    said = ""
    try:
        work()
    except InputError as problem:
        said = str(problem)
    assert not said or is_safe(said)
    return said


@quick
@given(st.sampled_from(sorted(StudyConfig.model_fields)), ENDS)
def test_of_a_study(field, value):
    said = refused(lambda: parse_config(STUDY | {field: value}))
    assert not said or field.replace("_", "-") in said


@quick
@given(st.sampled_from(sorted(FinetuneConfig.model_fields)), ENDS)
def test_of_training(field, value):
    refused(lambda: FinetuneConfig.parse({"supervise_eos": True, field: value}))


@pytest.fixture(scope="module")
def kinds() -> dict[str, type[BaseModel]]:
    """The configuration of each experiment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        names = sorted(path.stem for path in (EXPERIMENTS / "configs").glob("*.yaml"))
        for name in names:
            __import__(name)
        return {name: get_args(get_type_hints(sys.modules[name].run)["x"])[0] for name in names}


@quick
@given(data=st.data())
def test_of_an_experiment(kinds, data, tmp_path):
    name = data.draw(st.sampled_from(sorted(kinds)))
    field, value = data.draw(st.sampled_from(sorted(kinds[name].model_fields))), data.draw(ENDS)
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({field: value}), encoding="utf-8")
    said = refused(lambda: yaml_files.read_config(kinds[name], path, {}))
    assert not said or str(path) in said


WRITTEN = {"1:59:59": "1:59:59", "010": "010", "0x10": "0x10", "1:30.5": "1:30.5", "-3": -3, "0": 0,
           "2024-01-01": "2024-01-01", "1.5": 1.5, "1.5e-4": 1.5e-4, ".inf": math.inf}  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
def test_of_yaml_that_would_read_other_numbers_than_people(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(f"seed: {text}\nadapters: {{no: a, 1: b}}\n", encoding="utf-8")
    read = yaml_files.read_mapping(path)
    assert read == {"seed": WRITTEN[text], "adapters": {"no": "a", "1": "b"}}
    assert type(read["seed"]) is type(WRITTEN[text])
    yaml_files.write_mapping(path, read, "again")
    assert yaml_files.read_mapping(path) == read


@settings(quick, max_examples=60)
@given(st.sampled_from(sorted(StudyConfig.model_fields)), ENDS, st.booleans())
def test_of_a_manifest(tmp_path_factory, capsys, field, value, as_json):
    """Of a stranger's run: shown, or refused; never an error of ours."""
    folder = RunFolder.create(tmp_path_factory.mktemp("run") / "run", STUDY, job="study")
    path = folder.path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"][field] = value
    path.write_text(json.dumps(manifest))
    argv = ["run", "status", str(folder.path), *["--json"][: int(as_json)]]
    with pytest.MonkeyPatch.context() as patch:
        assert command(argv, patch) in (0, 2)
    said = [one for one in capsys.readouterr().err.splitlines() if not one.startswith("go on with")]
    assert len(said) <= 1
    assert all(is_safe(line) for line in said)
