"""The files of one case: its image, and what each rater drew on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.types import Image, Votes
from mrprism.datasets.grid import SeveralFaultsError, aligned
from mrprism.datasets.manifest import Case, Drawn, File, Manifest, files
from mrprism.datasets.open_image import open_image
from mrprism.datasets.pieces import Piece, piece_of, pieces_of
from mrprism.images import FromFile, ImageFile, LabelFile, read_labels, read_mask
from mrprism.images.content import Raw, scaling
from mrprism.images.reading import decode, label_file, mask_file

PART = 1 << 22  # pixels scaled at a time


def further_readings(case: Case) -> range:
    """2, 3, ... as far as a rater read the case again."""
    return range(2, 2 + max(map(len, case.readings.values()), default=0))


def reading_of(case: Case, number: int) -> dict[str, Drawn]:
    """What each rater drew on the second reading (2), the third, ..."""
    return {r: again[number - 2] for r, again in case.readings.items() if len(again) > number - 2}


def read_grid(root: Path, case: Case, first: File | None = None) -> ImageFile:
    """Size and place of a case without an image: those of its first mask, or of the one that is named.

    Returns:
        A file of no channels.
    """
    first = next(files(case)) if first is None else first
    read = read_mask if first.role in ("mask", "reference") and first.structure else read_labels
    return _place_of(read(root / first.path))


def _place_of(found: FromFile) -> ImageFile:
    """A file of no channels that lies where this one does."""
    nothing = np.zeros((0, *found.array.shape), np.float32)
    return ImageFile(nothing, found.spacing_mm, found.geometry, found.format, found.path)


def spacing_of(case: Case, file: FromFile) -> tuple[float, ...] | None:
    """The spacing of a case: what its file says, else what the manifest says.

    Raises:
        InputError: Both say something, and not the same (1 %): every volume and distance depends on it.
    """
    told, found = case.spacing_mm, file.spacing_mm
    if told is None or found is None or len(told) != len(found):
        return found if told is None else tuple(told)
    if any(abs(one - other) > 0.01 * other for one, other in zip(told, found, strict=True)):
        ours, theirs = (" × ".join(f"{step:.4g}" for step in steps) for steps in (told, found))
        raise InputError(
            f"case '{case.name}' has spacing_mm {ours}, its file '{file.path}' {theirs} mm; expected the same, or no "
            "spacing_mm: the file knows it"
        )
    return tuple(told)


def read_case_image(
    root: Path, manifest: Manifest, case: Case, *, resample: bool = False, keep_values: bool = False
) -> tuple[Image, ImageFile]:
    """The image of a case, its channels as the manifest lists them, and the (first) file it came from.

    Args:
        resample: Bring further channels that lie elsewhere onto the grid of the first.
        keep_values: The file's own values (see `ImageFile`), of all channels, stay with it; else they go.

    Raises:
        InputError: It cannot be read, does not fit, or there is none.
    """
    window = case.window or manifest.window
    paths = case.images
    if not paths:
        raise InputError(f"case '{case.name}' has masks only and no image; expected an image here")
    first = open_image(root / paths[0], window=window)
    what = f"image '{{}}' of case '{case.name}'"
    others = (open_image(root / path, window=window) for path in paths[1:])
    parts = [first, *(aligned(part, first, what, resample=resample) for part in others)]
    arrays = [part.array for part in parts]
    if len(arrays) > 1 or len(manifest.channels) == 1:
        arrays = [a[:1] if all(np.array_equal(a[0], other) for other in a[1:]) else a for a in arrays]
    image = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if len(image) != len(manifest.channels):
        raise InputError(
            f"image '{first.path}' of case '{case.name}' has {len(image)} channels; "
            f"expected {len(manifest.channels)}: {', '.join(manifest.channels)}"
        )
    return image, replace(first, values=_own(parts, arrays) if keep_values else None)


def image_in_parts(root: Path, manifest: Manifest, case: Case) -> tuple[Iterator[Image], ImageFile]:
    """`read_case_image` for who looks at each intensity once: parts whose bytes, one after the other, are the image's.

    Of an image of one file and one channel only the file's own values are held, and scaled part by part.

    Returns:
        The parts, and the (first) file with an array that has the shape alone.

    Raises:
        InputError: As `read_case_image`; nothing is raised on the way.
    """
    path = root / (case.images or ("",))[0]
    raw = decode(path) if len(case.images) == len(manifest.channels) == 1 and not path.is_dir() else None
    if raw is None or len(raw.pixels) != 1:
        image, file = read_case_image(root, manifest, case)
        return iter([image]), replace(file, array=_bare(file.array.shape))
    window = case.window or manifest.window
    scaled, pixels = scaling(raw.pixels, path, window, raw.top), raw.pixels
    step = max(1, PART // max(1, pixels[:, :1].size))
    parts = (scaled(pixels[:, start : start + step]) for start in range(0, pixels.shape[1], step))
    bare = _bare(pixels.shape)
    return parts, ImageFile(bare, raw.spacing_mm, raw.geometry, raw.format, raw.path, notes=raw.notes)


def _bare(shape: tuple[int, ...]) -> Image:
    """An array of a shape that takes no memory."""
    return np.broadcast_to(np.zeros((), np.float32), shape)


def _own(parts: list[ImageFile], arrays: list[Image]) -> np.ndarray | None:
    """The values of all channels as their files hold them; None where one has none, or colours became grey."""
    known = [part.values for part, array in zip(parts, arrays, strict=True) if len(part.array) == len(array)]
    values = [one for one in known if one is not None]
    if len(values) < len(parts):
        return None
    return values[0] if len(values) == 1 else np.concatenate(values)


def read_drawn(
    root: Path,
    manifest: Manifest,
    case: Case,
    drawn: Drawn,
    like: ImageFile | None,
    *,
    resample: bool = False,
) -> list[tuple[int, np.ndarray]]:
    """The masks one rater (or the reference) drew of a case: position of the structure, and the mask.

    Args:
        like: Its image, with whose size and place they are compared; None: they are not.
        resample: Bring those that lie elsewhere onto the grid of the image.
    """
    if isinstance(drawn, str):
        return read_label_map(root / drawn, manifest, case.name, like, resample=resample)
    what = f"mask '{{}}' of case '{case.name}'"
    return [
        (
            manifest.structures.index(structure),
            _fitting(decode(root / path, mask=True), mask_file, like, what, resample=resample).array,
        )
        for structure, path in drawn.items()
    ]


def read_placed(
    root: Path, manifest: Manifest, case: Case, drawn: Drawn, like: ImageFile | None
) -> tuple[list[tuple[int, np.ndarray]], ImageFile | None]:
    """`read_drawn` for who does not open the image: without `like`, the first mask is what the others are compared with.

    Returns:
        The masks, and `like`, or a file of no channels that lies where the first mask does.
    """
    if isinstance(drawn, str):
        labels = _labels(root / drawn, manifest, case.name, like)
        return _structures_of(labels, manifest), like or _place_of(labels)
    what = f"mask '{{}}' of case '{case.name}'"
    masks = []
    for structure, path in drawn.items():
        found = _fitting(decode(root / path, mask=True), mask_file, like, what, resample=False)
        masks.append((manifest.structures.index(structure), found.array))
        like = like or _place_of(found)
    return masks, like


def read_pieces(
    root: Path, manifest: Manifest, case: Case, drawn: Drawn, like: ImageFile | None
) -> Iterator[tuple[int, Piece]]:
    """What `read_drawn` gives, each mask cut to where something is drawn."""
    if isinstance(drawn, str):
        found = _labels(root / drawn, manifest, case.name, like)
        own = {structure: (manifest.labels or {})[structure] for structure in manifest.structures}
        for structure, piece in pieces_of(found.array, own):
            yield manifest.structures.index(structure), piece
        return
    for c, mask in read_drawn(root, manifest, case, drawn, like):
        yield c, piece_of(mask)


OfFile = TypeVar("OfFile", bound=FromFile)


def _fitting(
    raw: Raw, understood: Callable[[Raw], OfFile], like: ImageFile | None, what: str, *, resample: bool
) -> OfFile:
    """What a file holds, on the grid of its image; all that is wrong is told at once.

    Raises:
        InputError: Its values or its grid are wrong; `SeveralFaultsError` where both are.
    """
    wrong = []
    try:
        return aligned(understood(raw), like, what, resample=resample)
    except InputError as error:
        wrong.append(str(error))
    try:  # whatever its values are, its grid
        bare = FromFile(raw.pixels[0], raw.spacing_mm, raw.geometry, raw.format, raw.path, notes=raw.notes)
        aligned(bare, like, what, resample=resample)
    except InputError as error:
        wrong.append(str(error))
    different = list(dict.fromkeys(wrong))
    raise SeveralFaultsError(different[::-1]) if len(different) > 1 else InputError(different[0])


def read_label_map(
    path: Path, manifest: Manifest, case: str, like: ImageFile | None, *, resample: bool = False
) -> list[tuple[int, np.ndarray]]:
    """Every structure of a label map."""
    return _structures_of(_labels(path, manifest, case, like, resample=resample), manifest)


def _structures_of(found: LabelFile, manifest: Manifest) -> list[tuple[int, np.ndarray]]:
    labels = manifest.labels or {}
    return [(c, np.isin(found.array, labels[s])) for c, s in enumerate(manifest.structures)]


def _labels(
    path: Path, manifest: Manifest, case: str, like: ImageFile | None, *, resample: bool = False
) -> LabelFile:
    """A label map that holds nothing but the manifest's labels."""
    what = f"label map '{{}}' of case '{case}'"
    found = _fitting(decode(path, mask=True), label_file, like, what, resample=resample)
    known = {0}.union(*(manifest.labels or {}).values())
    unknown = sorted({int(v) for v in np.unique(found.array)} - known)
    if unknown:
        raise InputError(
            f"label map '{path}' of case '{case}' holds the values {', '.join(map(str, unknown[:6]))}; "
            f"expected {_some(known)}"
        )
    return found


def _some(values: set[int]) -> str:
    listed = sorted(values)
    return ", ".join(map(str, listed[:12])) + (f", ... {listed[-1]}" if len(listed) > 12 else "")


def read_votes(
    root: Path, manifest: Manifest, case: Case, like: ImageFile | None, *, resample: bool = False
) -> Votes:
    """How many of the voters marked each pixel, structure by structure."""
    assert case.votes is not None
    assert case.voters is not None
    absent = [structure for structure in manifest.structures if structure not in case.votes]
    if absent:
        raise InputError(f"votes of case '{case.name}' lack the structure '{absent[0]}'")
    votes = []
    for structure in manifest.structures:
        file = read_labels(root / case.votes[structure])
        file = aligned(file, like, f"votes '{{}}' of case '{case.name}'", resample=resample)
        if file.array.min(initial=0) < 0 or file.array.max(initial=0) > case.voters:
            raise InputError(
                f"votes '{file.path}' of case '{case.name}' reach {int(file.array.max())}; "
                f"expected 0 to {case.voters}"
            )
        votes.append(file.array)
    return np.stack(votes)
