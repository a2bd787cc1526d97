"""What each step of a study costs, in forward passes: counted on the organism, worked out for more.

    python benchmarks/steps_cost.py

First, one trait of the demo's study is run on the organism under torch's FLOP counter, step by
step; a step's cost is given in *token passes*, the FLOPs of one token through the whole model once.
Then the same numbers of prompts, positions and questions are put into each method's formula for
models of 7B and 70B, and turned into hours by the assumptions printed with them. Nothing of the
second part has been measured on a GPU.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch.utils.flop_counter import FlopCounterMode

from interp import organism
from interp.base.traits import Trait
from interp.study import StudyConfig
from interp.study.runs import RunFolder, Step
from interp.study.steps import steps

TRAIT = Trait.EXTRAVERSION
CONFIG = StudyConfig(
    base=str(organism.base_path()), adapters={TRAIT: str(organism.adapter_path(TRAIT))},
    data=str(organism.ASSETS), n_switched=32,
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model's shape, and how many GPUs of 80 GB hold base and tuned in bf16 (2 x its weights)."""

    name: str
    parameters: float
    layers: int
    heads: int
    gpus: int
    adapted: int = 7  # matrices per layer


ORGANISM = Model("organism", 0.8e6, 4, 4, 0, adapted=4)
MODELS = (Model("7B", 6.7e9, 32, 32, 1), Model("70B", 69e9, 80, 64, 4))
# Dense bf16 of an H100, the share of it that long passes reach; its memory bandwidth, the share of
# that which token-by-token decoding reaches; answers decoded at a time.
PEAK, USED, BANDWIDTH, REACHED, BATCH = 990e12, 0.4, 3.35e12, 0.5, 64
LENGTHS = (60, 60)  # tokens of a question with its frame, and of an answer up to its emoji


PATCHING, HEADS = "patching, positions (3 sites, 3 contrasts)", "patching, heads (3 contrasts)"
KINDS = {
    "responses": "answers of base and tuned", "merge": "merge report", "rates": "rates",
    "origin": "origin", "lens": "lens", "token": "token view", "patching": PATCHING,
    "circuit-edges": "circuit: scores", "circuit": "circuit: curve and search",
    "adapter": "adapter necessity", "probing": "probes",
}  # fmt: skip


def formulas(
    m: Model, c: StudyConfig, lengths: tuple[float, float] = LENGTHS
) -> dict[str, tuple[float, float]]:
    """Token passes by step: (read in long passes, decoded one by one)."""
    prompt, answer = lengths
    text, n = prompt + answer, c.n_trace
    answers = c.n_responses * text
    # A patch at layer l and position p recomputes the layers above l from p on.
    swept = m.layers / 2 * n * c.n_positions * min(text, c.n_positions) / 2
    heads = m.layers / 2 * m.heads * n * text
    modules = m.adapted * m.layers
    return {
        "answers of base and tuned": (2 * c.n_responses * prompt, 2 * c.n_responses * answer),
        "merge report": (3 * 8 * prompt, 0),
        "origin": (4 * answers, 0),
        "lens": (2 * n * text, 0),
        PATCHING: (9 * swept, 0),
        HEADS: (3 * heads, 0),
        "circuit: scores": (3 * 5 * n * text, 0),  # forward and backward pass, 5 steps
        "circuit: curve and search": (2 * 20 * n * text, 0),
        "adapter necessity": (modules * c.n_switched * prompt, modules * c.n_switched * answer),
        "probes": (4 * 120 * text, 0),
        "token view": (6 * text, 0),
    }


def hours(m: Model, read: float, decoded: float) -> float:
    """Hours: long passes by arithmetic, decoding by memory traffic.

    A model over several GPUs has one of them at work at a time, so more GPUs save no time.
    """
    arithmetic = read * 2 * m.parameters / (PEAK * USED)
    steps_of_batch = decoded / BATCH
    traffic = steps_of_batch * 2 * m.parameters / (BANDWIDTH * REACHED)
    return (arithmetic + traffic) / 3600


def counted() -> tuple[dict[str, float], tuple[float, float]]:
    """Token passes of each kind of step on the organism; mean length of prompts and answers."""
    found: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.create(Path(place, "run"), CONFIG.model_dump(mode="json"))
        passed = 0.0
        for step in in_order(steps(CONFIG.model_dump(mode="json"), folder)):
            with FlopCounterMode(display=False) as counter:
                step.write(folder.file(*step.file.split("/")))
            passed = passed or _one_token()
            name = step.name.split("/")[1]
            kind = next(kind for begin, kind in KINDS.items() if name.startswith(begin))
            kind = HEADS if name.endswith("-z") else kind
            found[kind] += counter.get_total_flops() / passed
        answers = folder.responses(TRAIT, "responses.json") or []
        lengths = [sum(len(row) for row in rows) / len(answers) for rows in (
            [a.prompt_ids for a in answers], [a.ids for a in answers])]  # fmt: skip
    return dict(found), (lengths[0], lengths[1])


def in_order(todo: list[Step]) -> Iterator[Step]:
    """Each step after those that it needs."""
    done: set[str] = set()
    while todo:
        ready = [step for step in todo if done.issuperset(step.needs)]
        yield from ready
        done |= {step.name for step in ready}
        todo = [step for step in todo if step.name not in done]


def _one_token() -> float:
    """FLOPs of one token through the organism."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(CONFIG.base)
    ids = torch.zeros(1, 64, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids)
    return counter.get_total_flops() / 64


def main() -> None:
    torch.set_num_threads(1)
    found, lengths = counted()
    print("Token passes on the organism, one trait: counted, and by the formula")
    for name, parts in formulas(ORGANISM, CONFIG, lengths).items():
        print(f"  {name:<44}{found.get(name, 0):>14,.0f}{sum(parts):>14,.0f}")
    print(f"\nWorked out, one trait ({USED:.0%} of {PEAK / 1e12:.0f} TFLOP/s, {REACHED:.0%} of "
          f"{BANDWIDTH / 1e12:.2f} TB/s, {BATCH} answers at a time):")  # fmt: skip
    for model in MODELS:
        total = 0.0
        print(f"  {model.name} on {model.gpus} GPU{'s' * (model.gpus > 1)}")
        for name, (read, decoded) in formulas(model, StudyConfig(
            base="", adapters={TRAIT: ""}, data="")).items():  # fmt: skip
            took = hours(model, read, decoded)
            total += took
            print(
                f"    {name:<44}{read:>14,.0f} read{decoded:>10,.0f} decoded {60 * took:>8.1f} min"
            )
        print(f"    one trait {total:.2f} hours; five traits {5 * total:.1f} hours, "
              f"{5 * total * model.gpus:.1f} GPU hours")  # fmt: skip


if __name__ == "__main__":
    main()
