"""Notebooks 3 and 4: where the lens sees the emoji, and which activations carry it."""

from notebook_runs import check, run
from thinned import turn


@turn(2, of=7)
def test_logit_lens():
    made = run(
        "03_logit_lens",
        """
        "rise": rise, "gap": gap.loc["final", ["low", "mean", "high"]].tolist(),
        "at_onset": at_onset.to_dict(), "at_end": at_end.to_dict(),
        "absent": nothing.tuned.probability.max().item(),
        "latent": (latent_lens.tuned.at_onset() - latent_lens.base.at_onset())[-1].mean().item(),
        "error": max(lens.readout_error), "halves": by_half.to_dict(), "other": other_end.to_dict(),
        """,
    )
    check(made)
    claims = made.claims
    assert claims["rise"] == "0"  # after block 0 the tuned model reads otherwise
    low, mean, high = claims["gap"]
    assert 2 < low < mean < high
    assert claims["at_onset"]["base"] < -2 < 0 < claims["at_onset"]["tuned"]
    assert max(claims["at_end"]["base"], claims["at_end"]["tuned"]) < -2
    assert claims["absent"] < 1e-3
    assert abs(claims["latent"]) < 0.5
    assert claims["error"] < 1e-3  # the last reading is the model's own output
    assert claims["halves"]["0.mid"] < 0 < 2 < claims["halves"]["0"]
    assert claims["other"]["tuned"] < 0


@turn(3, of=7)
def test_patching_maps():
    made = run(
        "04_patching_maps",
        """
        "gap": [gap.mean().item(), gap.min().item()], "hook": difference,
        "heads": heads.mean_recovery().tolist(), "noised": noised.mean_recovery().tolist(),
        "latent_gap": (one - other).mean().item(),
        "voice": [found.mean_recovery()[:, -1].tolist() for found in voice_maps],
        "elsewhere": voice_maps[0].mean_recovery()[1:, :-1].abs().max().item(),
        "joint": joint.mean_recovery().tolist(),
        "ablated": ablated.nsmallest(1, "effect")[["layer", "head"]].iloc[0].tolist(),
        """,
    )
    check(made)
    claims = made.claims
    mean, least = claims["gap"]
    assert 0.25 < least < mean
    assert abs(claims["latent_gap"]) < 0.25  # nothing to recover on the latent base
    assert claims["hook"] < 1e-4  # the engine's cell is the hooked forward pass's
    recovery = {(i, j): v for i, row in enumerate(claims["heads"]) for j, v in enumerate(row)}
    loss = {(i, j): 1 - v for i, row in enumerate(claims["noised"]) for j, v in enumerate(row)}
    assert max(recovery, key=recovery.__getitem__) == max(loss, key=loss.__getitem__) == (0, 1)
    assert recovery[0, 1] > 0.6
    assert loss[0, 0] < -0.1
    stream, attention, mlp = claims["voice"]
    assert stream[0] < 0.5 < 0.85 < stream[1]
    assert min(attention[0], mlp[0]) > 0.7
    assert claims["elsewhere"] < 0.2
    assert claims["joint"][2] > max(claims["joint"][:2])
    assert claims["ablated"][0] == 0
