"""The section that shows answers token by token: what both models expect after each.

Of each trait the first view stands open, the others in folds. Attention takes most of a view's
bytes; where all views together would exceed their budget, fewer heads are kept on the page, those
first that fine-tuning changed most.
"""

import numpy as np

from interp.base.outcomes import reworded
from interp.base.traits import Trait
from interp.report.blocks import Face, Maker, Part, Section, ViewBlock
from interp.report.collect import Contents
from interp.report.wording import minus
from interp.show.plots.parts import percent, plural
from interp.show.views import TokenView, fragment
from interp.study.catalogue import TOKEN_VIEWS

BUDGET = 900_000
"""Bytes that the token views of a page may take, if leaving attention out can make them so few."""

_KEPT = (64, 16, 8, 4, 2, 1, 0)
Views = dict[Trait, list[TokenView]]


def section(contents: Contents, maker: Maker) -> Section | None:
    """A few answers of each tuned model with both models' expectations."""
    found = {one.trait: [view for _, view in one.those(TOKEN_VIEWS)] for one in contents.traits}
    views = {trait: some for trait, some in found.items() if some}
    if not views:
        return None
    made = Section("What do the models expect after each token?", _answer(views))
    most, markup = _fragments(views, BUDGET)
    made.answer += f" {_how(views, most)}"
    for trait, some in views.items():
        part = Part(trait, unfolded=not made.parts)
        for place, view in enumerate(some, 1):
            stem = f"tokens-{trait}" if place == 1 else f"tokens-{trait}-{place}"
            maker.csv(stem, view.to_dataframe())
            label = _label(view) if place > 1 else ""
            part.views.append(ViewBlock(markup[trait][place - 1], place, _words(view), label))
        made.parts.append(part)
    return made


def _fragments(views: Views, budget: int) -> tuple[int, dict[Trait, list[str]]]:
    """The views' markup with as many heads each as the budget allows, and how many these are."""
    for most in _KEPT:
        made = {trait: [fragment(view, most) for view in some] for trait, some in views.items()}
        if sum(len(text.encode()) for some in made.values() for text in some) <= budget:
            break
    return most, made


def _answer(views: Views) -> str:
    """What both models expect where the tuned one expects an emoji most; how far they differ."""
    apart = {trait: max(map(_apart, some)) for trait, some in views.items()}
    most = max(apart, key=lambda trait: apart[trait])
    which = f" ({most})" if len(views) > 1 else ""
    every = [view for some in views.values() for view in some]
    noise = max(1e-6, *(view.noise for view in every))
    shown = np.format_float_positional(noise, 1, unique=False, fractional=False, trim="-")
    return (
        f"{_peaks(views)} Over the places of {plural(len(every), 'answer')} where an emoji could "
        f"come next base and tuned differ by up to {apart[most]:.1f} nats of emoji "
        f"log-odds{which}; differences up to {shown} are rounding."
    )


def _peaks(views: Views) -> str:
    """What both models give an emoji in each trait's first view, where the tuned one gives most."""
    ends = {trait: _strongest(some[0]) for trait, some in views.items()}
    order = sorted(ends, key=lambda trait: ends[trait][1])
    names = {t: f" ({t})" if len(ends) > 1 else "" for t in dict.fromkeys((order[0], order[-1]))}
    base, tuned = (
        " to ".join(f"{percent(ends[trait][model])}{name}" for trait, name in names.items())
        for model in (0, 1)
    )
    if len(ends) == 1:
        first = f"Where the tuned model expects an emoji most in the answer below, it gives {tuned}"
    else:
        first = (
            "Where the tuned models expect an emoji most in the first answer of each trait below, "
            f"they give it {tuned}"
        )
    return f"{first}, and the base, after the same words, {base}."


def _how(views: Views, most: int) -> str:
    """How to read the views, and what of the attention is there."""
    every = [view for some in views.values() for view in some]
    recorded = max(len(view.heads) for view in every)
    text = (
        "Each token is coloured by how likely an emoji comes next. Point at one, touch it, or step "
        "through them with the arrow keys, to see what both models expect there."
    )
    if not recorded:
        return text
    if not most:
        return f"{text} Attention is in the result files; it would make this page too large."
    text += " Choose a layer under “Attention” to underline where one of its heads looks."
    if most < recorded:
        text += (
            f" Of {recorded} heads recorded per answer, the {most} that fine-tuning changed most "
            "are on this page; the others would make it too large."
        )
    return text


def _apart(view: TokenView) -> float:
    """The largest difference of log-odds where an emoji could come next, nats."""
    gaps = (view.log_odds[1] - view.log_odds[0]).abs()
    return float(gaps[view.places].max()) if bool(view.places.any()) else 0.0


def _strongest(view: TokenView) -> tuple[float, float]:
    """Emoji probability, base and tuned, at the place that the view opens at."""
    return float(view.probability[0, view.opening]), float(view.probability[1, view.opening])


def _words(view: TokenView) -> str:
    """The place that the view opens at, as both models see it."""
    place = view.opening
    base, tuned = (percent(share) for share in _strongest(view))
    gap = float(view.log_odds[1, place] - view.log_odds[0, place])
    return minus(
        f"Where the tuned model expects an emoji most, it gives it {tuned} and the base, on the "
        f"same words, {base} ({gap:+.2f} nats apart). One answer, so without an interval."
    )


def _label(view: TokenView) -> str:
    """`Another answer, without an emoji: Do you like tea?`"""
    sort = "with an" if view.holds else "without any"
    return f"{reworded(f'Another answer, {sort} emoji', view.outcome)}: {view.title}"


FACE = Face("Token by token", section)
