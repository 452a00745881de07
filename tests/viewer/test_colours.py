"""Raters can be told apart by people who do not see all colours: by colour, or by the dash of the outline."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib import colormaps

from mrprism.output.colours import STOPS, rater_colour, rater_dash

SEEN = {  # Machado, Oliveira, Fernandes, IEEE TVCG 15(6), 2009: severity 1, on linear red, green, blue
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "all colours": np.eye(3).tolist(),
}  # fmt: skip
APART = 15.0  # of CIE 1976 Lab; 2.3 is just noticeable side by side
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def lab(colour: str, seen: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    ratio = TO_XYZ @ np.clip(np.array(SEEN[seen]) @ linear, 0, 1) / WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def test_the_measure_is_that_of_the_cie() -> None:
    assert lab("#ffffff", "all colours") == pytest.approx([100, 0, 0], abs=0.02)
    assert lab("#ff0000", "all colours") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)


@pytest.mark.parametrize("seen", SEEN)
def test_the_first_eight_raters_differ_in_colour_or_in_dash(seen: str) -> None:
    for first, second in combinations(range(8), 2):
        apart = np.linalg.norm(lab(rater_colour(first), seen) - lab(rater_colour(second), seen))
        assert rater_dash(first) != rater_dash(second) or apart > APART, (first, second, apart)


def test_no_two_raters_of_sixty_have_one_colour() -> None:
    assert len({rater_colour(r) for r in range(60)}) == 60


@pytest.mark.parametrize("colours", STOPS)
def test_the_colours_of_a_legend_are_those_of_the_map(colours: str) -> None:
    table = colormaps[colours](np.linspace(0, 255, 9).astype(int), bytes=True)
    assert STOPS[colours] == tuple("#{:02x}{:02x}{:02x}".format(*stop[:3]) for stop in table)
