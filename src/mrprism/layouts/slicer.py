"""3D Slicer: `images/CASE.nii.gz` (or `.nrrd`) and for each rater a folder with `CASE.seg.nrrd`.

A segment is where its layer holds its label value; segments are matched by name and may overlap.
Slicer cuts a segmentation to what is drawn, so it is put back by its position, in whole voxels: what
lies between voxels, on another grid or outside the image is refused, unless it shall be resampled. A file
without segments is empty, not missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.names import spoken
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import entries, matching, needed, stem
from mrprism.images import Geometry, ImageFile, format_of, read_image
from mrprism.images.nrrd import Nrrd, read_nrrd
from mrprism.images.resample import resample_labels
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import Spelling
from mrprism.layouts.source import Source, assemble, parse_window

_OFF_GRID = 0.02  # voxels a segmentation may lie beside the image's grid


def read(
    source: Path, ledger: Ledger, *, images: str = "images", window: str = "", resample: str = "no"
) -> Source:
    """Read a folder.

    Args:
        images: Name of the folder with the images.
        window: "low:high" in file values, for CT.
        resample: "yes" brings masks that lie on another grid onto that of their image.
    """
    pictures: dict[str, _Picture] = {}
    for path in entries(needed(source, images)):
        if path.is_file() and format_of(path):
            other = pictures.setdefault(spoken(stem(path)), _Picture(stem(path), path))
            if other.path is not path:
                raise InputError(
                    f"'{other.path}' and '{path.name}' are one case by their names; expected one of them"
                )
            ledger.take(path)
    drawn: dict[str, dict[str, Path]] = {}
    for folder in entries(source):
        if folder.name in ledger.without and folder.is_dir():
            ledger.know(folder, "of a rater who was not wanted")
            ledger.skipped.add(folder.name)
        elif folder.is_dir() and folder.name.lower() != images.lower():
            files = {spoken(m[1]): ledger.take(path) for m, path in matching(folder, r"(.+)\.seg\.nrrd")}
            for key, path in files.items():
                if key not in pictures:
                    name = re.sub(r"\.seg\.nrrd$", "", path.name, flags=re.IGNORECASE)
                    raise InputError(f"'{path}' by '{folder.name}' has no image '{name}' in '{images}'")
            inside = entries(folder)
            if files or not inside or any(format_of(path) for path in inside):
                drawn[folder.name] = files
    for _, path in matching(source, r".+\.(?:mrml|mrb)"):
        ledger.know(path, "the scene, which names files and draws nothing")
    spelling = Spelling(ledger)
    for files in drawn.values():
        for path in files.values():
            for name in segments(read_nrrd(path)):
                spelling.of(name, path)
    if not spelling.names:
        raise InputError(f"folder '{source}' has no segment in any RATER/CASE.seg.nrrd")
    task = Task(1, spelling.names, tuple(drawn))
    samples = _samples(task, pictures, drawn, window, resample)
    return Source(source.resolve().name, task, samples, image_format="nifti", count=len(pictures))


@dataclass(frozen=True)
class _Picture:
    name: str
    path: Path


def _samples(
    task: Task, pictures: dict[str, _Picture], drawn: dict[str, dict[str, Path]], window: str, resample: str
) -> Iterator[MultiRaterSample]:
    names = {spoken(structure): structure for structure in task.structures}
    for case, picture in pictures.items():
        image = _image(picture.path, window)
        masks = {}
        for rater, files in drawn.items():
            if case in files:
                drawn_ = placed(files[case], image, resample=resample == "yes")
                found = {names[spoken(name)]: mask for name, mask in drawn_.items()}
                for structure in task.structures:
                    masks[rater, structure] = found.get(
                        structure, np.zeros(image.array.shape[1:], dtype=bool)
                    )
        yield assemble(task, picture.name, image.array, masks, like=image)


def _image(path: Path, window: str) -> ImageFile:
    image = read_image(path, window=parse_window(window))
    if image.array.ndim != 4 or image.geometry is None:
        axes = image.array.ndim - 1
        raise InputError(f"image '{path}' has {axes} axes or no position; expected a volume with one")
    return image


def segments(content: Nrrd) -> dict[str, tuple[int, int]]:
    """The layer and label value of each segment, by name."""
    found: dict[str, tuple[int, int]] = {}
    if content.array.size == 1:
        return found
    old = not any(re.fullmatch(r"Segment\d+_LabelValue", key) for key in content.fields)
    for key in sorted(k for k in content.fields if re.fullmatch(r"Segment\d+_ID", k)):
        prefix = key.removesuffix("_ID")
        number = int(prefix.removeprefix("Segment"))
        name = content.fields.get(f"{prefix}_Name") or content.fields[key]
        layer_, value_ = (
            str(content.fields.get(f"{prefix}_{what}", default)).strip()
            for what, default in (("Layer", number if old else 0), ("LabelValue", 1))
        )
        for text in (layer_, value_):
            if not re.fullmatch(r"-?\d{1,18}", text):
                raise InputError(
                    f"segment '{name}' has a layer or value that is not a whole number: '{text}'"
                )
        layer, value = int(layer_), int(value_)
        if name in found:
            raise InputError(f"two segments are named '{name}'; expected each name once")
        found[name] = layer, value
    return found


def placed(path: Path, image: ImageFile, *, resample: bool = False) -> dict[str, np.ndarray]:
    """The masks of a segmentation, each of the size of the image.

    Args:
        resample: Bring them onto the grid of the image, whatever grid they lie on.
    """
    content = read_nrrd(path)
    found = segments(content)
    if not found:
        return {}
    kind = content.fields.get("Segmentation_MasterRepresentation", "Binary labelmap")
    kind = content.fields.get("Segmentation_SourceRepresentation", kind)
    if kind.strip().lower() != "binary labelmap":
        raise InputError(f"'{path}' is kept as '{kind}'; expected a binary labelmap")
    layers = content.array if content.array.ndim == 4 else content.array[None]
    if layers.ndim != 4 or content.affine is None or image.geometry is None:
        raise InputError(f"'{path}' has {content.array.ndim} axes or no position; expected a volume with one")
    own = Geometry(content.affine, layers.shape[1:])
    first = None if resample else _offset(path, own, image)
    masks = {}
    for name, (layer, value) in found.items():
        if not 0 <= layer < len(layers):
            raise InputError(f"segment '{name}' of '{path}' lies in layer {layer} of {len(layers)}")
        segment, what = layers[layer] == value, f"segment '{name}' of '{path}'"
        masks[name] = (
            _resampled(segment, own, image, what) if first is None else _pasted(segment, first, image, what)
        )
    return masks


def _offset(path: Path, own: Geometry, image: ImageFile) -> np.ndarray:
    assert image.geometry is not None
    shift = np.linalg.inv(image.geometry.affine) @ own.affine
    extent = max(image.array.shape)
    if np.abs(shift[:3, :3] - np.eye(3)).max() * extent > 0.5:
        how = image.geometry.differs(Geometry(own.affine, image.geometry.shape)) or "another grid"
        raise InputError(f"'{path}' is not on the grid of its image '{image.path}': {how} (image first)")
    offset = shift[:3, 3]
    if np.abs(offset - np.round(offset)).max() > _OFF_GRID:
        raise InputError(
            f"'{path}' lies {np.abs(offset - np.round(offset)).max():.2f} voxels beside the grid of its "
            f"image '{image.path}': it begins at voxel {_place(offset)}; expected whole voxels"
        )
    return np.asarray(np.round(offset).astype(int))


def _resampled(segment: np.ndarray, own: Geometry, image: ImageFile, what: str) -> np.ndarray:
    """x, y, z on its own grid to z, y, x of the image."""
    assert image.geometry is not None
    mask = resample_labels(segment.transpose(2, 1, 0), own, image.geometry)
    if segment.any() and not mask.any():
        raise InputError(f"nothing of {what} lies inside its image '{image.path}'; expected some of it")
    return mask


def _pasted(segment: np.ndarray, first: np.ndarray, image: ImageFile, what: str) -> np.ndarray:
    """x, y, z of the cut to z, y, x of the image; nothing drawn may fall outside."""
    volume = np.zeros(image.array.shape[:0:-1], dtype=bool)
    low = np.maximum(first, 0)
    high = np.minimum(first + segment.shape, volume.shape)
    if (low < high).all():
        inside = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
        volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = segment[inside]
    if volume.sum() != segment.sum():
        raise InputError(
            f"{what} reaches outside its image '{image.path}': it lies at voxels {_place(first)} to "
            f"{_place(first + segment.shape - 1)}, the last of the image is {_place(np.array(volume.shape) - 1)}"
        )
    return volume.transpose(2, 1, 0)


def _place(voxel: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in voxel) + ")"
