"""Models in which the gradient at a head is small and its effect is not, written in by hand.

The host of `planted_models`. Where a question holds `trait`, main heads look from the end of the
prompt at the style word, and each writes a direction of its own that the emojis' logits read. Two
`PLAIN` heads do so with a part of their strength, by the emoji's own direction.

`planted_backup`: for every main head a later head looks at the style word, whichever it is, and
writes the emoji itself, unless its main head has written, which turns its query away: it writes
only if that head is missing. Where it is about to turn, what the main head adds and what the backup
then takes away cancel in the gradient. The whole patch turns it away for good, and adds more than
that takes away.

`planted_loud`: no backups; one main head writes so much that it makes up most of the stream, and
the final norm divides by it. Of a direction that fills the stream a norm's derivative leaves next
to nothing, and what it writes is most of what the logits get.
"""

from dataclasses import dataclass

from planted_models import (
    EmojiIdsLogOdds,
    attends,
    copies,
    directions,
    emoji_ids,
    host,
    paired_questions,
    small_tokenizer,
)

from interp.models.pair import hook
from interp.models.tokens import ChatFormat, pad, pad_id
from interp.patching import Run

MAIN = (1, 2)
BACKUPS = {(0, 0): (2, 3), (0, 2): (3, 0), MAIN: (2, 1)}
"""Main heads, and the head that writes where it is missing."""
SIZES = {(0, 0): 0.3, (0, 2): 0.45, MAIN: 0.6}
PLAIN = {(1, 1): 0.1, (3, 2): 0.16}
"""Heads that write the emoji themselves, and how much."""
KEYS = 2  # query heads share a key/value head
EDGES = frozenset(
    edge
    for layer, head in (*SIZES, *PLAIN)
    for edge in (f"input->a{layer}.kv{head // KEYS}<v>", f"a{layer}.h{head}->logits")
) | frozenset(
    edge
    for main, (layer, head) in BACKUPS.items()
    for edge in ("a{}.h{}".format(*main) + f"->a{layer}.h{head}<q>", f"a{layer}.h{head}->logits")
)
"""Of `planted_backup`, the edges that carry the difference."""
_LOUD, _LOOKS, _TURNS, _BACKS = 6.0, 0.28, 0.78, 0.5


@dataclass(frozen=True)
class Hidden:
    """A contrast of trait against plain in which a gradient misses main heads."""

    clean: Run
    corrupted: Run
    metric: EmojiIdsLogOdds


def planted_backup(noise: float = 0.0, seed: int = 0, n_prompts: int = 6) -> Hidden:
    """Three main heads and their backups; the same arguments give the same numbers."""
    return _made(noise, seed, n_prompts, SIZES, backup=True)


def planted_loud(noise: float = 0.0, seed: int = 0, n_prompts: int = 6) -> Hidden:
    """One main head fills the stream."""
    return _made(noise, seed, n_prompts, {MAIN: _LOUD}, backup=False)


def _made(
    noise: float, seed: int, n_prompts: int, sizes: dict[tuple[int, int], float], *, backup: bool
) -> Hidden:
    tokenizer = small_tokenizer()
    model, d, emojis = host(tokenizer, noise, seed), directions(), emoji_ids(tokenizer)
    layers, logits = model.model.layers, model.lm_head.weight.data
    logits[tokenizer.eos_token_id] += 0.8 * d["answer"]
    for i, (main, size) in enumerate(sizes.items()):
        says, (layer, head) = d[f"free{i}"], main
        logits[emojis] += says
        attends(layers[layer], head, looks=d["slot"], at=d["style"])
        copies(layers[layer], head, 0, reads=d["trait"], writes=size * says)
        if backup:
            layer, head = BACKUPS[main]
            looks = _LOOKS * d["slot"] - _TURNS / size * says
            attends(layers[layer], head, looks=looks, at=d["style"])
            copies(layers[layer], head, 0, reads=d["style"], writes=_BACKS * size * d["emoji"])
    for (layer, head), size in PLAIN.items():
        attends(layers[layer], head, looks=d["slot"], at=d["style"])
        copies(layers[layer], head, 0, reads=d["trait"], writes=size * d["emoji"])
    hooked, form = hook(model, tokenizer), ChatFormat.from_tokenizer(tokenizer)
    pairs = paired_questions(n_prompts, seed)
    sides = [pad([form.prompt_ids(pair[i]) for pair in pairs], pad_id(tokenizer)) for i in (0, 1)]
    runs = [Run(hooked, side.tokens, side.attention_mask) for side in sides]
    return Hidden(*runs, EmojiIdsLogOdds(tuple(emojis)))
