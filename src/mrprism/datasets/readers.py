"""The layouts `mrprism import` reads: name, and function from a path to a `Source`."""

from collections.abc import Callable

from mrprism.datasets import (
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
from mrprism.datasets.source import Source

DATASETS: dict[str, Callable[..., Source]] = {
    "bids": bids.read,
    "bu-bil": bu_bil.read,
    "chase-db1": vessels.read_chase,
    "coco": coco.read,
    "curvas": curvas.read,
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
