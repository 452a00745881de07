"""What tests of several files ask for by name."""

from __future__ import annotations

import pytest


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small methods of `toy` stand among the real ones."""
    from toy import register  # not every test needs torch

    register(monkeypatch)
