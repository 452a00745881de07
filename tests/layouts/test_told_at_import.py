"""What an import tells at once, and not the check after it: names, patients and files that may be one, turned images."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow
from trees import blob, cases, nifti, picture, png

from mrprism.core.errors import InputError
from mrprism.datasets.check import check_dataset
from mrprism.layouts import DATASETS

SHAPE = (6, 5, 4)
GREY = np.uint8(255)


def sets(root: Path, *raters: str) -> Path:
    """nnU-Net, a data set for each rater, with the same image."""
    for number, rater in enumerate(raters, start=501):
        here = root / f"Dataset{number}_{rater}"
        about = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "liver": 1},
            "file_ending": ".nii.gz",
        }
        here.mkdir(parents=True)
        (here / "dataset.json").write_text(json.dumps(about))
        nifti(here / "imagesTr/c1_0000.nii.gz", picture(0, SHAPE))
        nifti(here / "labelsTr/c1.nii.gz", blob(number, SHAPE).astype(np.uint8))
    return root


def test_an_image_that_two_data_sets_have_is_the_same(tmp_path: Path) -> None:
    root = sets(tmp_path, "ann", "bob")
    other = root / "Dataset502_bob/imagesTr/c1_0000.nii.gz"
    other.write_bytes(gzip.compress(gzip.decompress(other.read_bytes()), 1))  # packed otherwise
    assert cases(DATASETS["nnunet"](root))["c1"].rated.all()
    nifti(other, picture(1, SHAPE))
    with pytest.raises(InputError, match=r"have one name and are not the same image"):
        DATASETS["nnunet"](root)
    about = root / "Dataset502_bob/dataset.json"
    about.write_text(about.read_text().replace("CT", "MR"))
    with pytest.raises(InputError, match=r"has the channels MR, .* CT; expected the same"):
        DATASETS["nnunet"](root)


def test_an_image_that_is_there_once_for_each_rater_is_the_same(tmp_path: Path) -> None:
    root = sets(tmp_path, "x") / "Dataset501_x"
    (root / "imagesTr/c1_0000.nii.gz").rename(root / "imagesTr/c1_ann_0000.nii.gz")
    (root / "labelsTr/c1.nii.gz").rename(root / "labelsTr/c1_ann.nii.gz")
    nifti(root / "labelsTr/c1_bob.nii.gz", blob(1, SHAPE).astype(np.uint8))
    nifti(root / "imagesTr/c1_bob_0000.nii.gz", picture(0, SHAPE))
    assert cases(DATASETS["nnunet"](root, rater="_(ann|bob)$"))["c1"].rated.all()
    nifti(root / "imagesTr/c1_bob_0000.nii.gz", picture(3, SHAPE))
    with pytest.raises(InputError, match=r"are not the same image"):
        DATASETS["nnunet"](root, rater="_(ann|bob)$")


def test_a_file_that_is_two_masks(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        png(tmp_path / f"images/{name}.png", picture(number))
        png(tmp_path / f"masks/{name}.png", blob(number) * GREY)
    items = [
        {"image": f"images/{n}.png", "label_ann": f"masks/{n}.png", "label_bob": "masks/a.png"} for n in "ab"
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": items}))
    (note,) = DATASETS["monai"](tmp_path, raters="label_*").notes
    assert note.endswith(
        "masks/a.png' is the mask of 'object' by 'ann' on 'a' and of 'object' by 'bob' on 'a' and 1 more: are they one?"
    )
    document = {
        "format": "mrprism-dataset/1",
        "name": "d",
        "channels": ["grey"],
        "structures": ["disc", "cup"],
    }
    masks = {"ann": {"disc": "masks/a.png", "cup": "masks/b.png"}, "bob": {"disc": "masks/b.png"}}
    document |= {"raters": ["ann", "bob"], "cases": [{"name": "a", "image": "images/a.png", "masks": masks}]}
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    said = [fault.sentence for fault in check_dataset(tmp_path).warnings]
    assert (
        "file 'masks/b.png' is the mask of 'cup' by 'ann' on 'a' and of 'disc' by 'bob' on 'a': are they one?"
        in said
    )


def test_patients_and_channels_that_may_be_one(tmp_path: Path) -> None:
    items = []
    for number, patient in enumerate(("P1", "p1 ", "P2")):
        png(tmp_path / f"images/{number}.png", picture(number, colour=True))
        png(tmp_path / f"masks/{number}.png", blob(number) * GREY)
        items.append(
            {"image": f"images/{number}.png", "label_ann": f"masks/{number}.png", "patient": patient}
        )
    (tmp_path / "dataset.json").write_text(json.dumps({"training": items}))
    source = DATASETS["monai"](tmp_path, raters="label_*", group="patient")
    cases(source)
    assert source.notes == [
        "the patients 'P1' and 'p1 ' differ in case, blanks or accents only, and count as different; if they are the "
        "same, give them one name"
    ]  # fmt: skip
    about = sets(tmp_path / "n", "ann") / "Dataset501_ann/dataset.json"
    about.write_text(about.read_text().replace('"0": "CT"', '"0": "T1", "1": "t1"'))
    nifti(about.parent / "imagesTr/c1_0001.nii.gz", picture(2, SHAPE))
    nifti(about.parent / "labelsTr_ann/c1.nii.gz", blob(2, SHAPE).astype(np.uint8))
    (note,) = DATASETS["nnunet"](about.parent).notes
    assert note.startswith("the channels 'T1' and 't1' differ in case")


def test_letters_that_look_alike(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", picture(0))
    png(tmp_path / "ann/cup/a.png", blob(3))
    png(tmp_path / "bob/\u0441up/a.png", blob(3))  # Cyrillic
    (note,) = DATASETS["folder"](tmp_path).notes
    assert note.startswith("the structures 'cup' and '\u0441up' have the same letters")


def test_a_turned_image_and_one_that_has_two_places(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[274] = 3
    (tmp_path / "p/images").mkdir(parents=True)
    for name in "ab":
        Pillow.fromarray(picture(0)).save(tmp_path / f"p/images/{name}.png", exif=exif)
        png(tmp_path / f"p/ann/{name}.png", blob(1) * GREY)
    source = DATASETS["folder"](tmp_path / "p")
    cases(source)
    assert source.notes == ["of the image of 'a' and 1 more: it is turned, as its orientation 3 says"]
    image = nib.Nifti1Image(picture(0, SHAPE), np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.diag([-1.0, -1.0, 1.0, 1.0]), 1)
    (tmp_path / "v/images").mkdir(parents=True)
    nib.save(image, tmp_path / "v/images/a.nii.gz")
    nifti(tmp_path / "v/ann/a.nii.gz", blob(1, SHAPE).astype(np.uint8))
    source = DATASETS["folder"](tmp_path / "v")
    cases(source)
    assert source.notes == [
        "of the image of 'a': its qform and its sform name different places; the sform is taken"
    ]
