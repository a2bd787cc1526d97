"""How long work says how far it is: called with (label, done, total)."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
