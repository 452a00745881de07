"""Distances against MONAI, SimpleITK and cases worked by hand."""

import math

import numpy as np
import pytest
from scipy import ndimage

from mrprism.metrics import distance, hd95
from mrprism.metrics.distance import pairwise_hd95


def disc(row: float, column: float, radius: float, size: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def test_by_hand_in_millimetres() -> None:
    first, second = np.zeros((2, 9, 9), bool)
    first[2, 4] = second[5, 4] = True
    assert hd95(first, second, (1.0, 1.0)) == 3
    assert hd95(first, second, (0.5, 9.0)) == 1.5


def test_equal_outlines() -> None:
    assert hd95(disc(30, 30, 9), disc(30, 30, 9), (0.7, 0.7)) == 0


def test_unknown() -> None:
    some, none = disc(30, 30, 9), np.zeros((64, 64), bool)
    assert math.isnan(hd95(some, some, None))
    for pair in ((some, none), (none, some), (none, none)):
        assert math.isnan(hd95(*pair, (1.0, 1.0)))


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.4, 1.7)])
def test_as_monai(spacing: tuple[float, float]) -> None:
    import torch
    from monai.metrics import compute_hausdorff_distance

    pairs = [
        (disc(30, 30, 12), disc(34, 28, 9)),
        (disc(2, 60, 9), disc(5, 50, 20)),
        (disc(30, 30, 30), disc(9, 9, 2)),
    ]
    for first, second in pairs:
        theirs = compute_hausdorff_distance(
            torch.tensor(first)[None, None], torch.tensor(second)[None, None],
            include_background=True, percentile=95, spacing=list(spacing),
        )  # fmt: skip
        assert hd95(first, second, spacing) == pytest.approx(float(theirs), abs=1e-4)


def test_never_beyond_simpleitks_hausdorff_distance_in_three_dimensions() -> None:
    import SimpleITK

    first, second = np.zeros((2, 12, 30, 30), bool)
    first[3:8] = disc(14, 14, 8, 30)
    second[4:10] = disc(16, 13, 6, 30)
    images = [SimpleITK.GetImageFromArray(m.astype(np.uint8)) for m in (first, second)]
    for image in images:
        image.SetSpacing((0.8, 0.8, 2.5))  # x, y, z
    largest = SimpleITK.HausdorffDistanceImageFilter()
    largest.Execute(*images)
    ours = hd95(first, second, (2.5, 0.8, 0.8))
    assert 0.4 * largest.GetHausdorffDistance() < ours <= largest.GetHausdorffDistance()


def test_distances_are_those_of_the_whole_distance_map() -> None:
    """SciPy's map over every pixel gives the same numbers to the last bit."""
    rng = np.random.default_rng(4)
    masks = np.stack([ndimage.gaussian_filter(rng.random((9, 14, 11)), 1) > 0.5 for _ in range(3)])
    spacing = [2.5, 0.7, 0.9]
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    maps = [ndimage.distance_transform_edt(~line, sampling=spacing) for line in outlines]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        wanted = max(
            np.percentile(maps[other][outlines[one]], 95), np.percentile(maps[one][outlines[other]], 95)
        )
        assert hd95(masks[one], masks[other], spacing) == wanted


@pytest.mark.parametrize("shape", [(1, 9), (2, 2), (7, 1, 8), (5, 6, 7), (11,)])
def test_the_outline_is_what_erosion_takes_away(shape: tuple[int, ...]) -> None:
    masks = np.random.default_rng(6).random((9, *shape)) > 0.2
    for mask in (*masks, np.ones(shape, bool)):
        np.testing.assert_array_equal(distance.outline(mask), mask & ~ndimage.binary_erosion(mask))


@pytest.mark.parametrize("spacing", [(10.0, 0.3, 0.4), (1.0, 1.0, 1.0), (0.2, 7.0, 0.9)])
def test_near_and_far_and_in_a_map_it_is_the_same_distance(
    monkeypatch: pytest.MonkeyPatch, spacing: tuple[float, ...]
) -> None:
    """However far apart outlines are, and however many pixels of them."""
    rng = np.random.default_rng(7)
    masks = np.zeros((5, 12, 30, 30), bool)
    masks[0, 2:5, 3:9, 4:8] = masks[1, 3:6, 3:9, 5:9] = masks[2, 9:11, 20:29, 22:28] = True
    masks[3] = rng.random(masks[3].shape) > 0.5
    masks[4] = ndimage.gaussian_filter(rng.random(masks[4].shape), 2) > 0.5
    lines = [distance.outline(mask) for mask in masks]
    maps = [ndimage.distance_transform_edt(~line, sampling=spacing) for line in lines]
    there = np.array([[np.percentile(reach[line], 95) for line in lines] for reach in maps])
    for pixels in (0, distance.MAP, 10**6):  # in trees alone, as it is, in maps alone
        monkeypatch.setattr(distance, "MAP", pixels)
        np.testing.assert_allclose(pairwise_hd95(masks, spacing), np.maximum(there, there.T), rtol=1e-14)


@pytest.mark.parametrize("slab", [1, 300, 1 << 21])
def test_in_a_large_box_trees_find_the_distances_of_the_map(
    monkeypatch: pytest.MonkeyPatch, slab: int
) -> None:
    rng = np.random.default_rng(5)
    smooth = [ndimage.gaussian_filter(rng.random((17, 14, 11)), 1.5) > 0.5 for _ in range(2)]
    noise, far, none = (
        rng.random((17, 14, 11)) > 0.5,
        np.zeros((17, 14, 11), bool),
        np.zeros((17, 14, 11), bool),
    )
    far[15, 2:9, 3:8] = True
    volumes = np.stack([*smooth, noise, far, none, np.ones_like(none)])
    flat = np.stack([disc(30, 30, 12), disc(34, 28, 9), disc(2, 60, 9)])
    for masks, spacing in ((volumes, (2.5, 0.7, 0.9)), (flat, (0.4, 1.7))):
        wanted = pairwise_hd95(masks, spacing)
        pairs = [hd95(one, other, spacing) for one in masks for other in masks]
        with monkeypatch.context() as changed:
            changed.setattr(distance, "LARGE", 0)
            changed.setattr(distance, "SLAB", slab)
            changed.setattr(distance, "TREE", 60)
            np.testing.assert_allclose(pairwise_hd95(masks, spacing), wanted, rtol=1e-6)
            found = [hd95(one, other, spacing) for one in masks for other in masks]
        np.testing.assert_allclose(found, pairs, rtol=1e-6)
