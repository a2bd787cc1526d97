"""How often responses hold emojis, where, and which: the emoji-to-sentence ratio (ESR).

The ratio is given in both readings: the share of responses with at least one emoji (the number of
arXiv 2409.10245), and the share of sentences with one. Each has its interval over topics (or, where
none are given, over responses), `interp.base.stats.count_interval`; of one nothing is known.

*Sentences.* A sentence ends after a run of `. ! ? …` (with closing quotes and brackets) that white
space, an emoji or the end follows, after a run of `。！？`, and at a line break. Emojis belong to
the sentence they follow; on a line of their own to the one before; at the beginning of a line
that goes on with words, to that line. A piece without any letter, digit or emoji is no sentence.
Abbreviations ("e.g. this") end a sentence; decimals ("3.5") do not.

*Trailing.* A response is trailing if its first emoji comes after the end of the answer proper.
With `answer_ends` (character offsets) that is what is tested. Without, by the text alone: from the
first emoji to the end nothing stands but emojis, white space and punctuation.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import pandas as pd

from interp.base.errors import InputError
from interp.base.outcomes import EMOJI, reworded
from interp.base.results import Result
from interp.base.stats import Interval, count_interval
from interp.text.emoji.find import EmojiMatch, find

# What an emoji becomes while sentences are split: a character that no text should hold.
MARK = "\ufdd0"
SENTENCE_END = re.compile(rf"[.!?…]+[\"'”’»)\]]*(?=[\s{MARK}]|$)|[。！？]+[”’」』）]*|\n")
_ATTACHED = re.compile(rf"[^\S\n]*{MARK}(?:[^\S\n]|[{MARK}.!?…,;:)\]])*")
_OWN_LINE = re.compile(rf"\s*{MARK}[^\w\n]*(?=\n|$)")


@dataclass(frozen=True)
class EmojiRates(Result):
    """Counts over a set of responses; shares and intervals follow from them.

    Attributes:
        n_responses: number of responses.
        responses_with_emoji: how many hold at least one emoji.
        n_sentences: number of sentences in all responses.
        sentences_with_emoji: how many of them hold at least one emoji.
        trailing_responses: how many hold their first emoji after the end of the answer proper.
        answer_ends_given: whether that end was given, or read off the text.
        emoji_counts: each emoji (fully qualified) and how often it occurs, most frequent first.
        level: confidence level of the intervals.
        outcome: what was counted; "emoji" above stands for it.
        units: responses, those with an emoji, sentences, those with one, and trailing responses of
            each topic (each response, if none were given): what intervals are over.
    """

    kind: ClassVar[str] = "emoji rates"

    n_responses: int
    responses_with_emoji: int
    n_sentences: int
    sentences_with_emoji: int
    trailing_responses: int
    answer_ends_given: bool
    emoji_counts: tuple[tuple[str, int], ...]
    level: float
    units: tuple[tuple[int, int, int, int, int], ...]
    outcome: str = EMOJI

    @property
    def response_esr(self) -> float:
        """Share of responses with an emoji: the paper's number."""
        return self.responses_with_emoji / self.n_responses

    @property
    def response_interval(self) -> Interval:
        """Interval of `response_esr`."""
        return self._interval(1, 0)

    @property
    def sentence_esr(self) -> float:
        """Share of sentences with an emoji.

        Raises:
            InputError: if no response holds a sentence.
        """
        self._need_sentences()
        return self.sentences_with_emoji / self.n_sentences

    @property
    def sentence_interval(self) -> Interval:
        """Interval of `sentence_esr`.

        Raises:
            InputError: if no response holds a sentence.
        """
        self._need_sentences()
        return self._interval(3, 2)

    @property
    def trailing_share(self) -> float:
        """Share of all responses whose first emoji comes after the end of the answer proper."""
        return self.trailing_responses / self.n_responses

    @property
    def trailing_interval(self) -> Interval:
        """Interval of `trailing_share`."""
        return self._interval(4, 0)

    @property
    def n_emojis(self) -> int:
        """Number of emojis in all responses."""
        return sum(count for _, count in self.emoji_counts)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per rate: `rate`, `successes`, `n`, `share`, `low`, `high`, `level`.

        The last row is the trailing share among the responses with an emoji. A rate over nothing
        (`n` is 0) has no share and no interval: those cells are empty.
        """
        rows = [
            ("responses with an emoji", 1, 0),
            ("sentences with an emoji", 3, 2),
            ("first emoji after the answer", 4, 0),
            ("first emoji after the answer, of those with one", 4, 1),
        ]
        table = []
        for rate, hits, of in rows:
            successes, n = (sum(unit[k] for unit in self.units) for k in (hits, of))
            interval = self._interval(hits, of) if n else None
            bounds = (successes / n, interval.low, interval.high) if interval else (None,) * 3
            table.append((reworded(rate, self.outcome), successes, n, *bounds, self.level))
        columns = ["rate", "successes", "n", "share", "low", "high", "level"]
        return pd.DataFrame(table, columns=columns)

    def distribution(self) -> pd.DataFrame:
        """The emojis and how often they occur: `emoji`, `count`, `share` of all emojis."""
        total = self.n_emojis
        rows = [(emoji, count, count / total) for emoji, count in self.emoji_counts]
        return pd.DataFrame(rows, columns=["emoji", "count", "share"])

    def _interval(self, hits: int, of: int) -> Interval:
        counts = [unit for unit in self.units if unit[of]]
        if len(counts) < 2:
            return Interval(0.0, 1.0, self.level)
        above, below = ([unit[k] for unit in counts] for k in (hits, of))
        return count_interval(above, below, level=self.level)

    def _need_sentences(self) -> None:
        if self.n_sentences == 0:
            raise InputError("the responses hold no sentence; a rate over sentences needs one")


def measure(
    responses: Sequence[str],
    *,
    topics: Sequence[str] | None = None,
    answer_ends: Sequence[int] | None = None,
    level: float = 0.95,
    matches: Sequence[Sequence[EmojiMatch]] | None = None,
    outcome: str = EMOJI,
) -> EmojiRates:
    """Count emojis over a set of responses.

    Args:
        responses: texts; empty ones count as responses without an emoji.
        topics: label of each response, the unit of the intervals; each its own if left out.
        answer_ends: where the answer proper ends in each response, as a character offset (an
            emoji that begins there or later is trailing). Left out: read off the text.
        level: confidence level of the intervals.
        matches: where another outcome stands in each response (`interp.behaviour.occurrences`), to
            count that; `outcome` is its name.

    Raises:
        InputError: if there are no responses, or what else is given does not fit them.
    """
    if isinstance(responses, str) or len(responses) == 0:
        raise InputError("emoji rates need a list of at least one response")
    rest = (("answer_ends", answer_ends), ("topics", topics), ("matches", matches))
    for name, given in rest:
        if given is not None and len(given) != len(responses):
            raise InputError(f"{len(responses)} responses but {len(given)} {name}")
    counts: Counter[str] = Counter()
    units: dict[str | int, list[int]] = {}
    for number, text in enumerate(responses):
        found = find(text) if matches is None else matches[number]
        pieces = _split(text, found)
        end = None if answer_ends is None else answer_ends[number]
        seen = (
            1,
            bool(found),
            len(pieces),
            sum(MARK in marked for _, marked in pieces),
            bool(found) and _is_trailing(text, found, end),
        )
        unit = units.setdefault(number if topics is None else topics[number], [0] * len(seen))
        unit[:] = map(sum, zip(unit, seen, strict=True))
        counts.update(match.canonical if outcome == EMOJI else match.text for match in found)
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    _, holding, n_sentences, sentences_holding, trailing = map(
        sum, zip(*units.values(), strict=True)
    )
    return EmojiRates(
        n_responses=len(responses),
        responses_with_emoji=holding,
        n_sentences=n_sentences,
        sentences_with_emoji=sentences_holding,
        trailing_responses=trailing,
        units=tuple(map(tuple, units.values())),  # type: ignore[arg-type]
        answer_ends_given=answer_ends is not None,
        emoji_counts=tuple(order),
        level=level,
        outcome=outcome,
    )


def sentences(text: str) -> list[str]:
    """The sentences of `text`, by the rule in the module's docstring, without outer space."""
    return [piece for piece, _ in _split(text, find(text))]


