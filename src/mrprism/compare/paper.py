"""Figures 4 to 6 of the paper as files to put into one's own: SVG to edit, PDF to include.

The same folder gives the same bytes.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrprism.compare import figures
from mrprism.compare.figures import RaterTable, ShownCase
from mrprism.compare.page import results_of, widest
from mrprism.compare.results import Comparison
from mrprism.compare.tables import Table
from mrprism.output.colours import rater_colour
from mrprism.output.files import write_file
from mrprism.report.plot_case import FOUND, REFERENCE, outline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
STYLE = {
    "svg.hashsalt": "mrprism",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # letters stay letters
    "text.parse_math": False,  # names of raters and methods are no formulas
    "font.size": 8,
}
DOTS = 200  # per inch, of images


def write_figures(comparison: Comparison, tables: Sequence[Table], out: Path) -> None:
    """Write figure4, figure5 and figure6 into a folder, as far as there is anything to show.

    Figure 4: Dice of each method with each single rater; none where raters are anonymous. Figure 5: the same
    cases of every method that sees the image alone. Figure 6: of those that are given the raters' masks.
    """
    import matplotlib

    image, masks = results_of(tables, "image"), results_of(tables, "masks")
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a font without a sign that stands in somebody's name
        if image and (parts := figures.rater_tables(comparison, widest(tables))):
            _write(out, "figure4", each_rater(parts))
        if rows := figures.shown_cases(comparison, image, "image"):
            _write(out, "figure5", cases(rows))
        if rows := figures.shown_cases(comparison, masks, "masks"):
            _write(out, "figure6", cases(rows))


def _write(out: Path, name: str, figure: Figure) -> None:
    for suffix, metadata in METADATA.items():
        content = io.BytesIO()
        figure.savefig(content, format=suffix, dpi=DOTS, metadata=metadata)
        write_file(out / f"{name}.{suffix}", content.getvalue(), durable=False)


def each_rater(parts: Sequence[RaterTable]) -> Figure:
    """Lines of methods, columns of raters, the darker the nearer; a block for each structure."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    heads = [*parts[0].raters, "lowest", "mean"]
    heights = [len(part.lines) + 2 for part in parts]
    figure = Figure(figsize=(2.2 + 0.6 * len(heads), 0.23 * sum(heights)), layout="constrained")
    blocks = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, part in zip(blocks, parts, strict=True):
        names = [name for name, *_ in part.lines]
        axes.set(xlim=(0, len(heads)), ylim=(len(names), 0))
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        turned = 30 if max(map(len, heads)) > 9 else 0
        axes.set_xticks(np.arange(len(heads)) + 0.5, heads, rotation=turned)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes.set_title(part.structure, loc="left", fontweight="bold", fontsize=9)
        for i, (_, cells, lowest, mean) in enumerate(part.lines):
            for j, cell in enumerate(cells):
                colour = "none" if cell.shade == "transparent" else cell.shade
                axes.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="white"))
            for j, text in enumerate([*(cell.text for cell in cells), lowest, mean]):
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center")
    return figure


def cases(rows: Sequence[ShownCase]) -> Figure:
    """Rows of cases; all raters first, then each method solid with the target dashed, and its Dice below."""
    from matplotlib.figure import Figure

    count = 1 + len(rows[0].methods)
    titles = [textwrap.fill(title, 15) for title, _ in rows[0].methods]
    lines = 1 + max(title.count("\n") for title in titles)
    figure = Figure(figsize=(1.05 * count, 1.2 * len(rows) + 0.14 * lines), layout="constrained")
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, row in zip(panels, rows, strict=True):
        for axes in line:
            axes.imshow(row.window.cut(row.case.image))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_xlabel(textwrap.shorten(row.case.name, 24, placeholder="…"), fontsize=6)
        _draw_raters(line[0], row)
        for axes, (_, flat) in zip(line[1:], row.methods, strict=True):
            axes.set_xlabel(figures.dices(flat), fontsize=6)
            for values in flat.probability:
                outline(axes, row.window.cut(values), "black", 1.4)
                outline(axes, row.window.cut(values), FOUND, 0.9)
            for mask in row.case.target:
                outline(axes, row.window.cut(mask), REFERENCE, 0.7, dashed=True)
    for axes, title in zip(panels[0], [figures.count_raters(rows[0].case), *titles], strict=True):
        axes.set_title(title, fontsize=7)
    return figure


def _draw_raters(axes: Any, row: ShownCase) -> None:
    for r, c in zip(*np.nonzero(row.case.rated), strict=True):
        outline(axes, row.window.cut(row.case.masks[r, c]), rater_colour(int(r)), 0.7)
