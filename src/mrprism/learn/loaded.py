"""A predictor that goes to other processes by the name of its run: each of them loads it once."""

from __future__ import annotations

from dataclasses import replace
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
            "coverage": one.coverage,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        coverage = state.pop("coverage")  # which was agreed to where the predictor was loaded first
        self.predictor = replace(load(**state), coverage=coverage)
