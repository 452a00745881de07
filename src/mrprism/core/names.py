"""Names that people take for the same and computers do not."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable


def near_twins(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ in nothing but case, blanks or how accents are put together."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[spoken(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def spoken(name: str) -> str:
    """What stays of a name when it is said aloud: no case, no blanks, accents composed, nothing invisible."""
    if name.isascii() and name.isprintable():
        return "".join(name.casefold().split())  # the same, and quick
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = (c for c in folded if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf"))
    return "".join(seen)
