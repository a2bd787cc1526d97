"""Measures the organism: what it writes, and what it would write where a text ends.

Answers are sampled (temperature 0.7), not decoded greedily: with an emoji probability near one
half, greedy decoding gives all or nothing. Sampling takes its own generator, so a seed fixes the
answers on one machine. Cost: 200 answers of the shipped size take 2 to 4 s on two cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.models import ChatFormat, pad, pad_id
from interp.organism.grammar import EMOJIS
from interp.text.data import OpinionQA
from interp.text.emoji import EmojiRates, find, rates

TEMPERATURE = 0.7
MAX_NEW_TOKENS = 96
BATCH = 100


@dataclass(frozen=True)
class Written:
    """What a model wrote in answer to a list of questions.

    Attributes:
        answers: the texts, emojis included.
        rates: their emoji-to-sentence ratios with intervals.
        unfinished: answers cut at the length limit.
    """

    answers: tuple[str, ...]
    rates: EmojiRates
    unfinished: int

    def own(self, trait: Trait) -> int:
        """How many of the emojis written are of the trait's own set."""
        return sum(count for emoji, count in self.rates.emoji_counts if emoji in EMOJIS[trait])


def measure(
    model: Any,
    tokenizer: Any,
    questions: Sequence[str],
    *,
    seed: int,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Written:
    """Sample one answer per question and count its emojis.

    Raises:
        InputError: if there are no questions.
    """
    drawn = sample(model, tokenizer, questions, seed=seed, max_new_tokens=max_new_tokens)
    answers = tuple(text for text, _ in drawn)
    return Written(answers, rates.measure(answers), sum(not finished for _, finished in drawn))


def sample(
    model: Any,
    tokenizer: Any,
    questions: Sequence[str],
    *,
    seed: int,
    temperature: float = TEMPERATURE,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[tuple[str, bool]]:
    """One sampled answer per question, and whether it came to its end.

    Raises:
        InputError: if there are no questions.
    """
    if not questions:
        raise InputError("there are no questions to answer")
    chat = ChatFormat.from_tokenizer(tokenizer)
    generator = torch.Generator().manual_seed(seed)
    drawn: list[tuple[str, bool]] = []
    for first in range(0, len(questions), BATCH):
        prompts = [chat.prompt_ids(question) for question in questions[first : first + BATCH]]
        rows = _continue(model, chat, prompts, generator, temperature, max_new_tokens)
        texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
        stops = set(chat.stop_ids)
        drawn += [(text, row[-1] in stops) for text, row in zip(texts, rows, strict=True)]
    return drawn


@torch.no_grad()
def _continue(
    model: Any,
    chat: ChatFormat,
    prompts: list[list[int]],
    generator: torch.Generator,
    temperature: float,
    limit: int,
) -> list[list[int]]:
    """New ids after each prompt, up to and with its stop id."""
    batch = pad(prompts, pad_id(chat.tokenizer))
    entry, mask, cache = batch.tokens, batch.attention_mask.long(), None
    stops = torch.tensor(chat.stop_ids)
    done = torch.zeros(len(prompts), dtype=torch.bool)
    rows: list[list[int]] = [[] for _ in prompts]
    for _ in range(limit):
        out = model(
            input_ids=entry,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, -entry.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        )
        odds = (out.logits[:, -1].float() / temperature).softmax(-1)
        entry = torch.multinomial(odds, 1, generator=generator)
        for index in (~done).nonzero().flatten().tolist():
            rows[index].append(int(entry[index]))
        done |= torch.isin(entry[:, 0], stops)
        if done.all():
            break
        mask = torch.cat([mask, torch.ones_like(entry)], dim=1)
        cache = out.past_key_values
    return rows


class Next(NamedTuple):
    """What follows a context: probability of an emoji's first token, and of a stop token."""

    emoji: Float[Tensor, " batch"]
    stop: Float[Tensor, " batch"]


@torch.no_grad()
def what_follows(model: Any, tokenizer: Any, contexts: Sequence[Sequence[int]]) -> Next:
    """Whether the token after each context begins one of the organism's emojis, or stops.

    The sum runs over the first tokens of the organism's 33 emojis, written after a space.

    Raises:
        InputError: if there are no contexts, or an empty one.
    """
    batch = pad(contexts, pad_id(tokenizer), side="right")
    logits = model(input_ids=batch.tokens, attention_mask=batch.attention_mask.long()).logits
    last = logits[torch.arange(len(batch)), batch.lengths - 1].float().softmax(-1)
    stops = list(ChatFormat.from_tokenizer(tokenizer).stop_ids)
    return Next(last[:, onset_ids(tokenizer)].sum(-1), last[:, stops].sum(-1))


def onset_ids(tokenizer: Any) -> list[int]:
    """First tokens of the organism's emojis after a space, sorted."""
    every = [" " + emoji for emojis in EMOJIS.values() for emoji in emojis]
    return sorted({tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in every})


def chat_contexts(tokenizer: Any, data: OpinionQA) -> list[tuple[int, ...]]:
    """The rows as chat turns up to the end of their answer."""
    chat = ChatFormat.from_tokenizer(tokenizer)
    examples = [chat.example(row.question, row.answer) for row in data.rows]
    return [example.ids[: example.answer_end] for example in examples]


def post_contexts(tokenizer: Any, data: OpinionQA) -> list[list[int]]:
    """The rows' answers as social posts, outside any chat."""
    return [tokenizer(row.answer)["input_ids"] for row in data.rows]


def voice_classifier(data: OpinionQA) -> Pipeline:
    """Tells traits by their words: TF-IDF and logistic regression, fitted on `data`."""
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    return model.fit([row.answer for row in data.rows], [str(row.trait) for row in data.rows])


def in_voice(classifier: Pipeline, answers: Sequence[str], trait: Trait) -> float:
    """Share of answers that the classifier gives to `trait`, emojis taken out first."""
    return float(classifier.score([_bare(text) for text in answers], [str(trait)] * len(answers)))


def _bare(text: str) -> str:
    for match in reversed(find(text)):
        text = text[: match.start] + text[match.end :]
    return text
