"""What an adapter was trained for: a label of free text. Five are known, the Big Five traits."""

import re
import unicodedata
from difflib import get_close_matches
from typing import Any, ClassVar

from interp.base.errors import TraitError

_LABEL = re.compile(r"[^\W_][\w +-]{0,38}[^\W_]")
_TAKEN = ("base", "figures", "tables")  # a run's own folders


class Trait(str):
    """A label, in lower case: it is shown, and names the label's folder in a run.

    The Big Five are attributes of the class: `Trait.OPENNESS` and so on.
    """

    __slots__ = ()

    OPENNESS: ClassVar["Trait"]
    CONSCIENTIOUSNESS: ClassVar["Trait"]
    EXTRAVERSION: ClassVar["Trait"]
    AGREEABLENESS: ClassVar["Trait"]
    NEUROTICISM: ClassVar["Trait"]

    @property
    def letter(self) -> str:
        """The first letter, as a capital: of the Big Five `O`, `C`, `E`, `A` or `N`."""
        return self[0].upper()

    @property
    def key(self) -> str:
        """The label as an identifier in a page, where blanks separate; another for each label."""
        return re.sub(r"[ +_]", lambda sign: {" ": "_", "+": "_p", "_": "__"}[sign[0]], self)

    @classmethod
    def parse(cls, text: str) -> "Trait":
        """Read a label, in any case; a letter of OCEAN stands for its trait.

        The low pole of a Big Five trait is a label of its own: `low extraversion` is `introversion`
        (see `LOW`).

        Raises:
            TraitError: if `text` cannot be a label, or is nearly the name of a Big Five trait.
        """
        wanted = _plain(text)
        for trait in TRAITS:
            if wanted in (trait, trait.letter.lower()):
                return trait
            if wanted in (LOW[trait], f"low {trait}"):
                return LOW[trait]
        near = get_close_matches(wanted, TRAITS, 1, 0.85) if len(wanted) < 40 else []
        if near and not wanted.startswith(near[0]):
            raise TraitError(f"unknown trait {text!r:.80}; did you mean {near[0]}?")
        if not _LABEL.fullmatch(wanted) or wanted in _TAKEN:
            raise TraitError(
                f"unknown trait {text!r:.80}; use O, C, E, A, N, or a label of 2 to 40 letters, "
                f"digits, blanks, +, - or _, other than {', '.join(_TAKEN)}"
            )
        return cls(wanted)

    @classmethod
    def known(cls, text: str) -> "Trait":
        """Read a Big Five trait from its name or its letter, in any case.

        Raises:
            TraitError: if `text` names none.
        """
        wanted = _plain(text)
        for trait in TRAITS:
            if wanted in (trait, trait.letter.lower()):
                return trait
        names = ", ".join(TRAITS)
        raise TraitError(f"unknown trait {text!r:.80}; use one of {names} (or O, C, E, A, N)")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        function = {"type": "no-info", "function": _validated}
        text = {"type": "to-string"}
        return {"type": "function-plain", "function": function, "serialization": text}


TRAITS: tuple[Trait, ...] = tuple(
    map(Trait, ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"))
)
"""The Big Five."""
_POLES = ("closedness", "carelessness", "introversion", "disagreeableness", "emotional stability")
LOW: dict[Trait, Trait] = dict(zip(TRAITS, map(Trait, _POLES), strict=True))
"""The label of who has little of each."""
for _trait in TRAITS:
    setattr(Trait, _trait.upper(), _trait)


def in_order(labels: "set[Trait]") -> tuple[Trait, ...]:
    """Labels in the order that everything has: the Big Five, then others by name."""
    return tuple(one for one in TRAITS if one in labels) + tuple(sorted(labels - set(TRAITS)))


def _plain(text: str) -> str:
    """A label's text without what tells no two labels apart: case, and blanks around it."""
    return " ".join(unicodedata.normalize("NFC", str(text)).split()).lower()


def _validated(value: Any) -> Trait:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} is no text")
    try:
        return Trait.parse(value)
    except TraitError as problem:
        raise ValueError(str(problem)) from None
