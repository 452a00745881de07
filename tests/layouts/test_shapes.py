"""Rasterising, against matplotlib's point-in-path test and by hand."""

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from mrprism.layouts.shapes import ellipse, polygon, rectangle


@pytest.mark.parametrize("seed", range(20))
def test_polygons_as_matplotlib_sees_their_pixel_centres(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = 23, 31
    angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
    points = np.stack([15 + 18 * rng.random(9) * np.cos(angle), 11 + 14 * rng.random(9) * np.sin(angle)], 1)
    row, column = np.mgrid[:height, :width] + 0.5
    centres = np.stack([column.ravel(), row.ravel()], 1)
    inside = Outline(np.vstack([points, points[:1]]), closed=True).contains_points(centres)
    np.testing.assert_array_equal(polygon(points, (height, width)), inside.reshape(height, width))


def test_whole_pixels() -> None:
    square = np.array([(2, 1), (5, 1), (5, 4), (2, 4)], float)
    want = np.zeros((6, 8), bool)
    want[1:4, 2:5] = True
    np.testing.assert_array_equal(polygon(square, (6, 8)), want)
    np.testing.assert_array_equal(polygon(square[::-1], (6, 8)), want)
    np.testing.assert_array_equal(rectangle((2.0, 1.0), (3.0, 3.0), 0.0, (6, 8)), want)
    assert not polygon(square + 100, (6, 8)).any()
    assert polygon(np.array([(-9, -9), (99, -9), (99, 99), (-9, 99)], float), (6, 8)).all()


def test_a_line_that_crosses_itself_leaves_a_hole() -> None:
    twice = np.array([(0, 0), (6, 0), (6, 6), (0, 6), (0, 0), (2, 2), (4, 2), (4, 4), (2, 4), (2, 2)], float)
    assert polygon(twice, (6, 6)).sum() == 36 - 4


def test_turned_shapes() -> None:
    half = rectangle((4.0, 4.0), (3.0, 2.0), 90.0, (10, 10))  # down and to the left of its corner
    want = np.zeros((10, 10), bool)
    want[4:7, 2:4] = True
    np.testing.assert_array_equal(half, want)
    flat, tall = (ellipse((8.0, 8.0), (6.0, 3.0), turn, (16, 16)) for turn in (0.0, 90.0))
    np.testing.assert_array_equal(flat.T, tall)
    assert flat.sum() == pytest.approx(np.pi * 18, rel=0.05)
    slant = ellipse((16.0, 16.0), (12.0, 3.0), 45.0, (32, 32))
    assert slant[22, 22]  # clockwise: towards the lower right
    assert not slant[9, 22]
