"""A run killed at any moment, again and again, ends in the bytes of an undisturbed one.

`make soak` runs the same with 30 kills on the whole demo.
"""

import json
import os

from killing import contents, demo, ended_steps, survive, undisturbed

KILLS = int(os.environ.get("INTERP_KILLS", "5"))
SEED = int(os.environ.get("INTERP_KILL_SEED", "20"))
SMALL = ("--traits", "extraversion,openness", "--n-responses", "14", "--n-trace", "4",
         "--n-switched", "2")  # fmt: skip
OPTIONS = () if os.environ.get("INTERP_FULL_DEMO") else SMALL


def test_killed_run_ends_in_the_bytes_of_an_undisturbed_one(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed(demo(whole, *OPTIONS))
    n_steps = ended_steps(whole)
    survival = survive(demo(killed, *OPTIONS), killed, KILLS, n_steps, SEED)
    print(f"{len(survival.kills)} kills survived of {KILLS} tried, {survival.spared} came too late")
    assert len(survival.kills) + survival.spared == KILLS
    assert survival.spared <= KILLS // 5 + 1, "most kills must hit"
    expected = contents(whole)
    assert {name.split("/")[0] for name in expected} >= {"base", "extraversion", "tables"}
    assert contents(killed) == expected
    assert not list(killed.rglob(".*")), "no temporary file is left"
    manifest = json.loads((killed / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert {record["state"] for record in manifest["steps"].values()} <= {"done", "skipped"}
