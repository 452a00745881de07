"""Colours, tables and bars on the terminal, by rich; the text in them as `mrprism.output.terminal` lets it through."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from mrprism.output.terminal import Stream, bare, encodable, printable


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # as `print` does

    def render_str(self, text: str, **settings: Any) -> Text:  # type: ignore[override]
        return super().render_str(printable(text), **settings)  # before its width is measured

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


def console(*, stderr: bool = False, **settings: Any) -> Console:
    """A rich console for names out of files: strings are shown as they are, not read as rich's markup."""
    stream = bare(sys.stderr if stderr else sys.stdout)
    return _Console(
        file=cast(Any, Stream(stream, encodable)), markup=False, emoji=False, highlight=False, **settings
    )
