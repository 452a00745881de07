"""Waiting for what happens, never for so many seconds: a busy machine is slow and does nothing wrong."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE = (
    3600.0  # seconds after which something is taken to hang, so that a test ends at all; it measures nothing
)


def until(
    happened: Callable[[], bool], process: subprocess.Popen[str] | subprocess.Popen[bytes] | None = None
) -> None:
    """Wait for an event.

    Args:
        process: Who should bring it about; when it has ended, nothing is waited for any more.
    """
    end = time.monotonic() + PATIENCE
    while not happened():
        ended = process is not None and process.poll() is not None
        if happened():
            return
        assert not ended, f"it ended and nothing happened: {process.communicate() if process else ''}"
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.005)
