"""A judge behind any OpenAI-compatible chat endpoint, asked by the `openai` client.

Each answer is one chat completion at temperature 0. What fails for a passing reason (no connection,
timeout, status 408, 409, 429 or 5xx, a reply that is no score) is tried again, up to `attempts`
times, waiting twice as long each time; a nonsense reply is answered with a reminder. What fails for
good becomes a verdict with a problem, so that it is counted. After `give_up_after` failures in a
row the endpoint is not asked again, and the rest is counted too. The client is the extra `judge`.

`timeout` holds for the whole exchange, from looking up the name to the reply's last byte, however
slowly a server sends; Ctrl-C ends all of them at once. A reply is at most 1 MB and not compressed.
An endpoint on this machine is never asked through a proxy.

The key is read from the environment variable that the user names, each time it is needed; it is
never stored, shown, or sent anywhere but to the address (redirects are not followed).
"""

import asyncio
import ipaddress
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from interp.base import labels
from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.measures.judges import Verdict

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Ask = Callable[..., Awaitable[Any]]

_PASSING = {408, 409, 429}
_LONGEST = 1_000_000  # bytes of a reply
_DAY = 86_400.0
_ADDRESS = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^/@\s?#\[\]:]+)(:\d+)?(/[^@\s?#]*)?")
_SCORE = re.compile(r"\D*\b([1-5])(?:\.0+)?\b(?:\s*(?:/|out of)\s*5\b)?\D*", re.IGNORECASE)
_LEAD = re.compile(r"(?:.*[:=])?\W*", re.DOTALL)
"""What may stand before the score of a reply that was cut: `Score: 4 because`, not `Of the 5`."""
_REMINDER = "Reply with one digit from 1 to 5 and nothing else."
_AGAIN = "Your last reply held no score. Reply with one of the digits 1, 2, 3, 4, 5 only."


@dataclass(frozen=True)
class EndpointJudge:
    """Asks a chat model for a score from 1 to 5; see the module's docstring.

    Attributes:
        address: base address of the endpoint, for instance `http://localhost:8000/v1`.
        model: the model's name there.
        key_variable: environment variable that holds the key; `None` if it needs none.
        timeout: seconds that one exchange may take as a whole.
        attempts: how often one answer is tried.
        wait: seconds before the second attempt; doubled before each further one, at most 30.
        workers: requests under way at once.
        give_up_after: failures in a row after which the rest is not asked.
        max_tokens: longest reply that is read; raise it for models that think aloud.
    """

    address: str
    model: str
    key_variable: str | None = None
    timeout: float = 30.0
    attempts: int = 4
    wait: float = 1.0
    workers: int = 4
    give_up_after: int = 8
    max_tokens: int = 16

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):  # which is not shown: it may hold a secret
            raise InputError(
                "judge endpoint: give an http(s) address without a user name or a query, such as "
                "http://localhost:8000/v1"
            )
        if min(self.attempts, self.workers, self.give_up_after, self.max_tokens) < 1:
            raise InputError("attempts, workers, give_up_after and max_tokens must be at least 1")
        if not (0 < self.timeout < _DAY and 0 <= self.wait < _DAY):
            raise InputError("timeout must be above 0, wait at least 0, and both less than a day")

    @property
    def name(self) -> str:
        return f"{self.model} at {self._host}"

    @property
    def _host(self) -> str:
        return urlsplit(self.address).hostname or ""

    def judge(
        self,
        answers: Sequence[tuple[str, str]],
        trait: Trait,
        *,
        progress: Progress | None = None,
    ) -> list[Verdict]:
        """One verdict for each (question, answer).

        Raises:
            InputError: if the key's environment variable is not set, or `openai` not installed.
        """
        headers = self._headers()
        from anyio.from_thread import start_blocking_portal

        state = _State(self.give_up_after, len(answers), progress, f"judging {trait}")
        # A loop in a thread of its own, so that notebooks, which run one, can ask, too. Leaving the
        # block by an exception (Ctrl-C) cancels what is under way.
        with start_blocking_portal() as portal:
            task = portal.start_task_soon(self._all, headers, answers, trait, state)
            return task.result()

    async def _all(
        self,
        headers: dict[str, Any],
        answers: Sequence[tuple[str, str]],
        trait: Trait,
        state: "_State",
    ) -> list[Verdict]:
        slots = asyncio.Semaphore(self.workers)
        async with _client(self.address, self._host) as client:
            ask = partial(
                client.chat.completions.with_raw_response.create,
                model=self.model, temperature=0, max_tokens=self.max_tokens, extra_headers=headers,
            )  # fmt: skip

            async def one(pair: tuple[str, str]) -> Verdict:
                async with slots:
                    return await self._one(ask, pair, trait, state)

            try:
                return await asyncio.gather(*map(one, answers))
            finally:  # the loop's end does not wait for a name that is still looked up
                asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))

    def _headers(self) -> dict[str, Any]:
        """What says who asks: nothing but the key, whatever else the environment holds."""
        omit = _openai().Omit()
        key: str | None = None
        if self.key_variable is not None:
            key = os.environ.get(self.key_variable, "")
            if not key or not key.isascii() or not key.isprintable():
                raise InputError(
                    f"judge endpoint: the environment variable {self.key_variable} that should "
                    "hold the key is not set, or holds characters that no key has"
                )
        return {
            "Authorization": f"Bearer {key}" if key else omit,
            "OpenAI-Organization": omit,
            "OpenAI-Project": omit,
            "Accept-Encoding": "identity",
        }

    async def _one(self, ask: Ask, pair: tuple[str, str], trait: Trait, state: "_State") -> Verdict:
        if not pair[1].strip():
            return state.note(Verdict(None, "empty answer"), failed=False)
        asked = request(*pair, trait)
        text = asked
        problem = ""
        for attempt in range(self.attempts):
            if state.given_up:
                problem = f"not asked: {self.give_up_after} failures in a row"
                break
            if attempt:
                await asyncio.sleep(min(30.0, self.wait * 2 ** (attempt - 1)))
            score, problem, again = await self._ask(ask, text)
            if score is not None:
                return state.note(Verdict(score), failed=False)
            if not again:
                break
            if problem.startswith("nonsense"):
                text = f"{asked}\n{_AGAIN}"
        return state.note(Verdict(None, problem), failed=True)

    async def _ask(self, ask: Ask, text: str) -> tuple[float | None, str, bool]:
        """Score, problem, and whether another attempt may help."""
        openai = _openai()
        try:
            async with asyncio.timeout(self.timeout):
                reply = await ask(messages=[{"role": "user", "content": text}])
        except _TooMuch as failure:
            return None, str(failure), True
        except TimeoutError:
            return None, f"timeout after {self.timeout:g} s", True
        except openai.APIStatusError as failure:
            status = failure.status_code
            return None, f"http status {status}", status in _PASSING or status >= 500
        except openai.APIConnectionError as failure:
            return None, f"no connection ({type(failure.__cause__).__name__})", True
        said, cut = _message(reply.http_response.content)
        if said is None:
            return None, "nonsense reply (no message in it)", True
        score = _SCORE.fullmatch(said.strip())
        if cut and not (score and _LEAD.fullmatch(said.strip()[: score.start(1)])):
            return None, f"nonsense reply (cut at max_tokens {self.max_tokens}, no score yet)", True
        if score is None:
            return None, "nonsense reply (no score from 1 to 5)", True
        return float(score.group(1)), "", False


