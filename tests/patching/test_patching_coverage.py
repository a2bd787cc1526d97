"""What covers which models: the table against the tests that prove it and pages that say it."""

from pathlib import Path

from patching_models import FAMILIES as PROVED

from interp.readout import coverage

ROOT = Path(__file__).parents[2]


def test_every_model_type_that_is_named_is_proved_against_whole_passes():
    proved = {make().model_type for make in PROVED.values()}
    assert proved == set(coverage.EXACT)


def test_the_readme_and_the_doctor_say_what_the_table_says():
    assert coverage.markdown() in (ROOT / "README.md").read_text(encoding="utf-8")
    said = coverage.covered()
    post = [family.name for family in coverage.FAMILIES if not family.circuits]
    assert said["circuits"].endswith(f"but for {', '.join(post)}")
    assert all(family.name in said["exact patching"] for family in coverage.FAMILIES)
