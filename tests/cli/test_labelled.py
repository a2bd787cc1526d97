"""Which adapters `interp trace` takes, each under its label."""

import pytest

from interp import organism
from interp.base.traits import Trait
from interp.cli.labelled import labelled
from interp.errors import InputError, TraitError

E_PLACE = str(organism.adapter_path("extraversion"))


def test_several_adapters_each_with_a_label_or_one_with_its_trait():
    found = labelled(["E=a/b", "Dry Humour=org/name@main"], None, None, None)
    assert found == {
        "adapters": {Trait.EXTRAVERSION: "a/b", "dry humour": "org/name@main"},
        "tuned": False,
    }
    assert labelled(["a/b"], None, None, "humour")["adapters"] == {"humour": "a/b"}
    assert labelled(["a/b=c"], None, None, "E")["adapters"] == {"extraversion": "a/b=c"}
    tuned = labelled(None, None, ["humour=a", "politeness=b"], None)
    assert tuned == {"adapters": {"humour": "a", "politeness": "b"}, "tuned": True}


def test_a_folder_of_adapters_is_taken_by_its_folders_names(tmp_path):
    for name in ("humour", "Openness"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    found = labelled(None, str(tmp_path), None, None)["adapters"]
    assert list(found.items()) == [
        ("openness", str(tmp_path / "Openness")), ("humour", str(tmp_path / "humour")),
    ]  # fmt: skip
    (tmp_path / "HUMOUR").mkdir()
    (tmp_path / "HUMOUR" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="are both called humour"):
        labelled(None, str(tmp_path), None, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, None, None, None), "one of the three"),
        ((["humour=a"], "folder", None, None), "one of the three"),
        ((["humour=a"], None, ["humour=b"], None), "one of the three"),
        ((["humour=a", "Humour =b"], None, None, None), "a and b are both called humour"),
        ((["a/b"], None, None, None), "write it as LABEL=PLACE"),
        ((["humour="], None, None, None), "write it as LABEL=PLACE"),
        ((["humour=a"], None, None, "E"), "give the label once"),
        ((["a/b", "c/d"], None, None, "E"), "--trait is the label of one adapter"),
        ((None, "nowhere", None, None), "no such folder of adapters"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        labelled(*given)


def test_an_empty_folder_and_a_label_that_is_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="no folder in it holds an adapter"):
        labelled(None, str(tmp_path), None, None)
    with pytest.raises(TraitError, match="a label of 2 to 40"):
        labelled(["a.b=c"], None, None, None)
