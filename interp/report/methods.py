"""What stands in folds: how the numbers were made, over how many, with which versions."""

from typing import Any

from interp.report.collect import Contents
from interp.show.plots.parts import count_range, plural


def methods(contents: Contents) -> dict[str, str]:
    """How the numbers of each section were made, by the section's key."""
    makers = {
        "rates": _rates,
        "origin": _origin,
        "lens": _lens,
        "patching": _patching,
        "circuit": _circuits,
        "adapter": _adapter,
        "probing": _probing,
        "merge": _merge,
    }
    return {key: text for key, make in makers.items() if (text := make(contents))}


def _rates(contents: Contents) -> str:
    config = contents.manifest.get("config", {})
    if not contents.having("rates_tuned"):
        return ""
    return (
        f"{config.get('n_responses')} questions of held-out topics "
        f"({contents.manifest.get('n_topics', 'an unknown number of')} topics), one sampled "
        f"answer per model and question, temperature {config.get('temperature')}, at most "
        f"{config.get('max_new_tokens')} tokens. Rates have Wilson intervals on the effective "
        "number of answers: topics are the unit. At temperature 0 every question is asked once: a "
        "second answer would be a copy."
    )


def _origin(contents: Contents) -> str:
    if not contents.having("origin"):
        return ""
    return (
        "Answers of both models are read by both where their text ends, before any emoji. "
        "Intervals resample topics (bootstrap). “More than” means that the intervals do not meet."
    )


def _lens(contents: Contents) -> str:
    lens = contents.having("lens")
    if not lens:
        return ""
    error = max(max(result.readout_error) for result in lens.values())
    counts = [result.log_odds.shape[2] for result in lens.values()]
    return (
        f"{count_range(counts, 'prompt')} per trait, each a tuned model's answer up to where its "
        "emoji begins; every state is read through the model's own final norm and unembedding. "
        "Largest difference between the last reading and the model's own logits: "
        f"{f'{error:.1e} nats' if error else 'none'}. Intervals resample prompts (bootstrap)."
    )


def _circuits(contents: Contents) -> str:
    curves = contents.having("circuit_curve")
    if not curves:
        return ""
    counts = [result.n_prompts for result in curves.values()]
    return (
        "Edges scored by EAP-IG (Hanna et al. 2024, 5 steps) on the prompt contrast "
        f"({count_range(counts, 'pair')}), taken greedily from the logits on, and tested by "
        "running the model with every other edge corrupted. Faithfulness is the share of the "
        "contrast that is left; CPR and CMD are its areas as MIB (Mueller et al. 2025) defines "
        "them. Bands are bootstraps over prompts. Circuits are found and tested on the same "
        "prompts."
    )


def _adapter(contents: Contents) -> str:
    switched = contents.having("necessity")
    if not switched:
        return ""
    counts = [result.n_prompts for result in switched.values()]
    return (
        f"{count_range(counts, 'question')} per trait, answered again with the same sampling noise "
        "without each adapted matrix in turn, on one copy of the base. Intervals resample topics; "
        "p-values (sign flips) are corrected over the matrices."
    )


def _probing(contents: Contents) -> str:
    probes = [probe for one in contents.traits for probe in one.probing.values()]
    if not probes:
        return ""
    sizes = count_range([len(probe.labels) for probe in probes], "example")
    return (
        f"Logistic regressions on {sizes}, folds by topic, so that no topic is in training and "
        "held-out data at once. Floor: labels shuffled; control: labels drawn once per type "
        "(Hewitt and Liang 2019). Where the best layer is named, it was picked among all layers, "
        "so its interval is optimistic."
    )


def _merge(contents: Contents) -> str:
    reports = contents.having("merge")
    if not reports:
        return ""
    prompts = count_range([one.n_prompts for one in reports.values()], "prompt")
    return (
        f"{prompts} per adapter, read once through the merged model and once through the base with "
        "the adapter beside it. Rounding is what the unmerged model differs by from itself, "
        "prompts alone against prompts in a batch."
    )


def _patching(contents: Contents) -> str:
    sweeps = [sweep for one in contents.traits for sweep in one.patching.values()]
    if not sweeps:
        return ""
    undefined = sum(sweep.n_undefined for sweep in sweeps)
    pairs = contents.manifest.get("prompt_pairs", {})
    alone = {trait: plural(row.get("unpaired", 0), "prompt") for trait, row in pairs.items()}
    said = "; ".join(
        f"{trait}: {plural(row.get('pairs', 0), 'pair')}, of them {row.get('exact', 0)} with a "
        f"partner that ends where its answer ended, {alone[trait]} without one"
        for trait, row in pairs.items()
    )
    return (
        "One activation at a time, all else recomputed. Recovery is (patched − "
        "corrupted) / (clean − corrupted) in emoji log-odds; prompts whose two runs differ by less "
        f"than {sweeps[0].min_gap:g} {sweeps[0].unit} are left out ({undefined} times over all "
        f"maps). Over {count_range([sweep.n_prompts for sweep in sweeps], 'prompt')} per map. Red "
        "marks what carries the difference between two runs; intervals are bootstraps over "
        "prompts, and dots survive correction of the p-values (sign flips) over the cells drawn."
        + (f" Prompt contrast: {said}." if said else "")
    )


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
        found.append(f"took {seconds / 60:.1f} min" if seconds >= 90 else f"took {seconds:.0f} s")
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