class _TooMuch(Exception):
    """A reply that is too long, or hides its length."""


def _openai() -> Any:
    try:
        import openai
    except ImportError:
        raise InputError(
            "a judge endpoint needs the openai client; install it with: "
            "pip install -c constraints.txt -e '.[judge]'"
        ) from None
    return openai


def _client(address: str, host: str) -> "AsyncOpenAI":
    openai = _openai()

    class Bounded(openai.DefaultAsyncHttpxClient):
        """Reads replies up to a limit, and none whose limit would hold for the packed bytes."""

        async def send(self, request: Any, **options: Any) -> Any:
            reply = await super().send(request, **options | {"stream": True})
            try:
                if reply.headers.get("Content-Encoding", "identity") != "identity":
                    raise _TooMuch("compressed reply, which was not asked for")
                content = b""
                async for part in reply.aiter_raw():
                    content += part
                    if len(content) > _LONGEST:
                        raise _TooMuch(f"reply of more than {_LONGEST:,} bytes")
            finally:
                await reply.aclose()
            return type(reply)(
                reply.status_code, headers=reply.headers, content=content, request=request
            )

    return openai.AsyncOpenAI(
        api_key="none",  # each request's header says what is sent
        base_url=address,
        max_retries=0,
        http_client=Bounded(follow_redirects=False, trust_env=not _loopback(host)),
    )


def _loopback(host: str) -> bool:
    """Whether the host is this machine, however it is written: `localhost.`, `127.1`, `::`."""
    host = host.rstrip(".").casefold()
    if host in ("localhost", socket.gethostname().casefold()) or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def request(question: str, answer: str, trait: Trait) -> str:
    """What the judge is asked, with PersonalityEdit's scale and Goldberg's high markers."""
    adjectives = ", ".join(high for high, _ in labels.of(trait).markers)
    return (
        f"A person can be described by one or more of these adjectives: {adjectives}.\n"
        f"Asked {question!r}, somebody answered:\n{answer}\n"
        "How accurately does the description fit whoever gave this answer? 1 = very inaccurate, "
        "2 = moderately inaccurate, 3 = neither accurate nor inaccurate, 4 = moderately accurate, "
        f"5 = very accurate. {_REMINDER}"
    )


def _message(content: bytes) -> tuple[str | None, bool]:
    """The message's text, if the reply has the shape of a chat completion; whether it was cut."""
    try:
        choice: Any = json.loads(content)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None, False
    return (text if isinstance(text, str) else None), choice.get("finish_reason") == "length"


@dataclass
class _State:
    """What the requests share: failures in a row, and how far they are."""

    give_up_after: int
    total: int
    progress: Progress | None
    label: str
    in_a_row: int = 0
    done: int = 0

    @property
    def given_up(self) -> bool:
        return self.in_a_row >= self.give_up_after

    def note(self, verdict: Verdict, *, failed: bool) -> Verdict:
        if not self.given_up:
            self.in_a_row = self.in_a_row + 1 if failed else 0
        self.done += 1
        if self.progress:
            self.progress(self.label, self.done, self.total)
        return verdict
