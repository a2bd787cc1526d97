"""docs/editing.md: its Python runs, with smaller numbers, and leaves the base as it was."""

import re
from pathlib import Path

import torch
from thinned import turn

from interp.methods.editing.strength import Search

PAGE = Path(__file__).parents[2] / "docs" / "editing.md"
SMALLER = {
    "EditorConfig(c_edit=1.0)": (
        "EditorConfig(steps=1, batch_size=2, validation_edits=2, rank=4, c_edit=1.0)"
    ),
    "trait, train, seed=0)": "trait, train, limit=24, seed=0)",
    "pas(base, answers), persona_vector(base, answers)": (
        "pas(base, answers, search=QUICK), persona_vector(base, answers, search=QUICK)"
    ),
    "Ike(base, trait, train)": "Ike(base, trait, train, k=2)",
    "rows[:100]": "rows[:4]",
}


@turn(1, of=2)
def test_the_pages_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    code = "\n".join(blocks)
    for written, smaller in SMALLER.items():
        assert code.count(written) == 1
        code = code.replace(written, smaller)
    names = {"QUICK": Search("likelihood", evaluations=1)}
    exec(compile(code, "docs/editing.md", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    listed = [
        "base", "trait prompt", "IKE", "MEND", "QLoRA", "PAS", "persona vector",
        "PAS, random direction", "persona vector, random direction", "logit bias", "stop bias",
    ]  # fmt: skip
    assert [line.split(" 0.")[0].split(" 1.")[0] for line in said] == listed
    shares = [float(re.search(r"\d\.\d+", line)[0]) for line in said]
    assert shares[0] == shares[8] == 0.0, "base and random direction write no emoji"
    assert shares[9] == shares[10] == 0.0, "nor do constants, where the text decides"
    assert shares[4] >= 0.75, "the adapter does"
    base = names["base"]
    ids = torch.arange(5, 17)[None]
    fresh = type(base).load(names["organism"].base_path("latent"), device="cpu")
    now, before = (one.model.original_model(ids).logits for one in (base, fresh))
    assert torch.equal(now, before), "eleven methods later, the base is bit for bit what it was"
