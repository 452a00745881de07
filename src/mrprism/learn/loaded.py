"""A predictor that goes to other processes by the name of its run: each of them loads it once."""

from __future__ import annotations

from typing import Any

from mrprism.learn.predictor import Predictor, load


class Loaded:
    """A predictor, here or wherever this was unpacked."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def __getstate__(self) -> dict[str, Any]:
        one = self.predictor
        return {
            "run": one.run,
            "device": str(one.method.device),
            "draws": one.method.draws,
            "coverage": None if one.calibration is None else one.coverage,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.predictor = load(**state)
