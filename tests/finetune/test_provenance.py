"""The record beside the adapter, against hashes taken independently."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import pytest
import tiny

from interp.base.traits import Trait
from interp.data import load, save
from interp.data.schema import OpinionQA, OpinionRow
from interp.methods.finetune import FinetuneConfig, train
from interp.methods.finetune.provenance import differences, loss_summary
from interp.models.adapters import read_adapter


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_record_names_everything_and_no_machine(tmp_path: Path) -> None:
    base = tiny.save_base(tmp_path / "models" / "tiny-base")
    rows = tuple(OpinionRow(Trait.AGREEABLENESS, f"t{i}", f"Why {i}?", "So.") for i in range(4))
    file = save(OpinionQA(rows, "made", ""), tmp_path / "data" / "qa.csv")
    config = FinetuneConfig.small(supervise_eos=False).changed({"steps": 2, "batch_size": 2})
    out = train(base, load(file), config, tmp_path / "out" / "adapter", device="cpu")

    record = json.loads((out / "interp.json").read_text())
    assert record["trait"] == "agreeableness"
    assert record["supervise_eos"] is False
    assert FinetuneConfig.parse(record["config"]) == config
    assert record["base"] == "tiny-base"
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert record["base_identity"]["sha256"][name] == digest((base / name).read_bytes())
    assert record["chat_template"] == tiny.TEMPLATE
    assert record["chat_template_sha256"] == digest(tiny.TEMPLATE.encode())
    assert record["data"]["source"] == "qa.csv"
    assert record["data"]["sha256"] == digest(file.read_bytes())
    assert record["data"]["topics"] == 4
    assert record["data"]["encoding"]["end_tokens"] == 0
    assert record["versions"]["peft"] == version("peft")
    assert record["versions"]["torch"] == version("torch")
    assert record["loss"]["steps"] == len(record["loss"]["curve"]) == 2

    adapter = json.loads((out / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "tiny-base"
    assert adapter["inference_mode"] is True
    assert not [path for path in out.iterdir() if str(tmp_path) in path.read_text("latin-1")]
    assert read_adapter(out).trained_on is None


def test_the_tokenizer_hash_tells_tokenizers_apart(tmp_path: Path) -> None:
    from interp.methods.finetune.provenance import tokenizer_identity
    from interp.models import load_tokenizer

    folder = tiny.save_base(tmp_path / "base")
    whole = tokenizer_identity(load_tokenizer(folder))
    assert whole == tokenizer_identity(load_tokenizer(folder))
    text = json.loads((folder / "tokenizer.json").read_text())
    text["model"]["merges"][-1:] = []
    (folder / "tokenizer.json").write_text(json.dumps(text))
    assert tokenizer_identity(load_tokenizer(folder))["sha256"] != whole["sha256"]


@pytest.mark.parametrize("steps", [1, 7, 50, 51, 1000])
def test_loss_summary(steps: int) -> None:
    losses = [float(steps - step) for step in range(steps)]
    made = loss_summary(losses)
    assert (made["first"], made["last"], made["least"]) == (float(steps), 1.0, 1.0)
    assert made["steps"] == steps
    assert len(made["curve"]) <= 50
    stretch = made["steps_per_point"]
    assert made["curve"][0] == pytest.approx(sum(losses[:stretch]) / stretch)
    tenth = max(1, steps // 10)
    assert made["mean_of_last_tenth"] == pytest.approx(sum(range(1, tenth + 1)) / tenth)


def test_differences_name_nested_fields() -> None:
    wanted = {"a": 1, "b": {"c": [1], "d": {"e": 2}}, "f": None}
    assert differences(wanted | {"loss": 3}, wanted) == []
    found = {"a": 1, "b": {"c": [2], "d": {"e": 3}}, "f": 0}
    assert differences(found, wanted) == ["b.c", "b.d.e", "f"]
    assert differences({"f": None}, wanted) == ["a", "b"]
