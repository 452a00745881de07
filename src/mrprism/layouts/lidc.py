"""LIDC-IDRI lung nodules, each outlined by four anonymous slots.

Forms: the DICOM series and XML files as published (`lidc_xml`); the PNG crops of the Probabilistic U-Net,
`{train,val,test}/images/PATIENT/SLICE.png` with `gt/PATIENT/SLICE_l{0..3}.png`; `lidc.npz`, one slice a
nodule; and, on request, the pickles of MedicalMatting and others (`lidc_pickle`).
A slot is not a person: readers are anonymous and their order changes from scan to scan.

Source: Armato et al., Medical Physics 38(2), 2011; licence CC BY 3.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import entries, folders, matching, subfolder
from mrprism.images import limit_archive, read_image, read_mask
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.lidc_pickle import is_pickle, read_pickle
from mrprism.layouts.lidc_xml import SLOTS, WINDOW, read_scans
from mrprism.layouts.source import Source

TASK = Task(1, ("nodule",), tuple(f"slot {i + 1}" for i in range(SLOTS)), anonymous=True)

_FACTS = ("patient", "nodule", "slice")  # of each image
_TYPES = {
    "images": np.uint8,
    "masks_packed": np.uint8,
    "patient": np.str_,
    "nodule": np.integer,
    "slice": np.integer,
}


def read(
    source: Path, ledger: Ledger, *, window: str = WINDOW, leave_out: str = "", pickle: str = "no"
) -> Source:
    """Read a folder in one of these forms, `lidc.npz`, or a pickle.

    Args:
        window: "low:high" in Hounsfield units, for DICOM.
        leave_out: Patients not to read, with commas between, for DICOM.
        pickle: "yes" to read a pickle, of which only numbers are let through.
    """
    if source.is_dir() and any(subfolder(source, split) for split in ("train", "val", "test")):
        return Source("lidc", TASK, _crops(source, ledger), ("CT",))
    archive = source / "lidc.npz" if source.is_dir() else source
    if archive.is_file() and not is_pickle(archive):
        return Source("lidc", TASK, _archive(ledger.take(archive)), ("CT",))
    pickles = [path for path in (entries(source) if source.is_dir() else [source]) if is_pickle(path)]
    if pickles and pickle != "yes":
        raise InputError(
            f"'{pickles[0]}' is a pickle, which can run code; if you trust where it comes from, "
            "-o pickle=yes reads it and lets only numbers through"
        )
    if pickles:
        if len(pickles) > 1:
            raise InputError(f"'{source}' has {len(pickles)} pickles; expected the one that is meant")
        return read_pickle(ledger.take(pickles[0]), TASK, ledger)
    if source.is_dir() and any(matching(folder, r".+\.xml") for folder in folders(source)):
        return read_scans(source, window, leave_out, ledger)
    return Source("lidc", TASK, _archive(archive), ("CT",))


def _archive(path: Path) -> Iterator[MultiRaterSample]:
    try:
        limit_archive(path)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            # a member that is no array comes as its bytes
            content = {key: np.asarray(file[key]) for key in _TYPES}
    except FileNotFoundError:
        raise InputError(f"file '{path}' does not exist; expected lidc.npz") from None
    except InputError:
        raise
    except Exception as error:  # zip, zlib and npy readers raise what they like
        raise InputError(f"'{path}' is broken or not a LIDC archive: {error}") from error
    images, packed = content["images"], content["masks_packed"]
    count, height, width = images.shape if images.ndim == 3 else (0, 0, 0)
    if packed.shape != (count, SLOTS, height, -(-width // 8)) or images.ndim != 3:
        raise InputError(f"'{path}' has masks of shape {packed.shape} for images of shape {images.shape}")
    for what, expected in _TYPES.items():
        found = content[what].dtype
        if not np.issubdtype(found, expected):
            raise InputError(f"'{path}' has '{what}' of type {found}; expected {expected.__name__}")
    for what in _FACTS:
        if content[what].shape != (count,):
            raise InputError(f"'{path}' has {content[what].size} of '{what}' for {count} images")
    facts = zip(*(content[what] for what in _FACTS), strict=True)
    for image, masks, (patient, nodule, slice_) in zip(images, packed, facts, strict=True):
        yield MultiRaterSample(
            name=f"{patient}_nodule{int(nodule):02d}_slice{int(slice_):03d}",
            image=image[None].astype(np.float32) / np.float32(255),
            masks=np.unpackbits(masks, axis=-1, count=width).astype(bool)[:, None],
            rated=np.ones((SLOTS, 1), dtype=bool),
            group=str(patient),
        )


def _crops(root: Path, ledger: Ledger) -> Iterator[MultiRaterSample]:
    for split in ("train", "val", "test"):
        folder = subfolder(root, split)
        if folder is None:
            continue
        for patient in (path for path in entries(folder / "images") if path.is_dir()):
            for match, path in matching(patient, r"(.+)\.png"):
                stem = match[1]
                drawn = folder / "gt" / patient.name
                files = [drawn / f"{stem}_l{slot}.png" for slot in range(SLOTS)]
                ledger.take_all([path, *files])
                masks = [read_mask(file).array for file in files]
                image = read_image(path).array[:1]
                for slot, mask in enumerate(masks):
                    if mask.shape != image.shape[1:]:
                        raise InputError(
                            f"mask '{drawn / f'{stem}_l{slot}.png'}' has the size {mask.shape}, "
                            f"its image {image.shape[1:]}"
                        )
                yield MultiRaterSample(
                    name=f"{patient.name}_{stem}",
                    image=image,
                    masks=np.stack(masks)[:, None],
                    rated=np.ones((SLOTS, 1), dtype=bool),
                    group=patient.name,
                    split=split,
                )
