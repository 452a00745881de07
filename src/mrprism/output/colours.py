"""Colours that mean the same wherever something is drawn: pages, figures, the viewer."""

from __future__ import annotations

import colorsys

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

STOPS = {  # nine colours of each map from its low end to its high one, for legends: matplotlib is slow to import
    SHARE_COLOURS: (
        "#000003", "#1b1044", "#4f117b", "#812581", "#b53679", "#e55063", "#fb8660", "#fec286", "#fbfcbf",
    ),
    CONFIDENCE_COLOURS: (
        "#081d58", "#243392", "#225da7", "#1d90bf", "#40b5c3", "#7eccbb", "#c6e8b4", "#ecf7b1", "#ffffd9",
    ),
}  # fmt: skip

BLANK = 0.12  # ground of a case without an image: dark, so that every rater's colour is seen on it


RATER_DASHES = ("", "9 4", "2 4", "10 4 2 4")  # of SVG, in pixels of the screen; the first is solid
_DASH_OF = (0, 1, 2, 3, 2, 0, 3, 1)  # of the first eight no two of one dash look alike to the colour-blind


def rater_dash(index: int) -> str:
    """How the rater's outline is dashed where dashes are asked for, so that colour is not all that tells raters apart."""
    return RATER_DASHES[_DASH_OF[index % len(_DASH_OF)]]


def rater_colour(index: int) -> str:
    """The same colour for the same rater everywhere.

    Beyond the twenty of the list hues go on by the golden angle, in three brightnesses, so that no colour comes again.
    """
    if index < len(RATER_COLOURS):
        return RATER_COLOURS[index]
    red, green, blue = colorsys.hls_to_rgb((index * 0.381966) % 1, (0.45, 0.62, 0.78)[index % 3], 0.6)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
