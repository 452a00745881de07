"""DICOM SEG: `images/CASE/0001.dcm ...`, and `RATER/CASE.dcm` with a segment for each structure.

The rater is the content creator. A rater who did not do a case has no file; a structure that was not
done is not among the segments of the file; a segment without frames is empty. `mrprism import dicom-seg`
reads it back.

Where the image of a case is a DICOM series, its slices are copied and the segmentations refer to them.
Any other image is written as a new series for them to refer to; its UIDs follow from the content, so the
same export gives the same ones.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt16

from mrprism import __version__
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets.dicom import LPS, quiet, read_header, read_series, readable
from mrprism.images import Geometry, read_values
from mrprism.layouts.writers.cases import Cases, geometry, volume
from mrprism.output.files import write_file

_CT, _SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"
_NAME = 64  # characters a DICOM name or label may have


def _is_person(name: str) -> bool:
    """Whether a name can stand as one of DICOM's kind PN: five parts with ^ between, in three scripts with = between."""
    scripts = name.split("=")
    plain = len(name) <= _NAME and "\\" not in name and name.isprintable()
    return plain and len(scripts) <= 3 and all(script.count("^") <= 4 for script in scripts)


def write(cases: Cases, folder: Path) -> None:
    """Volumes of one channel only, with a position."""
    for rater in cases.task.raters:
        if not _is_person(rater):
            raise InputError(
                f"'{rater}' cannot be a person's name in DICOM: expected up to {_NAME} characters, no \\, at most four ^ "
                "between the parts of a name, as in Doe^Jane"
            )
    for structure in cases.task.structures:
        if len(structure) > _NAME or "\\" in structure or not structure.isprintable():
            raise InputError(
                f"'{structure}' cannot be a label in DICOM: expected up to {_NAME} characters, no \\"
            )
    for number, sample in enumerate(cases, start=1):
        lies = geometry(sample)
        if sample.image is None:
            raise InputError(
                f"case '{sample.name}' has masks only; dicom-seg refers to the slices of an image (nifti, seg-nrrd "
                "and bids hold masks alone)"
            )
        if not volume(sample) or len(sample.image) != 1 or lies is None:
            raise InputError(
                f"case '{sample.name}' is not a volume of one channel with a position; dicom-seg holds only "
                "such (png holds images)"
            )
        name = cases.files[sample.name]
        slices = _copied(cases, sample, folder / "images" / name)
        if not slices:
            slices = _slices(cases, sample, lies)
            for index, header in enumerate(slices, start=1):
                _save(header, folder / "images" / name / f"{index:04d}.dcm")
                del header.PixelData
        for r, rater in enumerate(cases.task.raters):
            if sample.rated[r].any():
                with readable(folder / "images" / name):
                    made = _segmentation(cases, sample, r, slices, number)
                _save(made, folder / cases.rater_files[rater] / f"{name}.dcm")


def _copied(cases: Cases, sample: MultiRaterSample, folder: Path) -> list[Any]:
    """The headers of the series a case came from, copied in the order of the array; none if it did not."""
    files = cases.originals.get(sample.name, ())
    if len(files) != 1 or not files[0].is_dir():
        return []
    slices = read_series(files[0]).files
    folder.mkdir(parents=True)
    for index, path in enumerate(slices, start=1):
        shutil.copyfile(path, folder / f"{index:04d}.dcm")
    return [read_header(path) for path in slices]


