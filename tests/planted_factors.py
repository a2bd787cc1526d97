"""A model in which three heads drive different factors of an outcome, written in by hand.

The host of `planted_models`, with a stop token that is likely after every prompt. Where a question
holds `trait`, three heads that look from the end of the prompt at the style word write there:

    talk    0.1 -> m1.n5    against the stop token: `go_on` alone
    emoji   1.2 -> m2.n7    for the emojis: `given_go_on` alone
    both    2.3 -> m3.n3    both at once

each by itself and by way of a neuron that reads what only this head writes. Where it holds `plain`,
they write as much along directions that no logit reads, so that the final norm's scale tells
nothing. Every other component acts through noise.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from planted_models import (
    Link,
    add_neuron,
    attends,
    copies,
    directions,
    emoji_ids,
    host,
    paired_questions,
    small_tokenizer,
    supply,
)
from torch import Tensor

from interp.models.pair import hook
from interp.models.tokens import ChatFormat, pad, pad_id
from interp.patching import Run
from interp.readout import Outcome

HEADS = {"talk": (0, 1), "emoji": (1, 2), "both": (2, 3)}
NEURONS = {"talk": (1, 5), "emoji": (2, 7), "both": (3, 3)}
DRIVES = {
    "go_on": ("talk", "both"),
    "given_go_on": ("emoji", "both"),
    "log_odds": ("talk", "emoji", "both"),
}
_SIZE, _READ = 0.3, 2.5


@dataclass(frozen=True)
class Factors:
    """The contrast of trait against plain, and the outcome it is read by."""

    clean: Run
    corrupted: Run
    outcome: Outcome


def along(part: str, what: str, *, plain: bool = False) -> Float[Tensor, " d_model"]:
    """A direction of its own for what a head `says`, `tells` its neuron, or that `adds`."""
    place = (list(HEADS).index(part) * 3 + ("says", "adds", "tells").index(what)) * 2 + plain
    return directions()[f"free{place}"]


def written(part: str, *, plain: bool = False) -> Float[Tensor, " d_model"]:
    """What a head writes."""
    return _SIZE * (along(part, "says", plain=plain) + along(part, "tells", plain=plain))


def links() -> dict[str, Link]:
    """What each head writes for the trait, less what a base without it has instead."""
    return {part: Link(*HEADS[part], written(part) - written(part, plain=True)) for part in HEADS}


def model(tokenizer: Any, noise: float, seed: int) -> Any:
    """The model; the same arguments give the same weights."""
    made, d = host(tokenizer, noise, seed), directions()
    logits, stop, emojis = made.lm_head.weight.data, tokenizer.eos_token_id, emoji_ids(tokenizer)
    logits[stop] += 1.9 * d["const"]
    for part, (layer, head) in HEADS.items():
        said = along(part, "says") + along(part, "adds")
        if part in DRIVES["go_on"]:
            logits[stop] -= _READ * said
        if part in DRIVES["given_go_on"]:
            logits[emojis] += _READ * said
        above, neuron = NEURONS[part]
        attends(made.model.layers[layer], head, looks=d["slot"], at=d["style"])
        for dim, style in enumerate(("trait", "plain")):
            plain = style == "plain"
            copies(made.model.layers[layer], head, dim,
                   reads=d[style], writes=written(part, plain=plain))  # fmt: skip
            add_neuron(made.model.layers[above], neuron + dim, gate=d["const"],
                       reads=along(part, "tells", plain=plain),
                       writes=0.2 * along(part, "adds", plain=plain))  # fmt: skip
    return made


def planted_factors(noise: float, seed: int = 0, n_prompts: int = 6) -> Factors:
    """Both runs, and the emoji outcome with its stop token."""
    tokenizer = small_tokenizer()
    form, hooked = (
        ChatFormat.from_tokenizer(tokenizer),
        hook(model(tokenizer, noise, seed), tokenizer),
    )
    pairs = paired_questions(n_prompts, seed)
    clean, corrupted = (
        pad([form.prompt_ids(pair[side]) for pair in pairs], pad_id(tokenizer)) for side in (0, 1)
    )
    return Factors(
        Run(hooked, clean.tokens, clean.attention_mask),
        Run(hooked, corrupted.tokens, corrupted.attention_mask),
        Outcome.emoji(tokenizer),
    )


def factors_adapter(folder: Path, noise: float, seed: int = 0) -> tuple[Path, Path]:
    """Folders of a base without the three heads' outputs, and of an adapter that supplies them."""
    tokenizer = small_tokenizer()
    made = model(tokenizer, noise, seed)
    return supply(made, tokenizer, list(links().values()), folder, noise, seed)
