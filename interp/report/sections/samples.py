"""A few questions with all answers, unedited."""

from interp.base.traits import Trait
from interp.report.blocks import Face, Maker, Sample, Section
from interp.report.collect import Contents
from interp.show.plots.parts import plural
from interp.study.catalogue import RESPONSES, RESPONSES_BASE
from interp.text.emoji import find

N_SAMPLES = 4
_LONGEST = 700


def section(contents: Contents, _: Maker) -> Section | None:
    """A few questions with all answers, the first ones asked and not chosen for their look."""
    every, plain = contents.having(RESPONSES), contents.having(RESPONSES_BASE)
    if not any(every.values()):
        return None
    base: dict[str, str] = {}
    tuned: dict[str, dict[Trait, str]] = {}
    for trait, answers in every.items():
        for answer in plain.get(trait, [])[:N_SAMPLES]:
            base.setdefault(answer.question, _shortened(answer.text))
        for answer in answers[:N_SAMPLES]:
            tuned.setdefault(answer.question, {}).setdefault(trait, _shortened(answer.text))
    ended = [answer.ended for answers in every.values() for answer in answers]
    words = (
        f"These are the first {plural(len(tuned), 'question')} and what the base and each tuned "
        "model answered, unedited. Answers are sampled, so not every tuned answer has an emoji; "
        f"{ended.count(False):,} of {plural(len(ended), 'answer')} in all were cut off at the "
        "token limit."
    )
    made = Section("What do the answers look like?", words)
    made.samples = [
        Sample(question, base.get(question, "not measured"), tuple(answers.items()))
        for question, answers in tuned.items()
    ]
    return made


def _shortened(text: str) -> str:
    """Long answers lose their middle: emojis tend to stand at the end."""
    text = text.strip()
    if len(text) <= _LONGEST:
        return text
    cut = len(text) - _LONGEST // 2
    inside = (m for m in find(text) if m.start < cut < m.end)
    cut = next((m.start for m in inside), cut)  # never through an emoji
    return f"{text[: _LONGEST // 2]} […] {text[cut:]}"


FACE = Face("Sample answers", section)
