"""The one error users see, and the one by which a command is stopped."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """Something given to mrprism is wrong, said in one sentence.

    The sentence names what was wrong, in which file, and what was expected.
    The command line prints it without a traceback and exits with code 2.
    """


class UnknownName(InputError, KeyError):  # noqa: N818
    """A name that nothing has; a `KeyError` too, for those who ask a mapping."""

    __str__ = Exception.__str__  # a KeyError would put quotes around the sentence


class OutOfRange(InputError, IndexError):  # noqa: N818
    """A place past the end; an `IndexError` too, for loops end by it."""


class WorkersLost(Exception):  # noqa: N818
    """Several processes died, one after the other, of the same case; said in one sentence."""


def unknown(what: str, name: object, known: Iterable[object]) -> UnknownName:
    """The error for a name nothing has, with those there are and the nearest of them.

    Args:
        what: What it should be a name of, such as "method".
    """
    names = [str(one) for one in known]
    return UnknownName(f"unknown {what} '{name}'; known: {', '.join(names) or 'none'}{nearest(name, names)}")


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a sentence that asks whether the nearest of the known names was meant; or nothing."""
    names = {one.lower(): one for one in known}
    near = get_close_matches(str(name).lower(), names, n=1)
    return f"; did you mean '{names[near[0]]}'?" if near else ""


class Terminated(KeyboardInterrupt):
    """The process was asked to end by somebody else than Ctrl-C; it cleans up in the same way."""
