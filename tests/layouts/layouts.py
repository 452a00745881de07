"""The trees that the how-to pages show, by the name of their folder; made small, in the published layouts."""

import gzip
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from scipy import ndimage
from trees import blob, nifti, picture, png

from mrprism.images import Geometry
from mrprism.layouts.writers.coco import annotation
from mrprism.layouts.writers.seg_nrrd import segmentation as seg_nrrd

SHAPE = (8, 9, 4)  # x, y, z
AFFINE = np.diag([0.8, 0.8, 2.5, 1.0])


def disc(radius: float, size: int = 48) -> np.ndarray:
    row, column = np.mgrid[:size, :size] - size // 2
    return np.asarray(row**2 + column**2 <= radius**2)


def grey(mask: np.ndarray) -> np.ndarray:
    return np.asarray(mask, np.uint8) * np.uint8(255)


def volume(path: Path, seed: int) -> None:
    hounsfield = np.random.default_rng(seed).integers(-200, 300, SHAPE).astype(np.int16)
    nifti(path, hounsfield, AFFINE)


def labels(path: Path, seed: int, most: int = 1) -> None:
    nifti(path, np.random.default_rng(seed).integers(0, most + 1, SHAPE).astype(np.uint8), AFFINE)


def photograph(path: Path, seed: int = 0, size: tuple[int, int] = (48, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(picture(seed, size, colour=True)).save(path)


# --- tools --------------------------------------------------------------------------------------


def retina(root: Path) -> None:
    for name in ("01", "02", "03"):
        png(root / f"images/{name}.png", picture(1, (48, 48), colour=True))
        png(root / f"ann/{name}.png", grey(disc(12)))
    for name in ("01", "02"):
        png(root / f"bob/{name}.png", grey(disc(14)))


def nnunet(root: Path) -> None:
    for case in ("liver_01", "liver_02"):
        volume(root / f"imagesTr/{case}_0000.nii.gz", 1)
        labels(root / f"labelsTr_ann/{case}.nii.gz", 2, 2)
    labels(root / "labelsTr_bob/liver_01.nii.gz", 3, 2)
    document = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": [1, 2], "tumour": 2},
        "regions_class_order": [1, 2],
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(document))


def nnunet_names(root: Path) -> None:
    for case, rater in (("liver_01", "ann"), ("liver_01", "bob"), ("liver_02", "ann")):
        volume(root / f"imagesTr/{case}_{rater}_0000.nii.gz", 1)
        labels(root / f"labelsTr/{case}_{rater}.nii.gz", 3)
    document = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    (root / "dataset.json").write_text(json.dumps({**document, "numTraining": 3, "file_ending": ".nii.gz"}))


def nnunet_sets(root: Path) -> None:
    document = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": 2}
    for number, rater, listed in ((501, "ann", ("liver_01", "liver_02")), (502, "bob", ("liver_01",))):
        folder = root / f"Dataset{number}_{rater}"
        for case in listed:
            volume(folder / f"imagesTr/{case}_0000.nii.gz", 1)
            labels(folder / f"labelsTr/{case}.nii.gz", number - 498)
        (folder / "dataset.json").write_text(json.dumps({**document, "file_ending": ".nii.gz"}))


def bids(root: Path) -> None:
    volume(root / "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz", 1)
    volume(root / "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz", 2)
    volume(root / "sub-02/anat/sub-02_FLAIR.nii.gz", 3)
    manual = root / "derivatives/manual"
    for subject, stem, rater in (
        ("sub-01/ses-1", "sub-01_ses-1", "ann"),
        ("sub-01/ses-1", "sub-01_ses-1", "bob"),
        ("sub-01/ses-2", "sub-01_ses-2", "ann"),
        ("sub-02", "sub-02", "bob"),
    ):
        labels(manual / f"{subject}/anat/{stem}_label-lesion_desc-{rater}_mask.nii.gz", 4)
    about = {"Name": "manual", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (manual / "dataset_description.json").write_text(json.dumps(about))


def bids_maps(root: Path) -> None:
    volume(root / "sub-02/anat/sub-02_T1w.nii.gz", 3)
    tissue = root / "derivatives/tissue"
    for rater in ("r1", "r2"):
        labels(tissue / f"sub-02/anat/sub-02_seg-{rater}_dseg.nii.gz", 4, 2)
    (tissue / "dseg.tsv").write_text("index\tname\n0\tbackground\n1\tgrey matter\n2\twhite matter\n")


def monai(root: Path) -> None:
    for name in ("p1", "p2"):
        volume(root / f"imagesTr/{name}.nii.gz", 1)
        labels(root / f"labelsTr/{name}_ann.nii.gz", 2)
    labels(root / "labelsTr/p1_bob.nii.gz", 3)
    image, drawn = "imagesTr/{}.nii.gz", "labelsTr/{}_{}.nii.gz"
    one = {"image": image.format("p1"), "label_ann": drawn.format("p1", "ann")}
    items = [
        {**one, "label_bob": drawn.format("p1", "bob"), "patient": "A17"},
        {"image": image.format("p2"), "label_ann": drawn.format("p2", "ann"), "label_bob": None},
    ]
    (root / "datalist.json").write_text(
        json.dumps({"training": items[:1], "validation": items[1:]}, indent=1)
    )


def coco(root: Path) -> None:
    for name in ("a", "b"):
        photograph(root / f"images/{name}.png")
    for rater, pictures in (("ann", "ab"), ("bob", "a")):
        listed = [
            {"id": i, "file_name": f"{n}.png", "height": 48, "width": 48} for i, n in enumerate(pictures)
        ]
        drawn = [
            {"id": i, "image_id": i, "category_id": 1, **annotation(disc(9))} for i in range(len(listed))
        ]
        kinds = [{"id": 1, "name": "cell"}, {"id": 2, "name": "nucleus"}]
        document = {"images": listed, "categories": kinds, "annotations": drawn}
        (root / f"{rater}.json").write_text(json.dumps(document))


def cvat(root: Path) -> None:
    photograph(root / "images/a.png")
    export = (
        "<annotations><version>1.1</version><meta><job><labels><label><name>cell</name></label></labels>"
        '</job></meta><image id="0" name="a.png" width="48" height="48">{}</image></annotations>'
    )
    polygon = '<polygon label="cell" points="5.00,5.00;30.00,6.00;20.00,40.00" z_order="0"/>'
    (root / "ann.xml").write_text(export.format(polygon))
    with zipfile.ZipFile(root / "bob.zip", "w") as archive:
        box = '<box label="cell" xtl="4.00" ytl="6.00" xbr="31.00" ybr="39.00" z_order="0"/>'
        archive.writestr("annotations.xml", export.format(box))


def label_studio(root: Path) -> None:
    photograph(root / "images/a.png")
    size = {"original_width": 48, "original_height": 48, "image_rotation": 0}
    square = {"points": [[10, 10], [60, 10], [60, 60], [10, 60]], "polygonlabels": ["cell"]}
    mark = {"type": "polygonlabels", "from_name": "l", "to_name": "i", **size, "value": square}
    passes = [
        {
            "id": 1,
            "completed_by": {"id": 7, "email": "ann@example.org"},
            "was_cancelled": False,
            "result": [mark],
        },
        {
            "id": 2,
            "completed_by": {"id": 9, "email": "bob@example.org"},
            "was_cancelled": False,
            "result": [],
        },
        {"id": 3, "completed_by": {"id": 8, "email": "cy@example.org"}, "was_cancelled": True, "result": []},
    ]
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
        "annotations": passes,
        "predictions": [],
    }
    (root / "project-1.json").write_text(json.dumps([task]))


def slicer(root: Path) -> None:
    for case in ("p1", "p2"):
        volume(root / f"images/{case}.nii.gz", 1)
    lies = Geometry(AFFINE, SHAPE)
    for rater, case in (("ann", "p1"), ("ann", "p2"), ("bob", "p1")):
        masks = np.random.default_rng(0).random((2, *SHAPE[::-1])) > 0.5
        path = root / rater / f"{case}.seg.nrrd"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seg_nrrd(masks, ("liver", "tumour"), lies))


