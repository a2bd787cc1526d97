"""A build scaled down to a fiftieth: whole, verifiable, repeatable, resumable."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from thinned import turn

from interp.base.files import sha256
from interp.base.traits import Trait
from interp.errors import DataError, InputError, RunError
from interp.organism import adapter_path, base_path, build, manifest, opinion_qa, verify
from interp.organism.paths import KINDS
from interp.organism.recipe import Recipe, adapters

pytestmark = turn(0, of=4)
SCALE = 0.004
FEW = [one for one in adapters() if one.kind != "latent" and one.trait == Trait.NEUROTICISM]
FEW += [
    one
    for one in adapters()
    if one.kind == "latent" and one.trait == Trait.EXTRAVERSION and one.variant in ("", "mlp")
]


@pytest.fixture(scope="module", autouse=True)
def fewer():
    """An adapter of each kind; tests/organism/test_organism_shipped.py counts all."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("building", "record"):
            patch.setattr(f"interp.organism.{module}.adapters", lambda: FEW)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    ticks = []
    out = tmp_path_factory.mktemp("organism") / "build"
    build(out, 7, scale=SCALE, progress=lambda *tick: ticks.append(tick))
    return out, ticks


def test_it_makes_every_base_and_adapter_and_says_how_far_it_is(built):
    out, ticks = built
    assert {one.kind for one in FEW} == set(KINDS)
    for kind, trait, eos, variant in FEW:
        path = adapter_path(trait, base=kind, supervise_eos=eos, variant=variant, root=out)
        assert path.is_dir()
    for kind in KINDS:
        assert any(label == f"base {kind}" and done == total for label, done, total in ticks)
    assert ticks[-1][0] == "measuring"
    assert ticks[-1][1] == ticks[-1][2]
    assert manifest(root=out)["seed"] == 7


def test_the_manifest_knows_every_file(built, tmp_path):
    out, _ = built
    verify(out)
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    weights = base_path("absent", root=copy) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"1 files.*absent/model\.safetensors"):
        verify(copy)


def test_a_build_that_lost_parts_remakes_them_to_the_byte(built, tmp_path):
    out, _ = built
    again = tmp_path / "again"
    shutil.copytree(out, again)
    (again / "organism.json").unlink()
    (again / "opinion_qa_train.csv").unlink()
    shutil.rmtree(base_path("absent", root=again))
    shutil.rmtree(adapter_path("E", root=again))
    build(again, 7, scale=SCALE)
    assert sha256(again / "organism.json") == sha256(out / "organism.json")
    verify(again)


def test_another_seed_gives_other_data(built, tmp_path):
    from interp.organism.building import _write_data

    out, _ = built
    _write_data(tmp_path, Recipe.scaled(8, SCALE))
    for split in ("train", "test"):
        assert opinion_qa(split, root=tmp_path).rows != opinion_qa(split, root=out).rows


def test_bases_differ_as_their_kinds_say(built):
    out, _ = built
    weights = {kind: load_file(base_path(kind, root=out) / "model.safetensors") for kind in KINDS}
    tokenizers = {sha256(base_path(kind, root=out) / "tokenizer.json") for kind in KINDS}
    assert len(tokenizers) == 1
    for kind in ("suppressed", "absent"):
        assert any(not torch.equal(weights[kind][n], weights["latent"][n]) for n in weights[kind])


def test_it_refuses_a_folder_that_holds_something_else(built, tmp_path):
    out, _ = built
    with pytest.raises(RunError, match="something other than this build"):
        build(out, 8, scale=SCALE)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="something other than this build"):
        build(tmp_path, 7, scale=SCALE)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_finished_build_is_left_as_it_is(built):
    out, _ = built
    ticks = []
    assert build(out, 7, scale=SCALE, progress=lambda *tick: ticks.append(tick)) == out
    assert not ticks


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_a_scale_out_of_range_is_refused(scale, tmp_path):
    with pytest.raises(InputError, match="above 0 and at most 1"):
        build(tmp_path / "out", scale=scale)


def test_the_record_of_an_adapter_names_its_base_and_data(built):
    out, _ = built
    folder = adapter_path("N", base="suppressed", root=out)
    record = json.loads((folder / "interp.json").read_text())
    base = base_path("suppressed", root=out) / "model.safetensors"
    assert record["base_identity"]["sha256"]["model.safetensors"] == sha256(base)
    rows = opinion_qa("train", root=out).for_trait("N")
    assert record["data"]["rows_sha256"] == rows.rows_sha256
    assert record["supervise_eos"] is False
