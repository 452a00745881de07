"""The layouts `mrprism import` reads: name, and function from a path to a `Source`."""

from collections.abc import Callable

from mrprism.datasets import (
    bu_bil,
    curvas,
    drishti,
    drive,
    folder,
    gleason,
    lidc,
    qubiq,
    refuge,
    riga,
    vessels,
)
from mrprism.datasets.source import Source

DATASETS: dict[str, Callable[..., Source]] = {
    "bu-bil": bu_bil.read,
    "chase-db1": vessels.read_chase,
    "curvas": curvas.read,
    "drishti": drishti.read,
    "drive": drive.read,
    "folder": folder.read,
    "gleason": gleason.read,
    "lidc": lidc.read,
    "qubiq": qubiq.read,
    "refuge": refuge.read,
    "riga": riga.read,
    "stare": vessels.read_stare,
}
