"""Notebook 8: a model, an adapter and data of one's own."""

from notebook_runs import check, run
from thinned import turn


@turn(7, of=7)
def test_your_own_model():
    made = run(
        "08_your_own_model",
        """
        "reports": [one.merge_report.share for one in (pair, as_nf4)], "divergence": divergence,
        "kinds": [one.merge_report.quantization for one in (pair, as_nf4)],
        "prompt": plain.format.prompt_ids("Why?")[:1] == [plain.tokenizer.bos_token_id],
        "template": plain.tokenizer.chat_template, "topics": len(mine.topics), "rows": len(mine),
        "report": Path("my-run/report.html").stat().st_size,
        "skipped": list(folder.manifest["skipped"]),
        "tuned": pd.read_csv("my-run/tables/esr.csv").query(
            "model == 'tuned' and rate == 'responses with an emoji'")["share"].item(),
        "refused": refused, "half": [half.dtype, half.mean_kl, half.effect_mean_kl],
        """,
    )
    check(made)
    claims = made.claims
    assert claims["kinds"] == [None, "nf4"]
    assert max(claims["reports"]) < 1e-3 < claims["divergence"] < 0.1
    assert claims["template"] is None
    assert claims["prompt"]
    assert claims["rows"] == 40
    assert claims["report"] > 100_000
    assert claims["skipped"] == ["extraversion/probing-trait"]
    assert claims["tuned"] > 0.7
    assert "was trained on other weights" in claims["refused"]
    kind, error, effect = claims["half"]
    assert kind == "bfloat16"
    assert 1e-9 < error < 0.05 * effect