def numbered(slices: list[Path]) -> list[Path]:
    """Slices under the names that archives give them."""
    return [path.rename(path.with_name(f"1-{n:03d}.dcm")) for n, path in enumerate(slices, start=1)]


def dicom_seg(root: Path) -> None:
    from slices import segmentation, series

    rng = np.random.default_rng(0)
    for patient in ("P1", "P2"):
        ct = rng.integers(-200, 300, (3, 9, 8)).astype(np.int16)
        slices = series(root / patient / f"CT-{patient}", ct, uid=f"1.2.3.{patient[1]}", patient=patient)
        slices = numbered(slices)
        for rater in ("Ann", "Bob") if patient == "P1" else ("Ann",):
            liver, tumour = rng.random((2, *ct.shape)) > 0.5
            drawn = {"liver": liver, "tumour": tumour & liver}
            segmentation(root / patient / f"seg-{rater}.dcm", slices, drawn, rater)


# --- published sets -----------------------------------------------------------------------------


def bu_bil(root: Path) -> None:
    root = root / "BU-BIL_Dataset6"
    gold = disc(10)
    png(root / "RawImages/TPre01.png", picture(0, (48, 48)))
    png(root / "GoldStandard/seg_TPre01.png", ~gold)
    for folder in ("Person1_Amira", "Person1_ImageJ", "Person2_Amira"):
        png(root / f"ExpertAnnotations/{folder}/seg_TPre01.png", grey(~disc(9)))
    for slot in (1, 2):
        png(root / f"CrowdsourcedAnnotations/mturk_annotation6-{slot}/seg_TPre01.png", grey(~disc(8, 30)))


