"""The layouts `mrprism import` reads: name, and function from a path to a `Source`."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from mrprism.core.registry import Registry
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
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.offered import reader_of
from mrprism.layouts.source import Source, said_yes
from mrprism.layouts.whole import whole

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


COMMON = {
    "without": "raters to leave out, with commas between",
    "pseudonyms": "yes: raters are called rater1, rater2, ...; who is who stands in a file beside the data set",
}


def _complete(read: Callable[..., Source]) -> Callable[..., Source]:
    """The reader with a ledger of all that lies in the source, and with the options that every reader has."""
    signature = inspect.signature(read)
    own = {p.name: p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}

    @wraps(read)
    def reader(
        source: Path,
        *,
        without: str = "",
        pseudonyms: str = "no",
        tell: Callable[[int], None] | None = None,
        **options: Any,
    ) -> Source:
        for name, value in options.items():
            if name in own and own[name].default == "no":
                options[name] = "yes" if said_yes(value, name) else "no"
        ledger = Ledger.of(source)
        ledger.tell = tell
        ledger.without = frozenset(name.strip() for name in without.split(",") if name.strip())
        made = read(source, ledger, **options)
        return whole(made, ledger, pseudonyms=said_yes(pseudonyms, "pseudonyms"))

    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="no" if name == "pseudonyms" else "")
        for name in COMMON
    ]
    source = signature.parameters["source"]
    reader.__signature__ = signature.replace(parameters=[source, *own.values(), *common])  # type: ignore[attr-defined]
    return reader


def _offered(found: Any, who: str) -> Callable[..., Source]:
    return _complete(reader_of(found, who))


DATASETS: Registry[Callable[..., Source]] = Registry(
    "layout", {name: _complete(read) for name, read in _READERS.items()}, "mrprism.layouts", _offered
)
