"""How many cases are done, in one line."""

from __future__ import annotations

import sys
import time

from mrprism.output.terminal import same_line

_QUIET = 10  # seconds between two lines where no terminal is watched


class Counter:
    """Cases done, on standard error: a line that counts on a terminal, else one now and then."""

    def __init__(self) -> None:
        self.loud, self.shown, self.said = sys.stderr.isatty(), False, time.monotonic()

    def __enter__(self) -> Counter:
        return self

    def __call__(self, done: int, count: int | None) -> None:
        text = f"{done} of {count} cases" if count else f"{done} cases"
        if not done:
            text = f"{count} files looked at"
            if self.loud and (count or 0) % 50:
                return
        if self.loud:
            same_line(f"{text:<30}")
            self.shown = True
        elif time.monotonic() - self.said > _QUIET:
            print(text, file=sys.stderr, flush=True)
            self.said = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self.shown:
            print(file=sys.stderr)
