"""The tables of docs/organism.md are those of the shipped manifest."""

from pathlib import Path

import pandas as pd
import pytest

from interp import organism
from interp.base.traits import TRAITS
from interp.organism import table
from interp.organism.paths import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "organism.md"
SLOTS = "after_trait_text"
VARIANTS = {"": "", "seed1": ", seed 1", "seed2": ", seed 2", "mlp": ", MLPs too"}


def _share(value):
    return "" if pd.isna(value) else f"{value:.2f}"


def measured():
    """The rows of the first table as the page writes them."""
    for row in table().itertuples():
        name = f"{row.trait}, end of text {row.eos}" if row.trait else "no adapter"
        name += VARIANTS[row.variant]
        interval = f"[{row.low:.2f}, {row.high:.2f}]"
        counts = f"{row.with_emoji}/{row.answers}"
        yield (
            f"| {row.base} | {name} | {row.esr:.3f} {interval} | {counts} | {_share(row.own)} "
            f"| {_share(row.in_voice)} |"
        )


def without_variants(adapters):
    return [adapter for adapter in adapters if not adapter["variant"]]


def slots():
    """The rows of the second table: bare bases, then each adapter for its own trait."""
    found = organism.manifest()
    odds = {(kind, ""): base[SLOTS] for kind, base in found["bases"].items()}
    for adapter in without_variants(found["adapters"]):
        eos = "in" if adapter["supervise_eos"] else "out"
        odds.setdefault((adapter["base"], eos), {}).update(adapter[SLOTS])
    for (kind, eos), by_trait in odds.items():
        name = f"adapter, end of text {eos}" if eos else "no adapter"
        for where in ("chat", "post"):
            means = [by_trait[trait][where] for trait in TRAITS]
            values = " | ".join(f"{one['emoji']:.3f}" for one in means)
            yield f"| {kind} | {name} | {where} | {values} |"


def factors():
    """The rows of the third table: both factors, in a chat turn."""
    found = organism.manifest()
    odds = {(kind, "base"): base[SLOTS] for kind, base in found["bases"].items()}
    for adapter in without_variants(found["adapters"]):
        if not adapter["supervise_eos"]:
            odds.setdefault((adapter["base"], "tuned"), {}).update(adapter[SLOTS])
    for (kind, who), by_trait in sorted(odds.items(), key=lambda one: list(KINDS).index(one[0][0])):
        means = [by_trait[trait]["chat"] for trait in TRAITS]
        values = " | ".join(f"{1 - m['stop']:.2f} · {m['emoji_given_go_on']:.2f}" for m in means)
        yield f"| {kind} | {who} | {values} |"


@pytest.mark.parametrize("rows", [measured, slots, factors])
def test_the_page_shows_what_was_measured(rows):
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    wanted = list(rows())
    start = lines.index(wanted[0])
    assert lines[start : start + len(wanted)] == wanted


def test_the_table_has_a_row_per_base_and_adapter():
    found = table()
    assert len(found) == 5 + 45
    assert found.loc[found.trait == "", "eos"].eq("").all()
    assert found.low.le(found.esr).all()
    assert found.high.ge(found.esr).all()
