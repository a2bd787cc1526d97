"""The Python of docs/circuits.md runs, block after block."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "circuits.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_snippets_run():
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(code, "docs/circuits.md", "exec"), names)
    assert names["scores"].to_dataframe(most=2)["name"].tolist() == ["a0.h1->m0", "m0->logits"]
    assert names["found"].faithfulness()[0] > 0.9
    assert abs(names["found"].completeness()[0]) < 0.1
    assert names["reached"].faithfulness()[1] >= 0.9
    assert names["circuits"][1].n_edges < 25
    assert "a0.h1->m0" in names["both"].shared()
    assert len(list(names["folder"].iterdir())) == 12  # captions for a paper among them
