"""The list of cases of a page, measured in the background while nobody asks for anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mrprism.core.errors import InputError
from mrprism.viewer.look import Look, look

if TYPE_CHECKING:
    from mrprism.viewer.view import View

_QUIET, _LONGEST_WAIT = (
    0.1,
    2.0,
)  # seconds without a request before a measurement begins; and it begins after all


class CaseList:
    """Every case of a view with what it can be sorted by, as far as it is known by now."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._looked: dict[str, Look] = {}
        self._doubt: dict[str, float | None] = {}
        self._unreadable: dict[str, str] = {}
        self._asking, self._answered = 0, 0.0  # requests under way; when the last one was answered

    def rows(self) -> dict[str, Any]:
        """Every case; how many are measured, and whether nothing is left to be measured."""
        view, nothing = self._view, Look(None, None, None)
        groups = view.dataset.groups
        rows = []
        for name in view.dataset.names:
            found = self._looked.get(name, nothing)
            rows.append(
                {
                    "name": name,
                    "group": groups[name] if groups[name] != name else None,
                    "split": view.splits.get(name),
                    "dice": found.dice,
                    "lowest": found.lowest,
                    "worth": found.worth,
                    "doubt": self._doubt.get(name),
                    "fault": _unnamed(self._unreadable.get(name), view.blind),
                }
            )
        wanted = 2 * len(rows) if view.predictor else len(rows)
        done = len(self._looked) + len(self._unreadable) * (2 if view.predictor else 1) + len(self._doubt)
        measured = len(self._looked) + len(self._unreadable)
        return {"cases": rows, "measured": measured, "done": done >= wanted}

    def measure(self, stop: threading.Event) -> None:
        """Measure every case's disagreement, then what the run doubts, one after the other, until told to stop.

        Whoever asks for something goes first.
        """
        view = self._view
        for name in view.dataset.names:
            self._give_way(stop)
            if stop.is_set():
                return
            try:
                self._looked[name] = look(view.dataset, name)
            except InputError as error:
                self._unreadable[name] = str(error)
        for name in view.dataset.names if view.predictor else ():
            self._give_way(stop)
            if stop.is_set():
                return
            if name not in self._unreadable:
                self._doubt[name] = view.answers.doubt(name)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While a request is answered."""
        self._asking += 1  # by the server's one event loop only
        try:
            yield
        finally:
            self._asking -= 1
            self._answered = time.monotonic()

    def _give_way(self, stop: threading.Event) -> None:
        began = time.monotonic()
        while self._asking or time.monotonic() < self._answered + _QUIET:
            if stop.wait(0.01) or time.monotonic() > began + _LONGEST_WAIT:
                return


def _unnamed(fault: str | None, blind: str | None) -> str | None:
    """A fault as a blind view tells it: its sentence may name a rater."""
    return fault if fault is None or blind is None else "a file of this case cannot be read"
