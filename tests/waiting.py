"""Waiting for what comes in its own time: a browser does things when it comes to them."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0  # seconds: on a busy machine a moment may last long


def comes_to(look: Callable[[], Any], wanted: Any) -> None:
    """Assert that `look()` is `wanted`, sooner or later."""
    end = time.monotonic() + PATIENCE
    while (seen := look()) != wanted and time.monotonic() < end:
        time.sleep(0.01)
    assert seen == wanted, f"{seen!r} is not {wanted!r}"
