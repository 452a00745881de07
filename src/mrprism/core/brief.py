"""What results say of themselves when they are printed: one line, never their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

SHORT = 60  # characters of a value; longer ones are counted


def brief(thing: Any) -> str:
    """A dataclass in one line; for its ``__repr__``. Fields that hold their default of nothing are left out."""
    parts = [f"{f.name}={_value(getattr(thing, f.name))}" for f in fields(thing) if f.repr]
    return f"{type(thing).__name__}({', '.join(part for part in parts if not part.endswith('='))})"


def size(shape: tuple[int, ...] | tuple[float, ...]) -> str:
    """A shape as people write it: 2 × 128 × 128."""
    return " × ".join(f"{n:g}" for n in shape) or "one"


def counted(count: int, word: str) -> str:
    """1 case, 2 cases, no cases."""
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def _value(value: Any) -> str:
    """Nothing for what is absent or empty."""
    if value is None or (isinstance(value, list | tuple | dict | str) and not value):
        return ""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{value.item():.4g}" if shape == () else f"[{size(shape)}]"
    if isinstance(value, Path):
        return f"'{value}'"
    text = repr(value)
    if len(text) <= SHORT:
        return text
    if isinstance(value, Mapping):
        return f"{{{counted(len(value), 'entry').replace('entrys', 'entries')}}}"
    return f"[{len(value)}]" if isinstance(value, list | tuple) else f"{text[: SHORT - 3]}..."
