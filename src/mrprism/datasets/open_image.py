"""One image, whatever it is kept in: a file, or a folder with a DICOM series."""

from __future__ import annotations

from pathlib import Path

from mrprism.datasets.dicom import Series, dicom_files, read_series
from mrprism.images import ImageFile, Window, format_of, read_image, scale


def is_series(folder: Path) -> bool:
    """Whether this is a folder of DICOM files with no other images in it."""
    if not folder.is_dir() or any(format_of(path) for path in folder.iterdir()):
        return False
    return bool(dicom_files(folder))


def open_image(path: Path, *, window: Window | None = None) -> ImageFile:
    """Read an image with intensities in [0, 1]; of a DICOM series the window is in rescaled values.

    Raises:
        InputError: It cannot be read.
    """
    if not path.is_dir():
        return read_image(path, window=window)
    return series_image(read_series(path), path, window)


def series_image(series: Series, path: Path, window: Window | None) -> ImageFile:
    """A DICOM series as an image, its rescaled values going along."""
    values = series.array[None]
    return ImageFile(
        scale(values, path, window),
        series.spacing_mm,
        series.geometry,
        "dicom",
        path,
        notes=series.notes,
        values=values,
        window=window,
    )