def chase(root: Path) -> None:
    for eye in "LR":
        photograph(root / f"Image_03{eye}.jpg")
        png(root / f"Image_03{eye}_1stHO.png", blob(1, (48, 48)))
        png(root / f"Image_03{eye}_2ndHO.png", blob(2, (48, 48)))


def curvas(root: Path) -> None:
    volume(root / "training_set/UKCHLL001/image.nii.gz", 1)
    for number in (1, 2, 3):
        values = np.random.default_rng(number).integers(0, 4, SHAPE).astype(np.float32)
        nifti(root / f"training_set/UKCHLL001/annotation_{number}.nii.gz", values, AFFINE)


def diaretdb1(root: Path) -> None:
    photograph(root / "images/diaretdb1_image001.png")
    circle = (
        "<marking><circleregion><centroid><coords2d>20,24</coords2d></centroid>"
        '<radius direction="x">5</radius></circleregion><confidencelevel>High</confidencelevel>'
        "<markingtype>Haemorrhages</markingtype></marking>"
    )
    (root / "groundtruth").mkdir()
    for number in range(1, 5):
        for form, kind in (("", ' SYSTEM "http://www.example.org/x.dtd"'), ("_plain", "")):
            (root / f"groundtruth/diaretdb1_image001_{number:02d}{form}.xml").write_text(
                f"<!DOCTYPE imgannotool{kind}>\n<imgannotooldata><markinglist>{circle * (number < 4)}"
                "</markinglist></imgannotooldata>\n"
            )
    (root / "ddb1_v02_01_train_plain.txt").write_text("images/diaretdb1_image001.png ...\n")


def drishti(root: Path) -> None:
    root = root / "Drishti-GS1_files"
    votes = np.array([0, 64, 128, 191, 255], np.uint8)
    name = "drishtiGS_001"
    photograph(root / f"Test/Images/{name}.png")
    count = sum(disc(r).astype(int) for r in (14, 15, 16, 17))
    for part, drawn in (("OD", count), ("cup", sum(disc(r).astype(int) for r in (6, 7, 8, 9)))):
        png(root / f"Test/Test_GT/{name}/SoftMap/{name}_{part}segSoftmap.png", votes[drawn])


