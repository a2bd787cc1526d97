"""`--config`: options from a file, the command line's own first, and a run's file among them."""

import json

import pytest
import yaml
from test_bad_input import command

from interp import organism
from interp.cli import trace
from interp.methods.finetune.config import FinetuneConfig
from interp.study.config import StudyConfig
from interp.study.driver import CONFIG


@pytest.fixture
def asked(monkeypatch):
    """What `interp trace` would have run."""
    seen = []
    monkeypatch.setattr(trace, "study", lambda config, out, *_, **__: seen.append((config, out)))
    return seen


VALUES = {
    "base": str(organism.base_path()),
    "adapters": {"extraversion": str(organism.adapter_path("extraversion"))},
    "data": str(organism.ASSETS), "n-responses": 12, "only": ["rates", "lens"], "seed": 3,
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    def written(**changes):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(VALUES | changes))
        return str(path)

    return written


def test_options_come_from_a_file_and_those_of_the_command_line_go_first(
    asked, file, monkeypatch
) -> None:
    argv = ["trace", "--config", file(), "--out", "there", "--seed", "5"]
    assert command(argv, monkeypatch) == 0
    ((config, out),) = asked
    assert out == "there"
    assert (config.seed, config.n_responses, config.only) == (5, 12, ("rates", "lens"))
    assert {str(k): v for k, v in config.adapters.items()} == VALUES["adapters"]


def test_a_runs_own_file_asks_for_the_same_run(asked, finished, monkeypatch) -> None:
    argv = ["trace", "--config", str(finished.path / CONFIG), "--out", "again"]
    assert command(argv, monkeypatch) == 0
    manifest = json.loads((finished.path / "manifest.json").read_text())
    assert asked[0][0] == StudyConfig.model_validate(manifest["config"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_response": 3}, "no option 'n_response'; did you mean n_responses?"),
        ({"seed": "many"}, "'--seed': Input should be a valid integer"),
    ],
)
def test_what_a_file_has_wrong_is_named_in_a_line(
    asked, file, monkeypatch, capfd, changes, said
) -> None:
    assert command(["trace", "--config", file(**changes), "--out", "x"], monkeypatch) == 2
    assert said in " ".join(capfd.readouterr().err.split())
    assert not asked


def test_settings_of_a_fine_tuning_say_none_and_mean_what_was_meant() -> None:
    whole = FinetuneConfig(supervise_eos=False)
    assert whole.changed({"quantization": "none"}).quantization is None
    assert whole.changed({"target_modules": "q_proj, v_proj"}).target_modules == (
        "q_proj", "v_proj",
    )  # fmt: skip
    with pytest.raises(Exception, match="no such setting; did you mean learning_rate"):
        whole.changed({"learningrate": 1})
