"""What was run, when and how long, and with which settings and versions."""

from typing import Any

from interp.report.collect import Contents
from interp.show.plots.parts import plural


def facts(contents: Contents) -> list[str]:
    """The line below the title: what was run, when, how long."""
    manifest, config = contents.manifest, contents.manifest.get("config", {})
    found = []
    if isinstance(config.get("n_responses"), int):
        found.append(f"{plural(config['n_responses'], 'question')} to each model")
    started = str(manifest.get("started", ""))
    if started:
        found.append(f"begun {started[:16].replace('T', ' ')} UTC")
    seconds = manifest.get("seconds")
    if isinstance(seconds, int | float):
        took = f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"
        found.append(f"steps took {took}")
    if manifest.get("seed") is not None:
        found.append(f"seed {manifest['seed']}")
    return found


def settings(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The command, the configuration, versions and hashes, as name and value."""
    rows = [("command", str(manifest.get("command", "unknown")))]
    for title, form in (("config", "{}"), ("versions", "{}"), ("hashes", "hash of {}")):
        rows += [(form.format(name), value) for name, value in _flat(manifest.get(title), "")]
    return rows


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    """Nested fields as rows `outer inner`."""
    if not isinstance(value, dict):
        return [(name, "not set" if value is None else str(value))] if name else []
    return [row for key, one in value.items() for row in _flat(one, f"{name} {key}".strip())]
