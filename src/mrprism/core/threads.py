"""How many threads the user lets a process have."""

from __future__ import annotations

import os
from collections.abc import Mapping

LIMIT = "OMP_THREAD_LIMIT"


def thread_limit(environment: Mapping[str, str] = os.environ) -> int | None:
    """The most threads of OpenMP, if the user set any.

    PyTorch does not ask for it: oneDNN divides its work among as many threads as PyTorch has and waits at a
    barrier for all of them. The limit keeps some from ever being made, so that it would wait for ever.
    """
    said = environment.get(LIMIT, "").strip()
    return int(said) if said.isdecimal() and int(said) > 0 else None


def shared_threads(share: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings for a process that may have a share of the cores; what the user set is left as it is."""
    if "OMP_NUM_THREADS" in environment:
        return {}
    threads = str(min(share, thread_limit(environment) or share))
    return {name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name not in environment}
