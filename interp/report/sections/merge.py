"""How far the merged models are from their adapters."""

from interp.models.merge import MergeReport
from interp.report.blocks import Cell, Face, Finding, Maker, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.wording import percent
from interp.show.plots.parts import count_range, plural
from interp.study.catalogue import MERGE


def section(contents: Contents, maker: Maker) -> Section | None:
    """How far the merged models are from their adapters."""
    reports = contents.having(MERGE)
    if not reports:
        return None
    worst = max(reports, key=lambda trait: reports[trait].share)
    report = reports[worst]
    found = Finding(
        f"Yes: its error is {percent(report.share)} of the adapter's own effect.",
        f"At worst ({worst}), merging moves what comes next by {report.mean_kl:.1e} nats of KL, "
        f"mean of {plural(report.n_positions, 'position')}, the adapter by "
        f"{report.effect_mean_kl:.2g}.",
    )
    answer = f"{found.text} Rounding alone makes {report.noise:.1e}."
    rows = [Row(trait, _cells(one)) for trait, one in reports.items()]
    columns = (
        "Mean KL",
        "Max KL",
        "Max logit difference",
        "Adapter's effect",
        "Rounding",
        "Error / effect",
        "Positions",
        "Base",
    )
    caption = (
        "Merged model against the unmerged adapter: KL divergence in nats per position, largest "
        "difference of a logit, and the adapter's own effect (mean KL to the base) to read it by."
    )
    whole = stacked({trait: one.to_dataframe() for trait, one in reports.items()})
    made = Section("Are the merged models what the adapters were trained to be?", answer, found)
    prompts = count_range([one.n_prompts for one in reports.values()], "prompt")
    made.method = (
        f"{prompts} per adapter, read once through the merged model and once through the base with "
        "the adapter beside it. Rounding is what the unmerged model differs by from itself, "
        "prompts alone against prompts in a batch."
    )
    made.tables.append(maker.table("merge", caption, whole, rows, columns))
    return made


def _cells(one: MergeReport) -> tuple[Cell, ...]:
    errors = (one.mean_kl, one.max_kl, one.max_logit_difference)
    return (
        *(Cell(f"{value:.1e}", value) for value in errors),
        Cell(f"{one.effect_mean_kl:#.2g}", one.effect_mean_kl),
        Cell(f"{one.noise:.1e}", one.noise),
        Cell(percent(one.share), one.share),
        Cell(f"{one.n_positions:,}", one.n_positions, f"{plural(one.n_prompts, 'prompt')}"),
        Cell(one.dtype, note=one.quantization or "not quantised"),
    )


FACE = Face("Merge errors", section, "Is the merged model the trained one?", trace=False)
