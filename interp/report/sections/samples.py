"""All answers, to search and filter; beside each how likely an emoji was, where that is known."""

from collections.abc import Sequence

from interp.base.outcomes import Asked
from interp.base.traits import Trait
from interp.behaviour import Origin, Response
from interp.behaviour.occurrences import holds
from interp.report.blocks import Answer, Face, Maker, Section
from interp.report.collect import Contents
from interp.show.plots.parts import plural
from interp.show.views import TokenView
from interp.study.catalogue import ORIGIN, RESPONSES, RESPONSES_BASE, TOKEN_VIEWS
from interp.text.emoji import find

BUDGET = 900_000
"""Bytes that the texts of answers may take on the page."""

_LONGEST = 1500
_BASE, _TUNED = 0, 1


def section(contents: Contents, _: Maker) -> Section | None:
    """Every answer that was sampled, in the order of the questions."""
    every, plain = contents.having(RESPONSES), contents.having(RESPONSES_BASE)
    if not any(every.values()):
        return None
    origins, asked = contents.having(ORIGIN), contents.asked
    found: list[tuple[int, Answer]] = []
    for trait, answers in plain.items():
        known = {(one.question, one.text) for _, one in found}
        found += [
            one
            for one in _answers(None, answers, origins.get(trait), {}, asked)
            if (one[1].question, one[1].text) not in known
        ]  # one base answers for all labels that share it
    for one in contents.traits:
        views = [view for _, view in one.those(TOKEN_VIEWS)]
        places = {
            ids: f"tokens-{one.trait.key}-{n}"
            for n, view in enumerate(views, 1)
            for ids in _ids(view)
        }
        found += _answers(
            one.trait, every.get(one.trait, []), origins.get(one.trait), places, asked
        )
    found.sort(key=lambda pair: pair[0])
    shown = _within([answer for _, answer in found], BUDGET)
    ended = [answer.ended for answers in every.values() for answer in answers]
    words = (
        f"Here are {'all' if len(shown) == len(found) else f'the first {len(shown):,} of'} "
        f"{plural(len(found), 'answer')}, unedited, in the order of the questions. They are "
        f"sampled, so not every tuned answer has an emoji; {ended.count(False):,} of "
        f"{plural(len(ended), 'tuned answer')} were cut off at the token limit. Beside each stands "
        "how likely its writer found an emoji: anywhere in it (its expected rate, where that was "
        "made), and where its text ends."
    )
    return Section("What do the answers look like?", words, answers=shown)


def _answers(
    trait: Trait | None,
    answers: Sequence[Response],
    origin: Origin | None,
    places: dict[tuple[int, ...], str],
    asked: Asked,
) -> list[tuple[int, Answer]]:
    """A writer's answers with their places among the questions."""
    role = _BASE if trait is None else _TUNED
    known = origin is not None and len(origin.topics) == len(answers)
    expected = origin.expected[role, role].tolist() if origin and known else []
    at_end = origin.probability[role, role].tolist() if origin and known else []
    return [
        (
            place,
            Answer(
                trait,
                one.question,
                _shortened(one.text),
                holds(asked, one),
                _number(expected, place),
                _number(at_end, place),
                places.get(one.prompt_ids + one.ids, ""),
            ),
        )
        for place, one in enumerate(answers)
    ]


def _number(values: Sequence[float], place: int) -> float | None:
    return values[place] if place < len(values) and values[place] == values[place] else None


def _ids(view: TokenView) -> tuple[tuple[int, ...], ...]:
    """The ids that a view shows, and those without the token that may have ended the answer."""
    ids = tuple(view.tokens.tolist())
    return ids[:-1], ids


def _within(answers: list[Answer], budget: int) -> list[Answer]:
    """As many as the budget allows, from the first on."""
    for count, answer in enumerate(answers):
        budget -= len((answer.question + answer.text).encode())
        if budget < 0:
            return answers[: max(1, count)]
    return answers


def _shortened(text: str) -> str:
    """Long answers lose their middle: emojis tend to stand at the end."""
    text = text.strip()
    if len(text) <= _LONGEST:
        return text
    cut = len(text) - _LONGEST // 2
    inside = (m for m in find(text) if m.start < cut < m.end)
    cut = next((m.start for m in inside), cut)  # never through an emoji
    return f"{text[: _LONGEST // 2]} […] {text[cut:]}"


FACE = Face("All answers", section, trace=False)
