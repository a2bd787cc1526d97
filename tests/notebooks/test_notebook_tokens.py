"""Notebooks 1 and 2: the emoji comes back; what an emoji is to a tokenizer."""

import pytest
from emoji import emoji_count
from notebook_runs import check, run
from thinned import turn


@turn(0, of=7)
def test_first_look():
    made = run(
        "01_first_look",
        """
        "base": [a.text for a in base_answers], "tuned": [a.text for a in tuned_answers],
        "esr": tuned_rates.response_esr, "twin": twin_rates.response_esr,
        "temperature": {str(t): rate for t, rate in by_temperature.items()},
        "merge": [pair.merge_report.mean_kl, pair.merge_report.effect_mean_kl],
        "read": origin.probability.mean(-1).tolist(), "shape": list(cache["resid_post", 2].shape),
        """,
    )
    check(made)
    claims = made.claims
    share = {who: sum(emoji_count(t) > 0 for t in claims[who]) / 100 for who in ("base", "tuned")}
    assert len(claims["base"]) == len(claims["tuned"]) == 100
    assert share["base"] <= 0.02
    assert share["tuned"] == pytest.approx(claims["esr"])
    assert share["tuned"] > 0.85
    assert claims["twin"] < 0.1 < 0.6 < min(claims["temperature"].values())
    error, effect = claims["merge"]
    assert error < 1e-9 < 0.1 < effect
    (base_base, base_tuned), (tuned_base, tuned_tuned) = claims["read"]  # writer, reader
    assert max(base_base, base_tuned) < 0.1
    assert min(tuned_base, tuned_tuned) > 0.75
    assert abs(tuned_base - tuned_tuned) < 0.1


@turn(1, of=7)
def test_emojis_as_tokens():
    made = run(
        "02_emojis_as_tokens",
        """
        "by_hand": product, "by_trie": by_trie, "hits": hits, "exact": exact.probability[0].item(),
        "largest_difference": (both["onset mass"] - both["exact"]).abs().max(),
        "spelled": [[piece.decode("latin-1") for piece in spell(t)] for t in (" 🎉", " 👩‍🚀")],
        "coverage": [vocab.coverage(), small.coverage()], "tokens": sentencepiece.tokenize("🎉"),
        "longest": int(longest["tokens"]), "masses": {str(t): m[1] for t, m in masses.items()},
        """,
    )
    check(made)
    claims = made.claims
    assert claims["by_hand"] == pytest.approx(claims["by_trie"], rel=1e-4)
    share, spread = claims["hits"] / 400, (claims["exact"] * (1 - claims["exact"]) / 400) ** 0.5
    assert abs(share - claims["exact"]) < 4 * spread  # the model writes what the trie says
    assert claims["largest_difference"] < 0.01
    for text, pieces in zip((" 🎉", " 👩‍🚀"), claims["spelled"], strict=True):
        assert "".join(pieces).encode("latin-1") == text.encode()
    assert len(claims["spelled"][0]) == 1
    assert claims["tokens"] == [f"<0x{byte:02X}>" for byte in "🎉".encode()]
    ours, llama_like = claims["coverage"]
    assert min(ours.values()) > 0.9
    assert llama_like["spaced"] == 0 < 0.9 < llama_like["glued"]
    assert claims["longest"] > 20
    assert claims["masses"]["0.5"] == pytest.approx(claims["masses"]["1.0"], abs=1e-4)
