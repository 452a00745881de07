"""ICC against pingouin, Bland–Altman by hand, and both under bootstrap weights."""

import warnings

import numpy as np
import pytest

from mrprism.agreement import bland_altman, icc
from mrprism.agreement.volumes import ICC_KINDS, bland_altman_of, icc_of


def sizes(seed: int, cases: int = 12, raters: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 5000 + 300 * rng.standard_normal((cases, 1)) + rng.normal([0, 80, -40, 10], 60, (cases, raters))


@pytest.mark.parametrize("seed", range(4))
def test_icc_equals_pingouin(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        import pingouin

        table = sizes(seed)
        rows, columns = np.indices(table.shape)
        frame = pd.DataFrame({"case": rows.ravel(), "rater": columns.ravel(), "size": table.ravel()})
        expected = pingouin.intraclass_corr(frame, targets="case", raters="rater", ratings="size")
    found = icc(table)
    assert list(found) == list(ICC_KINDS)
    assert list(found.values()) == pytest.approx(expected["ICC"].tolist(), abs=1e-9)


def test_icc_of_shrout_and_fleiss():
    # the table of their paper: 0.17, 0.29, 0.71, 0.44, 0.62, 0.91
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = icc(np.array(table, float))
    assert [round(value, 2) for value in found.values()] == [0.17, 0.29, 0.71, 0.44, 0.62, 0.91]


def test_icc_leaves_out_cases_a_rater_missed():
    table = sizes(0)
    holed = np.concatenate([table, [[1.0, np.nan, 2.0, 3.0]]])
    assert icc(holed) == icc(table)


@pytest.mark.parametrize(
    "table", [np.full((5, 3), 7.0), np.ones((1, 3)), np.full((4, 2), np.nan), np.ones((5, 1))]
)
def test_icc_undefined_is_nan(table):
    assert all(np.isnan(value) for value in icc(table).values())


def test_weights_are_repetitions():
    table = sizes(1)
    weights = np.random.default_rng(0).integers(0, 3, (1, len(table)))
    repeated = np.repeat(table, weights[0], axis=0)
    assert icc_of(table, weights.astype(float))[0] == pytest.approx(list(icc(repeated).values()), abs=1e-9)
    gap = table[:, 0] - table[:, 1]
    expected = list(bland_altman(repeated[:, 0], repeated[:, 1]).values())
    assert bland_altman_of(gap[:, None], weights.astype(float))[0, 0] == pytest.approx(expected, abs=1e-9)


def test_bland_altman_by_hand():
    first, second = np.array([10.0, 12.0, 9.0, np.nan]), np.array([9.0, 12.0, 11.0, 4.0])
    gap = np.array([1.0, 0.0, -2.0])
    found = bland_altman(first, second)
    assert found["bias"] == pytest.approx(gap.mean())
    assert found["lower"] == pytest.approx(gap.mean() - 1.96 * gap.std(ddof=1))
    assert found["upper"] == pytest.approx(gap.mean() + 1.96 * gap.std(ddof=1))


def test_bland_altman_of_one_case_has_no_limits():
    found = bland_altman(np.array([3.0]), np.array([1.0]))
    assert found["bias"] == 2
    assert np.isnan(found["lower"])
    assert np.isnan(found["upper"])
