"""Captions and tables as TeX: what a stranger wrote is text, numbers stand as they are."""

import re

import numpy as np
import pandas as pd
import pytest

from interp.show.plots.latex import caption_tex, escaped, table_tex


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("50 % of a_b & #1", r"50 \% of a\_b \& \#1"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("−1.5 ± 2", r"$-$1.5 $\pm$ 2"),
        ("a\n\nb\x1b[31m", "a b [31m"),
        ("~^$", r"\textasciitilde{}\textasciicircum{}\$"),
    ],
)
def test_everything_is_escaped(text, tex) -> None:
    assert escaped(text) == tex
    assert caption_tex(text) == f"\\caption{{{tex}}}\n"


def test_no_command_but_ours_is_in_a_table() -> None:
    hostile = r"\write18{rm -rf ~} \end{tabular} %$#_&^"
    made = table_tex(pd.DataFrame({hostile: [hostile, "b"], "n": [1, 2]}))
    known = {"begin", "end", "toprule", "midrule", "bottomrule", "textbackslash",
             "textasciitilde", "textasciicircum"}  # fmt: skip
    assert set(re.findall(r"\\([a-zA-Z]+)", made)) == known
    assert made.count(r"\end{tabular}") == 1


def test_a_table_has_rules_and_aligned_numbers() -> None:
    frame = pd.DataFrame(
        {
            "trait": ["openness", "base"],
            "rate": [0.98765, np.nan],
            "n": [40, -3],
            "ok": [True, False],
        }
    )
    assert table_tex(frame).splitlines() == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"trait & rate & n & ok \\",
        r"\midrule",
        r"openness & 0.988 & 40 & True \\",
        r"base &  & $-$3 & False \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
