"""Exact patching sweeps against TransformerLens', both in one process, alternating A B A B.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/patching.py
    OMP_WAIT_POLICY=PASSIVE python benchmarks/patching.py --model organism
    OMP_WAIT_POLICY=PASSIVE python benchmarks/patching.py --model organism --metrics
    OMP_WAIT_POLICY=PASSIVE python benchmarks/patching.py --base runs/real/base --rounds 1

`--metrics` times our sweep with the three metrics of an outcome against one of them instead.

Times are CPU seconds of the process (all threads together) and wall seconds; each line gives
medians with minimum and maximum over the rounds, the ratio of the medians, the largest difference
of any prompt's metric between the two tools, and which share of the arithmetic limit the engine
reaches: the fewest floating-point operations that an exact sweep needs (counted below), over the
rate of this machine's matrix product, measured between the rounds. Close everything else first: the
ratio is robust against a busy machine, the share is not.
"""

import argparse
import contextlib
import io
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor
from transformer_lens import patching as lens
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from interp import load_pair
from interp.models import load_hooked
from interp.models.pair import hook
from interp.organism import base_path
from interp.patching import Run, sweep, sweep_each
from interp.readout import Outcome

SWEEPS = {
    "resid_pre": lens.get_act_patch_resid_pre,
    "mlp_out": lens.get_act_patch_mlp_out,
    "z": lens.get_act_patch_attn_head_out_all_pos,
}
GOALS = {"resid_pre": 7.0, "mlp_out": 9.0, "z": 4.0}


@dataclass(frozen=True)
class Shape:
    """The sizes that the count of operations needs."""

    layers: int
    d_model: int
    heads: int
    kv_heads: int
    d_head: int
    d_mlp: int
    vocab: int
    batch: int
    pos: int

    @property
    def kv(self) -> int:
        """Multiplications of one row's key and value."""
        return 2 * self.d_model * self.kv_heads * self.d_head

    @property
    def head_maps(self) -> int:
        """Multiplications of one row's query, or of its output projection."""
        return self.d_model * self.heads * self.d_head

    @property
    def mlp(self) -> int:
        """Multiplications of one row's gated MLP."""
        return 3 * self.d_model * self.d_mlp

    def attention(self, start: int, rows: int) -> int:
        """Multiplications of `rows` query rows from column `start` on, causal."""
        keys = sum(start + i + 1 for i in range(rows))
        return 2 * keys * self.heads * self.d_head

    def full(self, start: int, rows: int) -> int:
        """One layer over rows."""
        each = self.kv + 2 * self.head_maps + self.mlp
        return rows * each + self.attention(start, rows)

    def onwards(self, layer: int, start: int) -> int:
        """All layers from `layer` on, rows from `start` on, the last for the metric row only."""
        rows, last = self.pos - start, self.layers - 1
        if layer > last:
            return 0
        one = 2 * self.head_maps + self.mlp + self.attention(self.pos - 1, 1)
        return (last - layer) * self.full(start, rows) + rows * self.kv + one

    def enter(self, layer: int, start: int) -> int:
        """From a layer that one changed row enters."""
        if layer == self.layers:
            return 0
        rows = self.pos - start
        if layer == self.layers - 1:
            query = self.head_maps if rows == 1 else 0
            metric = self.attention(self.pos - 1, 1) + self.head_maps + self.mlp
            return self.kv + query + metric
        here = self.kv + self.head_maps + self.attention(start, rows)
        return here + rows * (self.head_maps + self.mlp) + self.onwards(layer + 1, start)

    def flops(self, site: str) -> float:
        """Fewest floating-point operations of an exact sweep, both unpatched runs included."""
        readout = self.d_model * self.vocab
        total = 2 * (self.layers * self.full(0, self.pos) + readout)
        for layer in range(self.layers):
            if site == "z":
                rows = 1 if layer == self.layers - 1 else self.pos
                here = rows * (self.d_model * self.d_head + self.mlp)
                total += self.heads * (here + self.onwards(layer + 1, 0) + readout)
                continue
            for start in range(self.pos):
                enters = layer + (site == "mlp_out")
                if enters < self.layers or start == self.pos - 1:
                    total += self.enter(enters, start) + readout
        return 2.0 * total * self.batch


def tokenizer() -> object:
    """The organism's tokenizer: both models are read out by its emojis."""
    return AutoTokenizer.from_pretrained(base_path())


def add_models(parser: argparse.ArgumentParser) -> None:
    """The options that `make_model` takes."""
    parser.add_argument("--model", choices=["llama", "organism"], default="llama")
    parser.add_argument("--base", help="another model: folder, GGUF or hub id")
    parser.add_argument("--adapter", help="merged into --base first")


def make_model(
    kind: str, base: str | None = None, adapter: str | None = None
) -> tuple[TransformerBridge, Shape]:
    """The random Llama of the comparison, the organism, or a base with its adapter merged."""
    if base is not None:
        bridge = load_pair(base, adapter).tuned if adapter else load_hooked(base)
        return bridge, shape_of(bridge.original_model.config, 4, 32)
    if kind == "organism":
        model, batch, pos = LlamaForCausalLM.from_pretrained(base_path()).float(), 16, 60
    else:
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=32000,
                hidden_size=512,
                num_hidden_layers=8,
                num_attention_heads=8,
                num_key_value_heads=4,
                intermediate_size=1376,
            )
        )
        batch, pos = 8, 32
    return hook(model.eval(), tokenizer()), shape_of(model.config, batch, pos)


