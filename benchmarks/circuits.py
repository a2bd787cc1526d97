"""Circuit scores and interventions against a plain forward and backward pass, A B A B.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/circuits.py
    OMP_WAIT_POLICY=PASSIVE python benchmarks/circuits.py --model organism

The yardstick is one forward and one backward pass of the Hugging Face model, as transformers makes
it, to its input embeddings, for the same examples; a stricter one computes logits at the metric
position only. In every round the yardsticks, `discover` with 5 steps of integrated gradients and
`faithfulness` of a circuit of 5 % of the edges run one after the other in one process. A step's
time is that of the whole call by its steps: both runs' activations, all gradients, the product with
all differences and the model's fingerprint are in it. Times are CPU seconds (all threads together)
and wall seconds: medians with minimum and maximum; a ratio is that of two medians of CPU seconds.
"""

import argparse
import os
import resource
import statistics
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from patching import add_models, make_model, spread, timed
from torch import Tensor
from transformers import AutoModelForCausalLM

from interp.circuits import discover, faithfulness, select
from interp.patching import Run
from interp.readout import Outcome, Question

STEPS, SHARE = 5, 0.05
GOALS = {"score": 2.5, "circuit": 3.0}


def yardstick(
    model: torch.nn.Module, tokens: Tensor, metric: Callable[[Tensor], Tensor], *, all_logits: bool
) -> Callable[[], Tensor]:
    """A plain forward and backward pass to the input embeddings."""
    embedded = model.get_input_embeddings()(tokens).detach()
    keep = 0 if all_logits else 1  # 0 keeps all

    def work() -> Tensor:
        x = embedded.clone().requires_grad_(True)
        logits = model(inputs_embeds=x, use_cache=False, logits_to_keep=keep).logits
        metric(logits[:, -1]).sum().backward()
        return x.grad

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_models(parser)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bridge, shape = make_model(options.model, options.base, options.adapter)
    plain = AutoModelForCausalLM.from_config(bridge.original_model.config).float().eval()
    plain.requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    size = (shape.batch, shape.pos)
    clean, corrupted = (torch.randint(10, shape.vocab, size, generator=generator) for _ in range(2))
    metric = Outcome.emoji(bridge.tokenizer, stop=()).metric()
    runs = Run(bridge, clean), Run(bridge, corrupted)
    # Random prompts have gaps of both signs; only times matter here.
    loose = Question(min_gap=0.0)
    scores = discover(*runs, metric=metric, ask=loose)
    sign = (scores.clean - scores.corrupted).sign()
    circuit = select(scores, SHARE)

    def oriented(logits: Tensor) -> Tensor:
        return metric(logits) * sign

    work: dict[str, tuple[Callable[[], object], int]] = {
        "plain": (yardstick(plain, clean, metric, all_logits=True), 1),
        "strict": (yardstick(plain, clean, metric, all_logits=False), 1),
        "score": (
            lambda: discover(*runs, metric=metric, ig_steps=STEPS, ask=loose),
            STEPS,
        ),
        "single": (
            lambda: discover(*runs, metric=metric, ig_steps=1, ask=loose),
            1,
        ),
        "circuit": (
            lambda: faithfulness(circuit, *runs, metric=oriented, ask=loose),
            1,
        ),
    }
    cpu: dict[str, list[float]] = {name: [] for name in work}
    wall: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(options.rounds + 1):
        for name, (call, parts) in work.items():
            _, seconds, clock = timed(call)
            if round_:  # the first warms up
                cpu[name].append(seconds / parts / shape.batch)
                wall[name].append(clock / parts / shape.batch)
    name = options.base or options.model
    print(f"{name}: {shape}; {options.threads} threads; torch {torch.__version__}")
    print(f"graph: {scores.graph.n_edges} edges, circuit: {circuit.n_edges}")
    names = {
        "plain": "forward + backward",
        "strict": "the same, one logit row",
        "score": f"EAP-IG, by step of {STEPS}",
        "single": "EAP: one step and all else",
        "circuit": "faithfulness",
    }
    for name, title in names.items():
        middle = statistics.median(cpu[name])
        ratios = [middle / statistics.median(cpu[other]) for other in ("plain", "strict")]
        goal = f", goal {GOALS[name]:g}" if name in GOALS and options.model == "llama" else ""
        print(
            f"{title:26} ms per example: CPU {spread([1000 * x for x in cpu[name]])}, wall "
            f"{spread([1000 * x for x in wall[name]])}; {ratios[0]:.2f}x plain{goal}, "
            f"{ratios[1]:.2f}x strict"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process {peak:.0f} MiB")


if __name__ == "__main__":
    main()
