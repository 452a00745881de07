"""Which of two raters is the steadier, when there is nobody else to hold either of them against.

Beside each other two raters only show how far they differ. But structures differ in size from image to image, and
are not round, and whoever errs makes what they draw vary more than that: of two measurements of the same things the
one that varies more has the larger error, if errors do not depend on what is measured.

Sources: Grubbs, "On estimating precision of measuring instruments and product variability", JASA 43, 1948;
Pitman, "A note on normal correlation", Biometrika 31, 1939, and Morgan, the same volume: the sum and the difference
of two measurements are correlated where their errors differ.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from mrprism.fusion.drawing import Drawing
from mrprism.fusion.robust import shrunk

LEAST = 0.02  # of the other's variance is left to the steadier
CLEARER = 1.5  # power of their odds: seen from their own middle in a few directions outlines differ less than they do
STRAY = 4.0  # standard deviations; beyond, a failed outline is a bad one and no more


def profiles(drawing: Drawing) -> Float[np.ndarray, "K direction"]:
    """How far each mask's outline lies from its own middle, in 8 directions (26 of a volume)."""
    axes = len(drawing.spacing)
    ways = np.array([way for way in itertools.product((-1.0, 0.0, 1.0), repeat=axes) if any(way)])
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    found = []
    for distance in drawing.distance:
        inside = np.argwhere(distance > 0) * drawing.spacing
        outline = np.argwhere(np.abs(distance) <= drawing.pixel) * drawing.spacing - inside.mean(axis=0)
        nearest = (outline @ ways.T).argmax(axis=1)
        away = np.linalg.norm(outline, axis=1)
        count = np.bincount(nearest, minlength=len(ways))
        total = np.bincount(nearest, away, minlength=len(ways))
        found.append(np.where(count > 0, total / np.maximum(count, 1), away.mean()))
    return np.array(found)


def share_of_first(
    both: Float[np.ndarray, "N 2 direction"],
    unit: Float[np.ndarray, " N"],
    *,
    relative: bool,
    least: float,
) -> float:
    """Of the error variance of two raters, the share of the first; 0.5 as far as it may be chance.

    Size and shape are told apart, each by the covariance of sum and difference, and joined by how sure they are.

    Args:
        both: `profiles` of the images that both drew.
        unit: Length in which their errors are told, of each image.
        relative: Errors are shares of the structure's size.
        least: Variance in those units that the grid makes; what is finer is nobody's.
    """
    sizes = both.mean(axis=2, keepdims=True)
    shapes = (both - sizes) / unit[:, None, None]
    sizes = np.log(sizes) if relative else sizes / unit[:, None, None]
    part, sure = np.zeros(2), np.zeros(2)
    for n, one in enumerate((sizes, shapes)):
        total, apart = one[:, 0] + one[:, 1], one[:, 1] - one[:, 0]
        total, apart = total - np.median(total), apart - np.median(apart)
        far = STRAY * 1.48 * float(np.median(np.abs(apart)))
        apart = apart.clip(-far, far)
        each = (total * apart).mean(axis=1)
        usual = max(float(np.mean(apart**2)), 1e-12)
        part[n] = each.mean() / usual
        sure[n] = len(each) * usual**2 / (each.var(ddof=1) + least**2)
    found = shrunk(float(part @ sure / sure.sum()), float(sure.sum() ** -0.5))
    found = min(max(found, -0.99), 0.99)
    odds = (1 - found) / (1 + found)
    odds = min(max(odds, LEAST), 1 / LEAST) ** CLEARER
    return float(odds / (1 + odds))
