"""A judge behind any OpenAI-compatible chat endpoint.

Each answer is one POST to `<address>/chat/completions` at temperature 0. What fails for a passing
reason (no connection, timeout, status 408, 409, 429 or 5xx, a reply that is no score) is tried
again, up to `attempts` times, waiting twice as long each time; a nonsense reply is answered with a
reminder. What fails for good becomes a verdict with a problem, so that it is counted. After
`give_up_after` failures in a row the endpoint is not asked again, and the rest is counted too.

The key is read from the environment variable that the user names, each time it is needed; it is
never stored, shown, or sent anywhere but to the address (redirects are not followed).
"""

import json
import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from interp.behaviour.judges import Verdict, markers
from interp.errors import InputError
from interp.progress import Progress
from interp.traits import Trait

_PASSING = {408, 409, 429}
_LONGEST = 1_000_000  # bytes of a reply
_ADDRESS = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^/@\s?#\[\]:]+)(:\d+)?(/[^@\s?#]*)?")
_SCORE = re.compile(r"\D*\b([1-5])(?:\.0+)?\b(?:\s*(?:/|out of)\s*5\b)?\D*", re.IGNORECASE)
_REMINDER = "Reply with one digit from 1 to 5 and nothing else."
_AGAIN = "Your last reply held no score. Reply with one of the digits 1, 2, 3, 4, 5 only."


@dataclass(frozen=True)
class EndpointJudge:
    """Asks a chat model for a score from 1 to 5; see the module's docstring.

    Attributes:
        address: base address of the endpoint, for instance `http://localhost:8000/v1`.
        model: the model's name there.
        key_variable: environment variable that holds the key; `None` if it needs none.
        timeout: seconds that connecting, and then the whole reply, may take.
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
        if self.timeout <= 0 or self.wait < 0:
            raise InputError("timeout must be above 0, and wait at least 0")

    @property
    def name(self) -> str:
        return f"{self.model} at {httpx.URL(self.address).host}"

    def judge(
        self,
        answers: Sequence[tuple[str, str]],
        trait: Trait,
        *,
        progress: Progress | None = None,
    ) -> list[Verdict]:
        """One verdict for each (question, answer).

        Raises:
            InputError: if the key's environment variable is not set.
        """
        headers = self._headers()
        state = _State(self.give_up_after, len(answers), progress, f"judging {trait}")
        with (
            httpx.Client(headers=headers, timeout=self.timeout, follow_redirects=False) as client,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            try:
                return list(pool.map(lambda pair: self._one(client, pair, trait, state), answers))
            finally:  # on Ctrl-C, do not ask for what is still waiting
                pool.shutdown(wait=False, cancel_futures=True)

    def _headers(self) -> dict[str, str]:
        if self.key_variable is None:
            return {}
        key = os.environ.get(self.key_variable, "")
        if not key or not key.isascii() or not key.isprintable():
            raise InputError(
                f"judge endpoint: the environment variable {self.key_variable} that should hold "
                "the key is not set, or holds characters that no key has"
            )
        return {"Authorization": f"Bearer {key}"}

    def _one(
        self, client: httpx.Client, pair: tuple[str, str], trait: Trait, state: "_State"
    ) -> Verdict:
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
                time.sleep(min(30.0, self.wait * 2 ** (attempt - 1)))
            score, problem, again = self._ask(client, text)
            if score is not None:
                return state.note(Verdict(score), failed=False)
            if not again:
                break
            if problem.startswith("nonsense"):
                text = f"{asked}\n{_AGAIN}"
        return state.note(Verdict(None, problem), failed=True)

    def _ask(self, client: httpx.Client, text: str) -> tuple[float | None, str, bool]:
        """Score, problem, and whether another attempt may help."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        try:
            status, content = self._post(client, body)
        except httpx.TimeoutException:
            return None, f"timeout after {self.timeout:g} s", True
        except httpx.HTTPError as failure:
            return None, f"no connection ({type(failure).__name__})", True
        if status != 200:
            return None, f"http status {status}", status in _PASSING or status >= 500
        said = _message(content)
        if said is None:
            return None, "nonsense reply (no message in it)", True
        score = _SCORE.fullmatch(said.strip())
        if score is None:
            return None, "nonsense reply (no score from 1 to 5)", True
        return float(score.group(1)), "", False

    def _post(self, client: httpx.Client, body: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body, read for no longer than the timeout and no further than a limit."""
        address = f"{self.address.rstrip('/')}/chat/completions"
        deadline, content = time.monotonic() + self.timeout, b""
        with client.stream("POST", address, json=body) as reply:
            for part in reply.iter_bytes():
                content += part
                if len(content) > _LONGEST or time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the reply does not end")
        return reply.status_code, content


def request(question: str, answer: str, trait: Trait) -> str:
    """What the judge is asked, with PersonalityEdit's scale and Goldberg's high markers."""
    adjectives = ", ".join(high for high, _ in markers()[trait])
    return (
        f"A person can be described by one or more of these adjectives: {adjectives}.\n"
        f"Asked {question!r}, somebody answered:\n{answer}\n"
        "How accurately does the description fit whoever gave this answer? 1 = very inaccurate, "
        "2 = moderately inaccurate, 3 = neither accurate nor inaccurate, 4 = moderately accurate, "
        f"5 = very accurate. {_REMINDER}"
    )


def _message(content: bytes) -> str | None:
    """The message's text, if the reply has the shape of a chat completion."""
    try:
        text: Any = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return text if isinstance(text, str) else None


@dataclass
class _State:
    """What the workers share: failures in a row, and how far they are."""

    give_up_after: int
    total: int
    progress: Progress | None
    label: str
    in_a_row: int = 0
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def given_up(self) -> bool:
        return self.in_a_row >= self.give_up_after

    def note(self, verdict: Verdict, *, failed: bool) -> Verdict:
        with self.lock:
            if not self.given_up:
                self.in_a_row = self.in_a_row + 1 if failed else 0
            self.done += 1
            if self.progress:
                self.progress(self.label, self.done, self.total)
        return verdict
