"""One rule for Dice and other shares: files and Python hold fractions, tables of methods show percent (docs/reference/metrics.md)."""

from __future__ import annotations

import pytest

from mrprism.cli.evaluate import SHOWN, _cell
from mrprism.metrics import METRICS
from mrprism.metrics.scores import Summary


@pytest.mark.parametrize("name", SHOWN)
def test_the_terminal_shows_shares_in_percent_and_distances_as_they_are(name: str) -> None:
    cell = _cell(Summary("disc", "final", "reference", name, "image", 0.594, 0.05, 3, 0))
    share = name != "hd95"
    assert (METRICS[name].unit == "%") == (share and name != "brier")
    assert cell == ("59.4 ± 5.0" if METRICS[name].unit == "%" else "0.594 ± 0.050")
