"""A budget of memory in bytes; tests/test_memory_limit.py measures what is taken."""

import pytest
import torch
from patching_models import bridge, pick, prompts

from interp.errors import InputError
from interp.patching import Run, sweep
from interp.readout import Question


def test_a_budget_too_small_for_one_patch_is_refused():
    tokens, _ = prompts([6, 6])
    runs = Run(bridge("llama", 1), tokens), Run(bridge("llama", 2), tokens)
    with pytest.raises(InputError, match=r"chunk is 1000 bytes, but one patch .* takes \d+"):
        sweep(*runs, "z", metric=pick, ask=Question(chunk=1000))
    small, large = (sweep(*runs, "z", metric=pick, ask=Question(chunk=n)) for n in (50_000, None))
    torch.testing.assert_close(small.values, large.values, atol=1e-5, rtol=0)
