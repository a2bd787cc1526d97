"""Notebooks 5 and 6: what a probe reads and does not know; which module of the adapter does it."""

import pytest
from notebook_runs import check, run
from thinned import turn


@turn(4, of=7)
def test_probing():
    made = run(
        "05_probing",
        """
        "auroc": result.auroc.tolist(), "selectivity": result.selectivity_low[0].tolist(),
        "control": result.control_accuracy[0].tolist(),
        "shuffled": result.shuffled_auroc.max().item(),
        "blind": blind.auroc[0].tolist(), "blind_selectivity": blind.selectivity_low[0].tolist(),
        "ends": {name: found.auroc[0].tolist() for name, found in scores.items()},
        "probability": {n: [p[positive].mean().item(), p[~positive].mean().item()]
                        for n, p in probability.items()},
        "pushed": effects.to_dict(orient="records"),
        "easy": easy_result.auroc[0, 0].item(), "gaps": gaps["difference"].abs().max(),
        "topics": len(set(task.groups)), "positives": int(task.labels.sum()),
        """,
    )
    check(made)
    claims = made.claims
    base, tuned, across, _ = claims["auroc"]
    assert min(base[1:] + tuned[1:] + across[1:]) > 0.95
    assert base[0] < 0.85
    assert claims["shuffled"] < 0.7
    assert min(claims["selectivity"][1:]) > 0.15
    assert max(claims["control"]) < 0.8
    # and all of it holds in a model that never saw an emoji
    assert min(claims["blind"][1:]) > 0.95
    assert min(claims["blind_selectivity"][1:]) > 0.15
    assert min(value for row in claims["ends"].values() for value in row[1:]) > 0.95
    (extravert, careful), (never, neither) = claims["probability"].values()
    assert careful < 0.2 < 0.8 < extravert
    assert max(never, neither) < 1e-3
    # until one pushes along what the probe reads
    (plain, along, at_random), (nothing, wrong_way, noise) = (
        [row for row in claims["pushed"] if row["base"] == base] for base in ("latent", "absent")
    )
    assert min(row["AUROC"] for row in claims["pushed"]) > 0.95
    assert along["P(emoji)"] < 0.1 < 0.6 < at_random["P(emoji)"] < plain["P(emoji)"]
    assert along["high"] < at_random["low"] - 3
    assert max(row["P(emoji)"] for row in (nothing, wrong_way, noise)) < 1e-3
    assert 0 < wrong_way["low"]
    assert wrong_way["change"] < noise["low"]
    assert claims["easy"] > base[0] + 0.05
    assert claims["gaps"] < 0.05


@turn(5, of=7)
def test_adapters():
    made = run(
        "06_adapters",
        """
        "units": list(needed.units),
        "needed": needed.mean().tolist(), "alone": alone.mean().tolist(),
        "whole": whole, "error": space.error, "written": written.mean().tolist(),
        "brought": brought.mean().tolist(), "layers": list(written.units),
        "kept": final["share"], "chosen": list(kept.chosen), "rates": rates.esr.to_dict(),
        "shapley": [total, effect], "by_alpha": {str(a): v for a, v in by_alpha.items()},
        "halves": [sorted({q[1] for q in asked}), sorted({q[1] for q in held_out})],
        """,
    )
    check(made)
    claims = made.claims
    keys = claims["units"].index("layers.0.self_attn.k_proj")
    for measure in ("needed", "alone"):
        assert max(claims[measure]) == claims[measure][keys]
    assert claims["alone"][keys] > 0.4 * claims["whole"]
    assert sum(claims["needed"]) < claims["whole"] < sum(claims["alone"])
    assert claims["error"] < 1e-3
    written = dict(zip(claims["layers"], claims["written"], strict=True))
    assert max(written, key=written.__getitem__) == "layers.0"
    assert sorted(claims["brought"])[-2] < 0.1 < max(claims["brought"])
    assert claims["kept"] >= 0.9
    assert all(".0." in name for name in claims["chosen"])
    assert claims["rates"]["base"] < claims["rates"]["set"] < claims["rates"]["tuned"] - 0.1
    total, effect = claims["shapley"]
    assert total == pytest.approx(effect, rel=1e-3)
    assert claims["by_alpha"]["0.5"] < 0.5 * claims["by_alpha"]["1.0"]
    assert not set(claims["halves"][0]) & set(claims["halves"][1])
