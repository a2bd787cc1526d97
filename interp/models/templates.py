"""Chat templates as they are rendered: in transformers' sandbox, the same today and tomorrow.

A template may ask for today's date; it is told one that never changes (the one that Llama 3's own
template falls back to), which is part of the template's hash. Where a template can leave out its
model's thinking, it is told to. Of several named templates `default` is taken.
"""

import datetime
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from transformers.utils.chat_template_utils import _compile_jinja_template

from interp.base.errors import TokenizerError, said
from interp.base.files import sha256_text

DATE = datetime.datetime(2024, 7, 26)
_ASKS_DATE = re.compile(r"\bstrftime_now\b|\bdatetime\b")
_SWITCHES = {
    "enable_thinking": re.compile(r"\benable_thinking\b"),
    "thinking": re.compile(r"\b(?:if|elif|and|or|not)\s+thinking\b"),
}


@dataclass(frozen=True)
class Template:
    """One chat template and what it is told.

    Attributes:
        text: its source.
        name: whose it is, for errors.
        among: names of the templates that it was taken from.
    """

    text: str
    name: str
    among: tuple[str, ...] = ()

    @classmethod
    def of(cls, tokenizer: Any) -> "Template":
        """The template that a tokenizer brings.

        Raises:
            TokenizerError: if it has none, or several and no `default`.
        """
        found, name = tokenizer.chat_template, str(tokenizer.name_or_path)
        among = tuple(map(str, found)) if isinstance(found, dict) else ()
        if isinstance(found, dict):
            if "default" not in found:
                raise TokenizerError(
                    f"{name}: has chat templates named {', '.join(among)}, none of them "
                    "default; set tokenizer.chat_template to one of them"
                )
            found = found["default"]
        if not found:
            raise TokenizerError(
                f"{name}: the tokenizer has no chat template; use the prompt format 'plain', or "
                "put a chat_template into its tokenizer_config.json"
            )
        if not isinstance(found, str):
            raise TokenizerError(f"{name}: chat_template is {type(found).__name__}, not text")
        return cls(found, name, among)

    @property
    def notes(self) -> list[str]:
        """What a user should know of how it is used."""
        named = f"of the chat templates {', '.join(self.among)} `default` is used"
        told = [f"the chat template is told {what} = {value}" for what, value in self.told.items()]
        return [named, *told] if self.among else told

    @property
    def told(self) -> dict[str, Any]:
        """The date, and what is switched off, where the template asks: for a record."""
        dated = {"date": DATE.date().isoformat()} if _ASKS_DATE.search(self.text) else {}
        return dated | {name: False for name, asks in _SWITCHES.items() if asks.search(self.text)}

    @property
    def sha256(self) -> str:
        """Hash of the source, and of what it is told where it asks for something."""
        return sha256_text(self.text + (f"\n{self.told}" if self.told else ""))

    def render(self, tokenizer: Any, turn: list[dict[str, str]], *, is_open: bool) -> str:
        """The text of a conversation; an open one ends where the assistant begins to answer.

        Raises:
            TokenizerError: if the template fails.
        """
        told = {name: value for name, value in self.told.items() if name != "date"}
        try:
            if "date" not in self.told:
                plain: str = tokenizer.apply_chat_template(
                    turn,
                    chat_template=self.text,
                    tokenize=False,
                    add_generation_prompt=is_open,
                    **told,
                )
                return plain
            made: str = _compile_jinja_template(self.text).render(
                messages=turn,
                add_generation_prompt=is_open,
                strftime_now=DATE.strftime,
                datetime=_FROZEN,
                **tokenizer.special_tokens_map,
                **told,
            )
            return made
        except Exception as problem:  # a template is a program: it can raise anything
            raise TokenizerError(
                f"{self.name}: the chat template fails ({said(problem)}); mend it in "
                "tokenizer_config.json, or use the prompt format 'plain'"
            ) from None


def _now(*_: Any) -> datetime.datetime:
    return DATE


_FROZEN = SimpleNamespace(
    now=_now,
    utcnow=_now,
    today=_now,
    timedelta=datetime.timedelta,
    datetime=SimpleNamespace(now=_now, utcnow=_now, today=_now),
    date=SimpleNamespace(today=DATE.date),
)
