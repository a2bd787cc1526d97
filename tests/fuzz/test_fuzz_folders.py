"""Any file replaced, any field of a config changed: a named error, or the same numbers."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_adapters import good_adapter
from broken_models import good_base
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoHaConfig, LoraConfig, OFTConfig, PeftConfig
from refusals import is_safe
from thinned import thinned

from interp import load_pair
from interp.base.hub import within
from interp.errors import InterpError
from interp.models.adapter_config import parse_adapter_config

SECONDS = 60
TYPES = {"LORA": LoraConfig, "LOHA": LoHaConfig, "OFT": OFTConfig}
quick = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


def attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    """What `work` returns, or the text of the error that the package raises."""
    try:
        return work(), ""
    except InterpError as problem:
        return None, str(problem)


def logits(base: Path, adapter: Path) -> torch.Tensor:
    """What a pair says, made in bounded time."""
    pair = within(SECONDS, lambda: load_pair(base, adapter, device="cpu"))
    assert pair.merge_report.share <= 0.05
    ids = torch.tensor([[5, 9, 30, 77]])
    return torch.cat([pair.base(ids), pair.tuned(ids)])


@pytest.fixture(scope="module")
def wanted():
    return logits(good_base(), good_adapter())


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    path.write_bytes(bytes(torch.randint(0, 256, (999,), dtype=torch.uint8).tolist()))


def added(path: Path) -> None:
    """Files that nobody asked for, beside the others."""
    os.mkfifo(path.parent / "README.json")
    (path.parent / "more.jinja").symlink_to("/dev/zero")


REPLACED = (pipe, linked, elsewhere, folder, half, noise, Path.unlink, added)
FILES = [
    *(("base", name) for name in sorted(one.name for one in good_base().iterdir())),
    *(("adapter", name) for name in sorted(one.name for one in good_adapter().iterdir())),
]


@pytest.mark.parametrize(("file", "how"), thinned(FILES, REPLACED))
def test_any_file_replaced(tmp_path, wanted, file, how):
    which, name = file
    torch.manual_seed(0)
    folders = {"base": good_base(), "adapter": good_adapter()}
    folders = {one: shutil.copytree(path, tmp_path / one) for one, path in folders.items()}
    how(folders[which] / name)
    found, said = attempt(lambda: logits(folders["base"], folders["adapter"]))
    if said:
        assert is_safe(said)
        assert str(tmp_path) in said
    else:
        torch.testing.assert_close(found, wanted)


@settings(quick, max_examples=300)
@given(st.sampled_from(sorted(TYPES)), st.data())
def test_any_value_in_any_field_is_peft_s_or_refused(kind, data):
    name = data.draw(st.sampled_from([field.name for field in dataclasses.fields(TYPES[kind])]))
    raw = {"peft_type": kind, "target_modules": ["q_proj"], name: data.draw(JSON)}
    found, said = attempt(lambda: parse_adapter_config(raw, Path("adapter_config.json")))
    if said:
        assert is_safe(said)
        assert "adapter_config.json" in said
    else:
        assert isinstance(found[0], PeftConfig)
        assert not found[1]


@settings(quick, max_examples=20)
@given(st.sampled_from([field.name for field in dataclasses.fields(LoraConfig)]), JSON)
def test_any_value_in_any_field_is_merged_or_refused(tmp_path_factory, name, value):
    where = shutil.copytree(good_adapter(), tmp_path_factory.mktemp("a") / "adapter")
    path = where / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    _, said = attempt(lambda: logits(good_base(), where))
    assert not said or (is_safe(said) and str(where) in said)
