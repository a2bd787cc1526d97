"""A prompt's words, shaded by what each does to the log-odds at the slot.

Red calls for the outcome, blue against it, as in a token view, whose style it wears; full colour is
the largest effect of the prompt, which the legend states. Words that the smallest set keeps are
outlined. It needs no script: numbers are in each word's title.
"""

from html import escape

from interp.show.views.pieces import plain
from interp.traces.inputs import WordEffects


def shaded(
    result: WordEffects, prompt: int = 0, method: str = "exchange", factor: str = "log_odds"
) -> str:
    """The markup of one prompt; on a page with `interp.show.views.STYLE`."""
    places = (result.prompt == prompt).nonzero().flatten().tolist()
    values = getattr(result, method)[result.factors.index(factor)].nan_to_num()
    most = max((abs(float(values[place])) for place in places), default=0.0) or 1.0
    made, in_answer = [], False
    for place in places:
        if bool(result.in_answer[place]) and not in_answer:
            in_answer = True
            made.append('<span class="itv-turn" role="presentation"></span>')
        value = float(values[place])
        sign = " itv-n" if value < 0 else ""
        kept = " itv-y" if bool(result.kept[place]) else ""
        text = plain(result.texts[place].encode(errors="replace")).replace("␣", " ")
        made.append(
            f'<span class="itv-t{sign}{kept}" title="{_signed(value)} nats" '
            f'style="--v:{value / most:.2g}">{escape(text)}</span>'
        )
    return (
        '<div class="itv" data-ready role="group" aria-label="Words shaded by their effect">'
        f'<div class="itv-text">{"".join(made)}</div>'
        f'<div class="itv-legend"><div class="itv-what">{escape(_legend(method, most))}</div>'
        '<div class="itv-scale itv-both"></div></div></div>'
    )


def _legend(method: str, most: float) -> str:
    how = {
        "deletion": "when a word is left out", "exchange": "in exchange for a neutral word",
        "gradient": "by integrated gradients",
    }[method]  # fmt: skip
    return f"What is lost {how}: −{most:.2g} to +{most:.2g} nats; outlined: the words kept"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
