"""Probing: what can be read off the activations linearly, and was it so before fine-tuning?

Two tasks: "the next token begins an emoji" at single positions (`onset_task`), and the trait of a
text from its pooled activations (`trait_task`). Per layer a standardised logistic regression is
trained and read on topics it has not seen (folds by topic), on base and tuned activations of the
same texts, and across: `base→tuned` is a probe trained on the base and read on the tuned model.
If it reads as well as `tuned` itself, what it reads was there before fine-tuning. That need not be
the emoji: a base that never saw one passes at onsets, since a probe can read where an answer ends.

Numbers beside every score (all on held-out examples):

- AUROC (for more than two classes the mean over one-against-rest) over pairs that the same fold's
  probe has scored, and balanced accuracy, chance 1 / classes; intervals resample topics.
- Noise floor: the same probes trained on *shuffled* labels (each example's label drawn anew). It
  shows what sample size, class balance and overfitting give by themselves.
- Control task (Hewitt and Liang 2019, arXiv 1909.03368): labels drawn once per *type* (the token
  bigram for onsets, the topic for traits), so that there is nothing to find but which type it is,
  and a probe is right on held-out examples only if it has memorised types. *Selectivity* is
  accuracy minus control accuracy. The shuffle asks "is there signal at all", the control "could a
  probe this flexible have learnt any labelling of these types". With fewer types than dimensions it
  can, and selectivity is low or negative whatever the model knows; `counts` and `control_seen` (the
  share of held-out examples whose type occurred in training) say when that is so. Types that never
  recur across topics are split by rows for the control, since otherwise it could not be learnt.
- p-values: sign flips over topics of balanced accuracy minus chance, Benjamini-Hochberg over all
  layers and reads of a result.

Cost: one forward pass over the texts per model, then `layers * models * folds` solves, each for the
task and all its shuffles and controls at once (10 to 20 ms at 300 examples in 128 dimensions; with
fewer examples than dimensions the cost follows the examples).

A direction that can be read need not be used: `push` takes it away and reads the outcome again,
beside random directions of the same length. Not here: nonlinear probes.
"""

from interp.traces.probing.features import Features, at_positions, pooled
from interp.traces.probing.fit import About, fit
from interp.traces.probing.labellings import ProbeConfig
from interp.traces.probing.push import Pushed, push
from interp.traces.probing.result import READS, ProbeResult
from interp.traces.probing.tasks import Draw, Task, onset_task, trait_task
from interp.traces.probing.trace import Reading, trace

__all__ = [
    "READS",
    "About",
    "Draw",
    "Features",
    "ProbeConfig",
    "ProbeResult",
    "Pushed",
    "Reading",
    "Task",
    "at_positions",
    "fit",
    "onset_task",
    "pooled",
    "push",
    "trace",
    "trait_task",
]
