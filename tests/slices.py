"""Small DICOM series made by hand, and segmentations of them made by highdicom."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from mrprism.datasets.dicom import quiet

FRAME = "1.2.826.0.1.3680043.8.498.1"
TURNED = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)


def series(
    folder: Path,
    volume: np.ndarray,
    *,
    uid: str = "1.2.826.0.1.3680043.8.498.2",
    patient: str = "P1",
    axes: tuple[float, ...] = TURNED,
    pixel_mm: tuple[float, float] = (0.7, 0.5),
    step_mm: float = 2.5,
    **tags: Any,
) -> list[Path]:
    """Write int16 slices (D, H, W) under names that do not tell their order; Hounsfield values."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(axes[:3], axes[3:])
    paths = []
    for number, plane in enumerate(volume):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid, str(number)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{(number * 7) % 100:02d}.dcm"
        file = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = f"{uid}.1", uid, FRAME
        file.PatientID, file.PatientName, file.Modality = patient, "", "CT"
        file.StudyDate = file.StudyTime = file.AccessionNumber = file.StudyID = ""
        file.PatientBirthDate = file.PatientSex = file.ReferringPhysicianName = ""
        file.InstanceNumber = number + 1
        file.Rows, file.Columns = plane.shape
        file.PixelSpacing = list(pixel_mm)
        file.SliceThickness = step_mm
        file.ImageOrientationPatient = list(axes)
        file.ImagePositionPatient = [float(v) for v in np.round((-10, 20, 30) + number * step_mm * normal, 4)]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
        file.RescaleSlope, file.RescaleIntercept = 1, -1024
        file.PixelData = (plane + 1024).astype(np.uint16).tobytes()
        for key, value in tags.items():
            setattr(file, key, value)
        file.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def changed(path: Path, **tags: Any) -> None:
    """Set data elements of a file."""
    file = pydicom.dcmread(path)
    for key, value in tags.items():
        setattr(file, key, value)
    file.save_as(path)


def segmentation(
    path: Path,
    slices: list[Path],
    masks: dict[str, np.ndarray],
    creator: str | None,
    kind: str = "BINARY",
    **options: Any,
) -> Path:
    """Masks (D, H, W) on some slices of a series, in the order of these."""
    import highdicom as hd

    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(masks, start=1)
    ]
    pixels = np.stack(list(masks.values()), axis=-1)
    with quiet():
        made = hd.seg.Segmentation(
            source_images=[pydicom.dcmread(path) for path in slices],
            pixel_array=pixels if kind == "FRACTIONAL" else pixels.astype(np.uint8),
            segmentation_type=kind,
            segment_descriptions=described,
            series_instance_uid=generate_uid(),
            series_number=7,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="somebody",
            manufacturer_model_name="somebody's",
            software_versions="1",
            device_serial_number="1",
            content_creator_name=creator,
            series_description="by somebody",
            **options,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path)
    return path
