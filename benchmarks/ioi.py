"""Prompts that ask for the indirect object (Wang et al. 2022), for any tokenizer."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InputError
from interp.models import pad, pad_id
from interp.patching import Run

NAMES = ("Mary", "John", "Tom", "James", "Anna", "Paul", "Alice", "David", "Sarah", "Mark")
PLACES = (("store", "a drink"), ("park", "the ball"), ("school", "a book"), ("office", "the keys"))
PROMPT = "When {} and {} went to the {}, {} gave {} to"


@dataclass(frozen=True)
class Difference:
    """The logit of each prompt's right token less that of its wrong one."""

    right: Tensor
    wrong: Tensor
    name: str = "logit difference"
    unit: str = "logits"

    def of(self, rows: list[int]) -> "Difference":
        """Of some prompts."""
        return Difference(self.right[rows], self.wrong[rows])

    def __call__(self, logits: Tensor) -> Tensor:
        return (logits.gather(1, self.right[:, None]) - logits.gather(1, self.wrong[:, None]))[:, 0]


def couples(names: list[str], count: int) -> list[tuple[str, str]]:
    """Two names for each prompt, never one with itself.

    Raises:
        InputError: if there are no two.
    """
    if len(names) < 2:
        raise InputError("the tokenizer has no two of the names as one token; give prompts")
    n = len(names)
    return [(names[i % n], names[(i + 1 + i // n % (n - 1)) % n]) for i in range(count)]


def indirect_objects(model: TransformerBridge, count: int) -> tuple[Run, Run, Difference]:
    """Pairs of prompts that differ in who gives, so that the other of two names is right."""
    tokenizer = model.tokenizer
    ids = {name: tokenizer(f" {name}", add_special_tokens=False).input_ids for name in NAMES}
    names = [name for name in NAMES if len(ids[name]) == 1]
    sides: tuple[list[list[int]], list[list[int]]] = ([], [])
    answers = []
    for i, (one, two) in enumerate(couples(names, count)):
        place, thing = PLACES[i % len(PLACES)]
        for side, giver in zip(sides, (two, one), strict=True):
            side.append(tokenizer(PROMPT.format(one, two, place, giver, thing)).input_ids)
        answers.append([ids[name][0] for name in (one, two)])
    right, wrong = torch.tensor(answers).T
    batches = [pad(side, pad_id(tokenizer)) for side in sides]
    clean, corrupted = (Run(model, batch.tokens, batch.attention_mask) for batch in batches)
    return clean, corrupted, Difference(right, wrong)
