"""A volume is scored a piece at a time, and the answer is that of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from mrprism.metrics import METRICS
from mrprism.metrics.pieces import pieces


def test_pieces_cover_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrprism.metrics.pieces.PIECE", 4)
    assert [np.arange(10)[part].tolist() for part in pieces(10)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(pieces(0)) == []


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.needs in ("probability", "draws")])
def test_the_size_of_a_piece_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    probability = draw.random((5, 9, 11)).astype(np.float32)
    masks = draw.random((3, 5, 9, 11)) < 0.5 * probability + 0.2
    draws = draw.random((4, 5, 9, 11)).astype(np.float32)
    metric = METRICS[name]
    arguments = (draws, masks) if metric.needs == "draws" else (probability, masks.sum(0), 3, (1.0, 1.0, 2.0))
    whole = metric.function(*arguments)
    monkeypatch.setattr("mrprism.metrics.pieces.PIECE", 50)
    assert metric.function(*arguments) == pytest.approx(whole, rel=1e-12)
