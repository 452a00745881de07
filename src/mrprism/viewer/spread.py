"""How far what a run draws of a slice is spread."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float


def spread_of(draws: Bool[np.ndarray, "S C H W"], weights: Float[np.ndarray, "S C"] | None) -> dict[str, Any]:
    """How many draws there are, their chances where they are not alike, and how far they differ.

    Returns:
        `count`; `weights`, (S, C) or None; and of each structure `pixels`, those of each draw, and `dice`, the mean Dice of
        two draws, as of two raters; None of one draw. The chances do not count in it.
    """
    count, structures = draws.shape[:2]
    flat = draws.reshape(count, structures, -1).astype(np.float32)
    pixels = flat.sum(axis=2)
    first, second = np.triu_indices(count, 1)
    means: list[float | None] = []
    for c in range(
        structures
    ):  # a hundred ragged draws show too many patterns to count them as those of raters are
        both, either = (flat[:, c] @ flat[:, c].T)[first, second], pixels[first, c] + pixels[second, c]
        scores = np.where(either == 0, 1.0, 2 * both / np.maximum(either, 1))
        means.append(round(float(scores.mean()), 4) if count > 1 else None)
    return {
        "count": count,
        "weights": None if weights is None else np.round(weights, 4).tolist(),
        "pixels": pixels.T.astype(int).tolist(),
        "dice": means,
    }
