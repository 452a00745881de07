"""A viewer that runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A viewer's address and process."""
    command = [sys.executable, "-m", "mrprism", "view", str(folder), "--no-browser", "--port", "0", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().partition(": ")[2].strip(), server
        finally:
            server.kill()


def until(page: Any, true: str) -> None:
    """Waits until something of the page is true; Playwright's own way needs eval, which the page's policy forbids."""
    for _ in range(2400):
        if page.evaluate(true):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never became true: {true}")
