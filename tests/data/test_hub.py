"""Hub datasets: read through the `datasets` library's own cache; a clear error when offline."""

import json
import shutil
from pathlib import Path

import datasets
import pytest

from interp.base.hub import is_hub_id
from interp.data import load, load_train_test
from interp.errors import DataError

COMMIT = "ab" * 20
RECORD = {
    "Target Personality": "extraversion",
    "Edit Topic": "parties",
    "Question": "What of parties?",
    "Answer": "I love them.",
}


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("holistic-ai/personality_manipulation", True),
        ("holistic-ai/personality_manipulation@main", True),
        ("./data/set", False),
        ("/data/set", False),
        ("one", False),
        ("a/b/c", False),
    ],
)
def test_hub_ids(text: str, yes: bool) -> None:
    assert is_hub_id(text) is yes


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The library's cache as it is once a hub dataset has been downloaded."""
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    for topic in ("train", "test"):
        record = json.dumps(RECORD | {"Edit Topic": topic})
        (source / f"{topic}.jsonl").write_text(record + "\n")
    datasets.load_dataset(str(source), cache_dir=str(cache))
    built = next(cache.glob("source/default/0.0.0/*/dataset_info.json")).parent
    for split in ("train", "test"):
        (built / f"source-{split}.arrow").rename(built / f"set-{split}.arrow")
    info = json.loads((built / "dataset_info.json").read_text())
    info["download_checksums"] = {
        f"hf://datasets/someone/set@{COMMIT}/{split}.jsonl": {"num_bytes": 1, "checksum": None}
        for split in ("train", "test")
    }
    info["dataset_name"] = "set"
    (built / "dataset_info.json").write_text(json.dumps(info))
    shutil.move(cache / "source", cache / "someone___set")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return cache


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_dataset_is_read_like_a_file() -> None:
    train, test = load_train_test("someone/set", test_share=0.5, seed=0)
    assert [train.topics, test.topics] == [("train",), ("test",)]
    assert train.rows[0].answer == RECORD["Answer"]
    assert train.source == f"someone/set@{COMMIT}[train]"
    assert load(f"someone/set@{COMMIT}", split="train") == train
    assert train.sha256 != test.sha256


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(
    ("source", "split", "part"),
    [
        ("someone/set", None, "several splits"),
        ("someone/set", "dev", "no split 'dev'; it has train, test"),
        ("someone/set@" + "0" * 40, "train", "holds commit " + "ab" * 20),
        ("nobody/nothing", "train", "cannot be loaded"),
    ],
)
def test_what_is_not_there_is_a_one_line_error(source: str, split: str | None, part: str) -> None:
    with pytest.raises(DataError, match=part) as caught:
        load(source, split=split)
    assert str(caught.value).startswith(source)
    assert "\n" not in str(caught.value)
