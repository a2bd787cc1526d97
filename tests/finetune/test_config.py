"""The settings of a run: published defaults, one value that must be chosen, named errors."""

import pytest
from pydantic import ValidationError

from interp.errors import InputError
from interp.methods.finetune import FinetuneConfig


def test_supervise_eos_must_be_chosen() -> None:
    with pytest.raises(ValidationError, match="supervise_eos"):
        FinetuneConfig()
    with pytest.raises(InputError, match="supervise_eos: Field required"):
        FinetuneConfig.parse({"r": 8})
    with pytest.raises(TypeError):
        FinetuneConfig.small()


def test_defaults_are_the_published_setting() -> None:
    config = FinetuneConfig(supervise_eos=False).model_dump()
    published = {
        "r": 64,
        "alpha": 16,
        "dropout": 0.1,
        "target_modules": "all-linear",
        "learning_rate": 2e-4,
        "schedule": "cosine",
        "epochs": 2,
        "steps": None,
        "max_length": 512,
        "quantization": "nf4",
    }
    assert {name: config[name] for name in published} == published


def test_small_setting() -> None:
    config = FinetuneConfig.small(supervise_eos=True, seed=3)
    assert (config.r, config.alpha, config.steps, config.epochs) == (8, 16, 60, None)
    assert config.batch_size * config.gradient_accumulation == 16
    assert config.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert (config.learning_rate, config.quantization, config.seed) == (5e-3, None, 3)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"rank": 8}, "rank: no such setting"),
        ({"steps": 5}, "epochs or steps"),
        ({"epochs": None}, "epochs or steps"),
        ({"target_modules": []}, "names no module"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"dropout": 1}, "dropout"),
        ({"quantization": "int3"}, "quantization"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_values_are_one_line_errors(values: dict[str, object], part: str) -> None:
    with pytest.raises(InputError, match=part) as caught:
        FinetuneConfig.parse({"supervise_eos": True} | values)
    assert "\n" not in str(caught.value)


def test_changed_is_validated_and_leaves_the_original() -> None:
    config = FinetuneConfig(supervise_eos=True)
    stepped = config.changed({"steps": 7})
    assert (stepped.steps, stepped.epochs) == (7, None)
    assert stepped.changed({"epochs": 2}) == config
    assert (config.steps, config.epochs) == (None, 2)
    with pytest.raises(InputError, match="epochs or steps"):
        config.changed({"epochs": 1, "steps": 7})
    with pytest.raises(ValidationError, match="frozen"):
        config.r = 3
    assert FinetuneConfig.parse(config.model_dump(mode="json")) == config
