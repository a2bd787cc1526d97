"""The Python of README.md runs, block after block. Its commands: tests/docs."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    for code in blocks:  # each goes on from the one before
        exec(compile(code, "README.md", "exec"), names)
    said = capsys.readouterr().out
    assert "MergeReport: merge report\n  mean_kl" in said
    assert "p_adjusted" in said
    assert names["sweep"].values.shape[2] == 2
    assert names["top"]["effect"].is_monotonic_decreasing
    assert 6 <= names["circuit"].n_edges <= 12  # dangling edges are cut off
    assert "layers.3" in said
