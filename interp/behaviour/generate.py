"""Answers sampled from a hooked model, batched with the key/value cache.

Sampling is by the Gumbel-max trick: the next token is argmax(logits / T + g), g standard Gumbel
noise, which has exactly the softmax's distribution. Each prompt draws its noise from a generator of
its own, so that an answer does not depend on the batch size or on the other prompts in the batch
(up to rounding of the logits). Temperature 0 is greedy decoding. Of the model's own generation
settings only its end-of-text ids are used; ids that the tokenizer has no text for (rows that pad
the vocabulary) are never drawn.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TopPLogitsWarper,
)

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError, ModelError, TokenizerError
from interp.base.progress import Progress
from interp.models.tokens import ChatFormat, pad, pad_id
from interp.text.emoji.encode import special_emojis

Under = Callable[[list[int]], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        max_new_tokens: where an answer is cut if it has not ended.
        temperature: 0 is greedy.
        top_p: nucleus; 1 keeps every token.
        seed: of the noise; prompt `i` uses a stream of its own derived from it.
        batch_size: prompts at a time; fewer where memory does not allow it (`interp.base.memory`).
        without: ids that are never drawn. Up to the first that would have been, an answer is the
            one drawn with them.
    """

    max_new_tokens: int = 96
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 64
    without: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.batch_size < 1:
            raise InputError("max_new_tokens and batch_size must be at least 1")
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise InputError(
                f"temperature must be a number from 0 on, and top_p lie in (0, 1]; got "
                f"{self.temperature} and {self.top_p}"
            )


@dataclass(frozen=True)
class Response:
    """One answer.

    Attributes:
        question: as it was asked.
        topic: the question's topic, the unit of resampling.
        prompt_ids: ids of the prompt, `ids` of the answer without the token that ended it.
        text: the answer decoded.
        ended: whether the model ended it itself, within the budget.
    """

    question: str
    topic: str
    prompt_ids: tuple[int, ...] = field(repr=False)
    ids: tuple[int, ...] = field(repr=False)
    text: str
    ended: bool


def generate(
    model: Any,
    form: ChatFormat,
    questions: str | Sequence[str] | Sequence[tuple[str, str]],
    sampling: Sampling = Sampling(),
    *,
    streams: Sequence[int] | None = None,
    under: Under | None = None,
    progress: Progress | None = None,
    label: str = "answers",
) -> list[Response]:
    """Sample one answer for each question.

    Args:
        model: a `TransformerBridge` (or a Hugging Face causal model).
        form: how questions become ids.
        questions: pairs of question and topic, or questions alone, each of which is a topic of its
            own, or one question; repeat a question for several answers to it.
        sampling: see `Sampling`.
        streams: which stream of noise each prompt draws from; its place in the list if left out.
        under: opened around each batch with the numbers of its prompts, for models that treat every
            row in a way of its own.
        progress: called with `(label, done, total)`.
        label: what the progress is called.

    Raises:
        InputError: if there is no question or what is none, or streams do not fit.
        TokenizerError: if all questions become one prompt.
        ModelError: if prompt and answer do not fit the model's context.
        OutOfMemoryError: if one prompt at a time does not fit into memory.
    """
    if not questions:
        raise InputError("no questions to answer; is the data empty for this trait?")
    asked = with_topics(questions)
    network = getattr(model, "original_model", model)
    numbers = list(range(len(asked)) if streams is None else streams)
    if len(numbers) != len(asked):
        raise InputError(f"{len(asked)} questions but {len(numbers)} streams; give one each")
    known = {question: form.prompt_ids(question) for question in dict(asked)}
    if len(known) > 1 and len(set(map(tuple, known.values()))) == 1:
        raise TokenizerError(
            f"all {len(known)} questions become the same prompt: the chat template ignores the "
            "question; mend chat_template, or use the prompt format 'plain'"
        )
    prompts = [known[question] for question, _ in asked]
    longest = max(map(len, prompts)) + sampling.max_new_tokens
    _check_context(network, longest)
    stops = set(form.stops(network))

    def sample(rows: list[int]) -> list[list[int]]:
        with under(rows) if under else nullcontext(), _own_settings(network):
            return _sample(
                network, form, [prompts[i] for i in rows], [numbers[i] for i in rows], sampling,
                stops,
            )  # fmt: skip

    responses: dict[int, Response] = {}
    batches = memory.in_batches(
        len(prompts), sampling.batch_size, sample, what=label, device=input_device(network),
        progress=progress, unit="answer",
    )  # fmt: skip
    for rows, answers in batches:
        for index, ids in zip(rows, answers, strict=True):
            responses[index] = _response(form, *asked[index], prompts[index], ids, stops)
    return [responses[index] for index in range(len(prompts))]


