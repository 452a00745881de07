"""The layouts `mrprism import` reads: name, and function from a path to a `Source`."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from mrprism.datasets.links import refuse_links
from mrprism.layouts import (
    again,
    bids,
    bu_bil,
    coco,
    curvas,
    cvat,
    diaretdb1,
    dicom_seg,
    drishti,
    drive,
    folder,
    gleason,
    label_studio,
    lidc,
    monai,
    nnunet,
    qu_brats,
    qubiq,
    refuge,
    riga,
    slicer,
    vessels,
)
from mrprism.layouts.source import Source

_READERS: dict[str, Callable[..., Source]] = {
    "bids": bids.read,
    "bu-bil": bu_bil.read,
    "chase-db1": vessels.read_chase,
    "coco": coco.read,
    "curvas": curvas.read,
    "dataset": again.read,
    "cvat": cvat.read,
    "diaretdb1": diaretdb1.read,
    "dicom-seg": dicom_seg.read,
    "drishti": drishti.read,
    "drive": drive.read,
    "folder": folder.read,
    "gleason": gleason.read,
    "label-studio": label_studio.read,
    "lidc": lidc.read,
    "monai": monai.read,
    "nnunet": nnunet.read,
    "qu-brats": qu_brats.read,
    "qubiq": qubiq.read,
    "refuge": refuge.read,
    "riga": riga.read,
    "slicer": slicer.read,
    "stare": vessels.read_stare,
}


def _kept_inside(read: Callable[..., Source]) -> Callable[..., Source]:
    """The reader, to which no folder is given in which a link leads outside."""

    @wraps(read)
    def reader(source: Path, **options: Any) -> Source:
        if source.is_dir():
            refuse_links(source)
        return read(source, **options)

    return reader


DATASETS = {name: _kept_inside(read) for name, read in _READERS.items()}
