"""How a command that fails ends: one sentence and an exit code, as docs/reference/exit-codes.md lists them."""

from __future__ import annotations

import os
import traceback

from mrprism.core.errors import InputError, Terminated, WorkersLost
from mrprism.output.terminal import guarded, one_line


def end_of(error: BaseException) -> tuple[str, int]:
    """What is said of an error, and the exit code; the traceback is shown where MRPRISM_DEBUG asks for it.

    Errors that are no `Exception` and no interruption are raised again.
    """
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted", 143 if isinstance(error, Terminated) else 130
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, WorkersLost):
        return str(error), 1
    if isinstance(error, MemoryError):
        return f"out of memory: {str(error) or 'the input is too large for this machine'}", 2
    if isinstance(error, OSError):
        return _refused(error), 2
    if isinstance(error, Exception):
        return _unexpected(error), 70
    raise error


def _refused(error: OSError) -> str:
    """What the operating system would not do: permission denied, disk full, read error, ..."""
    why = error.strerror or str(error)
    return f"'{error.filename}': {why[:1].lower()}{why[1:]}" if error.filename else why


def _unexpected(error: Exception) -> str:
    """What nobody thought of: a fault of mrprism, whatever the input."""
    if os.environ.get("MRPRISM_DEBUG", "") not in ("", "0"):
        with guarded():
            traceback.print_exception(error)
    said = one_line(str(error))
    what = f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__
    return (
        f"unexpected error, a fault of mrprism ({what}); please report it as SECURITY.md and CONTRIBUTING.md of its "
        "repository say, with what MRPRISM_DEBUG=1 shows"
    )
