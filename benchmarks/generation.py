"""Answers by this package against plain transformers, in one process, alternating A B A B.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/generation.py --base runs/real/base --rounds 3

Both decode the same prompts greedily, as one batch, to the same number of tokens: transformers by
`model.generate` on the model without hooks, we by `generate` on the bridge. Times are CPU seconds
of the process: medians with minimum and maximum, and the ratio of the medians.
"""

import argparse
import os
import statistics

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from patching import spread, timed

from interp import organism
from interp.behaviour import Sampling, generate
from interp.models import ChatFormat, pad, pad_id
from interp.models.loading import load_base
from interp.models.pair import hook

GOAL = 1.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", default=str(organism.base_path()), help="folder, GGUF or hub id")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plain, ours = (load_base(options.base, device="cpu", dtype="float32") for _ in range(2))
    bridge, form = hook(ours.model, ours.tokenizer), ChatFormat.from_tokenizer(plain.tokenizer)
    rows = organism.opinion_qa("test").rows[: options.prompts]
    asked = [(row.question, row.topic) for row in rows]
    batch = pad([form.prompt_ids(question) for question, _ in asked], pad_id(form.tokenizer))
    how = Sampling(max_new_tokens=options.tokens, temperature=0.0)

    def by_transformers() -> torch.Tensor:
        with torch.no_grad():
            return plain.model.generate(
                batch.tokens, attention_mask=batch.attention_mask.long(), do_sample=False,
                min_new_tokens=options.tokens, max_new_tokens=options.tokens,
                pad_token_id=pad_id(form.tokenizer),
            )  # fmt: skip

    mine, theirs, counts = [], [], []
    for round_ in range(options.rounds + 1):
        answers, cpu, _ = timed(lambda: generate(bridge, form, asked, how))
        other, cpu_other, _ = timed(by_transformers)
        if round_:  # the first warms up
            made = sum(len(answer.ids) for answer in answers)
            counts.append(made)
            mine.append(1000 * cpu / made)
            theirs.append(1000 * cpu_other / (len(asked) * options.tokens))
    ratio = statistics.median(mine) / statistics.median(theirs)
    print(f"{options.base}: {len(asked)} prompts, up to {options.tokens} tokens each")
    print(f"CPU ms per token  ours {spread(mine)}   transformers {spread(theirs)}")
    count = other[:, batch.tokens.shape[1] :].numel()
    print(f"ratio {ratio:.2f}x (goal {GOAL:g}); {counts[0]} tokens against {count}: answers end")


if __name__ == "__main__":
    main()
