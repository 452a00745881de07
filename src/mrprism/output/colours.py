"""Colours that mean the same wherever something is drawn: pages, figures, the viewer."""

from __future__ import annotations

RATER_COLOURS = (  # matplotlib's tab10, then its lighter twins
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd",
    "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
    "#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5",
    "#c49c94", "#f7b6d2", "#c7c7c7", "#dbdb8d", "#9edae5",
)  # fmt: skip
PREDICTION_COLOUR = "#d1495b"
SHARE_COLOURS, CONFIDENCE_COLOURS = (
    "magma",
    "YlGnBu_r",
)  # matplotlib's maps: of votes and probabilities; of trust

BLANK = 0.12  # ground of a case without an image: dark, so that every rater's colour is seen on it


RATER_DASHES = ("", "9 4", "2 4", "10 4 2 4")  # of SVG, in pixels of the screen; the first is solid
_DASH_OF = (0, 1, 2, 3, 2, 0, 3, 1)  # of the first eight no two of one dash look alike to the colour-blind


def rater_dash(index: int) -> str:
    """How the rater's outline is dashed where dashes are asked for, so that colour is not all that tells raters apart."""
    return RATER_DASHES[_DASH_OF[index % len(_DASH_OF)]]


def rater_colour(index: int) -> str:
    """The same colour for the same rater everywhere."""
    return RATER_COLOURS[index % len(RATER_COLOURS)]
