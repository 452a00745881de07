"""Tables as CSV for programs, LaTeX for papers and Markdown for notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mrprism.compare.tables import Cell, Line, Table
from mrprism.metrics import METRICS
from mrprism.metrics.scores import REFERENCE
from mrprism.output import tables
from mrprism.report.findings import DASH, number

READS = {"image": "image", "masks": "masks it is scored on", "both": "image, and masks it is scored on"}
ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def to_csv(table: Table) -> str:
    """One row for each structure and method; for each column mean, spread, and what the test says.

    Fractions are not multiplied by 100. `difference` is the best of the column minus this line.
    """
    parts = ("mean", "sd_over_seeds", "best_minus_this", "low", "high", "p_all_pairs", "verdict")
    heads = [f"{c.target}: {c.metric}: {part}" for c in table.columns for part in parts]
    rows: list[list[Any]] = []
    for part in table.structures:
        for line in part.lines:
            values = [value for cell in line.cells for value in _values(cell)]
            rows.append(
                [part.structure, line.label, line.result.candidate.key, line.recurrence, READS[line.reads],
                 line.seeds, *values, line.why]
            )  # fmt: skip
    return tables.to_csv(
        ["structure", "method", "run", "recurrence", "reads", "seeds", *heads, "remark"], rows
    )


def _values(cell: Cell) -> list[str]:
    against = cell.against
    difference = against.difference if against else None
    numbers = (
        cell.mean,
        cell.spread,
        difference.mean if difference else math.nan,
        difference.low if difference else math.nan,
        difference.high if difference else math.nan,
        against.p if against else math.nan,
    )
    verdict = "best" if cell.best else "level with the best" if cell.level else "worse" if against else ""
    return ["" if math.isnan(value) else repr(float(value)) for value in numbers] + [verdict]


def to_latex(table: Table, note: str) -> str:
    """A booktabs table, one tabular; `note` goes under it as text."""
    columns = ("ll" if table.masks else "l") + "".join(
        "@{\\hspace{1.2em}}" + "r" * len(metrics) for _, metrics in table.groups
    )
    width = 1 + table.masks + len(table.columns)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{escape(table.contents.title)}. {escape(note)}}}",
        rf"\label{{tab:{table.contents.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *_head(table),
        r"\midrule",
    ]
    for number_, part in enumerate(table.structures):
        if number_:
            lines.append(r"\addlinespace")
        if len(table.structures) > 1:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(part.structure)}}}}} \\")
        lines += [_line(line, table, width) for line in part.lines]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _head(table: Table) -> list[str]:
    names = ["Method", "Reads"] if table.masks else ["Method"]
    first, rules, at = [""] * len(names), [], 1 + len(names)
    for target, metrics in table.groups:
        first.append(rf"\multicolumn{{{len(metrics)}}}{{c}}{{against the {escape(target)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + len(metrics) - 1}}}")
        at += len(metrics)
    arrow = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}
    metrics_ = [METRICS[column.metric] for column in table.columns]
    arrows = [f"{escape(metric.label)} {arrow[metric.better]}" for metric in metrics_]
    return [" & ".join(first) + r" \\", "".join(rules), " & ".join([*names, *arrows]) + r" \\"]


def _line(line: Line, table: Table, width: int) -> str:
    name = escape(line.label)
    if line.entry is None:
        return rf"{name} & \multicolumn{{{width - 1}}}{{l}}{{\footnotesize {escape(short(line.why))}}} \\"
    cells = [_latex(cell, column.metric) for cell, column in zip(line.cells, table.columns, strict=True)]
    reads = [READS[line.reads]] if table.masks else []
    return " & ".join([name, *reads, *cells]) + r" \\"


def _latex(cell: Cell, metric: str) -> str:
    if math.isnan(cell.mean):
        return "--"
    mean = number(cell.mean, metric)
    spread = "" if math.isnan(cell.spread) else rf"{{\scriptsize$\pm${number(cell.spread, metric)}}}"
    if cell.best:
        mean = rf"\textbf{{{mean}}}"
    elif cell.level:
        mean = rf"\underline{{{mean}}}"
    return mean + spread


def to_markdown(table: Table, note: str) -> str:
    """One table for each structure, as it is shown where code is hosted; `note` goes under them."""
    arrow = {"higher": "↑", "lower": "↓"}
    metrics = [(METRICS[column.metric], column.target) for column in table.columns]
    heads = ["method", *(f"{metric.label} {arrow[metric.better]}, {target}" for metric, target in metrics)]
    title = ": ".join(filter(None, (table.contents.number, table.contents.title)))
    lines = [f"### {title}", ""]
    for part in table.structures:
        if len(table.structures) > 1:
            lines += [f"**{part.structure}**", ""]
        lines += [_row(heads), _row(["---", *["---:"] * len(metrics)])]
        for line in part.lines:
            if line.entry is None:
                cells = [short(line.why), *[""] * (len(metrics) - 1)]
            else:
                cells = [
                    _marked(cell, column.metric)
                    for cell, column in zip(line.cells, table.columns, strict=True)
                ]
            lines.append(_row([line.label, *cells]))
        lines.append("")
    return "\n".join([*lines, note.replace("Underlined:", "Italic:"), ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _marked(cell: Cell, metric: str) -> str:
    if math.isnan(cell.mean):
        return DASH
    mark = "**" if cell.best else "*" if cell.level else ""
    spread = "" if math.isnan(cell.spread) else f" ± {number(cell.spread, metric)}"
    return f"{mark}{number(cell.mean, metric)}{mark}{spread}"


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(ESCAPES.get(letter, letter) for letter in text).replace(DASH, "--").replace("−", "$-$")


def short(sentence: str, most: int = 90) -> str:
    """The beginning of a sentence, cut at a word."""
    if len(sentence) <= most:
        return sentence
    return sentence[:most].rsplit(" ", 1)[0] + " ..."


def explanation(table: Table, seeds: int) -> str:
    """What stands under a table, in plain words."""
    said = ["Mean over test cases" + (" ± standard deviation over seeds" if seeds > 1 else ", one seed")]
    said[0] += "; Dice and ECE times 100."
    if any(cell.best for cell in table.cells()):
        always = ", and with every seed" if seeds > 1 else ""
        said.append(f"Bold: better than every other method of its column by more than chance{always}.")
    if table.ties:
        said.append(
            "Underlined: the methods at the top between which no difference could be shown, the highest mean among them."
        )
    if table.by_answers:
        said.append("Methods are compared only with those that give as many answers.")
    if any(cell.best or cell.level for cell in table.cells()):
        said.append(
            "Seeds' mean scores, signs exchanged patient by patient; corrected for all pairs of methods of a "
            "column, 5 % level."
        )
    if any(column.target == REFERENCE for column in table.columns):
        said.append(
            "Soft Dice against a hard reference rewards sharp answers: read it beside Dice@0.5 and Brier."
        )
    return " ".join(said)
