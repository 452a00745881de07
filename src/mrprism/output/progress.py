"""What a training says while it runs, on standard error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mrprism.output.console import console
from mrprism.output.terminal import one_line, warn


class Display:
    """A moving bar on a terminal, otherwise one line an epoch; warnings always."""

    def __init__(self, epochs: int, steps: int, done: int, quiet: bool = False) -> None:
        """
        Args:
            steps: Of the whole training.
            done: Steps an earlier start has done already.
        """
        self.epochs, self.steps, self.done, self.quiet = epochs, steps, done, quiet
        self.first, self.started = done, time.monotonic()
        self.console = console(stderr=True, soft_wrap=True)
        self.bar: Progress | None = None
        if self.console.is_terminal and not quiet:
            text = TextColumn("{task.description}")
            columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("epoch 1", total=steps, completed=done)

    def __enter__(self) -> Display:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def step(self, epoch: int, loss: float) -> None:
        self.done += 1
        if self.bar:
            text = f"epoch {epoch + 1}/{self.epochs}  loss {loss:.4f}"
            self.bar.update(self.task, completed=self.done, description=text)

    def epoch(self, epoch: int, terms: Mapping[str, float], score: float | None, chosen: bool) -> None:
        """One line: the mean losses of the epoch, the validation score, the time left."""
        parts = [f"epoch {epoch + 1}/{self.epochs}", f"loss {sum(terms.values()):.4f}"]
        if len(terms) > 1:
            parts.append("(" + ", ".join(f"{name} {value:.4f}" for name, value in terms.items()) + ")")
        if score is not None:
            parts.append(f"validation {score:.4f}{' *' if chosen else ''}")
        parts.append(f"{self._left()} left")
        self.say("  ".join(parts))

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text)

    def warn(self, text: str) -> None:
        if self.quiet:
            warn(text)
        else:
            self.console.print(f"warning: {one_line(text)}", style="bold yellow")

    def _left(self) -> str:
        took = time.monotonic() - self.started
        seconds = took / max(1, self.done - self.first) * (self.steps - self.done)
        if seconds < 100:
            return f"{seconds:.0f} s"
        return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
