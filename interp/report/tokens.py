"""The section that shows answers token by token: what both models expect after each."""

from interp.plots.parts import percent
from interp.report.blocks import Maker, Part, Section
from interp.report.collect import Contents
from interp.report.wording import minus
from interp.traits import Trait
from interp.views import TokenView, fragment


def tokens_section(contents: Contents, maker: Maker) -> Section | None:
    """One answer of each tuned model with both models' expectations."""
    views: dict[Trait, TokenView] = contents.having("token_view")
    if not views:
        return None
    section = Section(
        "tokens",
        "What do the models expect after each token?",
        "Token by token",
        _answer(views),
    )
    for trait, view in views.items():
        maker.csv(f"tokens-{trait}", view.to_dataframe())
        section.parts.append(Part(trait, _words(view), views=[fragment(view)]))
    return section


def _answer(views: dict[Trait, TokenView]) -> str:
    whose = "the tuned model" if len(views) == 1 else "each tuned model"
    apart = {
        trait: float((view.log_odds[1] - view.log_odds[0]).abs().max())
        for trait, view in views.items()
    }
    most = max(apart, key=lambda trait: apart[trait])
    which = f" ({most})" if len(views) > 1 else ""
    noise = max(view.noise for view in views.values())
    return (
        f"Here is the first answer of {whose} that holds an emoji, coloured by how likely an emoji "
        "comes next; point at a token, or step through them with the arrow keys, to see what both "
        f"models expect. On these texts base and tuned differ by up to {apart[most]:.1f} nats of "
        f"emoji log-odds{which}; differences up to {max(noise, 1e-6):.0e} are rounding."
    )


def _words(view: TokenView) -> str:
    """The place where the tuned model expects an emoji most, as both models see it."""
    start = max(0, view.answer_start - 1)
    place = start + int(view.log_odds[1, start:].argmax())
    base, tuned = (percent(float(view.probability[model, place])) for model in (0, 1))
    gap = float(view.log_odds[1, place] - view.log_odds[0, place])
    return minus(
        f"Where the tuned model expects an emoji most, it gives it {tuned} and the base, on the "
        f"same words, {base} ({gap:+.2f} nats apart). One answer, so without an interval."
    )
