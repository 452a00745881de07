"""A figure of a case: its legend stays on the paper, however many raters there are and whatever they are called."""

from __future__ import annotations

import numpy as np
import pytest

import mrprism
from mrprism.core.sample import MultiRaterSample


@pytest.mark.parametrize(("raters", "longest"), [(3, 4), (7, 7), (7, 24), (40, 9)])
def test_the_legend_is_on_the_paper(raters: int, longest: int) -> None:
    masks = np.zeros((raters, 1, 24, 24), bool)
    masks[:, :, 6:18, 6:18] = True
    sample = MultiRaterSample(
        "eye", np.zeros((1, 24, 24), np.float32), masks, np.ones((raters, 1), bool), masks[0]
    )
    figure = mrprism.plot_case(sample, raters=[f"{r:02d}".rjust(longest, "w") for r in range(raters)])
    figure.draw_without_rendering()
    [legend] = figure.legends
    box, paper = legend.get_window_extent(), figure.bbox
    assert len(legend.get_texts()) == raters + 1
    assert box.x0 >= paper.x0 - 1 and box.x1 <= paper.x1 + 1
    assert box.y0 >= paper.y0 - 1 and box.y1 <= paper.y1 + 1
