"""What reaches the terminal: no control characters out of files, and nothing the terminal cannot show.

Names come from other people's files. An escape sequence in one could repaint what was printed before it, and a mark that
turns the direction of text could hide what a name really is; such characters are shown as JSON writes them, `\\u001b`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

# C0 but for tab and new line, DEL, C1; marks of direction; separators of lines and paragraphs; halves of pairs
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_PLAIN = str.maketrans(
    {"×": "x", "–": "-", "—": "-", "…": "...", "’": "'", "‘": "'", "“": '"', "”": '"', "±": "+-", "·": "."}
    | {
        "κ": "kappa",
        "α": "alpha",
        "µ": "u",
        "μ": "u",
        "↑": "^",
        "↓": "v",
        "≤": "<=",
        "≥": ">=",
        "²": "^2",
        "³": "^3",
    }
)


def printable(text: str, encoding: str | None = None) -> str:
    """Text as it may be printed: control characters as `\\u001b`, and so what the encoding does not have."""
    return encodable(_CONTROL.sub(lambda found: _escaped(found[0]), text), encoding)


def encodable(text: str, encoding: str | None) -> str:
    """Text of which an encoding has every character; signs of ours in plain letters, others as `\\u00fc`."""
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return "".join(_shown(character, encoding or "utf-8") for character in text.translate(_PLAIN))
    return text


def one_line(text: str) -> str:
    """A sentence that cannot look like several: what stands between its lines becomes a blank."""
    return " ".join(text.split("\n"))


def _shown(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _escaped(character)
    return character


def _escaped(character: str) -> str:
    """As in JSON, so that printed JSON stays JSON."""
    number = ord(character)
    if number < 0x10000:
        return f"\\u{number:04x}"
    return f"\\u{0xD800 + (number - 0x10000 >> 10):04x}\\u{0xDC00 + (number - 0x10000 & 0x3FF):04x}"


class Stream:
    """A stream that is written to through a function of the text and the encoding; all else is the stream's own."""

    def __init__(self, stream: Any, change: Callable[[str, str | None], str]) -> None:
        self.stream, self.change = stream, change

    def write(self, text: str) -> int:
        self.stream.write(self.change(text, self.stream.encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Everything that is printed meanwhile, by whomever, is `printable`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(Any, Stream(bare(stream), printable)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def bare(stream: Any) -> Any:
    """The stream itself, for what writes colours and moves the cursor on purpose."""
    return stream.stream if isinstance(stream, Stream) else stream


def warn(text: str) -> None:
    """One sentence on standard error, in a line of its own."""
    print(f"mrprism: warning: {one_line(text)}", file=sys.stderr)


def note(text: str) -> None:
    """Something worth knowing, on standard error."""
    print(f"note: {one_line(text)}", file=sys.stderr)


def same_line(text: str) -> None:
    """Replace what stands in the last line of standard error, where that is a terminal."""
    if sys.stderr.isatty():
        stream = bare(sys.stderr)
        stream.write(f"\r{printable(text, stream.encoding)}")
        stream.flush()
