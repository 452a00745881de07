"""What every fusion promises, whatever its method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrprism.core.errors import InputError
from mrprism.fusion import BY_DISTANCE, FUSIONS

ALL = pytest.mark.parametrize("name", FUSIONS)
PIXELWISE = pytest.mark.parametrize("name", [n for n in FUSIONS if n not in BY_DISTANCE])
examples = settings(deadline=None, max_examples=15)


def outlines(seed, raters=4, structures=2, space=(14, 15)):
    """Discs of different raters with some stray pixels."""
    rng = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(0, n) for n in space)]
    masks = np.zeros((raters, structures, *space), bool)
    for r in range(raters):
        for c in range(structures):
            far = sum((a - n / 2 - rng.normal(0, 1)) ** 2 for a, n in zip(axes, space, strict=True))
            masks[r, c] = far < rng.uniform(2, 5) ** 2
    return masks ^ (rng.random(masks.shape) < 0.02)


def all_rated(masks):
    return np.ones(masks.shape[:2], bool)


def check_defined(fused, masks):
    assert fused.probability.shape == masks.shape[1:]
    assert fused.probability.dtype == np.float32
    assert fused.confusion.shape == (*masks.shape[:2], 2, 2)
    assert fused.probability.min() >= 0
    assert fused.probability.max() <= 1
    np.testing.assert_allclose(fused.confusion.sum(axis=-1), 1, atol=1e-9)
    assert fused.ties is None or (fused.ties.dtype == bool and fused.ties.shape == masks.shape[1:])


@ALL
@given(seed=st.integers(0, 10_000))
@examples
def test_order_of_raters_does_not_matter(name, seed):
    masks = outlines(seed)
    rated = np.random.default_rng(seed).random(masks.shape[:2]) < 0.8
    rated[0] = True
    order = np.random.default_rng(seed + 1).permutation(len(masks))
    one = FUSIONS[name](masks, rated)
    other = FUSIONS[name](masks[order], rated[order])
    check_defined(one, masks)
    np.testing.assert_allclose(other.probability, one.probability, atol=1e-5)
    np.testing.assert_allclose(other.confusion, one.confusion[order], atol=1e-5)


@ALL
@given(seed=st.integers(0, 10_000), raters=st.integers(1, 5))
@examples
def test_unanimous_raters_come_back_unchanged(name, seed, raters):
    mask = outlines(seed, raters=1)
    masks = np.repeat(mask, raters, axis=0)
    fused = FUSIONS[name](masks, all_rated(masks))
    np.testing.assert_allclose(fused.probability, mask[0], atol=1e-6)
    np.testing.assert_allclose(fused.confusion, np.broadcast_to(np.eye(2), fused.confusion.shape), atol=1e-6)


@ALL
@given(seed=st.integers(0, 10_000))
@examples
def test_an_absent_rater_changes_nothing_and_is_not_read(name, seed):
    masks = outlines(seed)
    junk = np.random.default_rng(seed).random((1, *masks.shape[1:])) < 0.5
    more = np.concatenate([masks[:2], junk, masks[2:]])
    rated = all_rated(more)
    rated[2] = False
    alone = FUSIONS[name](masks, all_rated(masks))
    beside = FUSIONS[name](more, rated)
    np.testing.assert_allclose(beside.probability, alone.probability, atol=1e-6)
    np.testing.assert_allclose(np.delete(beside.confusion, 2, axis=0), alone.confusion, atol=1e-6)
    assert (beside.confusion[2] == 0.5).all()


@PIXELWISE
@given(seed=st.integers(0, 10_000))
@examples
def test_duplicated_pixels_change_nothing(name, seed):
    masks = outlines(seed)
    twice = masks.repeat(2, axis=2)
    one = FUSIONS[name](masks, all_rated(masks), margin=None)
    two = FUSIONS[name](twice, all_rated(twice), margin=None)
    np.testing.assert_allclose(two.probability, one.probability.repeat(2, axis=1), atol=1e-4)
    np.testing.assert_allclose(two.confusion, one.confusion, atol=1e-4)


@ALL
@pytest.mark.parametrize("margin", [0, 3, None])
def test_all_empty_gives_empty(name, margin):
    masks = np.zeros((3, 2, 9, 8), bool)
    fused = FUSIONS[name](masks, all_rated(masks), margin=margin)
    check_defined(fused, masks)
    assert not fused.probability.any()


@ALL
@pytest.mark.parametrize("margin", [0, 3, None])
def test_all_full_gives_full(name, margin):
    masks = np.ones((3, 2, 9, 8), bool)
    fused = FUSIONS[name](masks, all_rated(masks), margin=margin)
    check_defined(fused, masks)
    np.testing.assert_allclose(fused.probability, 1, atol=1e-6)


@ALL
@pytest.mark.parametrize("drawn", ["one empty", "one full", "one pixel", "all differ", "opposites"])
def test_odd_input_stays_defined(name, drawn):
    masks = outlines(3, raters=3)
    if drawn == "one empty":
        masks[0] = False
    elif drawn == "one full":
        masks[0] = True
    elif drawn == "one pixel":
        masks[:] = False
        masks[1, :, 4, 4] = True
    elif drawn == "all differ":
        masks[:] = False
        for r in range(3):
            masks[r, :, 3 * r] = True
    else:
        masks = np.stack([masks[0], ~masks[0]])
    for margin in (0, 2, None):
        check_defined(FUSIONS[name](masks, all_rated(masks), margin=margin), masks)


@ALL
def test_volumes(name):
    masks = outlines(5, structures=1, space=(8, 9, 10))
    fused = FUSIONS[name](masks, all_rated(masks))
    check_defined(fused, masks)
    turned = FUSIONS[name](masks.transpose(0, 1, 4, 2, 3), all_rated(masks))
    np.testing.assert_allclose(turned.probability, fused.probability.transpose(0, 3, 1, 2), atol=1e-5)


@ALL
def test_no_rater_at_all_names_the_structure(name):
    masks = outlines(1)
    rated = all_rated(masks)
    rated[:, 1] = False
    with pytest.raises(InputError, match="structure 1: no rater"):
        FUSIONS[name](masks, rated)


@ALL
def test_three_hundred_raters(name):
    masks = outlines(7, raters=300, structures=1, space=(12, 12))
    check_defined(FUSIONS[name](masks, all_rated(masks)), masks)
