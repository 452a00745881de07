"""Names that people take for the same and computers do not, and names that files can have."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator

# letters of the Cyrillic and the Greek alphabet that look like Latin ones
_LOOKS = str.maketrans("аеорсухіјѕһԁӏкмтвнгαικνορτυχ", "aeopcyxijshdlkmtbhraikvoptux")


def near_twins(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ in nothing but case, blanks or how accents are put together."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[spoken(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def punctuated(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that look as if of the same letters and digits: perhaps one, perhaps not.

    Such as `optic_cup` and `optic-cup`, or `c` of the Latin alphabet and of the Cyrillic one.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        if letters := "".join(c for c in spoken(name).translate(_LOOKS) if c.isalnum()):
            groups[letters].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def doubtful(what: str, names: Iterable[str], *, letters: bool = False) -> Iterator[str]:
    """Names that may have been meant for one, a sentence each; what is drawn under one is missing under the other.

    Args:
        what: What they are names of, in the plural.
        letters: Also names of the same letters, but for punctuation.
    """
    listed = list(dict.fromkeys(names))
    twins = near_twins(listed)
    for group in twins:
        yield (
            f"{what} {_several(group)} differ in case, blanks or accents only, and count as different; if they are the "
            "same, give them one name"
        )
    for group in punctuated(listed) if letters else []:
        if len({spoken(name) for name in group}) > 1:
            yield f"{what} {_several(group)} have the same letters and were kept apart; if they mean the same, rename one"


def _several(names: tuple[str, ...]) -> str:
    return " and ".join(f"'{name}'" for name in names[:4]) + (", ..." if len(names) > 4 else "")


def spoken(name: str) -> str:
    """What stays of a name when it is said aloud: no case, no blanks, accents composed, nothing invisible."""
    if name.isascii() and name.isprintable():
        return "".join(name.casefold().split())  # the same, and quick
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = (c for c in folded if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf"))
    return "".join(seen)


def safe_names(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """What an output calls the files of each case, rater or structure: `safe_name`, in this order.

    Args:
        taken: Names that have another meaning there.
    """
    used = set(taken)
    return {name: safe_name(name, used) for name in names}


def safe_name(name: str, taken: set[str]) -> str:
    """A file name for a case or rater, unlike any in ``taken`` (to which it is added).

    Letters and digits of every script stay; all else becomes a dash. Never more than 80 bytes.
    """
    plain = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", name)).strip(".-")
    plain = plain.encode()[:80].decode(errors="ignore") or "unnamed"
    number, candidate = 1, plain
    while candidate.lower() in taken:
        number += 1
        candidate = f"{plain}-{number}"
    taken.add(candidate.lower())
    return candidate
