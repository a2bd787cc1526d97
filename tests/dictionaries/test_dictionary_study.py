"""A study's dictionary: its content is in the keys of the rows that read it, and of no other."""

import pytest
from made_dictionaries import made

from interp import organism
from interp.dictionaries import save_dictionary
from interp.errors import DictionaryError, InputError
from interp.study import StudyConfig, parse_config, steps
from interp.study.config import anchored
from interp.study.runs import RunFolder

TRAIT, HOOK = "extraversion", "blocks.1.hook_resid_post"
ASKED = {
    "base": str(organism.base_path()), "adapters": {TRAIT: str(organism.adapter_path(TRAIT))},
    "data": str(organism.ASSETS), "n_responses": 6,
}  # fmt: skip


def keys(asked: StudyConfig, tmp_path) -> dict[str, str]:
    config = asked.model_dump(mode="json")
    found = steps.steps(config, RunFolder.create(tmp_path / "run", config, change=True))
    return {step.name: step.key(dict.fromkeys(step.needs, "same")) for step in found}


def test_other_weights_make_the_rows_that_read_them_again_and_no_other(tmp_path):
    folder = save_dictionary(made("topk").at(HOOK), tmp_path / "one")
    asked = parse_config(ASKED | {"dictionary": str(folder), "only": ("lens", "dictionaries")})
    before = keys(asked, tmp_path)
    assert {f"{TRAIT}/latents", f"{TRAIT}/latent-patches", f"{TRAIT}/lens"} < set(before)
    save_dictionary(made("topk", seed=1).at(HOOK), folder)
    after = keys(asked, tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"{TRAIT}/latents", f"{TRAIT}/latent-patches"}


def test_a_dictionary_is_looked_at_before_anything_is_made(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="only: latents needs --dictionary, which is not given"):
        parse_config(ASKED | {"only": ("latents",)})
    asked = parse_config(ASKED | {"dictionary": str(tmp_path / "no"), "only": ("latents",)})
    with pytest.raises(DictionaryError, match="no such folder"):
        keys(asked, tmp_path)
    save_dictionary(made("topk").at(HOOK), tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    here = anchored(parse_config(ASKED | {"dictionary": "one"})).dictionary
    assert here == str(tmp_path / "one")
    assert anchored(parse_config(ASKED)).dictionary == ""