def _slices(cases: Cases, sample: MultiRaterSample, lies: Geometry) -> list[Any]:
    """The image as a series of slices."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian
    from pydicom.valuerep import format_number_as_ds

    along, down, position = _placed(sample, lies)
    stored, slope, intercept = _stored(_values(cases, sample))
    modality, kind = ("CT", _CT) if cases.channels == ("CT",) else ("OT", _SECONDARY_CAPTURE)
    seed = [cases.name, sample.name, hashlib.sha256(stored.tobytes()).hexdigest()]
    slices = []
    for index, plane in enumerate(stored):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, _uid(*seed, str(index))
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
        header.PatientID = _plain(sample.group or sample.name)
        header.StudyInstanceUID, header.SeriesInstanceUID = _uid(*seed, "study"), _uid(*seed, "series")
        header.FrameOfReferenceUID, header.PositionReferenceIndicator = _uid(*seed, "frame"), ""
        header.Modality, header.SeriesDescription = modality, _plain(sample.name)
        header.SeriesNumber, header.InstanceNumber = 1, index + 1
        if kind == _SECONDARY_CAPTURE:
            header.ConversionType = "WSD"
        for empty in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
            setattr(header, empty, "")
        for empty in ("StudyID", "AccessionNumber", "ReferringPhysicianName", "Manufacturer"):
            setattr(header, empty, "")
        header.Rows, header.Columns = plane.shape
        header.ImageOrientationPatient = [format_number_as_ds(float(v)) for v in (*along, *down)]
        header.ImagePositionPatient = [format_number_as_ds(float(v)) for v in position(index)]
        x, y, z = (format_number_as_ds(float(v)) for v in lies.spacing)
        header.PixelSpacing, header.SliceThickness = [y, x], z
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
        header.RescaleSlope = format_number_as_ds(slope)
        header.RescaleIntercept = format_number_as_ds(intercept)
        header.RescaleType = "HU" if modality == "CT" else "US"
        header.PixelData = plane.astype("<u2").tobytes()
        slices.append(header)
    return slices


def _placed(sample: MultiRaterSample, lies: Geometry) -> tuple[np.ndarray, np.ndarray, Any]:
    """Unit vectors along rows and columns, and the place of a slice by its number, in DICOM's space."""
    affine = LPS @ lies.affine
    axes = affine[:3, :3] / lies.spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
        raise InputError(
            f"case '{sample.name}' has axes that are not at right angles; DICOM slices need that"
        )
    return axes[:, 0], axes[:, 1], lambda index: (affine @ [0, 0, index, 1])[:3]


def _values(cases: Cases, sample: MultiRaterSample) -> Shaped[np.ndarray, "D H W"]:
    """The image as its file has it, so that CT keeps its values; without a file, as it is."""
    files = cases.originals.get(sample.name, ())
    return read_values(files[0]).array if len(files) == 1 else sample.picture[0]


def _stored(values: Shaped[np.ndarray, "D H W"]) -> tuple[UInt16[np.ndarray, "D H W"], float, float]:
    """What 16 bits hold, and the slope and intercept that give the values back: exactly, if they are whole."""
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iu" or bool((values == np.round(values)).all())
    slope = 1.0 if whole and high - low <= 65535 else float(f"{(high - low) / 65535 or 1.0:.9g}")
    intercept = low if slope == 1 else float(f"{low:.9g}")
    return np.clip(np.round((values - intercept) / slope), 0, 65535).astype(np.uint16), slope, intercept


def _segmentation(
    cases: Cases, sample: MultiRaterSample, rater: int, slices: Sequence[Any], number: int
) -> Any:
    """One rater's segments of one case."""
    import highdicom

    name = cases.task.raters[rater]
    done = [c for c in range(len(cases.task.structures)) if sample.rated[rater, c]]
    masks: Bool[np.ndarray, "D H W C"] = np.moveaxis(sample.masks[rater, done], 0, -1)
    seed = [str(slices[0].SeriesInstanceUID), name, hashlib.sha256(masks.tobytes()).hexdigest()]
    with quiet():  # about names of one part
        made = highdicom.seg.Segmentation(
            source_images=slices,
            pixel_array=masks.astype(np.uint8),
            segmentation_type="BINARY",
            segment_descriptions=[
                _described(n, cases.task.structures[c], name if cases.fused else None)
                for n, c in enumerate(done, start=1)
            ],
            series_instance_uid=_uid(*seed, "series"),
            series_number=100 + rater,
            sop_instance_uid=_uid(*seed),
            instance_number=number,
            manufacturer="mrprism",
            manufacturer_model_name="mrprism",
            software_versions=__version__,
            device_serial_number="0",
            content_creator_name=name,
            omit_empty_frames=bool(masks.any()),
            content_label="SEGMENTATION",
            series_description=name,
        )
    return made


def _described(number: int, structure: str, fusion: str | None) -> Any:
    """A segment; what it shows is known by its name only, so its type is a code of our own."""
    import highdicom
    from pydicom.sr.codedict import codes

    method = None
    if fusion:
        method = highdicom.AlgorithmIdentificationSequence(
            name=fusion,
            family=highdicom.sr.CodedConcept("FUSION", "99MRPRISM", "Fusion of several raters' masks"),
            version=__version__,
        )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=structure,
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=highdicom.sr.CodedConcept(f"STRUCTURE{number}", "99MRPRISM", structure),
        algorithm_type="AUTOMATIC" if fusion else "MANUAL",
        algorithm_identification=method,
    )


def _uid(*parts: str) -> Any:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=list(parts))


def _plain(text: str) -> str:
    """A text DICOM takes as a short name."""
    return "".join(" " if character in "\\^=" else character for character in text)[:_NAME]


def _save(file: Any, path: Path) -> None:
    buffer = io.BytesIO()
    with quiet():
        file.save_as(buffer, enforce_file_format=True)
    write_file(path, buffer.getvalue(), durable=False)
