"""An import from beginning to end: read, written, and what became of everything that was seen."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrprism.core.brief import counted
from mrprism.core.errors import InputError, UnknownName, nearest, unknown
from mrprism.core.sample import MultiRaterSample
from mrprism.core.workers import ALONE, Workers
from mrprism.datasets.dataset import Dataset, open_dataset
from mrprism.datasets.later import Facts
from mrprism.datasets.write import storable, write_dataset
from mrprism.layouts.in_place import check_in_place, write_in_place
from mrprism.layouts.ledger import LEDGER, Ledger
from mrprism.layouts.readers import DATASETS
from mrprism.layouts.source import Source, said_yes
from mrprism.layouts.whole import Checked
from mrprism.output.files import write_file
from mrprism.output.lock import alone_in
from mrprism.output.tables import to_csv

Told = Callable[[int, int | None], None]  # cases done, of how many; before the first, files looked at


@dataclass(frozen=True)
class Imported:
    """What came of an import."""

    source: Source
    ledger: Ledger
    cases: int
    out: Path | None  # None: nothing was written

    def __repr__(self) -> str:
        left = f", {counted(len(self.ledger.left), 'thing')} left out" if self.ledger.left else ""
        return f"Imported({repr(str(self.out)) if self.out else 'nothing written'}, {counted(self.cases, 'case')}{left})"

    @property
    def dataset(self) -> Dataset:
        """What was written, opened.

        Raises:
            InputError: Nothing was written.
        """
        if self.out is None:
            raise InputError("nothing was written, as dry_run asked for; there is no data set to open")
        return open_dataset(self.out)


@storable()
def import_dataset(
    kind: str,
    src: str | Path,
    out: str | Path | None,
    *,
    options: Mapping[str, Any] | None = None,
    name: str | None = None,
    strict: bool = False,
    dry_run: bool = False,
    each: Told | None = None,
    workers: Workers = ALONE,
) -> Imported:
    """Turn a published data set or a tool's export into a mrprism data set.

    Beside what is written lies `mrprism-import.json`: what was read, decided, left out and ignored.

    Args:
        kind: The layout, one of `DATASETS`.
        out: A new folder, or a `dataset.json` beside files that can stay where they are.
        options: Of the layout.
        strict: Refuse the whole where anything that may be a rater's work would be left out.
        dry_run: Read everything and write nothing.
        each: Called with the number of cases done and of all, if that is known; before the first with 0 and the
            number of files that were looked at.
        workers: Who reads and writes the cases; what comes of it is the same. Layouts whose cases come one after the
            other out of the same files are read by one, and written by all.

    Raises:
        InputError: Something does not fit; nothing is left behind.
    """
    src, out = Path(src), None if out is None else Path(out)
    if kind not in DATASETS:
        raise unknown("layout", kind, DATASETS)
    if out is None and not dry_run:
        raise InputError(
            "import needs a layout, a source and a place to write to: mrprism import KIND SRC OUT"
        )
    if not src.exists():
        raise InputError(f"'{src}' does not exist; expected a data set of the layout '{kind}'")
    try:
        return _import(kind, src, out, converted(kind, options or {}), name, strict, dry_run, each, workers)
    except UnknownName:
        raise
    except InputError as error:
        raise InputError(_offered(str(error), kind)) from error.__cause__


def _offered(sentence: str, kind: str) -> str:
    """A sentence without the advice that only other layouts can follow."""
    known = options_of(kind)
    parts = sentence.split("; ")
    kept = [part for part in parts[1:] if set(re.findall(r"-o (\w+)=", part)) <= set(known)]
    return "; ".join([parts[0], *kept])


def _import(
    kind: str,
    src: Path,
    out: Path | None,
    given: dict[str, Any],
    name: str | None,
    strict: bool,
    dry_run: bool,
    each: Told | None,
    workers: Workers,
) -> Imported:
    source = DATASETS[kind](src, tell=None if each is None else lambda files: each(0, files), **given)
    if source.ledger is not None:
        source.ledger.tell = None
    assert source.ledger is not None
    stays = out is not None and out.suffix.lower() == ".json"
    if stays and source.pseudonyms:
        raise InputError(
            f"files that stay in place keep their raters' names, so '{out}' should be a new folder"
        )
    if stays and said_yes(given.get("resample", "no"), "resample"):
        raise InputError(f"masks brought onto another grid are new files, so '{out}' should be a new folder")
    job = _Job(
        source, source.ledger, strict, each, name or source.name, {"kind": kind, "options": given}, workers
    )
    if dry_run:
        if stays and out is not None:
            check_in_place(source, out, name=job.name)
        for _ in job.samples():
            pass
        return Imported(source, source.ledger, job.cases, None)
    assert out is not None
    if stays:
        job.stay(out)
    else:
        job.write(out)
    return Imported(source, source.ledger, job.cases, out)


def options_of(kind: str) -> dict[str, Any]:
    """The options of a layout and their defaults."""
    parameters = inspect.signature(DATASETS[kind]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def converted(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the reader of a layout takes them.

    Raises:
        InputError: It has no such option, or one should be a whole number.
    """
    known = options_of(kind)
    for key in given:
        if key not in known:
            raise UnknownName(
                f"{kind} has no option '{key}'; known: {', '.join(known) or 'none'}{nearest(key, known)}"
            )
    try:
        return {k: int(v) if isinstance(known[k], int) else _text(v) for k, v in given.items()}
    except ValueError:
        raise InputError(f"an option of {kind} expects a whole number; given {dict(given)}") from None


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


