"""A Ray cluster: the one that RAY_ADDRESS names, or one started on this machine for the purpose."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mrprism.core.errors import InputError


@contextmanager
def cluster() -> Iterator[tuple[Any, Mapping[str, float]]]:
    """The package `ray`, connected, and what the cluster has: "CPU", "GPU".

    Every node needs mrprism, and the files that are read and written under the same paths.

    Raises:
        InputError: No cluster could be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own, 15, starves work on a busy machine
    import ray

    ours = not ray.is_initialized()  # a connection that was there before stays
    try:
        ray.init(log_to_driver=False, ignore_reinit_error=True)
    except Exception as error:
        raise InputError(f"no Ray cluster could be reached or started: {error}") from error
    try:
        resources: Any = ray.cluster_resources
        yield ray, resources()
    finally:
        if ours:
            ray.shutdown()