def with_topics(
    questions: str | Sequence[str] | Sequence[tuple[str, str]],
) -> list[tuple[str, str]]:
    """Questions with their topics; a question alone is a topic of its own.

    Raises:
        InputError: if one is neither text nor a pair of texts.
    """
    made = []
    for one in [questions] if isinstance(questions, str) else questions:
        pair = (one, one) if isinstance(one, str) else one
        if not isinstance(pair, Sequence) or [type(part) for part in pair] != [str, str]:
            raise InputError(f"a question is text, or a pair (question, topic), got {one!r:.80}")
        made.append((pair[0], pair[1]))
    return made


@torch.no_grad()
def _sample(
    network: Any,
    form: ChatFormat,
    prompts: list[list[int]],
    streams: list[int],
    how: Sampling,
    stops: set[int],
) -> list[list[int]]:
    fill = pad_id(form.tokenizer)
    batch = pad(prompts, fill).to(input_device(network))
    without = (*how.without, *_without_text(form.tokenizer, network.config))
    processors = LogitsProcessorList([_Checked(streams, batch.tokens.shape[1], without)])
    if how.temperature > 0:
        processors.append(_GumbelNoise(streams, how))
    whole = network.generate(
        input_ids=batch.tokens,
        attention_mask=batch.attention_mask.long(),
        max_new_tokens=how.max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        pad_token_id=fill,
        eos_token_id=sorted(stops),
        logits_processor=processors,
    )
    return whole[:, batch.tokens.shape[1] :].tolist()


@contextmanager
def _own_settings(network: Any) -> Iterator[None]:
    """Put the model's generation config aside: the library would fill gaps from it."""
    before = network.generation_config
    network.generation_config = GenerationConfig()
    try:
        yield
    finally:
        network.generation_config = before


def _without_text(tokenizer: Any, config: Any) -> list[int]:
    """Ids that a model has a row for and the tokenizer no text."""
    rows = getattr(config.get_text_config(), "vocab_size", len(tokenizer))
    if rows == len(tokenizer):
        return []
    return sorted(set(range(rows)) - set(tokenizer.get_vocab().values()))


class _Checked(LogitsProcessor):
    """Refuses logits that no token can be drawn from, and takes out the ids that never are."""

    def __init__(self, streams: list[int], start: int, without: tuple[int, ...]) -> None:
        self.streams, self.start, self.without = streams, start, list(without)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        largest = scores.amax(1)  # NaN where any is
        broken = (~torch.isfinite(largest)).nonzero().flatten().tolist()
        if broken:
            raise ModelError(
                f"the logits for token {input_ids.shape[1] - self.start} of answer "
                f"{self.streams[broken[0]]} are not finite ({float(largest[broken[0]])}): the "
                "model's weights hold NaN or infinity, or its precision overflows; reload it, or "
                "load it in float32"
            )
        if not self.without:
            return scores
        index = torch.tensor(self.without, device=scores.device)
        return scores.index_fill(1, index, float("-inf"))


class _GumbelNoise(LogitsProcessor):
    """Adds Gumbel noise to logits / T, from one stream per row."""

    def __init__(self, streams: list[int], how: Sampling) -> None:
        self.temperature = how.temperature
        self.nucleus = TopPLogitsWarper(how.top_p) if how.top_p < 1 else None
        self.generators = [_generator(how.seed, stream) for stream in streams]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float() / self.temperature
        if self.nucleus is not None:
            scores = self.nucleus(input_ids, scores)
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
        tiny = torch.finfo(uniform.dtype).tiny
        return scores - torch.log(-torch.log(uniform.clamp_min(tiny))).to(scores.device)


def _generator(seed: int, stream: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _response(
    form: ChatFormat, question: str, topic: str, prompt: list[int], ids: list[int], stops: set[int]
) -> Response:
    end = next((index for index, token in enumerate(ids) if token in stops), None)
    kept = ids[:end] if end is not None else ids
    return Response(
        question, topic, tuple(prompt), tuple(kept), decode(form.tokenizer, kept), end is not None
    )


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Ids as text, special tokens left out but for emojis, spaces as they are."""
    kept = list(ids)
    emojis = special_emojis(tokenizer)
    if emojis:
        hidden = set(tokenizer.all_special_ids) - set(emojis)
        kept = [token for token in kept if token not in hidden]
    return tokenizer.decode(
        kept, skip_special_tokens=not emojis, clean_up_tokenization_spaces=False
    )


def _check_context(network: Any, wanted: int) -> None:
    limit = getattr(network.config, "max_position_embeddings", None)
    if limit is not None and wanted > limit:
        raise ModelError(
            f"prompt and answer need {wanted} tokens, the model's context holds {limit}; "
            "lower max_new_tokens"
        )
