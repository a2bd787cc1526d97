"""The Python of docs/measures.md runs, block after block."""

import re
from pathlib import Path

DOCS = (Path(__file__).parents[2] / "docs" / "measures.md").read_text(encoding="utf-8")


def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL)
    names: dict[str, object] = {}
    for number, code in enumerate(blocks):
        exec(compile(code, f"docs/measures.md, block {number}", "exec"), names)
    assert len(blocks) == 8
    assert names["ta"].share > 0.8
    assert names["tpei"].values.mean() > 0
    assert names["pae"].n_failed == 0
    assert sum(end is not None for end in names["ends"]) > 30
    assert names["times"].n_events > 20
    assert names["report"].scores.shape == (120, 3, 2)
