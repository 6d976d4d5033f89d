"""Tables in LaTeX: each file a table of an article, and a document where it stands alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mstkd.report.rounding import UNDEFINED
from mstkd.report.shown import Cell, Shown

LATEX_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "±": r"$\pm$",
    "−": "$-$",
    "λ": r"$\lambda$",
}


def latex_escaped(text: str) -> str:
    """Text that stands in LaTeX as it is."""
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text)


def _head(name: str, caption: str) -> list[str]:
    r"""A table where a document reads the file, a document of its own where LaTeX alone does.

    Before \\begin{document} \\@nodocument is an error message, after it nothing.
    """
    return [
        rf"% In an article: \usepackage{{booktabs,graphicx}} and \input{{{name}}}.",
        rf"% Alone: pdflatex {name}.tex",
        r"\makeatletter",
        r"\let\mstkdend\relax",
        r"\ifx\@nodocument\relax\else",
        r"\documentclass[twocolumn]{article}",
        r"\usepackage{booktabs,graphicx}",
        r"\def\mstkdend{\end{document}}",
        r"\makeatother",
        r"\begin{document}",
        r"\fi",
        r"\makeatother",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{name}}}",
        r"\scriptsize",
        r"\setlength{\tabcolsep}{2pt}",
        "% What is narrower than a column stays as it is.",
        r"\resizebox{\ifdim\width>\columnwidth \columnwidth\else\width\fi}{!}{%",
    ]


def _foot(notes: str) -> list[str]:
    return [
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip",
        rf"\parbox{{\columnwidth}}{{\scriptsize {notes}}}",
        r"\end{table}",
        r"\mstkdend",
        "",
    ]


def latex_table(table: Shown, caption: str, name: str) -> str:
    """The table as a file of LaTeX that fits a column of a two-column article.

    Args:
        table: what it shows.
        caption: of it.
        name: of the file, without suffix; of the label behind `tab:`.
    """
    width = table.labels + len(table.columns)
    heads = (latex_escaped(one).replace("Global Acc", "Global") for one in table.columns)
    lines = [
        *_head(name, latex_escaped(caption)),
        rf"\begin{{tabular}}{{@{{}}{'l' * table.labels}{'r' * len(table.columns)}@{{}}}}",
        r"\toprule",
        " & ".join([*[""] * table.labels, *heads]).strip() + r" \\",
    ]
    for section, rows in table.sections:
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textit{{{section}}}}} \\"]
        for names, cells in rows:
            lines.append(_row(list(map(latex_escaped, names)), [_bold(cell) for cell in cells]))
            for words, texts in _further_lines(cells):
                head = [rf"\ {words}", *[""] * (table.labels - 1)]
                lines.append(_row(head, list(map(latex_escaped, texts))))
    notes = [*table.notes]
    if any(cell.interval for cell in table.cells):  # a column of an article has no room for them
        notes.append(f"Intervals stand in {name}.csv.")
    return "\n".join([*lines, *_foot(latex_escaped(" ".join(notes)))])


def _further_lines(cells: Sequence[Cell]) -> Iterator[tuple[str, list[str]]]:
    """Lines under a row, with what they are called: beside a number there is no room."""
    for words, name in (
        (r"$\pm$", "seed_std"),
        ("paper", "published"),
        ("difference", "difference"),
    ):
        texts = [getattr(cell, name) or "" for cell in cells]
        if any(texts):
            yield words, texts


def _bold(cell: Cell) -> str:
    return rf"\textbf{{{cell.value}}}" if cell.best else cell.value.replace(UNDEFINED, "--")


def _row(head: Sequence[str], texts: Sequence[str]) -> str:
    return " & ".join([*head, *texts]).strip() + r" \\"
