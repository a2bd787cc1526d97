"""The main job: measure, look, patch and probe, for one base and any number of trait adapters.

Every result is a step of its own (see `interp.study.runs`), made once and redone only where
something that it depends on has changed. Which results there are, what each needs and where the
report shows it, says the catalogue (`interp.study.catalogue`).

An analysis that a trait's answers do not allow (no emojis, say) is skipped with its reason, which
the manifest keeps and the report prints; anything wrong with the input ends the run.
"""

from typing import TYPE_CHECKING, Any

from interp.study.config import StudyConfig, anchored, parse_config

if TYPE_CHECKING:
    from interp.study.driver import run

__all__ = ["StudyConfig", "anchored", "parse_config", "run"]


def __getattr__(name: str) -> Any:
    """Import what computes on first use: it brings torch, which takes seconds."""
    if name == "run":
        from interp.study.driver import run

        return run
    raise AttributeError(f"module 'interp.study' has no attribute {name!r}")
