"""The counting kernel against counting by hand with numpy.unique."""

from __future__ import annotations

import gc

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrprism.core.errors import InputError
from mrprism.core.patterns import (
    ABSENT,
    PatternTable,
    count_patterns,
    grow,
    merge,
    paint,
    paint_blocks,
    survey,
)

SHAPES = [  # space, raters, dtype, labels 0..n-1
    ((40, 50), 5, bool, 2),
    ((40, 50), 9, bool, 2),
    ((40, 50), 20, bool, 2),
    ((30, 31), 300, bool, 2),
    ((9, 10, 11), 3, np.uint8, 5),
    ((9, 10, 11), 4, np.int16, 900),
    ((30, 30), 70, np.int64, 3),
    ((30, 31), 3, np.uint16, 65536),
    ((500, 501), 7, bool, 2),
    ((300, 501), 2, np.int8, 5),
    ((1,), 2, bool, 2),
]


def drawn(space, raters, dtype, labels, seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, labels, (raters, *space)).astype(dtype)
    if np.dtype(dtype).kind == "i":
        maps[rng.random(maps.shape) < 0.2] = ABSENT
    return maps


def by_hand(maps, rated):
    symbols = maps.astype(np.int64)
    symbols[~rated] = ABSENT
    return np.unique(symbols.reshape(len(maps), -1).T, axis=0, return_counts=True, return_inverse=True)


@pytest.mark.parametrize("block", [64, 1 << 18])
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_counts_and_paint_equal_counting_by_hand(case, block):
    maps = drawn(*case)
    rated = np.arange(len(maps)) != 1
    patterns, inverse, counts = by_hand(maps, rated)
    values = np.random.default_rng(1).random((len(counts), 2))
    expected = values[inverse.ravel()].T.reshape(2, *case[0])
    for source in (maps, [np.asfortranarray(one) for one in maps]):
        table = count_patterns(source, rated, block=block)
        np.testing.assert_array_equal(table.patterns, patterns)
        np.testing.assert_array_equal(table.counts, counts)
        np.testing.assert_array_equal(paint(table, source, rated, values, block=block), expected)


def test_labels_in_play():
    assert count_patterns(np.zeros((2, 3, 3), bool)).labels == (0, 1)
    assert count_patterns(np.full((2, 3, 3), 7, np.uint8)).labels == (0, 7)
    assert count_patterns(np.array([[[-1, 4]], [[4, 65535]]])).labels == (0, 4, 65535)


