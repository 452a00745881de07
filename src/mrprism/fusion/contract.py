"""What every fusion promises, as checks that a fusion of any package can be put to.

    from mrprism.fusion.contract import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_fusion(check):
        check(my_fusion)

Each raises AssertionError where a promise is broken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated
from mrprism.fusion import Fusion


def outlines(seed: int, raters: int = 4, structures: int = 2, space: tuple[int, ...] = (14, 15)) -> Masks:
    """Discs of different raters with some stray pixels."""
    rng = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(0, n) for n in space)]
    masks = np.zeros((raters, structures, *space), bool)
    for r in range(raters):
        for c in range(structures):
            far = sum((a - n / 2 - rng.normal(0, 1)) ** 2 for a, n in zip(axes, space, strict=True))
            masks[r, c] = far < rng.uniform(2, 5) ** 2
    return masks ^ (rng.random(masks.shape) < 0.02)


def all_rated(masks: Masks) -> Rated:
    """Nobody is absent."""
    return np.ones(masks.shape[:2], bool)


def confusion_of(fused: Prediction) -> Float[np.ndarray, "R C 2 2"]:
    """Which every fusion gives."""
    assert fused.confusion is not None, "each rater's confusion is there"
    confusion: np.ndarray = fused.confusion
    return confusion


def check_defined(fused: Prediction, masks: Masks) -> None:
    """Everything a fusion returns has its shape, its type and its range."""
    assert fused.probability.shape == masks.shape[1:], "probability is (C, *space)"
    assert fused.probability.dtype == np.float32, "probability is float32"
    assert fused.probability.min() >= 0, "a probability is in [0, 1]"
    assert fused.probability.max() <= 1, "a probability is in [0, 1]"
    assert fused.confusion is not None, "each rater's confusion is there"
    assert fused.confusion.shape == (*masks.shape[:2], 2, 2), "confusion is (R, C, 2, 2)"
    np.testing.assert_allclose(
        fused.confusion.sum(axis=-1), 1, atol=1e-9, err_msg="rows of confusion sum to 1"
    )
    if fused.ties is not None:
        assert fused.ties.dtype == bool, "ties are true or false"
        assert fused.ties.shape == masks.shape[1:], "ties are (C, *space)"


def the_order_of_raters_does_not_matter(fusion: Fusion, seed: int = 0) -> None:
    """Raters turned round: the same consensus, and their confusion turned round with them."""
    masks = outlines(seed)
    rated = np.random.default_rng(seed).random(masks.shape[:2]) < 0.8
    rated[0] = True
    order = np.random.default_rng(seed + 1).permutation(len(masks))
    one = fusion(masks, rated)
    other = fusion(masks[order], rated[order])
    check_defined(one, masks)
    np.testing.assert_allclose(other.probability, one.probability, atol=1e-5)
    np.testing.assert_allclose(confusion_of(other), confusion_of(one)[order], atol=1e-5)


def unanimous_raters_come_back_unchanged(fusion: Fusion, seed: int = 0, raters: int = 3) -> None:
    """What all drew is the consensus, and nobody ever erred."""
    mask = outlines(seed, raters=1)
    masks = np.repeat(mask, raters, axis=0)
    fused = fusion(masks, all_rated(masks))
    np.testing.assert_allclose(fused.probability, mask[0], atol=1e-6)
    np.testing.assert_allclose(
        confusion_of(fused), np.broadcast_to(np.eye(2), confusion_of(fused).shape), atol=1e-6
    )


def an_absent_rater_changes_nothing_and_is_not_read(fusion: Fusion, seed: int = 0) -> None:
    """Absent is not empty: what stands where `rated` is False is never looked at."""
    masks = outlines(seed)
    junk = np.random.default_rng(seed).random((1, *masks.shape[1:])) < 0.5
    more = np.concatenate([masks[:2], junk, masks[2:]])
    rated = all_rated(more)
    rated[2] = False
    alone = fusion(masks, all_rated(masks))
    beside = fusion(more, rated)
    np.testing.assert_allclose(beside.probability, alone.probability, atol=1e-6)
    np.testing.assert_allclose(np.delete(confusion_of(beside), 2, axis=0), confusion_of(alone), atol=1e-6)
    assert (confusion_of(beside)[2] == 0.5).all(), "of an absent rater nothing is known: 0.5"


def all_empty_gives_empty(fusion: Fusion) -> None:
    """Who looked and saw nothing is believed."""
    masks = np.zeros((3, 2, 9, 8), bool)
    fused = fusion(masks, all_rated(masks))
    check_defined(fused, masks)
    assert not fused.probability.any(), "nobody marked anything, so nothing is inside"


def all_full_gives_full(fusion: Fusion) -> None:
    """The other end."""
    masks = np.ones((3, 2, 9, 8), bool)
    fused = fusion(masks, all_rated(masks))
    check_defined(fused, masks)
    np.testing.assert_allclose(fused.probability, 1, atol=1e-6)


def odd_input_stays_defined(fusion: Fusion) -> None:
    """One rater empty or full, a single pixel, opposites."""
    masks = outlines(3, raters=3)
    for masks_of_one in (np.zeros_like(masks[0]), np.ones_like(masks[0])):
        other = masks.copy()
        other[0] = masks_of_one
        check_defined(fusion(other, all_rated(other)), other)
    pixel = np.zeros_like(masks)
    pixel[1, :, 4, 4] = True
    check_defined(fusion(pixel, all_rated(pixel)), pixel)
    opposites = np.stack([masks[0], ~masks[0]])
    check_defined(fusion(opposites, all_rated(opposites)), opposites)


def volumes_are_fused_as_images_are(fusion: Fusion) -> None:
    """The axes of space have no order."""
    masks = outlines(5, structures=1, space=(8, 9, 10))
    fused = fusion(masks, all_rated(masks))
    check_defined(fused, masks)
    turned = fusion(masks.transpose(0, 1, 4, 2, 3), all_rated(masks))
    np.testing.assert_allclose(turned.probability, fused.probability.transpose(0, 3, 1, 2), atol=1e-5)


def no_rater_at_all_names_the_structure(fusion: Fusion) -> None:
    """A structure that nobody rated has no consensus: an `InputError` "structure 1: no rater ..."."""
    masks = outlines(1)
    rated = all_rated(masks)
    rated[:, 1] = False
    try:
        fusion(masks, rated)
    except InputError as error:
        said = str(error)
    else:
        raise AssertionError("a structure that nobody rated was fused; expected an InputError")
    assert "structure 1: no rater" in said, f"the sentence names the structure: {said}"


def three_hundred_raters(fusion: Fusion) -> None:
    """A crowd."""
    masks = outlines(7, raters=300, structures=1, space=(12, 12))
    check_defined(fusion(masks, all_rated(masks)), masks)


CHECKS: tuple[Callable[[Fusion], None], ...] = (
    the_order_of_raters_does_not_matter,
    unanimous_raters_come_back_unchanged,
    an_absent_rater_changes_nothing_and_is_not_read,
    all_empty_gives_empty,
    all_full_gives_full,
    odd_input_stays_defined,
    volumes_are_fused_as_images_are,
    no_rater_at_all_names_the_structure,
    three_hundred_raters,
)
