"""Numbers small enough for a page: rounding, and attention as one character per weight.

Numbers are rounded to three significant digits, log-odds to six, because their differences are
shown, too. An attention weight becomes round(63 sqrt(w)), one
of 64 characters, so that small weights keep their order; it is read back to within 0.016. Weights
below 0.005 become zero, and a run of up to 24 zeros is one character of its own. Only keys up to
the query are stored, row after row: [0,0], [1,0], [1,1], [2,0], ...
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

# No character that JSON or HTML must escape.
CHARACTERS = (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-!#$%()*,.:;=?@[]^_`{|}~"
)
_LEVELS = 64
_LONGEST_RUN = 1 + len(CHARACTERS) - _LEVELS
_FLOOR = 0.005
_CODES = np.frombuffer(CHARACTERS.encode(), dtype=np.uint8)


def pack_attention(pattern: Float[Tensor, "pos pos"]) -> str:
    """One head's causal attention pattern `[query, key]` as a string."""
    weights = pattern.float().cpu().numpy()
    kept = weights[np.tril_indices(len(weights))]
    levels = np.rint((_LEVELS - 1) * np.sqrt(np.clip(kept, 0, 1))).astype(np.uint8)
    levels[kept < _FLOOR] = 0
    text = _CODES[levels].tobytes().decode()
    return re.sub(f"0{{2,{_LONGEST_RUN}}}", lambda run: CHARACTERS[_LEVELS - 2 + len(run[0])], text)


def rounded(values: Tensor, digits: int = 3) -> Any:
    """A tensor as nested lists of numbers with so many significant digits."""
    return _rounded(values.tolist(), digits)


def _rounded(values: Any, digits: int) -> Any:
    if isinstance(values, list):
        return [_rounded(value, digits) for value in values]
    short = float(f"{values:.{digits}g}")
    return int(short) if short == int(short) and abs(short) < 1000 else short


def script_json(value: Any) -> str:
    """JSON that can stand inside a `<script>`: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    marks: Sequence[tuple[str, str]] = (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    )
    for mark, escaped in marks:
        text = text.replace(mark, escaped)
    return text
