"""Circuit discovery by every rule, measured as the MIB benchmark measures it: CPR, CMD, AUROC.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mib.py
    OMP_WAIT_POLICY=PASSIVE python benchmarks/mib.py --model FOLDER --prompts CSV --truth JSON

(Mueller et al. 2025, arXiv 2504.13151.) Edges are scored on one half of the prompts, circuits run
on the other. CPR is the area under faithfulness over the shares of edges, edges ranked by signed
score; CMD the area between it and 1, ranked by size; the AUROC is of the size of an edge's score
against the true circuit, which is what the benchmark's code asks of InterpBench's model, whose
circuit is known. Higher is better, but for CMD. `random` deals scores out at random.

Without `--model`, on models whose circuit is written into the weights (`tests/planted_models.py`,
`tests/planted_backup.py`); means over seeds of their noise. With it: a folder, GGUF or hub id that
`interp` loads, a CSV with the columns `clean`, `corrupted`, `correct_idx` and `incorrect_idx` (as
MIB's task files; the metric is the difference of those two logits; left out, `ioi.py` asks for
indirect objects), and, for an AUROC, the true circuit as EAP-IG's graphs are written
(`{"edges": {"a0.h1->m2": {"in_graph": true}}}`).
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import pandas as pd
import planted_backup
import planted_models
import torch
from ioi import Difference, indirect_objects
from patching import timed
from sklearn.metrics import roc_auc_score

from interp.circuits import CircuitScores, curve, discover
from interp.models import load_hooked, pad, pad_id
from interp.models.pair import hook
from interp.patching import Run
from interp.readout import Question
from interp.readout.rules import RULES, Rule

NOISE = 0.01
METHODS: dict[str, tuple[str | Rule, int]] = {
    "EAP": ("gradient", 1),
    "EAP-IG, 5 steps": ("gradient", 5),
    "`gradient-drop`": ("gradient-drop", 1),
    "`relp`": ("relp", 1),
    "`relp`, attention plain": (replace(RULES["relp"], attention="plain"), 1),
    "`gim`": ("gim", 1),
}


@dataclass(frozen=True)
class Task:
    """Prompts in pairs, what they are asked, and the edges of the true circuit (if known)."""

    clean: Run
    corrupted: Run
    metric: Any
    truth: frozenset[str] | None

    def half(self, which: int) -> tuple[Run, Run, Question]:
        """Every other pair, from the first or the second on."""
        rows = list(range(which, len(self.clean.tokens), 2))
        runs = [Run(run.model, run.tokens[rows], run.mask[rows])
                for run in (self.clean, self.corrupted)]  # fmt: skip
        metric = self.metric.of(rows) if isinstance(self.metric, Difference) else self.metric
        return *runs, Question(metric=metric)


def planted(seeds: int, prompts: int) -> dict[str, Iterator[Task]]:
    """Models whose circuit is known, once for each seed of their noise."""

    def plain(seed: int) -> Task:
        made = planted_models.planted(NOISE, seed, prompts)
        model = hook(made.model, made.tokenizer)
        sides = [Run(model, side.tokens, side.attention_mask)
                 for side in (made.clean, made.corrupted)]  # fmt: skip
        return Task(*sides, made.metric, made.edges)

    def backups(seed: int) -> Task:
        made = planted_backup.planted_backup(NOISE, seed, prompts)
        return Task(made.clean, made.corrupted, made.metric, planted_backup.EDGES)

    return {"planted chain": map(plain, range(seeds)),
            "planted backups": map(backups, range(seeds))}  # fmt: skip


def given(model: str, prompts: str | None, truth: str | None, count: int) -> Task:
    """A model from outside with its prompts, and its circuit where that is known."""
    bridge, edges = load_hooked(model), None
    if truth is not None:
        heads = int(bridge.cfg.n_heads)
        group = heads // int(getattr(bridge.cfg, "n_key_value_heads", None) or heads)
        graph = json.loads(Path(truth).read_text(encoding="utf-8"))["edges"]
        edges = frozenset(our_name(edge, group) for edge, is_ in graph.items() if is_["in_graph"])
    if prompts is None:
        return Task(*indirect_objects(bridge, count), edges)
    table, sides = pd.read_csv(prompts), []
    for column in ("clean", "corrupted"):
        ids = [bridge.tokenizer(text)["input_ids"] for text in table[column]]
        batch = pad(ids, pad_id(bridge.tokenizer))
        sides.append(Run(bridge, batch.tokens, batch.attention_mask))
    right, wrong = (
        torch.tensor(table[f"{kind}_idx"].tolist()) for kind in ("correct", "incorrect")
    )
    return Task(*sides, Difference(right, wrong), edges)


def our_name(edge: str, group: int) -> str:
    """EAP-IG's name of an edge as ours: keys and values are those of key/value heads."""
    source, into = edge.split("->")
    if into.endswith(("<k>", "<v>")):
        layer, head = into[:-3].split(".h")
        into = f"{layer}.kv{int(head) // group}{into[-3:]}"
    return f"{source}->{into}"


