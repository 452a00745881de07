"""Pickles of LIDC-IDRI: MedicalMatting's `lidc_attributes`, and `data_lidc` made for the Probabilistic U-Net.

{case: {"image": (H, W), "masks": [four of (H, W), 0 or 1], "series_uid": text, "alpha": (H, W)}}.

A pickle is a program. This one is never run: only what builds arrays of numbers, texts, lists and
dictionaries is let through, and anything else stops the reading.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.images import limit_archive, scale
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source, fitting

_ENDINGS = (".pickle", ".pkl")


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, or a zip archive of one."""
    if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.lower().endswith(_ENDINGS) for name in archive.namelist())
    return path.suffix.lower() in _ENDINGS


def read_pickle(path: Path, task: Task, ledger: Ledger) -> Source:
    """Read one file; the slots of its cases are those of ``task``."""
    notes = ledger.notes
    notes.append("cases are grouped by scan, for a pickle does not name the patient")
    notes.append("the masks may have been sorted by size when the pickle was made")
    return Source("lidc", task, _samples(path, task, notes), ("CT",), notes=notes)


def _samples(path: Path, task: Task, notes: list[str]) -> Iterator[MultiRaterSample]:
    content = _content(path)
    if not isinstance(content, dict) or not all(isinstance(case, dict) for case in content.values()):
        raise InputError(f"'{path}' is not a pickle of LIDC: expected a dictionary of cases")
    if any("alpha" in case for case in content.values()):
        notes.append("'alpha' is made from the masks and was left out")
    for name, case in content.items():
        where = f"{path}: {name}"
        try:
            image, masks, series = _array(case["image"], where), case["masks"], case["series_uid"]
        except KeyError as error:
            raise InputError(f"'{where}' has no {error}; expected image, masks and series_uid") from error
        if image is None or image.ndim != 2 or image.dtype.kind not in "uif":
            raise InputError(f"'{where}' has no image of one plane")
        stack = _array(masks, where)
        masks = masks if stack is None else list(stack)
        series = series.decode("latin-1") if isinstance(series, bytes) else series
        if not image.size or not isinstance(masks, (list, tuple)) or not isinstance(series, str):
            raise InputError(
                f"'{where}' is not a case; expected an image with pixels, a list of masks and a text"
            )
        if len(masks) != len(task.raters):
            raise InputError(f"'{where}' has {len(masks)} masks; expected {len(task.raters)}")
        planes = [fitting(_mask(mask, where), where, image[None], where) for mask in masks]
        unit = image.dtype.kind == "f" and image.min() >= 0 and image.max() <= 1
        yield MultiRaterSample(
            name=str(name),
            image=scale(image[None], path, (0.0, 1.0) if unit else (0.0, 255.0)),
            masks=np.stack(planes)[:, None],
            rated=np.ones((len(masks), 1), dtype=bool),
            group=series,
        )


def _mask(mask: Any, where: str) -> np.ndarray:
    values = mask if isinstance(mask, np.ndarray) else _array(mask, where)
    if values is None or not np.isin(values, (0, 1)).all():
        raise InputError(f"'{where}' has a mask with other values than 0 and 1")
    return np.asarray(values != 0)


def _content(path: Path) -> Any:
    try:
        if path.suffix.lower() != ".zip":
            with plain_file(path).open("rb") as file:
                return _load(file)
        limit_archive(path)
        with zipfile.ZipFile(path) as archive:
            (inner,) = (item for item in archive.infolist() if item.filename.lower().endswith(_ENDINGS))
            return _load(io.BytesIO(archive.read(inner)))
    except _RefusedError as error:
        raise InputError(f"'{path}' {error}") from error
    except InputError:
        raise
    except Exception as error:  # pickle, zip and numpy raise what they like on broken files
        raise InputError(f"'{path}' is broken or not a pickle: {error}") from error


def _load(file: io.BufferedReader | io.BytesIO) -> Any:
    for step, argument, place in pickletools.genops(file):
        # the unpickler makes room for as many things as the largest number that one of them is given
        if step.name.endswith("PUT") and int(argument or 0) > (place or 0):
            raise _RefusedError(f"asks for room for {argument} things in its first {place} bytes")
    file.seek(0)
    return _Numbers(file).load()


class _RefusedError(Exception):
    """A pickle holds something that is not let through."""


class _Numbers(pickle.Unpickler):
    """Builds arrays of numbers and nothing else, and those without numpy's help, which broken states can crash."""

    def find_class(self, module: str, name: str) -> Any:
        place = module.replace("numpy._core", "numpy.core"), name
        if place == ("numpy.core.multiarray", "_reconstruct"):
            return _empty
        if place == ("numpy.core.multiarray", "scalar"):
            return _scalar
        if place == ("numpy", "ndarray"):
            return _Array
        if place == ("numpy", "dtype"):
            return _Type
        if place == ("_codecs", "encode"):  # how Python 2 kept bytes
            return _bytes
        raise _RefusedError(f"holds '{module}.{name}', which could run code; expected numbers only")


class _Type:
    """Stands for numpy.dtype while a pickle is read."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def read(self, content: Any) -> np.ndarray:
        """A row of numbers."""
        if not re.fullmatch("b1|[ui][1248]|f[248]", self.code) or self.order not in ("=", "<", ">", "|"):
            raise _RefusedError(f"holds values of the type {self.code}; expected numbers only")
        return np.frombuffer(content, self.order + self.code)


class _Array:
    """Stands for numpy.ndarray while a pickle is read; made into numbers when it is needed, if ever."""

    state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def read(self) -> np.ndarray:
        _, shape, kind, by_columns, content = self.state or (1, (0,), _Type("u1"), False, b"")
        return kind.read(content).reshape(shape, order="F" if by_columns else "C")  # type: ignore[no-any-return]


def _array(value: Any, where: str) -> np.ndarray | None:
    """None for what is no array of numbers."""
    try:
        return value.read() if isinstance(value, _Array) else None
    except _RefusedError:
        return None
    except Exception as error:  # broken states
        raise InputError(f"'{where}' holds a broken array: {error}") from error


def _empty(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array or tuple(shape) != (0,):
        raise _RefusedError("holds an array that is not built as arrays are")
    return _Array()


def _scalar(kind: _Type, content: Any) -> Any:
    return kind.read(content)[0]


def _bytes(text: str, encoding: str) -> bytes:
    return text.encode("latin-1" if encoding == "latin1" else "utf-8")
