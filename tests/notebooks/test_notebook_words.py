"""Notebook 9: which words, which writer, which difference."""

import pytest
from notebook_runs import check, run
from thinned import turn


@turn(8, of=7)
def test_which_words():
    made = run(
        "09_which_words",
        """
        "sets": words.set_sizes()["share"].tolist(), "rates": crossed.to_dataframe()["esr"].tolist(),
        "fell": moved.names[-1], "stop": pair.tokenizer.eos_token,
        "seen": {name: one.at_onset().mean(1).tolist() for name, one in seen.items()},
        "both": both.to_numpy().tolist(), "without": without["expected"].tolist(),
        """,
    )
    check(made)
    claims = made.claims
    assert sorted(claims["sets"])[1] >= 0.8  # one in three may stop at eight words
    base_alone, base_writes, tuned_writes, tuned_alone = claims["rates"]
    assert max(base_alone, base_writes) < 0.3 < 0.5 < min(tuned_writes, tuned_alone)
    logit, jacobian = claims["seen"]["logit lens"], claims["seen"]["Jacobian lens"]
    assert logit[-1] == pytest.approx(jacobian[-1], abs=1e-3)
    (neither, decides), (writes, does_both) = claims["both"]
    assert does_both > max(neither, decides, writes) + 0.2
