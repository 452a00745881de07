"""Raters whose masks are no second opinion, by one more pass over a data set: equal ones, and corrections of one another."""

from __future__ import annotations

import numpy as np

from mrprism.agreement.cases import Cases, outlined_case
from mrprism.datasets.suspicions import Corrections, NeverDiffer, look_at

MOST = 60  # raters up to which every two outlines are compared


def near_copies(dataset: Cases) -> tuple[str, ...]:
    """Who seems to have the masks of another, a sentence each; of slots and of very many raters nothing is said."""
    task = dataset.task
    if task.anonymous or len(task.raters) > MOST:
        return ()
    seen = (NeverDiffer(), Corrections())
    for index in range(len(dataset)):
        case = outlined_case(dataset, index)
        for c in range(len(task.structures)):
            pieces = {int(r): case.pieces[int(r), c] for r in np.flatnonzero(case.rated[:, c])}
            if (at := look_at(case.name, "", c, pieces, None)) is not None:
                for suspicion in seen:
                    suspicion.look(at)
    return tuple(said for suspicion in seen for said in suspicion.say(task.raters, task.structures))
