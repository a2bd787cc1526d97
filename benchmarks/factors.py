"""What it costs a study to trace the log-odds and both factors, where it could trace one.

    python benchmarks/factors.py

One trait of the demo is traced twice, step by step in one process: as it is, and with the log-odds
alone (one metric where a step reads three, no step that exists for a factor's sake). Printed are
the seconds of the processor by family of steps, and the ratio of the sums. A forward pass gives all
three metrics; what is paid for is reading them, and the steps that search by one at a time.
"""

import os
import tempfile
from collections import defaultdict
from pathlib import Path
from time import process_time
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from steps_cost import CONFIG, in_order

from interp.readout import Outcome, OutcomeMetric
from interp.study import catalogue
from interp.study.runs import RunFolder
from interp.study.steps import steps

ROUNDS = 1
SINGLE = "log_odds"


def main() -> None:
    torch.set_num_threads(1)
    both = {"three metrics": _least(three=True), "one": _least(three=False)}
    families = list(both["three metrics"])
    print(f"{'seconds of the processor':<28}" + "".join(f"{name:>16}" for name in both))
    for family in families:
        print(f"{family:<28}" + "".join(f"{one.get(family, 0.0):>16.1f}" for one in both.values()))
    three, one = (sum(found.values()) for found in both.values())
    print(f"{'all':<28}{three:>16.1f}{one:>16.1f}\nthree metrics cost {three / one:.2f} times one")


def _least(three: bool) -> dict[str, float]:
    rounds = [_seconds(three) for _ in range(ROUNDS)]
    return {family: min(found[family] for found in rounds) for family in rounds[0]}


def _seconds(three: bool) -> dict[str, float]:
    """By family of steps."""
    rows = {row.name: row for row in catalogue.ROWS}
    found: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as place:
        values = CONFIG.model_dump(mode="json")
        folder = RunFolder.create(Path(place, "run"), values)
        with mock.patch.object(Outcome, "metrics", Outcome.metrics if three else _single):
            for step in in_order(steps(values, folder)):
                name = step.name.split("/")[1]
                row = rows.get(name) or rows["responses-base"]
                if not three and row.options.get("factor", SINGLE) != SINGLE:
                    continue
                before = process_time()
                step.write(folder.file(*step.file.split("/")))
                found[row.family or row.name] += process_time() - before
    return dict(found)


def _single(outcome: Outcome) -> dict[str, OutcomeMetric]:
    return {SINGLE: outcome.with_stop.metric(SINGLE)}


if __name__ == "__main__":
    main()
