"""Shared fixtures. Shapes are checked here, and only here: jaxtyping's import hook."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from jaxtyping import install_import_hook

install_import_hook("interp", "beartype.beartype")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real tokenizers and data that lies beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with real tokenizers and data is not beside the checkout")
    return SHARED
