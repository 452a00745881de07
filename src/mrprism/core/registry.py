"""A dict by name that says what it holds when it is asked for something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from mrprism.core.errors import unknown

Entry = TypeVar("Entry")


class Registry(dict[str, Entry]):
    """Everything of one kind by its name."""

    def __init__(self, what: str, entries: Mapping[str, Entry]) -> None:
        """
        Args:
            what: What the names are names of, such as "fusion".
        """
        super().__init__(entries)
        self.what = what

    def __missing__(self, name: object) -> Entry:
        raise unknown(self.what, name, self)
