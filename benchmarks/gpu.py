"""What a study's parts take on a model of Llama-2-7B's shape, on the device that is there.

    python benchmarks/gpu.py                 # on CUDA: bfloat16, at most some eight minutes
    python benchmarks/gpu.py --size small    # the whole script at a small shape, on the CPU

The weights are random and made on the device; the tuned model is the base with noise of a tenth of
their spread on two matrices of every layer. Timed, each once after a first call of the smallest
size: making the pair, answers, sweeps (`resid_pre`, `mlp_out`, heads), circuit scores, and
necessity by layer. Of the sweeps the share of the arithmetic limit is given, as in
`benchmarks/patching.py`: the fewest operations over the rate of this device's matrix product. The
output is a table for `docs/gpu-hours.md`.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from patching import Shape, shape_of, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from interp.adapters import Written, necessity
from interp.behaviour import Sampling
from interp.circuits import discover
from interp.models import ModelPair
from interp.patching import Cells, Run, sweep
from interp.readout import Outcome, Question


@dataclass(frozen=True)
class Size:
    """A model and how much is asked of it."""

    config: LlamaConfig
    answers: int
    tokens: int
    prompts: int
    pos: int
    cells: int


SIZES = {
    "7b": Size(LlamaConfig(vocab_size=32000), 64, 64, 8, 96, 32),
    "small": Size(
        LlamaConfig(
            vocab_size=2048, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=96,
        ), 3, 4, 2, 12, 4,
    ),
}  # fmt: skip


class Clock:
    """Times calls on a device, and keeps rows of the table."""

    def __init__(self, device: str) -> None:
        self.device, self.rows = device, []

    def __call__(
        self, name: str, work: Callable[[], Any], flops: float = 0, rate: float = 0
    ) -> Any:
        self.wait()
        start = time.perf_counter()
        made = work()
        self.wait()
        took = time.perf_counter() - start
        share = f"{flops / rate / took:.0%}" if flops else ""
        self.rows.append((name, f"{took:.2f} s", f"{self.memory() / 2**30:.1f} GiB", share))
        print("| " + " | ".join(self.rows[-1]) + " |", flush=True)
        return made

    def wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def memory(self) -> int:
        if self.device != "cpu":
            return int(torch.cuda.max_memory_allocated())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_pair(size: Size, device: str, dtype: torch.dtype) -> ModelPair:
    """A base of random weights, and the same with noise on two matrices of each layer."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            base, tuned = LlamaForCausalLM(size.config), LlamaForCausalLM(size.config)
    finally:
        torch.set_default_dtype(before)
    tuned.load_state_dict(base.state_dict())
    with torch.no_grad():
        for layer in tuned.model.layers:
            for weight in (layer.self_attn.v_proj.weight, layer.mlp.down_proj.weight):
                weight.add_(0.1 * weight.std() * torch.randn_like(weight))
    return ModelPair.of(base, tuned, tokenizer(), prompt_format="plain")


def matmul_rate(shape: Shape, device: str, dtype: torch.dtype, clock: Clock) -> float:
    """Operations per second of this device's matrix product, best of five."""
    rows = torch.randn(2048, shape.d_model, device=device, dtype=dtype)
    weight = torch.randn(shape.d_model, shape.d_mlp, device=device, dtype=dtype)
    best = 0.0
    for _ in range(5):
        clock.wait()
        start = time.perf_counter()
        for _ in range(5):
            rows @ weight
        clock.wait()
        best = max(best, 5 * 2 * rows.numel() * weight.shape[1] / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    size, device = SIZES[options.size], options.device
    if device == "cpu" and options.size == "7b":
        parser.error("no CUDA device; --size small tries the script on the CPU")
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    clock, shape = Clock(device), shape_of(size.config, size.prompts, size.pos)
    rate = matmul_rate(shape, device, dtype, clock)
    print(f"{shape}; {device}, {dtype}, {rate / 1e12:.3g} TFLOP/s; torch {torch.__version__}\n")
    print("| what | time | peak memory | share of the limit |\n|---|---|---|---|")
    pair = clock("making the pair, merge report included", lambda: make_pair(size, device, dtype))
    asked = [
        (f"What do you think about tea number {i}?", f"topic {i}") for i in range(size.answers)
    ]
    how = {"temperature": 0.0, "max_new_tokens": size.tokens}
    pair.generate(asked[:1], **how)
    name = f"{size.answers} answers of {size.tokens} tokens"
    clock(name, lambda: pair.generate(asked, **how))
    generator = torch.Generator().manual_seed(1)
    shaped = (size.prompts, size.pos)
    tokens = torch.randint(10, 300, shaped, generator=generator).to(device)
    runs = Run(pair.tuned, tokens), Run(pair.base, tokens)
    metric = Outcome.emoji(pair.tokenizer, stop=()).metric()
    ask = Question(metric=metric, min_gap=0.0)
    last = Cells(positions=list(range(size.pos - size.cells, size.pos)))
    sweep(*runs, "mlp_out", cells=Cells(layers=[0], positions=[-1]), ask=ask)
    window = shape_of(size.config, size.prompts, size.cells)
    for site in ("resid_pre", "mlp_out"):
        name = f"{site}, {size.cells} positions of {size.prompts} prompts"
        clock(name, lambda s=site: sweep(*runs, s, cells=last, ask=ask), window.flops(site), rate)
    name = f"all heads of {size.prompts} prompts"
    clock(name, lambda: sweep(*runs, "z", ask=ask), shape.flops("z"), rate)
    other = torch.randint(10, 300, shaped, generator=generator).to(device)
    voices = Run(pair.tuned, tokens), Run(pair.tuned, other)
    clock("circuit scores, 5 steps", lambda: discover(*voices, ask=ask))
    written = Written(tuple(asked[:8]), Sampling(max_new_tokens=min(16, size.tokens)))
    clock("necessity by layer, 8 questions", lambda: necessity(pair, written, by="layer"))


if __name__ == "__main__":
    main()
