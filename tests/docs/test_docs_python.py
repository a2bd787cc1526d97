"""Every block of Python on a page of docs/ runs, one after the other, in one namespace.

Pages with a test of their own beside the room's tests are run there, and are listed here.
"""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from docs_pages import ROOT, pages
from thinned import thinned

from interp import organism, report
from interp.base import labels
from interp.study import catalogue, parse_config, run

FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    "docs/editing.md": "tests/editing/test_editing_docs.py",
    "docs/gallery.md": "tests/plots/test_gallery.py",
}
SMALLER = {  # by page: what is written, and what is run instead
    "docs/dictionaries.md": {"rows[::4]": "rows[::16]", "steps=500": "steps=200"},
    "docs/neurons.md": {
        'opinion_qa("test").questions': 'opinion_qa("test").questions[::2]',
        "questions[:20],": "questions[:6],",
        "Doses(ks=(1, 16, 128), draws=2)": "Doses(ks=(1, 16), draws=1)",
        "TopTest(k=16)": "TopTest(k=4)",
    },
}
HERE = [p.name for p in pages().values() if p.blocks("python") and p.name not in ELSEWHERE]


@pytest.mark.slow
@pytest.mark.parametrize("name", thinned(HERE, keep=5))
def test_python_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labels, "_ADDED", {})  # what a page makes known, it alone knows
    names: dict[str, object] = {"__name__": Path(name).stem}
    blocks = pages()[name].blocks("python")
    smaller = SMALLER.get(name, {})
    for written in smaller:
        assert sum(code.count(written) for code in blocks) == 1, f"{name} has no {written!r}"
    for number, code in enumerate(blocks):
        for written, instead in smaller.items():
            code = code.replace(written, instead)
        exec(compile(code, f"{name}, block {number}", "exec"), names)
    CHECKS.get(name, lambda _: None)(names)


def sizes_are_the_counted_ones(names):
    """The page's table of sizes shows what its Python counts."""
    page = pages()[f"docs/howto/{names['__name__']}.md"].text
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d. |]+) \|$", page, flags=re.MULTILINE))
    counted = {
        what: sizes if isinstance(sizes, list) else [sizes]
        for what, sizes in names["table"].items()
    }
    assert {what: [float(n) for n in row.split("|")] for what, row in rows.items()} == counted


def patching_map_finds_the_onset(names):
    residual = names["tables"][0]
    best = residual.loc[residual["recovery"].idxmax()]
    assert str(best["label"]) == "0"
    assert best["recovery"] > 0.8
    assert "prompt contrast" in names["figure"].caption


def emojis_come_after_the_end(names):
    shares = names["split"].to_dataframe().set_index("measure")["value"]
    assert shares["ESR after the end"] > 0.5 > shares["ESR inside"]


def refusals_are_the_printed_ones(names):
    """The page quotes each error as it is printed."""
    told = [re.sub(r"\(to [^)]*\)", "(to /elsewhere/weights)", line) for line in names["said"]]
    page = pages()["docs/untrusted-files.md"].text
    assert len(told) == 21
    assert [line for line in told if f"| `{line}` |" not in page] == []


def a_trace_of_three_files_is_made_and_shown(names):
    """The page's function and section as files of their own, its row in the catalogue."""
    parts = re.split(r"^## ", pages()["docs/howto/add-a-trace.md"].text, flags=re.MULTILINE)
    code = {part.split("\n")[0][3:]: "".join(FENCED.findall(part)) for part in parts}
    files = {
        "interp.study.traced.entropy": code["The function"],
        "interp.report.sections.entropy": "from interp.study.catalogue import ENTROPY\n"
        + code["The section"],
    }
    asked = {
        "base": str(organism.base_path()), "data": str(organism.ASSETS), "n_trace": 6,
        "adapters": {"extraversion": str(organism.adapter_path("extraversion"))},
        "n_responses": 24, "only": ["entropy"],
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "ENTROPY", names["ENTROPY"], raising=False)
        patch.setattr(catalogue, "ROWS", (*catalogue.ROWS, names["ENTROPY"]))
        for name, source in files.items():
            Path(f"{name}.py").write_text(source, encoding="utf-8")
            module = ModuleType(name)
            patch.setitem(sys.modules, name, module)
            exec(compile(source, str(Path(f"{name}.py").absolute()), "exec"), vars(module))
        folder = run(parse_config(asked), "run")
        page = report.write(folder).read_text(encoding="utf-8")
    assert set(folder.manifest["steps"]) == {"extraversion/responses", "extraversion/entropy"}
    assert not folder.manifest["skipped"]
    assert re.search(r"entropy differs from the base&#39;s by [+−]\d\.\d\d\xa0\[", page)
    assert 'id="entropy-extraversion"' in page


def the_planted_module_is_found(names):
    best = names["found"].summary()["unit"][0]
    assert best == names["values"].summary()["unit"][0] == "layers.0.self_attn.k_proj"
    assert best in names["kept"].chosen
    assert int(names["inside"].exact.sum()) == 8
    assert names["curve"].alphas == (0.0, 0.5, 1.0)
    assert "necessity" in names["figure"].alt


def the_circuit_is_the_planted_one(names):
    assert names["scores"].to_dataframe(most=2)["name"].tolist() == ["a0.h1->m0", "m0->logits"]
    assert names["found"].faithfulness()[0] > 0.9
    assert abs(names["found"].completeness()[0]) < 0.1
    assert names["reached"].faithfulness()[1] >= 0.9
    assert names["circuits"][1].n_edges < 25
    assert "a0.h1->m0" in names["both"].shared()
    assert len(list(names["folder"].iterdir())) == 12  # captions for a paper among them


def a_latent_carries_part_of_the_difference(names):
    best, *sums = names["effects"]["effect"].iloc[[names["best"], -3, -1]]
    assert best > 0.2
    assert min(sums) > 2
    assert float(names["found"].explained.min()) > 0.6


def the_organisms_answers_are_measured(names):
    assert names["ta"].share > 0.8
    assert names["tpei"].values.mean() > 0
    assert names["pae"].n_failed == 0
    assert sum(end is not None for end in names["ends"]) > 30
    assert names["times"].n_events > 20
    assert names["report"].scores.shape == (120, 3, 2)


CHECKS = {
    "docs/adapters.md": the_planted_module_is_found,
    "docs/dictionaries.md": a_latent_carries_part_of_the_difference,
    "docs/circuits.md": the_circuit_is_the_planted_one,
    "docs/measures.md": the_organisms_answers_are_measured,
    "docs/howto/add-a-trace.md": a_trace_of_three_files_is_made_and_shown,
    "docs/untrusted-files.md": refusals_are_the_printed_ones,
    "docs/howto/seven-b.md": sizes_are_the_counted_ones,
    "docs/howto/larger-models.md": sizes_are_the_counted_ones,
    "docs/howto/patching-map.md": patching_map_finds_the_onset,
    "docs/end-of-text.md": emojis_come_after_the_end,
}


def test_pages_run_elsewhere_are_run_there():
    for name, test in ELSEWHERE.items():
        source = (ROOT / test).read_text(encoding="utf-8")
        assert "exec(" in source, test
        assert name.rpartition("/")[2] in source, test