def measured(scores: CircuitScores, task: Task) -> dict[str, float]:
    """CPR, CMD and AUROC of a ranking of edges, on the other half of the prompts."""
    clean, corrupted, ask = task.half(1)
    made = {}
    for name, absolute in (("CPR", False), ("CMD", True)):
        found = curve(scores, clean, corrupted, search="top", absolute=absolute, complement=False,
                      ask=ask)  # fmt: skip
        made[name] = float(found.areas().set_index("name").loc[name, "area"])
    if task.truth is not None:
        true = [scores.name(i) in task.truth for i in range(scores.graph.n_edges)]
        assert sum(true) == len(task.truth), "an edge of the true circuit is none of this graph's"
        made["AUROC"] = float(roc_auc_score(true, scores.mean().abs()))
    return made


def report(name: str, tasks: Iterator[Task]) -> None:
    """Print one model's table."""
    found: dict[str, list[dict[str, float]]] = {method: [] for method in ("random", *METHODS)}
    for seed, task in enumerate(tasks):
        clean, corrupted, ask = task.half(0)
        for method, (rule, steps) in METHODS.items():
            scores, cpu, _ = timed(
                lambda rule=rule, steps=steps, runs=(clean, corrupted), ask=ask: discover(
                    *runs, rule=rule, ig_steps=steps, ask=ask
                )
            )
            found[method].append(measured(scores, task) | {"CPU s": cpu})
        dealt = torch.randn(scores.values.shape[1], generator=torch.Generator().manual_seed(seed))
        dealt = replace(scores, values=dealt.expand_as(scores.values), rule="gradient", signed=True)
        found["random"].append(measured(dealt, task) | {"CPU s": 0.0})
    halves = f"{len(clean.tokens)} pairs to score and {len(task.half(1)[0].tokens)} to run"
    print(f"\n{name}: {scores.graph.n_edges} edges, {halves}, {len(found['random'])} seeds")
    columns = list(found["EAP"][0])
    print(f"| method | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for method, each in found.items():
        values = [statistics.mean(one[column] for one in each) for column in columns]
        print(f"| {method} | {' | '.join(f'{value:.3f}' for value in values)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="folder or hub id; left out, planted models")
    parser.add_argument("--prompts", help="CSV of its prompts, in pairs; left out, IOI")
    parser.add_argument("--truth", help="JSON of its circuit")
    parser.add_argument("--seeds", type=int, default=5, help="of the planted models' noise")
    parser.add_argument("--pairs", type=int, default=24, help="of prompts, but for a CSV's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.model:
        report(
            options.model,
            iter([given(options.model, options.prompts, options.truth, options.pairs)]),
        )
        return
    for name, tasks in planted(options.seeds, options.pairs).items():
        report(name, tasks)


if __name__ == "__main__":
    main()