def drive(root: Path) -> None:
    for part, number in (("training", 21), ("test", 1)):
        photograph(root / part / f"images/{number:02d}_{part}.tif")
        manual = root / part / "1st_manual"
        manual.mkdir()
        Pillow.fromarray(grey(blob(1, (48, 48)))).save(manual / f"{number:02d}_manual1.gif")
    second = Pillow.fromarray(blob(2, (48, 48)).astype(np.uint8), mode="P")
    second.putpalette([4, 2, 4, 252, 254, 252])
    (root / "test/2nd_manual").mkdir()
    second.save(root / "test/2nd_manual/01_manual2.gif")


def gleason(root: Path) -> None:
    for core in ("slide001_core003", "slide001_core004"):
        photograph(root / f"Train Imgs/{core}.jpg")
    grades = np.array([0, 1, 3, 4, 5, 6], np.uint8)[np.random.default_rng(0).integers(0, 6, (48, 48))]
    for folder, core in (("Maps1_T", "core003"), ("Maps1_T", "core004"), ("Maps3_T", "core003")):
        png(root / f"{folder}/slide001_{core}_classimg_nonconvex.png", grades)


def lidc_crops(root: Path) -> None:
    for split, patient in (("train", "LIDC-IDRI-0001"), ("test", "LIDC-IDRI-0002")):
        png(root / f"{split}/images/{patient}/z-105.0_c0.png", picture(0, (48, 48)))
        for slot in range(4):
            drawn = grey(disc(6 + slot) & (slot < 3))
            png(root / f"{split}/gt/{patient}/z-105.0_c0_l{slot}.png", drawn)


def lidc_dicom(root: Path) -> None:
    import pydicom
    from readings import nodule, outline, reading, roi
    from slices import series

    folder = root / "LIDC-IDRI-0007/1.3.6.1.study/1.3.6.1.series"
    scan = np.random.default_rng(0).integers(-1000, 400, (3, 24, 24)).astype(np.int16)
    paths = series(folder, scan, uid="1.3.6.1.4.7", patient="LIDC-IDRI-0007", axes=(1, 0, 0, 0, 1, 0))
    uid = str(pydicom.dcmread(numbered(paths)[1]).SOPInstanceUID)
    drawn = [nodule(roi(uid, outline(5, 6, 14 + k, 15))) for k in range(3)]
    reading(folder / "069.xml", *drawn, "", uid="1.3.6.1.4.7")


def lidc_pickle(root: Path) -> None:
    masks = [disc(6 + slot).astype(np.uint8) for slot in range(4)]
    case = {
        "image": picture(0, (48, 48)),
        "masks": masks,
        "alpha": picture(1, (48, 48)),
        "series_uid": "pid_1",
    }
    root.mkdir()
    with zipfile.ZipFile(root / "lidc_attributes.zip", "w") as archive:
        archive.writestr("lidc_attributes.pickle", pickle.dumps({"nodule_1": case}))


def qubiq(root: Path) -> None:
    for case, raters in (("case01", 6), ("case09", 5)):
        folder = root / f"prostate/Training/{case}"
        nifti(folder / "image.nii.gz", picture(0, (12, 14, 1)))
        for rater in range(1, raters + 1):
            for task in (1, 2):
                mask = blob(rater, (12, 14))[..., None].astype(np.uint8)
                nifti(folder / f"task{task:02d}_seg{rater:02d}.nii.gz", mask)


def qu_brats(root: Path) -> None:
    name = "BraTS20_Training_001"
    for sequence in ("flair", "t1", "t1ce", "t2"):
        volume(root / f"{name}/{name}_{sequence}.nii.gz", 1)
    values = np.random.default_rng(0).choice(np.array([0, 1, 2, 4], np.uint8), SHAPE)
    nifti(root / f"{name}/{name}_seg.nii.gz", values, AFFINE)
    labels(root / f"{name}/{name}_unc_whole.nii.gz", 2, 100)