def test_marginals_by_hand():
    maps = np.array([[0, 0, 2, 2, 1], [0, 2, 2, -1, 1]], np.int8)[:, None]
    table = count_patterns(maps)
    assert table.pixels == 5
    assert table.raters == 2
    np.testing.assert_array_equal(table.volumes(), [[2, 1, 2], [1, 1, 2]])
    joint = table.pairs()
    np.testing.assert_array_equal(joint[0, 1], [[1, 0, 1], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(joint[1, 0], joint[0, 1].T)
    np.testing.assert_array_equal(joint[0, 0], np.diag([2, 1, 2]))
    np.testing.assert_array_equal(table.votes().sum(axis=1), table.present())
    np.testing.assert_array_equal(table.of([1]).volumes(), [[1, 1, 2]])


def test_counts_pass_two_to_the_31():
    table = count_patterns(np.array([[[True, False]], [[True, True]]]))
    big = PatternTable(table.patterns, table.counts * 2**31, table.labels)
    pooled = merge([big, big, table])
    assert pooled.pixels == 2 * (2**32 + 1)
    assert pooled.pairs()[0, 1].sum() == pooled.pixels
    assert pooled.counts.dtype == np.int64


def test_merge_equals_counting_together():
    left, right = drawn((8, 9), 4, np.int8, 3), drawn((8, 9), 4, np.int8, 4, seed=1)
    together = count_patterns(np.concatenate([left, right], axis=1))
    pooled = merge([count_patterns(left), count_patterns(right)])
    np.testing.assert_array_equal(pooled.patterns, together.patterns)
    np.testing.assert_array_equal(pooled.counts, together.counts)
    with pytest.raises(ValueError, match=r"\[4, 2\] raters"):
        merge([count_patterns(left), count_patterns(left[:2])])


def test_a_pooled_table_paints_cases_with_other_raters_absent():
    masks = drawn((20, 21), 3, bool, 2)
    here = np.array([True, True, False])
    pooled = merge([count_patterns(masks), count_patterns(masks, here)])
    votes = pooled.votes()[:, 1]
    np.testing.assert_array_equal(paint(pooled, masks, here, votes), masks[:2].sum(axis=0))
    np.testing.assert_array_equal(paint(pooled, masks, None, votes), masks.sum(axis=0))


@pytest.mark.parametrize(("raters", "size"), [(3, 10), (3, 200), (12, 10), (40, 10)])
def test_an_unknown_pattern_is_refused(raters, size):
    masks = np.zeros((raters, size, size), bool)
    table = count_patterns(masks)
    masks[0, -1, -1] = True
    with pytest.raises(ValueError, match="not in the table"):
        paint(table, masks, None, np.zeros(len(table.counts)))


@given(
    space=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    data=st.data(),
    seed=st.integers(0, 1000),
    block=st.integers(1, 50),
)
@settings(deadline=None, max_examples=60)
def test_region_and_blocks(space, data, seed, block):
    masks = drawn(tuple(space), 3, bool, 2, seed)
    region = tuple(
        slice(a, data.draw(st.integers(a + 1, n))) for n in space for a in [data.draw(st.integers(0, n - 1))]
    )
    for source in (masks, [np.asfortranarray(one) for one in masks]):
        table = count_patterns(source, region=region, block=block)
        inside = count_patterns(np.stack([one[region] for one in masks]))
        np.testing.assert_array_equal(table.counts, inside.counts)
        np.testing.assert_array_equal(table.patterns, inside.patterns)
        painted = paint(table, source, None, table.votes()[:, 1], region=region, block=block)
        np.testing.assert_array_equal(painted[region], masks.sum(axis=0)[region])
        assert painted.sum() == masks.sum(axis=0)[region].sum()


@given(seed=st.integers(0, 1000), top=st.integers(0, 5), left=st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_survey_finds_the_box(seed, top, left):
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, 12, 13), bool)
    masks[:, top : top + 4, left : left + 3] = rng.random((2, 4, 3)) < 0.5
    table, box = survey(masks, block=20)
    np.testing.assert_array_equal(table.counts, count_patterns(masks).counts)
    marked = masks.any(axis=0)
    if not marked.any():
        assert box is None
        return
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    assert box == (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    grown = grow(box, 2, (12, 13))
    inner = table.without(masks[0].size - masks[0][grown].size)
    np.testing.assert_array_equal(inner.counts, count_patterns(masks, region=grown).counts)


def test_without_refuses_what_is_not_there():
    with pytest.raises(ValueError, match="5 pixels of background"):
        count_patterns(np.ones((2, 3, 3), bool)).without(5)


def test_memory_map_and_nifti_proxy(tmp_path):
    volume = drawn((6, 7, 8), 3, np.uint8, 4)
    stored = np.memmap(tmp_path / "labels.raw", np.uint8, "w+", shape=volume.shape)
    stored[:] = volume
    proxies = []
    for r, one in enumerate(volume):
        nibabel.save(nibabel.Nifti1Image(one, np.eye(4)), tmp_path / f"{r}.nii")
        proxies.append(nibabel.load(tmp_path / f"{r}.nii").dataobj)
    expected = count_patterns(volume)
    for source in (stored, proxies):
        table = count_patterns(source, block=30)
        np.testing.assert_array_equal(table.counts, expected.counts)
        out = np.memmap(tmp_path / "out.raw", np.int64, "w+", shape=volume.shape[1:])
        paint(table, source, None, table.votes()[:, 2], out, block=30)
        np.testing.assert_array_equal(out, (volume == 2).sum(axis=0))
    where = [where for where, _ in paint_blocks(expected, proxies, None, expected.counts, block=30)]
    assert [w[2].start for w in where] == sorted(w[2].start for w in where)  # along the file
    del proxies, source
    gc.collect()


@pytest.mark.parametrize(
    ("labels", "rated", "sentence"),
    [
        (
            [np.zeros((2, 2), bool), np.zeros((2, 3), bool)],
            None,
            r"rater 0 has \(2, 2\), rater 1 has \(2, 3\)",
        ),
        (np.array([[0.0, 0.5]]), None, "rater 0 has 0.5"),
        (np.array([[0.0, np.nan]]), None, "rater 0 has nan"),
        (np.zeros((2, 3), bool), np.zeros(2, bool), "no rater at all"),
        (np.zeros((2, 3), bool), np.ones(3, bool), "2 raters' masks but 3"),
        (np.zeros((2, 3), complex), None, "whole numbers"),
        (np.full((1, 2), 2**31, np.int64), None, "2147483648 is too large"),
    ],
)
def test_bad_input_is_named(labels, rated, sentence):
    with pytest.raises(InputError, match=sentence):
        count_patterns(labels, rated)


def test_whole_numbers_stored_as_floats_are_taken():
    table = count_patterns(np.array([[0.0, 0.9999997], [1.0, 1.0]], np.float32))
    np.testing.assert_array_equal(table.patterns, [[0, 1], [1, 1]])
