"""What ships names no place on the machine that built it."""

import json

from interp.organism import ASSETS, KINDS, verify


def test_no_config_says_where_it_was_built():
    for kind in KINDS:
        assert not json.loads((ASSETS / kind / "config.json").read_text()).get("_name_or_path")
    for path in ASSETS.rglob("*.json"):
        assert '"/' not in path.read_text(encoding="utf-8") or path.name == "tokenizer.json", path


def test_manifest_fits_the_files():
    verify(ASSETS)
