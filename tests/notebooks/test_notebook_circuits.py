"""Notebook 7: circuits of three traits, and what they share."""

from notebook_runs import check, run
from thinned import turn


@turn(6, of=7)
def test_circuits():
    made = run(
        "07_circuits",
        """
        "small": {t: c.n_edges for t, c in small.items()},
        "all": small["extraversion"].graph.n_edges,
        "tested": circuits.faithfulness(
            small["extraversion"], *runs["extraversion"], metric=metric).faithfulness().item(),
        "random": random_faithfulness, "shared": shared.shared(),
        "crossed": carried.values.tolist(),
        "best": scores["extraversion"].to_dataframe(most=2)["name"].tolist(), "common": common,
        """,
    )
    check(made)
    claims = made.claims
    assert max(claims["small"].values()) < 0.1 * claims["all"]
    assert claims["tested"] >= 0.9 - 1e-4
    assert claims["random"] < 0.2
    assert claims["best"] == ["a0.h1->m0", "m0->logits"]
    assert set(claims["best"]) <= set(claims["shared"])
    crossed = claims["crossed"]
    assert min(value for row in crossed for value in row) > 0.6
    assert claims["common"] > 20
