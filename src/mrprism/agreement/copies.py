"""Raters whose masks are no second opinion, found as cases go by: equal ones, and corrections of one another."""

from __future__ import annotations

import numpy as np

from mrprism.agreement.cases import Cases, outlined_case
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets.outlined import outlined
from mrprism.datasets.suspicions import Corrections, NeverDiffer, look_at

MOST = 60  # raters up to which every two outlines are compared


class Copies:
    """Who seems to have the masks of another; of slots and of very many raters nothing is said."""

    def __init__(self, dataset: Cases) -> None:
        self.dataset, task = dataset, dataset.task
        self.silent = task.anonymous or len(task.raters) > MOST
        self.seen = (NeverDiffer(), Corrections())

    def look(self, number: int, sample: MultiRaterSample | None = None) -> None:
        """Look at a case.

        Args:
            sample: The case itself, where somebody holds it already; without it, it is read.
        """
        if self.silent:
            return
        case = outlined_case(self.dataset, number) if sample is None else outlined(sample)
        for c in range(len(self.dataset.task.structures)):
            pieces = {int(r): case.pieces[int(r), c] for r in np.flatnonzero(case.rated[:, c])}
            if (at := look_at(case.name, "", c, pieces, None)) is not None:
                for suspicion in self.seen:
                    suspicion.look(at)

    def say(self) -> tuple[str, ...]:
        """A sentence for each finding."""
        task = self.dataset.task
        return tuple(said for suspicion in self.seen for said in suspicion.say(task.raters, task.structures))