def refuge(root: Path) -> None:
    folder = root / "REFUGE-Multirater/Test-400/0544"
    photograph(folder / "0544.jpg")
    for structure, radius in (("disc", 15), ("cup", 7)):
        for k in range(1, 8):
            png(folder / f"0544_seg_{structure}_{k}.png", grey(disc(radius + k / 2)))
        Pillow.fromarray(grey(~disc(radius + 2))).save(folder / f"0544_{structure}.bmp")
    (root / "REFUGE1Test.csv").write_text(
        "imgName,maskName,multimaskName,label\n"
        "REFUGE/test_dataset/Test400/T0001.jpg,x,Dataset-new-2/Test-400/0544/0544.jpg,1\n"
    )


def riga(root: Path) -> None:
    folder = root / "MESSIDOR/MESSIDOR"
    folder.mkdir(parents=True)
    image = picture(0, (96, 96), colour=True) // 4 + 60
    for number in (1, 2):
        Pillow.fromarray(image).save(folder / f"image{number}prime.tif")
        for rater in (1, 2, 3):
            drawn, lacks = image.copy(), (rater, number) == (3, 1)
            for mask in (disc(30, 96),) if lacks else (disc(32 + rater, 96), disc(15 + rater, 96)):
                drawn[mask & ~ndimage.binary_erosion(mask, iterations=2)] = (0, 255, 0)
            Pillow.fromarray(drawn).save(folder / f"image{number}-{rater}.tif")


def disc_region(root: Path) -> None:
    rows = ",imgName,maskName,label,center,xmin,ymin,xmax,ymax,width,height,discFlag,rater\n"
    photograph(root / "MESSIDOR/Image/1.png")
    for k in range(7):
        mask = disc(14 + k) * np.uint8(128)
        mask[disc(6 + k)] = 255
        png(root / f"MESSIDOR/{'FinalLabel' if k == 0 else f'Rater{k}'}/1.png", mask)
        rows += f"{k},MESSIDOR\\Image\\1.png,MESSIDOR\\FinalLabel\\1.png,1,x,0,0,9,9,48,48,1,{k}\n"
    (root / "Glaucoma_multirater_MESSIDOR.csv").write_bytes(rows.encode("gbk"))


def riga_plus(root: Path) -> None:
    photograph(root / "RIGA/MESSIDOR_Base1/1.png")
    for k in range(1, 7):
        mask = np.full((48, 48), 255, np.uint8)
        mask[disc(15)] = 128
        mask[disc(6 + k)] = 0
        png(root / f"RIGA/MESSIDOR_Base1/1_mask-{k}.png", mask)
    row = "image,mask\nRIGA/MESSIDOR_Base1/1.png,RIGA/MESSIDOR_Base1/1_mask.png\n"
    (root / "MESSIDOR_Base1_train.csv").write_text(row)


def stare(root: Path) -> None:
    for folder, name, pixels in (
        ("stare-images", "im0001.ppm", picture(0, (48, 48), colour=True)),
        ("labels-ah", "im0001.ah.ppm", grey(blob(1, (48, 48)))),
        ("labels-vk", "im0001.vk.ppm", grey(blob(2, (48, 48)))),
    ):
        path = root / folder / name
        path.parent.mkdir(parents=True)
        Pillow.fromarray(pixels).save(path, "PPM")
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "retina": retina,
    "Dataset007_Liver": nnunet,
    "Dataset008_Liver": nnunet_names,
    "nnUNet_raw": nnunet_sets,
    "ms": bids,
    "brains": bids_maps,
    "livers": monai,
    "cells": coco,
    "job-exports": cvat,
    "project": label_studio,
    "scene": slicer,
    "study": dicom_seg,
    "BU-BIL": bu_bil,
    "CHASEDB1": chase,
    "CURVAS": curvas,
    "ddb1_v02_01": diaretdb1,
    "Drishti-GS1": drishti,
    "DRIVE": drive,
    "Gleason2019": gleason,
    "lidc-crops": lidc_crops,
    "LIDC-IDRI": lidc_dicom,
    "MedicalMatting": lidc_pickle,
    "training_data_v2": qubiq,
    "MICCAI_BraTS2020_TrainingData": qu_brats,
    "REFUGE7": refuge,
    "RIGA-original": riga,
    "DiscRegion": disc_region,
    "RIGAPlus": riga_plus,
    "STARE": stare,
}
