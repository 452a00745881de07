"""How results look in a notebook: a line of text and a picture, as HTML that needs nothing else."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

import numpy as np

INCHES = 2.6  # a panel's width


def html(text: str, figure: Any) -> str:
    """A line above a figure of matplotlib; the text is escaped."""
    return f'<p>{escape(text)}</p><img src="{png_uri(figure)}" alt="{escape(text)}">'


def png_uri(figure: Any) -> str:
    """A figure as a data URI."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def maps_html(text: str, maps: Any) -> str:
    """The probability of each structure (C, *space); of a volume the slice on which most is inside."""
    if not isinstance(maps, np.ndarray) or maps.ndim not in (3, 4) or not maps.size:
        return f"<p>{escape(text)}</p>"  # a batch
    if maps.ndim == 4:
        maps = maps[:, int(maps.sum(axis=(0, 2, 3), dtype=np.float64).argmax())]
    from matplotlib.figure import Figure

    height, width = maps.shape[1:]
    figure = Figure(figsize=(len(maps) * INCHES, INCHES * height / width + 0.35), layout="constrained")
    for number, probability in enumerate(maps, 1):
        axes = figure.add_subplot(1, len(maps), number)
        axes.imshow(probability, cmap="magma", vmin=0, vmax=1)
        axes.set_title(f"structure {number}", fontsize=11)
        axes.set_axis_off()
    return html(text, figure)
