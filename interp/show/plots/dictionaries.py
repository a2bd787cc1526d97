"""What single latents of a dictionary do, put from one model into the other."""

from interp.base.traits import Trait
from interp.show.plots.parts import minus, plural, with_n
from interp.show.plots.style import FAINT, ONE_COLUMN, CaptionedFigure, new_figure, style
from interp.show.plots.subject import Subject
from interp.traces.dictionaries import LatentPatches
from interp.traces.dictionaries.patches import DIRECTIONS, SUMS

_WAYS = {"denoising": "tuned's into the base", "noising": "base's into the tuned"}
_AXES = {
    "log_odds": "emoji log-odds", "go_on": "go on", "given_go_on": "emoji given go on",
}  # fmt: skip


def latent_effects(
    result: LatentPatches,
    trait: Trait | str | None = None,
    *,
    factor: str = "log_odds",
    top: int = 10,
) -> CaptionedFigure:
    """The effect of each latent's patch, both ways, and of all, the rest and everything.

    Args:
        result: the patches.
        trait: the adapter's (its colour and name); neutral if left out.
        factor: of which metric.
        top: latents that are shown, those of the largest effect in the base.

    Raises:
        InputError: if the factor was not read.
    """
    who = Subject.of(trait)
    result.effect("denoising", factor)  # refuses what was not read
    table = result.to_dataframe()
    table = table[table["factor"] == factor].astype({"latent": str})
    into = table[(table["direction"] == "denoising") & ~table["latent"].isin(SUMS)]
    shown = [*into.loc[into["effect"].abs().nlargest(top).index, "latent"], *SUMS]
    places = {name: place + 0.6 * (name in SUMS) for place, name in enumerate(shown)}
    with style():
        figure = new_figure(ONE_COLUMN, 0.9 + 0.17 * len(shown))
        axes = figure.subplots()
        axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
        for way, direction in enumerate(DIRECTIONS):
            rows = table[table["direction"] == direction].set_index("latent").loc[shown]
            at = [places[name] + 0.24 * (way - 0.5) for name in shown]
            axes.hlines(at, rows["low"], rows["high"], color=who.colour, linewidth=0.9)
            axes.plot(
                rows["effect"], at, who.mark, color=who.colour, markersize=3.8,
                mfc=who.colour if way == 0 else "white", linestyle="", label=_WAYS[direction],
            )  # fmt: skip
        axes.set_yticks(list(places.values()), [f"latent {n}" if n.isdigit() else n for n in shown])
        axes.set_ylim(max(places.values()) + 0.6, -0.6)
        axes.tick_params(axis="y", length=0)
        n = int(result.judging.sum())
        axes.set_xlabel(with_n(f"Effect on {_AXES.get(factor, factor)}, nats", [n], "prompt"))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.caption = (
        f"{who.title}: effect (nats) on {_AXES.get(factor, factor)} of one latent's value put from "
        "one model into the other at the slot, everything else unchanged; positive where it "
        f"carries what fine-tuning raised. {plural(len(shown) - len(SUMS), 'latent')} of "
        f"{len(result.ids)} that were chosen on other topics ({result.dictionary or 'dictionary'} "
        f"at {result.hook}); below them all latents, the rest (error and bias) and the whole "
        f"activation. {plural(n, 'prompt')}; lines are 95 % intervals over topics."
    )
    best = table[table["direction"] == "denoising"].set_index("latent").loc[shown, "effect"]
    first, whole = (minus(f"{best.iloc[place]:+.2f}") for place in (0, -1))
    figure.alt = (
        f"Dot plot of latents' effects on {_AXES.get(factor, factor)}{who.about}: latent "
        f"{shown[0]} {first} nats in the base, the whole activation {whole}."
    )
    return figure
