"""Direct logit attribution: what each component writes along the emoji direction."""

from interp.traces.attribution.result import Attribution
from interp.traces.attribution.trace import attribute, compare

__all__ = ["Attribution", "attribute", "compare"]
