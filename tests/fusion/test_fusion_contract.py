"""What every fusion promises, whatever its method."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrprism.core.prediction import Prediction
from mrprism.fusion import BY_DISTANCE, FUSIONS, contract
from mrprism.fusion.contract import all_rated, check_defined, outlines

ALL = pytest.mark.parametrize("name", FUSIONS)
PIXELWISE = pytest.mark.parametrize("name", [n for n in FUSIONS if n not in BY_DISTANCE])
examples = settings(deadline=None, max_examples=15)


@ALL
@given(seed=st.integers(0, 10_000))
@examples
def test_order_of_raters_does_not_matter(name, seed):
    contract.the_order_of_raters_does_not_matter(FUSIONS[name], seed)


@ALL
@given(seed=st.integers(0, 10_000), raters=st.integers(1, 5))
@examples
def test_unanimous_raters_come_back_unchanged(name, seed, raters):
    contract.unanimous_raters_come_back_unchanged(FUSIONS[name], seed, raters)


@ALL
@given(seed=st.integers(0, 10_000))
@examples
def test_an_absent_rater_changes_nothing_and_is_not_read(name, seed):
    contract.an_absent_rater_changes_nothing_and_is_not_read(FUSIONS[name], seed)


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
    contract.all_empty_gives_empty(partial(FUSIONS[name], margin=margin))


@ALL
@pytest.mark.parametrize("margin", [0, 3, None])
def test_all_full_gives_full(name, margin):
    contract.all_full_gives_full(partial(FUSIONS[name], margin=margin))


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
    contract.volumes_are_fused_as_images_are(FUSIONS[name])


@ALL
def test_no_rater_at_all_names_the_structure(name):
    contract.no_rater_at_all_names_the_structure(FUSIONS[name])


@ALL
def test_three_hundred_raters(name):
    contract.three_hundred_raters(FUSIONS[name])


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_the_checks_find_a_fusion_that_keeps_no_promise(check):
    """It takes the first rater at their word, there or not."""

    def first(masks, rated):
        probability = masks[0].astype(np.float32) * 0.9
        return Prediction(probability, confusion=np.full((*rated.shape, 2, 2), 0.4))

    with pytest.raises(AssertionError):
        check(first)