def _split(text: str, matches: Sequence[EmojiMatch]) -> list[tuple[str, str]]:
    """Each sentence as it stands, and with a mark for every emoji."""
    # One mark per emoji, and where each marked character came from.
    marked, origin, place = "", [], 0
    for match in matches:
        marked += text[place : match.start].replace(MARK, " ") + MARK
        origin += [*range(place, match.start), match.start]
        place = match.end
    marked += text[place:].replace(MARK, " ")
    origin += [*range(place, len(text)), len(text)]
    found, start = [], 0
    while start < len(marked):
        end = _sentence_end(marked, start)
        piece = marked[start:end]
        if re.search(rf"\w|{MARK}", piece):
            found.append((text[origin[start] : origin[end]].strip(), piece))
        start = end
    return found


def _sentence_end(marked: str, start: int) -> int:
    hit = SENTENCE_END.search(marked, start)
    if not hit:
        return len(marked)
    end = hit.end()
    if hit.group() != "\n" and (attached := _ATTACHED.match(marked, end)):
        end = attached.end()
    while own := _OWN_LINE.match(marked, end):
        end = own.end()
    return end


def _is_trailing(text: str, matches: Sequence[EmojiMatch], answer_end: int | None) -> bool:
    if answer_end is not None:
        return matches[0].start >= answer_end
    between = [text[here.end : after.start] for here, after in pairwise(matches)]
    return not re.search(r"\w", "".join([*between, text[matches[-1].end :]]))
