"""An agreement in a notebook: mean Dice of every two raters, a square for each structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrprism.agreement.structure import StructureAgreement
from mrprism.core.notebook import INCHES, html
from mrprism.core.rows import Rows, html_table

STRUCTURES, NAMED = 6, 12  # shown; raters up to which they are named


def agreement_html(
    text: str,
    structures: Sequence[StructureAgreement],
    raters: Sequence[str],
    dice: Mapping[str, np.ndarray],
    overall: Rows[Any],
) -> str:
    """A picture and the overall table; of anonymous raters, who have no pairs, the Dice of the cases.

    Args:
        dice: (R, R) of every two raters, by structure.
    """
    from matplotlib.figure import Figure

    parts = structures[:STRUCTURES]
    figure = Figure(figsize=(len(parts) * INCHES * 1.3, INCHES * 1.3), layout="constrained")
    for number, part in enumerate(parts, 1):
        axes = figure.add_subplot(1, len(parts), number)
        axes.set_title(f"{part.structure}: Dice {part.overall['dice']}", fontsize=9, parse_math=False)
        if not part.pairs:
            axes.hist(part.cases["dice"][~np.isnan(part.cases["dice"])], bins=20, range=(0, 1))
            axes.set_xlabel("mean Dice of a case")
            continue
        axes.imshow(dice[part.structure], vmin=0, vmax=1, cmap="viridis")
        names = raters if len(raters) <= NAMED else ()
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    return html(text, figure) + html_table(
        overall.columns, [list(row.values()) for row in overall], len(overall)
    )
