"""Slices between two: a disc that grows evenly, and a step of one pixel worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mrprism.images.between import between


def disc(radius: float, centre: tuple[float, float] = (30, 30)) -> np.ndarray:
    rows, columns = np.indices((61, 61))
    return np.asarray(np.hypot(rows - centre[0], columns - centre[1]) < radius)


def test_radii_in_between_are_in_between() -> None:
    for share, mask in zip((0.25, 0.5, 0.75), between(disc(8), disc(24), 3), strict=True):
        assert np.sqrt(mask.sum() / np.pi) == pytest.approx(8 + 16 * share, abs=0.4)


def test_it_ends_where_it_should_and_the_same_stays_the_same() -> None:
    assert np.array_equal(between(disc(9), disc(9), 2), [disc(9)] * 2)
    assert np.array_equal(between(disc(9), disc(20), 4), between(disc(20), disc(9), 4)[::-1])


def test_by_hand() -> None:
    """A bar from column 2 to 4 against one from 2 to 8: in the middle it ends at column 6."""
    first, last = np.zeros((1, 12), bool), np.zeros((1, 12), bool)
    first[0, 2:5], last[0, 2:9] = True, True
    tall = np.repeat(first, 41, axis=0), np.repeat(last, 41, axis=0)
    assert np.flatnonzero(between(*tall, 1)[0, 20]).tolist() == [2, 3, 4, 5, 6]


def test_pixels_that_are_not_square_count_in_millimetres() -> None:
    tall = np.zeros((20, 20), bool)
    tall[5:15, 9:11] = True
    assert not np.array_equal(
        between(tall, disc(4)[20:40, 20:40], 3), between(tall, disc(4)[20:40, 20:40], 3, (4.0, 1.0))
    )


def test_shapes_that_lie_apart_move_from_the_one_place_to_the_other() -> None:
    middle = between(disc(6, (12, 12)), disc(10, (44, 44)), 1)[0]
    assert np.argwhere(middle).mean(axis=0) == pytest.approx([28, 28], abs=0.3)
    assert np.sqrt(middle.sum() / np.pi) == pytest.approx(8, abs=0.5)
