"""Model folders, tokenizers and adapters that are broken are refused: named, soon, in one line."""

import pytest
import refusals
from corpus import cases
from thinned import part, parts

LOADERS = ("base", "tokenizer", "adapter", "pair")


@pytest.fixture(scope="module", params=parts(1, of=2))
def outcomes(request) -> list[refusals.Outcome]:
    mine = [case for case in cases() if case.loader in LOADERS]
    assert len(mine) >= 280
    return refusals.run(part(mine, request.param))


def test_every_broken_model_is_refused(outcomes):
    wrong = [f"{one.name}: {one.error}: {one.message}" for one in outcomes if not one.refused]
    assert not wrong, "\n".join(wrong)


def test_no_two_are_the_same(outcomes):
    assert len({one.digest for one in outcomes}) == len(outcomes)


def test_every_message_names_the_folder(outcomes):
    without = [one.name for one in outcomes if one.where not in one.message]
    assert not without


def test_each_kind_of_input_has_its_kind_of_error(outcomes):
    kinds = {
        "base": {"ModelError", "TokenizerError"},
        "tokenizer": {"TokenizerError"},
        "adapter": {"AdapterError"},
        "pair": {"AdapterError", "MergeError"},
    }
    strange = [
        f"{o.name}: {o.error}" for o in outcomes if o.error not in kinds[o.name.split(":")[0]]
    ]
    assert not strange
