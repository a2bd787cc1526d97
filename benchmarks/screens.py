"""Every rule of a screen against exact patching: order, what is missed, and cost.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/screens.py
    OMP_WAIT_POLICY=PASSIVE python benchmarks/screens.py --contrast backups --seeds 5
    OMP_WAIT_POLICY=PASSIVE python benchmarks/screens.py --contrast ioi --base FOLDER --rounds 1

Contrasts: planted are (`tests/planted_backup.py`) `backups`, heads put back whose backups cancel
them in the gradient, `stepping-in`, the same heads taken away while their backups are silent and
then step in, and `loud`, a head taken away that fills the stream, which the final norm divides by.
`organism` is the shipped extraversion adapter against its base where answers end. `ioi` asks a real
model (folder, GGUF or hub id) for the indirect object: `When Mary and John went to the store, John
gave a drink to`, against the same with the subject exchanged; the metric is the difference of the
two names' logits. Every node of `screen`'s default sites (of a real model not the neurons) is
estimated by each rule and patched by `sweep`, in one process.

Order is Spearman's correlation, over nodes, of the mean over prompts of |estimate| and of |effect|
(the contribution of Kramár et al. 2024), by site and over all whose effect is not exactly 0.
`largest` is the share of its exact effect that the head (`z`) with the largest is given. `top 10`
is how many of the ten nodes with the largest exact effect are among the ten largest estimates.
Planted contrasts: means over seeds of the noise. Costs are CPU seconds of the whole call (one node
verified), medians over rounds, beside those of the plain gradient and of the exact sweeps.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from ioi import indirect_objects
from patching import timed
from planted_backup import planted_backup, planted_loud
from scipy.stats import spearmanr
from torch import Tensor

import interp
from interp import load_pair, organism
from interp.behaviour import generate
from interp.models import load_hooked
from interp.patching import Run, screen, sweep
from interp.patching.screen import DEFAULT_SITES
from interp.readout import Question
from interp.readout.rules import RULES

CONTRASTS = {"backups": "denoising", "stepping-in": "noising", "loud": "noising",
             "organism": "denoising", "ioi": "denoising"}  # fmt: skip
NOISE, TOP = 0.005, 10
GROUPS = {"z": ("z",), "q, k, v": ("q", "k", "v"), "mlp_out": ("mlp_out",),
          "mlp_post": ("mlp_post",), "all": tuple(DEFAULT_SITES)}  # fmt: skip
Sizes = dict[str, Tensor]


def contrasts(
    name: str, seeds: int, prompts: int, base: str | None
) -> Iterator[tuple[Run, Run, Question]]:
    """Clean, corrupted and what is asked, once for each seed of what is planted."""
    if name == "ioi":
        *runs, metric = indirect_objects(load_hooked(base), prompts)
        yield *runs, Question(metric=metric)
        return
    if name == "organism":
        pair = load_pair(
            organism.base_path("suppressed"),
            organism.adapter_path("extraversion", base="suppressed"),
        )
        asked = [(row.question, row.topic) for row in organism.opinion_qa("test").rows[::20]]
        ends = pair.slots(generate(pair.tuned, pair.format, asked)).ends.spread(prompts, seed=0)
        found = interp.contrast(pair, ends)
        yield found.clean, found.corrupted, Question(metric=pair.outcome.metric())
        return
    plant = planted_loud if name == "loud" else planted_backup
    for seed in range(seeds):
        made = plant(NOISE, seed)
        yield made.clean, made.corrupted, Question(metric=made.metric)


def exact(
    clean: Run, corrupted: Run, direction: str, ask: Question, sites: dict[str, str]
) -> Sizes:
    """By site, the mean size of every node's effect."""
    found = {
        site: sweep(clean, corrupted, site, by=by, direction=direction, ask=ask).effect()
        for site, by in sites.items()
    }
    return {site: value.flatten(0, 1).abs().mean(1) for site, value in found.items()}


