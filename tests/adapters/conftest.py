"""Random adapters on a small random Llama."""

from pathlib import Path

import pytest
from adapters_made import make_pair
from tiny import save_base

from interp.adapters import AdapterSpace


@pytest.fixture(scope="session")
def adapter_base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("adapter-base") / "tiny", num_hidden_layers=2)


@pytest.fixture(scope="session")
def lora(adapter_base, tmp_path_factory) -> AdapterSpace:
    """Seven kinds of matrix in two layers: fourteen modules of rank 3."""
    return AdapterSpace.of(make_pair(adapter_base, tmp_path_factory.mktemp("lora") / "a", "lora"))


@pytest.fixture(scope="session")
def small(adapter_base, tmp_path_factory) -> AdapterSpace:
    """Four modules, few enough for all subsets."""
    return AdapterSpace.of(make_pair(adapter_base, tmp_path_factory.mktemp("small") / "a", "small"))
