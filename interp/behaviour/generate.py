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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TopPLogitsWarper,
)

from interp import memory
from interp.devices import input_device
from interp.errors import InputError, ModelError
from interp.models.tokens import ChatFormat, decode, pad, pad_id

Progress = Callable[[str, int, int], None]
Under = Callable[[list[int]], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        max_new_tokens: where an answer is cut if it has not ended.
        temperature: 0 is greedy.
        top_p: nucleus; 1 keeps every token.
        seed: of the noise; prompt `i` uses a stream of its own derived from it.
        batch_size: prompts at a time; fewer where memory does not allow it (see `interp.memory`).
    """

    max_new_tokens: int = 96
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.batch_size < 1:
            raise InputError("max_new_tokens and batch_size must be at least 1")
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise InputError("temperature must be at least 0 and finite, and top_p in (0, 1]")


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
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    ended: bool


def generate(
    model: Any,
    form: ChatFormat,
    questions: Sequence[tuple[str, str]],
    sampling: Sampling = Sampling(),
    *,
    streams: Sequence[int] | None = None,
    under: Under | None = None,
    progress: Progress | None = None,
    label: str = "answers",
) -> list[Response]:
    """Sample one answer for each `(question, topic)`.

    Args:
        model: a `TransformerBridge` (or a Hugging Face causal model).
        form: how questions become ids.
        questions: pairs of question and topic; repeat a question for several answers to it.
        sampling: see `Sampling`.
        streams: which stream of noise each prompt draws from; its place in the list if left out.
        under: opened around each batch with the numbers of its prompts, for models that treat every
            row in a way of its own.
        progress: called with `(label, done, total)`.
        label: what the progress is called.

    Raises:
        InputError: if there is no question, or streams do not fit.
        ModelError: if prompt and answer do not fit the model's context.
        OutOfMemoryError: if one prompt at a time does not fit into memory.
    """
    if not questions:
        raise InputError("no questions to answer; is the data empty for this trait?")
    network = getattr(model, "original_model", model)
    numbers = list(range(len(questions)) if streams is None else streams)
    if len(numbers) != len(questions):
        raise InputError(f"{len(questions)} questions but {len(numbers)} streams; give one each")
    known = {question: form.prompt_ids(question) for question in dict(questions)}
    prompts = [known[question] for question, _ in questions]
    longest = max(map(len, prompts)) + sampling.max_new_tokens
    _check_context(network, longest)
    stops = _stops(network, form)
    known_ids = torch.tensor(sorted(set(form.tokenizer.get_vocab().values())))

    def sample(rows: list[int]) -> list[list[int]]:
        with under(rows) if under else nullcontext():
            return _sample(
                network, [prompts[i] for i in rows],
                _Draw([numbers[i] for i in rows], sampling, known_ids),
                stops, pad_id(form.tokenizer),
            )  # fmt: skip

    responses: dict[int, Response] = {}
    batches = memory.in_batches(
        len(prompts), sampling.batch_size, sample, what=label, device=input_device(network),
        costs=[len(prompt) for prompt in prompts], progress=progress, unit="answer",
        each=memory.forward_bytes(network, longest, logits=2, cached=True),
    )  # fmt: skip
    for rows, answers in batches:
        for index, ids in zip(rows, answers, strict=True):
            responses[index] = _response(form, *questions[index], prompts[index], ids, stops)
    return [responses[index] for index in range(len(prompts))]


@torch.no_grad()
def _sample(
    network: Any, prompts: list[list[int]], draw: "_Draw", stops: set[int], fill: int
) -> list[list[int]]:
    batch = pad(prompts, fill).to(input_device(network))
    with _own_settings(network):
        whole = network.generate(
            input_ids=batch.tokens,
            attention_mask=batch.attention_mask.long(),
            max_new_tokens=draw.how.max_new_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=fill,
            eos_token_id=sorted(stops),
            logits_processor=LogitsProcessorList([draw]),
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


class _Draw(LogitsProcessor):
    """Adds Gumbel noise to logits / T, from one stream per row; greedy at temperature 0."""

    def __init__(self, streams: list[int], how: Sampling, known: Tensor) -> None:
        self.how, self.known = how, known
        self.nucleus = TopPLogitsWarper(how.top_p) if how.top_p < 1 else None
        self.generators = [_generator(how.seed, stream) for stream in streams]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if scores.isnan().any():
            raise ModelError("the model's logits are no numbers (NaN); load it in float32")
        scores = scores.float()
        if len(self.known) < scores.shape[1]:
            unknown = torch.ones(scores.shape[1], dtype=torch.bool, device=scores.device)
            unknown[self.known.to(scores.device)] = False
            scores = scores.masked_fill(unknown, -torch.inf)
        if self.how.temperature == 0:
            return scores
        scores = scores / self.how.temperature
        if self.nucleus is not None:
            scores = self.nucleus(input_ids, scores)
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
        tiny = torch.finfo(uniform.dtype).tiny
        return scores - torch.log(-torch.log(uniform.clamp_min(tiny))).to(scores.device)


def _stops(network: Any, form: ChatFormat) -> set[int]:
    """Ids that end an answer: the format's, and those that the model itself declares."""
    own = getattr(network.generation_config, "eos_token_id", None)
    return {*form.stop_ids, *([own] if isinstance(own, int) else own or ())}


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


def _check_context(network: Any, wanted: int) -> None:
    limit = getattr(network.config, "max_position_embeddings", None)
    if limit is not None and wanted > limit:
        raise ModelError(
            f"prompt and answer need {wanted} tokens, the model's context holds {limit}; "
            "lower max_new_tokens"
        )
