"""Captions and tables for a paper: what stands beside a figure's files as `.tex`.

Everything is escaped, so that a name from a model or a data set is text and never a command. Signs
that a caption uses and that text fonts of TeX lack become mathematics; other characters stay as
they are, for LuaLaTeX or XeLaTeX (emojis) and pdfLaTeX with T1 (letters).
"""

from numbers import Integral, Real

import pandas as pd

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "α": r"$\alpha$",
    "Δ": r"$\Delta$",
    "ρ": r"$\rho$",
    "κ": r"$\kappa$",
}


def escaped(text: str) -> str:
    """`text` as TeX sets it; line breaks and control characters become blanks."""
    flat = " ".join(text.split())
    return "".join(_SPECIAL.get(sign, sign if sign.isprintable() else " ") for sign in flat)


def caption_tex(caption: str) -> str:
    r"""A figure's caption as `\caption{…}`."""
    return f"\\caption{{{escaped(caption)}}}\n"


def table_tex(table: pd.DataFrame) -> str:
    r"""A table as a `tabular` with the rules of booktabs (`\usepackage{booktabs}`).

    Numbers stand on the right, with three significant digits; what is missing is empty.
    """
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table.columns]
    lines = [" & ".join(escaped(str(name)) for name in table.columns)]
    lines += [" & ".join(map(_cell, row)) for row in table.itertuples(index=False)]
    head, *rows = (f"{line} \\\\" for line in lines)
    columns = "".join("r" if one else "l" for one in numeric)
    return "\n".join(
        [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule",
         r"\end{tabular}", ""]
    )  # fmt: skip


def _cell(value: object) -> str:
    if isinstance(value, bool | str):
        return escaped(str(value))
    if value is None or value != value:
        return ""
    if isinstance(value, Integral):
        return escaped(f"{int(value)}".replace("-", "−"))
    if isinstance(value, Real):
        return escaped(f"{float(value):.3g}".replace("-", "−"))
    return escaped(str(value))
