"""Figures of agreement, sizes, recurrences and trust say the numbers they are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricate import fabricate_run  # type: ignore[import-not-found]

import mrprism
from mrprism.agreement.volumes import bland_altman
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset


def squares(raters: int = 3, cases: int = 4, anonymous: bool = False) -> Dataset:
    """Discs that are squares; the second rater draws larger ones, the third smaller."""
    task = Task(1, ("disc", "cup"), tuple(f"r{r}" for r in range(raters)), anonymous=anonymous)
    samples = []
    for n in range(cases):
        masks = np.zeros((raters, 2, 24, 24), bool)
        for r in range(raters):
            masks[r, :, 4 : 12 + n + (0, 2, -2)[r % 3], 4 : 12 + n] = True
        samples.append(
            MultiRaterSample(f"c{n}", np.zeros((1, 24, 24), np.float32), masks, np.ones((raters, 2), bool))
        )
    return Dataset.from_samples("squares", task, samples)


def texts(figure: object) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]  # type: ignore[attr-defined]


def test_every_cell_of_the_square_says_its_dice() -> None:
    agreement = mrprism.agree(squares(), resamples=20)
    figure = mrprism.plot_agreement(agreement)
    square = agreement.matrix("disc", "dice")
    expected = [f"{value:.2f}".removeprefix("0") for value in square[~np.isnan(square)]]
    assert texts(figure) == expected * 2, "two structures that were drawn alike"
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["disc", "cup", ""]
    assert len(mrprism.plot_agreement(agreement, "hd95", "cup").axes) == 2, "one square and its colours"
    assert figure.axes[-1].get_ylabel() == "Dice, 0 to 1"
    assert not texts(mrprism.plot_agreement(mrprism.agree(squares(13), resamples=20))), "no room for numbers"


def test_bland_altman_draws_the_limits_of_the_statistic() -> None:
    agreement = mrprism.agree(squares(), resamples=20)
    figure = mrprism.plot_bland_altman(agreement, "disc", ("r0", "r1"))
    sizes = agreement["disc"].sizes
    found = bland_altman(sizes[:, 0], sizes[:, 1])
    points = figure.axes[0].collections[0].get_offsets()
    assert np.allclose(points, np.stack([sizes[:, :2].mean(axis=1), sizes[:, 0] - sizes[:, 1]], axis=1))
    assert sorted(line.get_ydata()[0] for line in figure.axes[0].lines) == pytest.approx(
        sorted([0, *found.values()])
    )
    assert texts(figure) == [f"{found[key]:.3g}" for key in ("bias", "lower", "upper")]
    # the two that differ most: the larger and the smaller
    assert mrprism.plot_bland_altman(agreement, "disc").axes[0].get_title(loc="left") == "disc: r1 minus r2"
    assert figure.axes[0].get_ylabel() == f"difference, {agreement.unit}"


def test_trust_is_a_map_for_each_rater() -> None:
    sample = squares()[0]
    trust = np.linspace(0.5, 1, 3)[:, None, None, None] * np.ones((3, 2, 24, 24))
    prediction = Prediction(sample.masks[0].astype(float), confidence=trust)
    figure = mrprism.plot_confidence(sample, prediction, raters=("ann", "bob", "eve"), structure=1, columns=2)
    maps = [axes.images[0].get_array().mean() for axes in figure.axes[:3]]
    assert maps == pytest.approx([0.5, 0.75, 1.0])
    assert [axes.get_title() for axes in figure.axes] == ["ann", "bob", "eve", ""]
    assert figure.axes[-1].get_ylabel() == "chance that the rater agrees"


def test_recurrences_are_those_of_the_run_s_table(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / "prism", cases=4, size=32)
    figure = mrprism.plot_recurrence(run)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["disc", "cup"]
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[0] == "Rec0" and len(labels) > 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("mrprism.plot_agreement(found, 'dise')", "unknown statistic of pairs 'dise'"),
        ("mrprism.plot_agreement(found, structure='rim')", "unknown structure 'rim'"),
        ("mrprism.plot_agreement(nobody)", "raters are anonymous"),
        ("mrprism.plot_bland_altman(nobody, 'disc')", "raters are anonymous"),
        ("mrprism.plot_bland_altman(found, 'disc', ('r0', 'bob'))", "unknown rater 'bob'"),
        ("mrprism.plot_bland_altman(found, 'disc', 'r0')", "expected two different raters"),
        ("mrprism.plot_bland_altman(found, 'disc', ('r0', 'r0'))", "expected two different raters"),
        ("mrprism.plot_bland_altman(single, 'disc')", "did not both measure two cases"),
        ("mrprism.plot_confidence(data[0], Prediction(data[0].masks[0]))", "says nothing of how far to trust"),
        ("mrprism.plot_confidence(data[0], said, raters=('a',))", "expected the names of 3 raters, not 1"),
        ("mrprism.plot_confidence(data[0], said, structure=2)", "there is no structure 2; expected 0 to 1"),
        ("mrprism.plot_recurrence('nowhere')", "nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_said(call: str, says: str) -> None:
    data = squares()
    names = {
        "mrprism": mrprism, "data": data, "Prediction": Prediction, "found": mrprism.agree(data, resamples=5),
        "nobody": mrprism.agree(squares(anonymous=True), resamples=5),
        "single": mrprism.agree(squares(cases=1), resamples=5),
        "said": Prediction(data[0].masks[0], confidence=np.ones((3, 2, 24, 24))),
    }  # fmt: skip
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        eval(call, names)
