"""Which raters to look at when not many cases were done by all of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

HALF = (
    0.5  # of the cases: a statistic that rests on fewer says so, and a subset is offered that rests on more
)


def subset_of(sizes: Float[np.ndarray, "case R"]) -> tuple[int, ...] | None:
    """The raters that stay when one after the other leaves whose absence frees the most cases.

    It stops when half of the cases were done by all who are left, and gives as many as it can where that
    never happens. None where half of the cases are complete as they are, or nothing is gained.

    Args:
        sizes: NaN where a rater did not do a case.
    """
    done = ~np.isnan(sizes)
    wanted = HALF * int((done.sum(axis=1) > 1).sum())
    kept, best = list(range(sizes.shape[1])), int(done.all(axis=1).sum())
    start = best
    if best >= wanted:
        return None
    found: tuple[int, ...] | None = None
    while len(kept) > 2 and best < wanted:
        left = done[:, kept].sum(axis=1)
        frees = [int((left - done[:, r] == len(kept) - 1).sum()) for r in kept]
        kept.remove(kept[int(np.argmax(frees))])
        if max(frees) > best:
            best, found = max(frees), tuple(kept)
    return found if best > start else None
