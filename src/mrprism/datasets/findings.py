"""Findings as they are shown: those of one kind together, rater by rater; all of them stand in the JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mrprism.datasets.manifest import Fault

_ALIKE = 4  # from how many on they are told as one
_NAMES = re.compile(r"'[^']*'")
_NUMBERS = re.compile(r"[-+]?\d+(?:\.\d+)?")
_LISTS = re.compile(r"#(?:, (?:#|\.\.\.))+")


@dataclass(frozen=True)
class Finding:
    """One fault, and how many more there are like it by the same rater."""

    fault: Fault
    more: int = 0

    @property
    def sentence(self) -> str:
        return f"{self.fault.sentence} ({self.said})" if self.more else self.fault.sentence

    @property
    def said(self) -> str:
        who = f" by rater '{self.fault.rater}'" if self.fault.rater else ""
        return f"and {self.more} more of this kind{who}; mrprism check --json lists all"


def grouped(faults: Iterable[Fault]) -> list[Finding]:
    """Faults in their order; of four or more of a kind by one rater the first only, with how many more there are."""
    kinds: dict[tuple[str, str | None, str], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault((fault.severity, fault.rater, kind_of(fault.sentence)), []).append(fault)
    found: list[Finding] = []
    for alike in kinds.values():
        found += [Finding(alike[0], len(alike) - 1)] if len(alike) >= _ALIKE else map(Finding, alike)
    return found


def kind_of(sentence: str) -> str:
    """A sentence without the names and numbers in it."""
    return _LISTS.sub("#", _NUMBERS.sub("#", _NAMES.sub("''", sentence)))
