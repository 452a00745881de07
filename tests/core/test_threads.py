"""Threads are shared out among processes, and what the user set is left as it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from events import PATIENCE

from mrprism.core.threads import shared_threads, thread_limit


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({}, {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}),
        ({"OMP_NUM_THREADS": "2"}, {}),
        ({"OMP_NUM_THREADS": "8"}, {}),
        ({"MKL_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "4"}),
        ({"OMP_THREAD_LIMIT": "1"}, {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}),
        ({"OMP_THREAD_LIMIT": "64"}, {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}),
        ({"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "2"}, {}),
    ],
)
def test_what_a_process_is_told(environment: dict[str, str], settings: dict[str, str]) -> None:
    assert shared_threads(4, environment) == settings


@pytest.mark.parametrize(
    ("said", "limit"), [("", None), ("0", None), ("-1", None), ("many", None), (" 3 ", 3)]
)
def test_the_limit(said: str, limit: int | None) -> None:
    assert thread_limit({"OMP_THREAD_LIMIT": said}) == limit
    assert thread_limit({}) is None


PROGRAM = """
from mrprism.learn.devices import keep_thread_limit
keep_thread_limit()
import torch
torch.nn.Conv2d(3, 16, 3, padding=1)(torch.rand(8, 3, 64, 64)).sum().backward()
print(torch.get_num_threads())
"""


@pytest.mark.parametrize("more", [{}, {"OMP_NUM_THREADS": "2"}], ids=["alone", "with more threads"])
def test_a_limit_of_threads_does_not_make_a_network_wait_for_ever(more: dict[str, str]) -> None:
    unset = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in unset} | {"OMP_THREAD_LIMIT": "1", **more}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.strip() == "1"
