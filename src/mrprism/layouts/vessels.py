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
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import folders, matching
from mrprism.images import read_image, read_mask
from mrprism.layouts.source import Source, assemble, fitting

STARE = Task(3, ("vessels",), ("ah", "vk"))
CHASE = Task(3, ("vessels",), ("1stHO", "2ndHO"))
_UNPACKED = 50_000_000  # bytes; a STARE image has 1.3 million


def read_stare(source: Path) -> Source:
    """Read STARE, packed or not."""
    return Source("stare", STARE, _samples(source, STARE, r"(im\d+)\.ppm(?:\.gz)?", "{name}.{rater}.ppm"))


def read_chase(source: Path) -> Source:
    """Read CHASE_DB1."""
    return Source("chase-db1", CHASE, _samples(source, CHASE, r"(Image_\d+[LR])\.jpg", "{name}_{rater}.png"))


def _samples(source: Path, task: Task, image: str, mask: str) -> Iterator[MultiRaterSample]:
    everywhere = sorted(folders(source))
    files = {path.name.lower(): path for folder in everywhere for _, path in matching(folder, r".+\..+")}
    found = [(m, path) for path in files.values() if (m := re.fullmatch(image, path.name, re.IGNORECASE))]
    if not found:
        raise InputError(f"'{source}' has no photographs of this data set")
    for match, path in found:
        with tempfile.TemporaryDirectory() as scratch:
            photograph = read_image(_unpacked(path, Path(scratch))).array
            masks = {}
            for rater in task.raters:
                wanted = mask.format(name=match[1], rater=rater).lower()
                file = files.get(wanted) or files.get(f"{wanted}.gz")
                if file is not None:
                    drawn = read_mask(_unpacked(file, Path(scratch))).array
                    masks[rater, "vessels"] = fitting(drawn, file, photograph, path)
        eye = re.fullmatch(r"Image_(\d+)[LR]", match[1], re.IGNORECASE)
        yield assemble(task, match[1], photograph, masks, group=f"child {eye[1]}" if eye else None)


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
