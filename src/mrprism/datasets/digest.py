"""Of which very masks a result was made."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mrprism.core.files import plain_file
from mrprism.datasets.dataset import Dataset
from mrprism.datasets.manifest import Drawn


def masks_digest(dataset: Dataset) -> str | None:
    """SHA-256 over the bytes of every mask file and what it is a mask of; None for a data set that has no files.

    Read in pieces, never decoded; images and what nobody fuses (second readings, references) do not count.

    Raises:
        OSError: A file cannot be read.
    """
    if dataset.manifest is None or dataset.root is None:
        return None
    digest = hashlib.sha256(repr((dataset.manifest.labels, dataset.task)).encode())
    for case in dataset.manifest.cases:
        for rater, drawn in sorted(case.masks.items()):
            for structure, path in _files(drawn):
                digest.update(repr((case.name, rater, structure)).encode())
                digest.update(_digest(dataset.root / path))
    return digest.hexdigest()


def _files(drawn: Drawn) -> list[tuple[str, str]]:
    return [("", drawn)] if isinstance(drawn, str) else sorted(drawn.items())


def _digest(path: Path) -> bytes:
    """Of a file; of a folder with a DICOM series, of all its files."""
    if path.is_dir():
        inside = sorted(file for file in path.iterdir() if file.is_file())
        return hashlib.sha256(b"".join(map(_digest, inside))).digest()
    with plain_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
