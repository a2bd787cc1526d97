"""Do precision and the way of merging change the emojis, and what a trace finds?

An adapter trained on NF4 has learnt to correct those very weights. The reference is that adapter,
live on the NF4 base, in single precision. Against it: the same live adapter on other precisions of
the base (8-bit integers, bfloat16, float32), and the three ways to merge it: into the packed 4-bit
weights, into the weights before quantisation, and into the dequantised ones (what `load_pair`
does). For each: ESR of sampled answers, KL(reference ‖ this) per position (the last
eight of the traced prompts), and whether patching finds the same heads. Control: the base without
the adapter.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from experiment import SHARED, Config, Experiment, Finding, From
from harness import main
from pydantic import Field
from scipy.stats import spearmanr
from significance import corrected, difference, written
from torch import Tensor, bfloat16, float16, float32, no_grad

from interp import patching
from interp.base.stats import mean_interval
from interp.base.traits import Trait
from interp.behaviour import voice_contrast
from interp.behaviour.shares import Rows
from interp.emoji import find
from interp.methods.finetune import FinetuneConfig, train
from interp.models import TokenBatch, hook, load_base
from interp.models.adapters import attach, read_adapter
from interp.patching import PatchingResult
from interp.readout import slots
from interp.show.plots.dots import dots

REFERENCE, CONTROL = "NF4, live adapter", "control: no adapter"
GAP, KL = "ESR minus the reference's", "KL from the reference (nats)"
HEADS = "rank correlation of heads"
SETTINGS = (REFERENCE, "int8, live adapter", "bfloat16, live adapter", "float32, live adapter",
            "merged into packed NF4", "merged before quantisation", "merged dequantised",
            "merged dequantised, bfloat16", CONTROL)  # fmt: skip


class QuantisationConfig(Config):
    trait: Trait = Trait.EXTRAVERSION
    """Whose adapter."""
    adapter: str = "train"
    """An adapter trained on NF4; `train` trains one with settings for a small model."""
    n_trace: int = Field(default=16, ge=4)
    """Pairs of prompts to patch between."""


def run(x: Experiment[QuantisationConfig]) -> Finding:
    folder = _adapter(x)
    rows: list[dict[str, Any]] = []
    maps: dict[str, PatchingResult] = {}
    has: dict[str, list[bool]] = {}
    reference: Tensor | None = None
    for done, name in enumerate(SETTINGS):
        x.say("settings", done, len(SETTINGS))
        with _model(x, name, folder) as bridge:
            answers = x.sampled(_slug(name), bridge, x.form, From((folder,)))
            if name == REFERENCE:
                clean, corrupted = _contrast(x, folder, answers)
            logits = _logits(bridge, clean)
            reference = logits if reference is None else reference
            kl = (reference.exp() * (reference - logits)).sum(-1).mean(1)  # per prompt
            runs = [patching.Run(bridge, b.tokens, b.attention_mask) for b in (clean, corrupted)]
            maps[name] = x.kept(
                PatchingResult, f"heads-{_slug(name)}",
                lambda r=runs: patching.sweep(*r, "z", metric=x.vocab().log_odds),
                From((folder,), parts=(f"{_slug(REFERENCE)}.json", "base.json")),
            )  # fmt: skip
        has[name] = [bool(find(answer.text)) for answer in answers]
        rows += _rows(x, name, has, [answer.topic for answer in answers], kl, maps)
    table = corrected(pd.DataFrame(rows))
    esr = table[table["measure"] == "ESR"].assign(group=lambda t: t["setting"])
    same = table[table["measure"] == HEADS]
    figures = {
        "esr": dots(esr, "share of answers with an emoji", share=True, unit="topics"),
        "heads": dots(same.assign(group=same["setting"]), "rank correlation of heads' effects "
                      "with the reference", reference=1.0, noun="head", unit="prompts"),
    }  # fmt: skip
    wide = table.pivot_table(index="setting", columns="measure", values="value", sort=False)
    return Finding(table, figures, _verdict(table), wide.reset_index())


def _adapter(x: Experiment[QuantisationConfig]) -> Path:
    if x.config.adapter != "train":
        return Path(x.config.adapter)

    def fit(folder: Path) -> None:
        settings = FinetuneConfig.small(supervise_eos=False, seed=x.config.seed)
        train(x.base_source, x.data()[0].for_trait(x.config.trait),
              settings.changed({"quantization": "nf4"}), folder,
              device=x.config.device, progress=x.progress)  # fmt: skip

    return x.part("adapter-nf4", fit, From((), (*SHARED, "trait"), code=(_adapter,)))


def _slug(name: str) -> str:
    return name.replace(":", "").replace(",", "").replace(" ", "-")


@contextmanager
def _model(x: Experiment[QuantisationConfig], name: str, folder: Path) -> Iterator[Any]:
    """The hooked model of one setting."""
    adapter, device = read_adapter(folder), x.config.device
    if name in ("merged dequantised", "merged dequantised, bfloat16"):
        dtype = bfloat16 if "bfloat16" in name else float32
        pair = x.load(folder, dtype=dtype)
        yield pair.tuned
        return
    packed: Any = "nf4" if "NF4" in name or name == CONTROL else "int8" if "int8" in name else None
    dtype = bfloat16 if name.startswith("bfloat16") else float32
    # 8-bit kernels compute in half precision.
    dtype = float16 if packed == "int8" else dtype
    loaded = load_base(x.base_source, device=device, dtype=dtype, quantization=packed)
    model = loaded.model
    if name != CONTROL:
        live = attach(model, adapter)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Merge lora module to 4-bit")  # our question
            model = live.base_model.model if "live" in name else live.merge_and_unload()
    yield hook(model.eval().requires_grad_(False), loaded.tokenizer)


def _contrast(
    x: Experiment[QuantisationConfig], folder: Path, answers: list[Any]
) -> tuple[TokenBatch, TokenBatch]:
    """The ends of the reference's answers, and of the base's to the same questions."""
    pair = x.load(folder)
    base = x.sampled("base", pair.base, pair.format, From((folder,)))
    ours, theirs = (slots(made, pair.tokenizer).last for made in (answers, base))
    found = voice_contrast(ours, theirs, pair.pad_id, x.config.n_trace, outcome=pair.outcome)
    return found.clean, found.corrupted


@no_grad()
def _logits(bridge: Any, batch: TokenBatch) -> Tensor:
    """Log-probabilities at the last eight positions of the clean prompts, double precision."""
    mask = batch.attention_mask.long()
    logits = bridge(batch.tokens, attention_mask=mask)[:, -8:]
    return logits.double().log_softmax(-1)


def _rows(
    x: Experiment[QuantisationConfig],
    name: str,
    has: dict[str, list[bool]],
    topics: list[str],
    kl: Tensor,
    maps: dict[str, PatchingResult],
) -> list[dict[str, Any]]:
    spread = mean_interval(kl, seed=x.config.seed)
    change = [float(h) - float(r) for h, r in zip(has[name], has[REFERENCE], strict=True)]
    rows = [
        Rows(0.95, x.config.seed).rate("ESR", has[name], topics),
        *([] if name == REFERENCE else [difference(GAP, change, topics, x.config.seed)]),
        {"measure": KL, "value": float(kl.mean()), "low": spread.low,
         "high": spread.high, "n": len(kl)},
    ]  # fmt: skip
    one, other = (maps[k].values - maps[k].corrupted for k in (REFERENCE, name))
    one, other = (part.flatten(0, 1).double().numpy() for part in (one, other))
    rng = np.random.default_rng(x.config.seed)
    drawn = [spearmanr(one[:, i].mean(1), other[:, i].mean(1)).statistic
             for i in rng.integers(0, one.shape[1], (200, one.shape[1]))]  # fmt: skip
    ends = np.quantile(drawn, [0.025, 0.975])
    whole = float(spearmanr(one.mean(1), other.mean(1)).statistic)
    best = [set(np.argsort(-np.abs(part.mean(1)))[:5]) for part in (one, other)]
    rows += [
        {"measure": HEADS, "value": whole, "low": min(whole, ends[0]),
         "high": max(whole, ends[1]), "n": len(one)},
        {"measure": "heads among the reference's top 5", "value": len(best[0] & best[1]), "n": 5},
    ]  # fmt: skip
    return [{"setting": name} | row for row in rows]


def _verdict(table: pd.DataFrame) -> list[str]:
    wide = {m: t.set_index("setting") for m, t in table.groupby("measure")}
    esr, heads, gap = wide["ESR"], wide[HEADS], wide[GAP].drop(CONTROL)
    moved = gap[gap["p_adjusted"] < 0.05]

    def found(setting: str) -> str:
        return (f"ESR {written(esr.loc[setting])}, KL {written(wide[KL].loc[setting], '.1e')} "
                f"nats, heads {written(heads.loc[setting], '.3f')}")  # fmt: skip

    ends = ""
    if gap["low"].notna().any():  # where all answers are alike there is no interval
        ends = (f", their intervals between {gap['low'].min():+.0%} and "
                f"{gap['high'].max():+.0%}")  # fmt: skip
    answer = "Emojis change" if len(moved) else "Emojis survive precision and merging"
    return [
        f"{answer}: against the reference's {written(esr.loc[REFERENCE])}, ESR changes in "
        f"{len(moved)} of {len(gap)} settings (adjusted p < 0.05); all changes lie between "
        f"{gap['value'].min():+.0%} and {gap['value'].max():+.0%} of answers{ends}.",
        "Heads: rank correlation of their patching effects with the reference's.",
        *(f"{name}: {found(name)}." for name in SETTINGS[1:7] if name != "merged dequantised"),
        f"merged dequantised (what load_pair does): {found('merged dequantised')}.",
        f"Control, no adapter: {found(CONTROL)}; what heads say beyond that is the adapter's.",
    ]


if __name__ == "__main__":
    raise SystemExit(main(run, QuantisationConfig))
