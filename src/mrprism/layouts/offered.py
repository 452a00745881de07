"""Readers that other packages offer: a fault of theirs is a sentence that names the package."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source


def reader_of(found: Any, who: str) -> Callable[..., Source]:
    """What another package offers, if it is a reader; what it answers is looked at each time."""
    if not callable(found) or isinstance(found, type):
        raise ValueError(f"is {found!r}; expected a function from a path to a mrprism.layouts.Source")
    own = list(inspect.signature(found).parameters.values())
    if not own:
        raise ValueError("takes nothing; expected a function from a path to a mrprism.layouts.Source")
    keeps_ledger = any(parameter.name == "ledger" for parameter in own)

    @wraps(found)
    def reader(source: Path, ledger: Ledger, **options: Any) -> Source:
        with _named(who):
            read = found(source, ledger=ledger, **options) if keeps_ledger else found(source, **options)
        if not keeps_ledger:
            ledger.note(f"{who} does not say which files it leaves out")
            for path in source.iterdir() if source.is_dir() else (source,):
                ledger.know(path, "read by a package that does not say what it leaves out")
        if not isinstance(read, Source):
            raise InputError(f"{who} returned a {type(read).__name__}; expected a mrprism.layouts.Source")
        return replace(read, samples=_Named(read.samples, who))

    options = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own[1:]
        if parameter.name != "ledger" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    as_ours = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("source", "ledger")
    ]
    reader.__signature__ = inspect.Signature([*as_ours, *options])  # type: ignore[attr-defined]
    return reader


@contextmanager
def _named(who: str) -> Iterator[None]:
    """A fault in the code of another package, said with its name."""
    try:
        yield
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{who} failed with {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Named:
    """Samples read by another package's code."""

    samples: Iterable[MultiRaterSample]
    who: str

    def __iter__(self) -> Iterator[MultiRaterSample]:
        with _named(self.who):
            samples = iter(self.samples)
        while True:
            with _named(self.who):
                sample = next(samples, None)
            if sample is None:
                return
            if not isinstance(sample, MultiRaterSample):
                raise InputError(f"{self.who} gave a {type(sample).__name__}; expected a MultiRaterSample")
            yield sample
