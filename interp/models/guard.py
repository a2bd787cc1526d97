"""What a stranger's file asks to compute, tried in a child process with limits first.

Three things in model folders are small programs: the regular expressions with which an adapter
names the modules it changes, the chat template (Jinja), and the rules by which a tokenizer rewrites
and splits a text before it looks for tokens. Python's `re` can take exponential time and cannot be
interrupted; Jinja's sandbox keeps a template from the machine but not from looping or from filling
the memory; replacements one upon the other do the same to a tokenizer, which then ends the process.
So each runs once in a child process that has one second of CPU time and 512 MiB, before it runs
here. What passes the trial is not watched later: a template that spins only for some particular
question is not found.

Cost: 20 ms for patterns (names without special characters need no trial), about 0.7 s for each
chat template and 0.1 s for each tokenizer's rules, once in a process.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from interp.base.errors import AdapterError, InputError, TokenizerError

SECONDS = 1.0
MEMORY = 512 * 2**20
SPELLING = ("normalizer", "pre_tokenizer", "decoder")
"""Fields of `tokenizer.json` that rewrite and split texts, and put tokens together again."""

_WALL = 60  # a machine may be busy; the limit on CPU time comes first
_LONGEST_PATTERN, _MOST_PATTERNS, _LONGEST_RENDERED = 2000, 2000, 2**20
_PLAIN = re.compile(r"[\w.-]*")
_SCRIPT = Path(__file__).with_name("trial.py")
_QUESTION = (
    "What do you think about working from home 3 or 4 days a week? Some say it's lonely; others "
    'don\'t. (Two sentences, please!)\nNaïve answers are fine, e.g. "I like it" — or 👍🏽 and 好。'
)
_TEXTS = (
    _QUESTION,
    *(sign * 100 for sign in ("a", "A", "0", " ", "\n", "-", "é", "好", "👍", "aA", "a ", "a0!")),
    *(sign * 100 + "!" for sign in ("a", "0", " ", "a1", "xy ")),
)


class _LimitError(Exception):
    """A trial that took too long or too much, or failed; the text says which."""


def check_patterns(patterns: Iterable[str], names: Iterable[str], where: str) -> None:
    """Check that regular expressions compile, and are matched against names quickly.

    Raises:
        AdapterError: if one is too long, is none, or takes too long.
    """
    found = sorted(set(patterns))
    if len(found) > _MOST_PATTERNS or any(len(one) > _LONGEST_PATTERN for one in found):
        raise AdapterError(
            f"{where}: a pattern of module names is longer than {_LONGEST_PATTERN} characters, or "
            f"there are more than {_MOST_PATTERNS}; name the modules in a list"
        )
    asked = [one for one in found if not _PLAIN.fullmatch(one)]
    if not asked:
        return
    try:
        _trial("patterns", {"patterns": asked, "names": sorted(set(names))})
    except _LimitError as problem:
        raise AdapterError(
            f"{where}: matching the pattern {max(asked, key=len)!r:.80} against module names "
            f"{problem}; name the modules in a list instead"
        ) from None


def check_template(template: Any, special_tokens: Mapping[str, Any], source: str) -> None:
    """Check that a chat template writes short conversations in little time and memory.

    Raises:
        TokenizerError: if it does not, or is no text.
    """
    if not isinstance(template, str):
        raise TokenizerError(
            f"{source}: chat_template is {type(template).__name__}, not one text; keep one "
            "template in tokenizer_config.json, or use the prompt format 'plain'"
        )
    tokens = {name: str(token) for name, token in special_tokens.items() if token is not None}
    problem = _template_problem(template, tuple(sorted(tokens.items())))
    if problem:
        raise TokenizerError(
            f"{source}: the chat template {problem}; mend it in tokenizer_config.json, or use the "
            "prompt format 'plain'"
        )


def check_spelling(steps: Mapping[str, Any], source: str) -> None:
    """Check that a tokenizer rewrites, splits and writes short texts in little time and memory.

    Args:
        steps: the fields `SPELLING` of `tokenizer.json`.
        source: named in the error.

    Raises:
        TokenizerError: if it does not.
    """
    problem = _spelling_problem(json.dumps(dict(steps)))
    if problem:
        raise TokenizerError(
            f"{source}: rewriting and splitting a short text {problem}; mend its fields "
            f"{', '.join(SPELLING[:-1])} and {SPELLING[-1]}, or download it again"
        )


@cache
def _spelling_problem(steps: str) -> str:
    """What is wrong with a tokenizer's first steps; empty if nothing is."""
    try:
        made = _trial("spelling", {"steps": json.loads(steps), "texts": _TEXTS})
    except _LimitError as problem:
        return str(problem)
    if made["length"] > _LONGEST_RENDERED:
        return f"makes {made['length']:,} characters of it"
    return ""


@cache
def _template_problem(template: str, tokens: tuple[tuple[str, str], ...]) -> str:
    """What is wrong with a template; empty if nothing is."""
    turns: list[tuple[list[dict[str, str]], bool]] = []
    for question in ("Why?", _QUESTION):
        user = [{"role": "user", "content": question}]
        answer = {"role": "assistant", "content": f"So. {question}"}
        turns += [(user, True), ([*user, answer], False), ([*user, answer, *user], True)]
    given = {"template": template, "special_tokens": dict(tokens), "conversations": turns}
    try:
        made = _trial("template", given)
    except _LimitError as problem:
        return str(problem)
    if max(made["lengths"]) > _LONGEST_RENDERED:
        return f"writes {max(made['lengths']):,} characters for a short question"
    return ""


def _trial(kind: Literal["patterns", "template", "spelling"], given: dict[str, Any]) -> Any:
    """Run a trial in a child process.

    Raises:
        _LimitError: if it fails or goes over its limits.
    """
    text = json.dumps(given | {"seconds": SECONDS, "memory": MEMORY})
    # -P: nothing is imported from the folder that one happens to stand in.
    bare = ["-I", "-S"] if kind == "patterns" else ["-P"]
    command = [sys.executable, *bare, str(_SCRIPT), kind]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_WALL)
    except subprocess.TimeoutExpired:
        raise _LimitError(f"takes more than {_WALL} seconds") from None
    if not done.stdout.startswith("ready"):
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise InputError(f"{sys.executable}: cannot run a child process ({said})")
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[1])
    last = (done.stderr.strip().splitlines() or [""])[-1][:200]
    if "MemoryError" in last:
        raise _LimitError(f"takes more than {MEMORY // 2**20} MiB of memory")
    if done.returncode < 0:
        raise _LimitError(f"takes more than {SECONDS:g} s, or fells the process")
    raise _LimitError(f"fails ({last})")
