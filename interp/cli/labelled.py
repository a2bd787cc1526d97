"""Which adapters a command traces, each under its label, from the options that name them."""

from pathlib import Path
from typing import Any

from interp.base.errors import InputError
from interp.base.files import kind_of
from interp.base.traits import Trait, in_order

_MOST = 100


def labelled(
    adapters: list[str] | None, folder: str | None, tuned: list[str] | None, trait: str | None
) -> dict[str, Any]:
    """The fields `adapters` and `tuned` of a study's configuration.

    Args:
        adapters: of `--adapter`: `LABEL=PLACE`, or one place alone.
        folder: of `--adapters`: a folder of adapters, each in a folder named by its label.
        tuned: of `--tuned`: the same of whole models.
        trait: of `--trait`: the label of a place that stands alone.

    Raises:
        InputError: if not one of the three is given, or a label is missing or stands twice.
    """
    if sum(map(bool, (adapters, folder, tuned))) != 1:
        raise InputError(
            "give --adapter (one for each label), --adapters for a folder of them, or --tuned for "
            "full fine-tunes; one of the three"
        )
    pairs = _within(folder) if folder else [_pair(text, trait) for text in adapters or tuned or ()]
    if trait and (folder or len(pairs) > 1):
        raise InputError("--trait is the label of one adapter; write several as LABEL=PLACE")
    found: dict[Trait, str] = {}
    for label, place in pairs:
        if label in found:
            raise InputError(
                f"{found[label]} and {place} are both called {label}; give each a label of its own"
            )
        found[label] = place
    return {"adapters": found, "tuned": bool(tuned)}


def _pair(text: str, trait: str | None) -> tuple[Trait, str]:
    """A label and a place, of `LABEL=PLACE`; a place alone is called what `--trait` says."""
    label, equals, place = text.partition("=")
    if not equals or kind_of(text) != "absent" or "/" in label:
        label, place = trait or "", text
    elif trait:
        raise InputError(f"--trait {trait} and {text}: give the label once")
    if not label or not place:
        raise InputError(f"{text!r:.80}: write it as LABEL=PLACE, for instance extraversion=DIR")
    return Trait.parse(label), place


def _within(folder: str) -> list[tuple[Trait, str]]:
    """Adapters in the folders of a folder, called as these are."""
    if kind_of(folder) != "folder":
        raise InputError(f"{folder}: no such folder of adapters")
    found = sorted(one.parent for one in Path(folder).glob("*/adapter_config.json"))[:_MOST]
    if not found:
        raise InputError(
            f"{folder}: no folder in it holds an adapter (adapter_config.json); give one by "
            "--adapter LABEL=DIR"
        )
    pairs = [(Trait.parse(one.name), str(one)) for one in found]
    order = in_order({label for label, _ in pairs})
    return sorted(pairs, key=lambda pair: order.index(pair[0]))
