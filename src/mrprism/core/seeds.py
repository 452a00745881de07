"""What is drawn is a function of a seed, a purpose and a place, never of what was drawn before.

So a run that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import zlib

import numpy as np


def generator_of(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """Of all that is drawn with NumPy for one purpose at one place."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *place])


def seed_of(seed: int, purpose: str, *place: int) -> int:
    """Of all that PyTorch draws for one purpose at one place."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *place])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
