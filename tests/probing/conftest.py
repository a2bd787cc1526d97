"""Planted activations, and the tiny tokenizer's emojis."""

from collections.abc import Callable

import numpy as np
import pytest
import tiny
import torch

from interp.emoji import EmojiVocab
from interp.probing import Features


@pytest.fixture(scope="session")
def vocab() -> EmojiVocab:
    return tiny.vocab()


@pytest.fixture(scope="session")
def features() -> Callable[[np.ndarray], Features]:
    """Wrap `[layer, example, d_model]` numbers."""

    def wrap(values: np.ndarray) -> Features:
        names = tuple(str(layer) for layer in range(len(values)))
        return Features(torch.from_numpy(values).float(), names, "resid_post")

    return wrap
