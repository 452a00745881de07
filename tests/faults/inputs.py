"""Good inputs of every command and every layout, as small as they can be."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image as Pillow

from mrprism.cli import call
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import write_dataset

SIZE = (12, 10)
TASK = Task(channels=1, structures=("disc", "cup"), raters=("ann", "bob", "cy"))


def png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array * np.uint8(255) if array.dtype == np.bool_ else array).save(path)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    """Save an array whose first axis is x."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([0.8, 0.8, 2.0, 1.0]) if affine is None else affine), path)


def nrrd(path: Path, array: np.ndarray, fields: str = "", offset: tuple[float, ...] = (0, 0, 0)) -> None:
    """Save bytes with axes (x, y, z), or (layer, x, y, z), in the space of `nifti`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"NRRD0005\ntype: uint8\ndimension: {array.ndim}\nspace: right-anterior-superior\n"
    head += f"sizes: {' '.join(map(str, array.shape))}\n"
    axes = "(0.8,0,0) (0,0.8,0) (0,0,2)"
    head += f"space directions: {'none ' if array.ndim == 4 else ''}{axes}\n"
    head += f"space origin: ({','.join(map(str, offset))})\nencoding: gzip\nendian: little\n{fields}\n"
    path.write_bytes(head.encode() + gzip.compress(array.astype(np.uint8).tobytes("F"), mtime=0))


def document(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def picture(seed: int, size: tuple[int, ...] = SIZE, colour: bool = False) -> np.ndarray:
    shape = (*size, 3) if colour else size
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def blob(seed: int, size: tuple[int, ...] = SIZE) -> np.ndarray:
    """A mask that leaves the border free."""
    mask = np.random.default_rng(seed).random(size) > 0.4
    for axis in range(mask.ndim):
        np.moveaxis(mask, axis, 0)[[0, -1]] = False
    return mask


def samples(count: int = 8, size: int = 20) -> list[MultiRaterSample]:
    """Bright squares with a brighter one inside; three raters who differ by a pixel."""
    made = []
    for number in range(count):
        draw = np.random.default_rng(number)
        top, left = draw.integers(2, 6, 2)
        truth = np.zeros((2, size, size), bool)
        truth[0, top : top + 11, left : left + 11] = True
        truth[1, top + 3 : top + 8, left + 3 : left + 8] = True
        image = 0.2 + 0.3 * truth[:1] + 0.4 * truth[1:] + draw.normal(0, 0.02, (1, size, size))
        made.append(
            MultiRaterSample(
                f"case{number}",
                np.clip(image, 0, 1).astype(np.float32),
                np.stack([np.roll(truth, shift, axis=(-2, -1)) for shift in ((0, -1), (0, 1), (1, 0))]),
                np.ones((3, 2), bool),
                truth,
                group=f"patient {number}",
                split=("train", "train", "test", "val")[number % 4],
            )
        )
    return made


def squares(root: Path) -> None:
    write_dataset(samples(), root, name="squares", task=TASK)


def volumes(root: Path) -> None:
    made = []
    for number in range(4):
        masks = np.stack([blob(10 * number + r, (6, 10, 9))[None] for r in range(3)])
        image = picture(number, (1, 6, 10, 9)).astype(np.float32) / np.float32(255)
        rated = np.ones((3, 1), bool)
        made.append(MultiRaterSample(f"scan{number}", image, masks, rated, spacing_mm=(2.0, 0.8, 0.8)))
    task = Task(1, ("organ",), ("ann", "bob", "cy"))
    write_dataset(made, root, name="volumes", task=task)


def masks(root: Path) -> None:
    for number, rater in enumerate(("ann", "bob", "cy")):
        png(root / f"{rater}.png", blob(number))
        nifti(root / f"{rater}.nii.gz", blob(number, (9, 10, 6)).astype(np.uint8))


def run(root: Path) -> None:
    """A data set, a run trained on it, and two photographs."""
    squares(root / "data")
    options = ["--backbone", "small", "--size", "20", "--epochs", "1", "--device", "cpu", "--quiet"]
    command = ["train", str(root / "data"), "--out", str(root / "run"), "--method", "fused-label"]
    assert call([*command, *options]) == 0
    for number in (0, 2):
        png(root / f"photos/{number}.png", picture(number, (20, 20)))


def comparison(root: Path) -> None:
    """As `run`, and a comparison that was settled but in which nothing was trained."""
    from mrprism.compare.build import make_plan, pick_shown
    from mrprism.compare.candidates import choose
    from mrprism.compare.plan import Budget, write_plan
    from mrprism.datasets import open_dataset

    squares(root / "data")
    dataset = open_dataset(root / "data")
    budget = Budget(epochs=1, size=20, backbone="small")
    plan = make_plan(dataset, budget, choose("fuse"), (0,), ())
    (root / "comparison").mkdir()
    write_plan(plan.model_copy(update={"shown": pick_shown(dataset, plan)}), root / "comparison")


# --- published layouts and exports of tools -----------------------------------------------------


def folder(root: Path) -> None:
    for number, name in enumerate("ab"):
        png(root / f"images/{name}.png", picture(number))
        png(root / f"ann/{name}.png", blob(number))
        png(root / f"bob/{name}.png", blob(number + 5))


def label_maps(root: Path) -> None:
    for number, name in enumerate("ab"):
        png(root / f"images/{name}.png", picture(number))
        png(root / f"ann/{name}.png", blob(number) * np.uint8(2))
        png(root / f"bob/{name}.png", blob(number + 5) * np.uint8(1))


def coco(root: Path) -> None:
    square = [2, 1, 5, 1, 5, 4, 2, 4]
    for number, name in enumerate("ab"):
        png(root / f"images/{name}.png", picture(number))
    for rater in ("ann", "bob"):
        document(
            root / f"{rater}.json",
            {
                "images": [
                    {"id": i, "file_name": f"{n}.png", "height": 12, "width": 10} for i, n in enumerate("ab")
                ],
                "categories": [{"id": 3, "name": "cell"}],
                "annotations": [
                    {"id": 7, "image_id": 0, "category_id": 3, "segmentation": [square]},
                    {
                        "id": 8,
                        "image_id": 1,
                        "category_id": 3,
                        "segmentation": {"size": [12, 10], "counts": [50, 20, 50]},
                    },
                ],
            },
        )


CVAT = (
    '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
    "<meta><job><labels><label><name>cell</name></label></labels></job></meta>"
    '<image id="0" name="a.png" width="10" height="12">'
    '<polygon label="cell" z_order="0" points="2,1;5,1;5,4;2,4"></polygon>'
    '<mask label="cell" z_order="1" rle="2, 2, 2" left="1" top="6" width="3" height="2"></mask>'
    "</image></annotations>"
)


def cvat(root: Path) -> None:
    png(root / "images/a.png", picture(0))
    for rater in ("ann", "bob"):
        (root / f"{rater}.xml").write_text(CVAT)


def label_studio(root: Path) -> None:
    png(root / "images/a.png", picture(0))
    points = [[20, 10], [60, 10], [60, 50], [20, 50]]
    mark = {
        "type": "polygonlabels",
        "original_width": 10,
        "original_height": 12,
        "value": {"points": points, "polygonlabels": ["cell"]},
    }
    passes = [{"completed_by": who, "result": [mark]} for who in (1, 2)]
    document(root / "export.json", [{"data": {"image": "/data/upload/a.png"}, "annotations": passes}])


def nnunet(root: Path) -> None:
    labels = {"background": 0, "liver": 1}
    document(
        root / "dataset.json", {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    )
    nifti(root / "imagesTr/liver_1_0000.nii.gz", picture(0, (6, 5, 4)))
    for number, rater in enumerate(("ann", "bob")):
        nifti(root / f"labelsTr_{rater}/liver_1.nii.gz", blob(number, (6, 5, 4)).astype(np.uint8))


def bids(root: Path) -> None:
    nifti(root / "sub-01/anat/sub-01_T1w.nii.gz", picture(0, (6, 5, 4)))
    for number, rater in enumerate(("ann", "bob")):
        name = f"sub-01_label-lesion_desc-{rater}_mask.nii.gz"
        nifti(root / "sub-01/anat" / name, blob(number, (6, 5, 4)).astype(np.uint8))


def monai(root: Path) -> None:
    png(root / "images/a.png", picture(0))
    for number, rater in enumerate(("ann", "bob")):
        png(root / f"labels/a_{rater}.png", blob(number))
    item = {"image": "images/a.png", "label_ann": "labels/a_ann.png", "label_bob": "labels/a_bob.png"}
    document(root / "dataset.json", {"training": [item]})


SEGMENTS = "Segment0_ID:=Segment_1\nSegment0_Name:=organ\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"


def slicer(root: Path) -> None:
    nifti(root / "images/c.nii.gz", picture(0, (9, 8, 4)))
    for number, rater in enumerate(("ann", "bob")):
        nrrd(root / f"{rater}/c.seg.nrrd", blob(number, (5, 5, 3)), SEGMENTS, (0.8, 1.6, 2))


def bu_bil(root: Path) -> None:
    png(root / "set1/images/B01.png", picture(0))
    png(root / "set1/gold/B01.png", blob(0))
    for slot in range(1, 4):
        png(root / f"set1/crowd/B01_c{slot}.png", blob(slot))
    png(root / "set1/experts/B01_Person1_Amira.png", blob(9))


def bu_bil_original(root: Path) -> None:
    png(root / "BU-BIL_Dataset1/RawImages/B01.png", picture(0))
    png(root / "BU-BIL_Dataset1/GoldStandard/B01.png", ~blob(0))
    png(root / "BU-BIL_Dataset1/CrowdsourcedAnnotations/mturk_annotation1-1/B01.png", ~blob(1))
    document(root / "BU-BIL_Dataset1/crop_offsets.json", {"B01": {"y": 0, "x": 0, "h": 12, "w": 10}})


def curvas(root: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (6, 5, 4)).astype(np.float32)
    nifti(root / "UKCHLL001/image.nii.gz", labels * 100)
    for number in (1, 2, 3):
        nifti(root / f"UKCHLL001/annotation_{number}.nii.gz", labels)


def drishti(root: Path) -> None:
    votes = np.random.default_rng(0).integers(0, 5, SIZE).astype(np.uint8)
    png(root / "images/001.png", picture(0, colour=True))
    png(root / "od_votes/001.png", votes)
    png(root / "oc_votes/001.png", votes // 2)
    document(root / "meta.json", {"001": {"split": "Test"}})


def drishti_original(root: Path) -> None:
    grey = np.array([0, 64, 128, 191, 255], np.uint8)[np.random.default_rng(0).integers(0, 5, SIZE)]
    png(root / "Test/Images/001.png", picture(0, colour=True))
    for part in ("OD", "cup"):
        png(root / f"Test/Test_GT/001/SoftMap/001_{part}segSoftmap.png", grey)


def drive(root: Path) -> None:
    (root / "test/images").mkdir(parents=True)
    Pillow.fromarray(picture(0, colour=True)).save(root / "test/images/01_test.tif")
    png(root / "test/1st_manual/01_manual1.png", blob(1))
    png(root / "test/2nd_manual/01_manual2.png", blob(2))


def stare(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(picture(0, colour=True)).save(root / "im0001.ppm")
    for rater in ("ah", "vk"):
        Pillow.fromarray(blob(len(rater)) * np.uint8(255)).save(root / "packed.pgm")
        (root / f"im0001.{rater}.ppm.gz").write_bytes(gzip.compress((root / "packed.pgm").read_bytes()))
    (root / "packed.pgm").unlink()


def chase(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(picture(0, colour=True)).save(root / "Image_01L.jpg")
    png(root / "Image_01L_1stHO.png", blob(1))
    png(root / "Image_01L_2ndHO.png", blob(2))


def gleason(root: Path) -> None:
    (root / "Train Imgs").mkdir(parents=True)
    Pillow.fromarray(picture(0, colour=True)).save(root / "Train Imgs/slide001_core001.jpg")
    for number in (1, 2):
        grades = np.array([0, 1, 3, 4, 5, 6], np.uint8)[np.random.default_rng(number).integers(0, 6, SIZE)]
        png(root / f"Maps{number}_T/slide001_core001_classimg_nonconvex.png", grades)


def lidc(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(0).random((2, 4, 8, 16)) > 0.5
    np.savez(
        root / "lidc.npz",
        images=np.stack([picture(0, (8, 16)), picture(1, (8, 16))]),
        masks_packed=np.packbits(drawn, axis=-1),
        patient=np.array(["LIDC-IDRI-0001", "LIDC-IDRI-0002"]),
        nodule=np.zeros(2, np.int16),
        slice=np.zeros(2, np.int16),
    )


def lidc_crops(root: Path) -> None:
    for split in ("train", "test"):
        patient = f"LIDC-IDRI-000{len(split)}"
        png(root / split / f"images/{patient}/z_c0.png", picture(3))
        for slot in range(4):
            png(root / split / f"gt/{patient}/z_c0_l{slot}.png", blob(slot))


def qubiq(root: Path) -> None:
    case = root / "prostate/Training/case01"
    nifti(case / "image.nii.gz", picture(0, (10, 12, 1)))
    for rater in (1, 2):
        nifti(case / f"task01_seg{rater:02d}.nii.gz", blob(rater, (10, 12))[..., None].astype(np.float64))


def riga(root: Path) -> None:
    lines = "image,imgName,maskName,label,a,b,c,d,e,f,g,h,rater\n"
    for k in range(7):
        name = "FinalLabel" if k == 0 else f"Rater{k}"
        png(root / f"DiscRegion/MESSIDOR/{name}/1.png", blob(k) * np.uint8(255))
        lines += f"{k},MESSIDOR\\Image\\1.png,MESSIDOR\\FinalLabel\\1.png,1,x,0,0,9,9,64,64,1,{k}\n"
    png(root / "DiscRegion/MESSIDOR/Image/1.png", picture(0, colour=True))
    (root / "DiscRegion/Glaucoma_multirater_MESSIDOR.csv").write_text(lines)


def riga_plus(root: Path) -> None:
    png(root / "R/1.png", picture(0, colour=True))
    for k in (1, 2):
        png(root / f"R/1_mask-{k}.png", np.where(blob(k), 0, 255).astype(np.uint8))
    (root / "Base1_train.csv").write_text("image,mask\nR/1.png,R/1_mask.png\n")


def refuge(root: Path) -> None:
    case = root / "Test-400/0544"
    case.mkdir(parents=True)
    Pillow.fromarray(picture(0, colour=True)).save(case / "0544.jpg")
    for structure in ("disc", "cup"):
        for k in range(1, 8):
            png(case / f"0544_seg_{structure}_{k}.png", blob(1))
        Pillow.fromarray(blob(1) * np.uint8(255)).save(case / f"0544_{structure}.bmp")
    (root / "REFUGE1Test.csv").write_text("imgName,multimaskName,label\nx,D/Test-400/0544/0544.jpg,1\n")


DIARETDB1 = (
    "<!DOCTYPE imgannotool>\n<imgannotooldata><markinglist><marking><circleregion><centroid><coords2d>6,5</coords2d>"
    '</centroid><radius direction="x">3</radius></circleregion><confidencelevel>High</confidencelevel>'
    "<markingtype>Hard_exudates</markingtype></marking></markinglist></imgannotooldata>"
)


def diaretdb1(root: Path) -> None:
    png(root / "images/diaretdb1_image001.png", picture(0, colour=True))
    (root / "groundtruth").mkdir()
    for number in (1, 2):
        (root / f"groundtruth/diaretdb1_image001_{number:02d}_plain.xml").write_text(DIARETDB1)


def qu_brats(root: Path) -> None:
    case = "BraTS20_Training_001"
    for number, sequence in enumerate(("flair", "t1", "t1ce", "t2")):
        nifti(root / f"{case}/{case}_{sequence}.nii.gz", picture(number, (6, 5, 4)))
    labels = np.array([0, 1, 2, 4], np.uint8)[np.random.default_rng(0).integers(0, 4, (6, 5, 4))]
    nifti(root / f"{case}/{case}_seg.nii.gz", labels)


def dicom_seg(root: Path) -> None:
    """By the helpers of the DICOM tests."""
    from slices import segmentation, series

    volume = picture(0, (3, 6, 5)).astype(np.int16)
    files = series(root / "ct", volume)
    for number, rater in enumerate(("ann", "bob")):
        drawn = np.zeros((3, 6, 5), bool)
        drawn[1, 1:4, 1 : 3 + number] = True
        segmentation(root / f"seg/{rater}.dcm", files, {"organ": drawn}, rater)


GOOD: dict[str, Callable[[Path], None]] = {
    made.__name__: made
    for made in (
        squares, volumes, masks, run, comparison, folder, label_maps, coco, cvat, label_studio, nnunet, bids,
        monai, slicer, bu_bil, bu_bil_original, curvas, drishti, drishti_original, drive, stare, chase,
        gleason, lidc, lidc_crops, qubiq, riga, riga_plus, refuge, diaretdb1, qu_brats, dicom_seg,
    )
}  # fmt: skip

COMMANDS = {  # the command each good input is for, which must succeed on it
    "squares": "check {in}",
    "volumes": "fuse {in} --method majority --out {out}",
    "masks": "fuse --masks {in}/ann.png {in}/bob.png --out {out}",
    "run": "predict {in}/run {in}/photos --out {out} --device cpu",
    "folder": "import folder {in} {out}",
    "label_maps": "import folder {in} {out} -o labels=disc:1+2,cup:2",
    "coco": "import coco {in} {out}",
    "cvat": "import cvat {in} {out}",
    "label_studio": "import label-studio {in} {out}",
    "nnunet": "import nnunet {in} {out}",
    "bids": "import bids {in} {out}",
    "monai": "import monai {in} {out} -o raters=label_*",
    "slicer": "import slicer {in} {out}",
    "bu_bil": "import bu-bil {in} {out} --set 1",
    "bu_bil_original": "import bu-bil {in} {out} --set 1",
    "curvas": "import curvas {in} {out}",
    "drishti": "import drishti {in} {out}",
    "drishti_original": "import drishti {in} {out}",
    "drive": "import drive {in} {out}",
    "stare": "import stare {in} {out}",
    "chase": "import chase-db1 {in} {out}",
    "gleason": "import gleason {in} {out}",
    "lidc": "import lidc {in} {out}",
    "lidc_crops": "import lidc {in} {out}",
    "qubiq": "import qubiq {in} {out} --set prostate",
    "riga": "import riga {in} {out}",
    "riga_plus": "import riga {in} {out}",
    "refuge": "import refuge {in} {out}",
    "diaretdb1": "import diaretdb1 {in} {out}",
    "qu_brats": "import qu-brats {in} {out}",
    "dicom_seg": "import dicom-seg {in} {out}",
}
