"""STARE and CHASE_DB1: retinal vessels, each outlined by two people.

STARE: `imNNNN.ppm[.gz]`, `imNNNN.{ah,vk}.ppm[.gz]`, in one folder or several. CHASE_DB1:
`Image_NN{L,R}.jpg`, `..._1stHO.png`, `..._2ndHO.png`; the two eyes of a child are one group.

Sources: Hoover et al., IEEE TMI 19(3), 2000; Fraz et al., IEEE TBME 59(9), 2012.
"""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import folders, matching
from mrprism.images import read_image, read_mask
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source, assemble, fitting, present

STARE = ("ah", "vk")
CHASE = ("1stHO", "2ndHO")
_UNPACKED = 50_000_000  # bytes; a STARE image has 1.3 million


def read_stare(source: Path, ledger: Ledger) -> Source:
    """Read STARE, packed or not."""
    return _read("stare", source, ledger, STARE, r"(im\d+)\.ppm(?:\.gz)?", "{name}.{rater}.ppm")


def read_chase(source: Path, ledger: Ledger) -> Source:
    """Read CHASE_DB1."""
    return _read("chase-db1", source, ledger, CHASE, r"(Image_\d+[LR])\.jpg", "{name}_{rater}.png")


@dataclass(frozen=True)
class _Case:
    name: str
    image: Path
    masks: dict[str, Path]  # by rater


def _read(name: str, source: Path, ledger: Ledger, raters: tuple[str, ...], image: str, mask: str) -> Source:
    """Find the files wherever they lie; one name may stand for one file only."""
    files: dict[str, Path] = {}
    for path in (path for folder in sorted(folders(source)) for _, path in matching(folder, r".+\..+")):
        if path.is_file():
            plain = re.sub(r"\.gz$", "", path.name.lower())
            first = files.setdefault(plain, path)
            if first is not path and (
                re.fullmatch(image, plain, re.IGNORECASE) or plain.split(".")[-1] in ("ppm", "png")
            ):
                raise InputError(f"'{first}' and '{path}' have one name; expected one of them")
    cases = []
    for path in files.values():
        match = re.fullmatch(image, path.name, re.IGNORECASE)
        if match:
            wanted = {rater: mask.format(name=match[1], rater=rater).lower() for rater in raters}
            masks = {rater: files[file] for rater, file in wanted.items() if file in files}
            ledger.take_all([path, *masks.values()])
            cases.append(_Case(match[1], path, masks))
    if not cases:
        raise InputError(f"'{source}' has no photographs of this data set")
    there = present(raters, {rater for case in cases for rater in case.masks}, ledger)
    task = Task(3, ("vessels",), there)
    return Source(name, task, _samples(task, cases), count=len(cases))


def _samples(task: Task, cases: list[_Case]) -> Iterator[MultiRaterSample]:
    for case in cases:
        with tempfile.TemporaryDirectory() as scratch:
            photograph = read_image(_unpacked(case.image, Path(scratch))).array
            masks = {}
            for rater, file in case.masks.items():
                drawn = read_mask(_unpacked(file, Path(scratch))).array
                masks[rater, "vessels"] = fitting(drawn, file, photograph, case.image)
        eye = re.fullmatch(r"Image_(\d+)[LR]", case.name, re.IGNORECASE)
        yield assemble(task, case.name, photograph, masks, group=f"child {eye[1]}" if eye else None)


def _unpacked(path: Path, scratch: Path) -> Path:
    if path.suffix.lower() != ".gz":
        return path
    try:
        with gzip.open(path) as stream:
            content = stream.read(_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' is broken: {error}") from error
    if len(content) > _UNPACKED:
        raise InputError(f"'{path}' unpacks to more than {_UNPACKED} bytes")
    out = scratch / path.stem
    out.write_bytes(content)
    return out