def estimated(
    rule: str, clean: Run, corrupted: Run, direction: str, ask: Question, sites: dict[str, str]
) -> Sizes:
    """By site, the mean size of every node's estimate."""
    found = screen(clean, corrupted, sites=sites, rule=rule, direction=direction, top_k=1, ask=ask)
    sizes = found.estimate.abs().mean(1)
    return {site: sizes[found.site == i] for i, site in enumerate(found.sites)}


def agreement(guess: Sizes, truth: Sizes) -> dict[str, float]:
    """Rank correlations by group of sites, and how many of the largest are found."""
    made = {}
    for group, sites in GROUPS.items():
        if not set(sites) & set(truth):
            continue
        one, other = (torch.cat([sizes[site] for site in sites if site in sizes])
                      for sizes in (guess, truth))  # fmt: skip
        lives = other > 0  # columns before the prompts differ, or after the metric's, do nothing
        made[group] = float(spearmanr(one[lives], other[lives]).statistic)
    largest = (set(sizes.argsort(descending=True)[:TOP].tolist()) for sizes in (one, other))
    most = int(truth["z"].argmax())
    made["largest"] = float(guess["z"][most] / truth["z"][most])
    made[f"top {TOP}"] = float(len(set.intersection(*largest)))
    return made


def report(name: str, seeds: int, prompts: int, rounds: int, base: str | None) -> None:
    """Print one contrast's table."""
    direction = CONTRASTS[name]
    sites = {site: by for site, by in DEFAULT_SITES.items()
             if name != "ioi" or site != "mlp_post"}  # fmt: skip
    agree: dict[str, list[dict[str, float]]] = {rule: [] for rule in RULES}
    seconds: dict[str, list[float]] = {rule: [] for rule in ("exact", *RULES)}
    count = 0
    for clean, corrupted, ask in contrasts(name, seeds, prompts, base):
        for round_ in range(rounds):
            truth, cpu, _ = timed(partial(exact, clean, corrupted, direction, ask, sites))
            seconds["exact"].append(cpu)
            for rule in RULES:
                work = partial(estimated, rule, clean, corrupted, direction, ask, sites)
                guess, cpu, _ = timed(work)
                seconds[rule].append(cpu)
                if not round_:
                    agree[rule].append(agreement(guess, truth))
        count = sum(len(sizes) for sizes in truth.values())
    middle = {rule: statistics.median(each) for rule, each in seconds.items()}
    shape = f"{len(clean.tokens)} prompts of {clean.tokens.shape[1]} tokens"
    print(
        f"\n{name}, {direction}: {count} nodes, {shape}; exact sweeps {middle['exact']:.2f} CPU s"
    )
    columns = list(agree["gradient"][0])
    print(f"| rule | {' | '.join(columns)} | CPU s | times plain | share of exact |")
    print("|---" * (len(columns) + 4) + "|")
    for rule, found in agree.items():
        values = [statistics.mean(one[column] for one in found) for column in columns]
        said = [f"{value:.2f}" for value in values[:-1]] + [f"{values[-1]:.1f}"]
        cost = middle[rule]
        print(f"| `{rule}` | {' | '.join(said)} | {cost:.2f} | {cost / middle['gradient']:.1f} | "
              f"{cost / middle['exact']:.0%} |", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--contrast", choices=list(CONTRASTS), action="append")
    parser.add_argument("--seeds", type=int, default=5, help="of what is planted")
    parser.add_argument("--prompts", type=int, default=12, help="of the organism, or a real model")
    parser.add_argument("--base", help="the real model of `ioi`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads; torch {torch.__version__}")
    names = options.contrast or [name for name in CONTRASTS if name != "ioi" or options.base]
    if "ioi" in names and not options.base:
        parser.error("--contrast ioi needs --base")
    for name in names:
        report(name, options.seeds, options.prompts, options.rounds, options.base)


if __name__ == "__main__":
    main()