@dataclass
class _Job:
    source: Source
    ledger: Ledger
    strict: bool
    each: Told | None
    name: str
    facts: dict[str, Any]
    workers: Workers
    cases: int = 0

    def samples(self) -> Iterator[MultiRaterSample]:
        """The samples, counted; when the last one was read, what is left over may refuse them all."""
        for sample in self.source.samples:
            yield sample
            self._count()
        self._settled()

    def _count(self) -> None:
        self.cases += 1
        if self.each is not None:
            self.each(self.cases, self.source.count)

    @alone_in("out")
    def write(self, out: Path) -> None:
        task = self.source.task
        key = out.with_name(f"{out.name}-raters.csv") if self.source.pseudonyms else None
        if key is not None and out.exists() and any(out.iterdir()):
            raise InputError(f"'{out}' exists already; expected a new or empty folder")
        try:
            if key is not None:
                write_file(key, _who_is_who(self.source.pseudonyms))
            checked = self.source.samples
            later = checked.later if isinstance(checked, Checked) and not self.workers.alone else None

            def each(facts: Facts) -> None:
                if later is not None and isinstance(checked, Checked):
                    checked.note(facts)
                    self._count()

            def end() -> None:
                if later is not None and isinstance(checked, Checked):
                    checked.end()
                    self._settled()

            write_dataset(
                self.samples() if later is None else later,
                out,
                name=self.name,
                task=task,
                channels=self.source.channels,
                image_format=self.source.image_format,  # type: ignore[arg-type]
                description=lambda: "\n".join(self.source.notes) or None,
                beside=lambda: {LEDGER: self._document()},
                workers=self.workers,
                each=each,
                end=end,
            )
        except BaseException:
            if key is not None:
                with suppress(OSError):
                    key.unlink(missing_ok=True)
            raise

    @alone_in("out")
    def stay(self, out: Path) -> None:
        self._settled()
        write_in_place(self.source, out, name=self.name)
        self.cases = len(self.source.here.cases) if self.source.here else 0
        write_file(out.with_name(LEDGER), self._document())

    def _settled(self) -> None:
        self.ledger.settle()
        if self.strict:
            self.ledger.refuse_left()
        self.ledger.renamed(self.source.pseudonyms)

    def _document(self) -> bytes:
        facts = {"source": self.source.name, **self.facts, "cases": self.cases}
        return self.ledger.document(**facts, raters=list(self.source.task.raters))


def _who_is_who(names: Mapping[str, str]) -> str:
    return to_csv(("pseudonym", "rater"), ((other, rater) for rater, other in names.items()))
