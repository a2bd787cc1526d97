"""Logit lens: what would the model write if it stopped at this layer?

Every residual-stream state is read through the model's own final norm and unembedding
(nostalgebraist 2020, "interpreting GPT: the logit lens"; the readout is TransformerLens'
`logit_readout`, softcap and logit scale included). Per reading point, prompt and position stand

- the emoji log-odds in nats, as `EmojiVocab.log_odds` defines them: above 0, the emoji tokens hold
  more than half of the probability;
- the emoji probability: softmax mass on the same ids, the logistic function of the log-odds;
- the rank of the best emoji id: how many ids have a strictly larger logit (0: an emoji is first).

Reading points are `embedding` (before block 0), `0` .. `L-2` (after that block), `final` (after the
last block: the model's own output), and, if asked for, `0.mid` .. (after the block's attention).
A difference is tuned minus base. The onset position of a row is its last attended one: give prompts
that end where the next token would begin an emoji.

Cost: one forward pass per batch, and one unembedding per reading point and position, in chunks:
`[layer, batch, pos, vocab]` never exists. Kept in memory are the residuals of one batch.

Not here: trained translators (tuned lens). Early layers are read with the last layer's norm and
unembedding, so low values there can mean "not yet in this basis" as well as "not yet decided".
`fit` makes a `JacobianLens`, which reads states by what later layers make of them.
"""

from interp.traces.logit_lens.jacobian import JacobianLens, fit
from interp.traces.logit_lens.reading import compare, read
from interp.traces.logit_lens.results import UNITS, LensReading, LensResult

__all__ = ["UNITS", "JacobianLens", "LensReading", "LensResult", "compare", "fit", "read"]