def shape_of(c: Any, batch: int, pos: int) -> Shape:
    """The sizes of a Llama's configuration, for so many prompts of so many tokens."""
    sizes = (c.num_hidden_layers, c.hidden_size, c.num_attention_heads, c.num_key_value_heads)
    head = c.hidden_size // c.num_attention_heads
    return Shape(*sizes, head, c.intermediate_size, c.vocab_size, batch, pos)


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    """What the work returns, its CPU seconds and its wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    value = work()
    return value, time.process_time() - cpu, time.perf_counter() - wall


def by_lens(
    model: TransformerBridge, site: str, clean: Tensor, corrupted: Tensor, metric
) -> Tensor:
    """TransformerLens' sweep, every prompt's metric kept, `[layer unit batch]`."""
    rows: list[Tensor] = []

    def keep(logits: Tensor) -> Tensor:
        rows.append(metric(logits[:, -1]))
        return rows[-1].mean()

    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        _, cache = model.run_with_cache(clean)
        shape = SWEEPS[site](model, corrupted, cache, keep).shape
    return torch.stack(rows).view(*shape, -1)


def matmul_rate(shape: Shape) -> float:
    """Floating-point operations per CPU second of this machine's matrix product."""
    rows = torch.randn(4096, shape.d_model)
    weight = torch.randn(shape.d_mlp, shape.d_model)
    best = 0.0
    for _ in range(5):
        _, cpu, _ = timed(lambda: [torch.mm(rows, weight.T) for _ in range(20)][-1])
        best = max(best, 20 * 2.0 * rows.numel() * len(weight) / cpu)
    return best


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(model: TransformerBridge, shape: Shape, site: str, rounds: int, goal: bool) -> None:
    """Alternate the two tools on one sweep and print what came out."""
    size = int(model.cfg.d_vocab)
    generator = torch.Generator().manual_seed(1)
    clean, corrupted = (
        torch.randint(10, size, (shape.batch, shape.pos), generator=generator) for _ in range(2)
    )
    metric = Outcome.emoji(model.tokenizer, stop=()).metric()
    run = Run(model, clean), Run(model, corrupted)
    ours, theirs, walls, rates = [], [], ([], []), []
    error = 0.0
    for _ in range(rounds):
        rates.append(matmul_rate(shape))
        mine, cpu, wall = timed(lambda: sweep(*run, site, metric=metric).values)
        ours.append(cpu)
        walls[0].append(wall)
        other, cpu, wall = timed(lambda: by_lens(model, site, clean, corrupted, metric))
        theirs.append(cpu)
        walls[1].append(wall)
        error = max(error, float((mine - other).abs().max()))
    ratio = statistics.median(theirs) / statistics.median(ours)
    limit = shape.flops(site) / max(rates)
    wanted = f" (goal {GOALS[site]:g})" if goal else ""
    print(f"{site}: {mine.shape[0] * mine.shape[1]} patches of {shape.batch} prompts")
    print(f"  CPU s   ours {spread(ours)}   TransformerLens {spread(theirs)}")
    print(f"  wall s  ours {spread(walls[0])}   TransformerLens {spread(walls[1])}")
    print(f"  ratio {ratio:.1f}x{wanted}; largest difference of a prompt's metric {error:.1e}")
    print(
        f"  arithmetic limit {limit:.2f} CPU s ({shape.flops(site) / 1e9:.0f} GFLOP at "
        f"{max(rates) / 1e9:.0f} GFLOP/s); share reached {limit / statistics.median(ours):.0%}",
        flush=True,
    )


def compare_metrics(model: TransformerBridge, shape: Shape, site: str, rounds: int) -> None:
    """Alternate sweeps with one metric of an outcome and with all three."""
    generator = torch.Generator().manual_seed(1)
    size = (shape.batch, shape.pos)
    tokens = [
        torch.randint(10, int(model.cfg.d_vocab), size, generator=generator) for _ in range(2)
    ]
    runs = [Run(model, one) for one in tokens]
    outcome = Outcome.emoji(model.tokenizer)
    ratios, costs = [], ([], [])
    for _ in range(rounds):
        _, one, _ = timed(lambda: sweep(*runs, site, metric=outcome.metric()).values)
        found, three, _ = timed(lambda: sweep_each(*runs, site, outcome.metrics()))
        costs[0].append(one)
        costs[1].append(three)
        ratios.append(three / one)
    print(f"{site}: CPU s  one metric {spread(costs[0])}   {len(found)} metrics {spread(costs[1])}")
    print(f"  three over one, per round {spread(ratios)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_models(parser)
    parser.add_argument("--site", choices=list(SWEEPS), action="append")
    parser.add_argument("--metrics", action="store_true", help="three metrics against one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, shape = make_model(options.model, options.base, options.adapter)
    name = options.base or options.model
    print(f"{name}: {shape}; {options.threads} threads; torch {torch.__version__}")
    for site in options.site or SWEEPS:
        if options.metrics:
            compare_metrics(model, shape, site, options.rounds)
            continue
        compare(
            model, shape, site, options.rounds, goal=options.model == "llama" or bool(options.base)
        )


if __name__ == "__main__":
    main()
