"""Folders and published trees as they really come: what is read, what is named, what is refused with a way out."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage
from trees import blob, cases, nifti, picture, png

from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS, Source
from mrprism.layouts.shapes import ellipse

GREY = np.uint8(255)


def left(source: Source) -> dict[str, str]:
    assert source.ledger is not None
    source.ledger.settle()
    return {item.what: item.why for item in source.ledger.left}


def folder(root: Path, *names: str, raters: tuple[str, ...] = ("ann", "bob")) -> Path:
    for number, name in enumerate(names or ("a", "b")):
        png(root / f"images/{name}.png", picture(number))
        for seed, rater in enumerate(raters):
            png(root / f"{rater}/{name}.png", blob(number + 10 * seed) * GREY)
    return root


# --- the folder: names -------------------------------------------------------------------------------


def test_suffixes_of_masks_and_images(tmp_path: Path) -> None:
    for number in (1, 2):
        png(tmp_path / f"images/0{number}_test.png", picture(number))
        png(tmp_path / f"ann/0{number}_manual1.png", blob(number))
        png(tmp_path / f"bob/0{number}_manual2.png", blob(number))
    with pytest.raises(
        InputError, match=r"4 masks have no image .* -o suffix=_manual1,_manual2,_test takes the endings off"
    ):
        DATASETS["folder"](tmp_path)
    found = cases(DATASETS["folder"](tmp_path, suffix="_manual1,_manual2,_test"))
    assert list(found) == ["01", "02"]
    assert all(sample.rated.all() for sample in found.values())
    np.testing.assert_array_equal(found["02"].masks[0, 0], blob(2))


def test_a_suffix_of_masks_alone(tmp_path: Path) -> None:
    folder(tmp_path, raters=("ann",))
    for path in (tmp_path / "ann").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    with pytest.raises(InputError, match=r"2 masks have no image .* -o suffix=_mask takes"):
        DATASETS["folder"](tmp_path)
    assert cases(DATASETS["folder"](tmp_path, suffix="_mask"))["b"].rated.all()


def test_names_are_matched_as_people_read_them(tmp_path: Path) -> None:
    composed, apart = unicodedata.normalize("NFC", "Läsion 1"), unicodedata.normalize("NFD", "läsion 1")
    folder(tmp_path, composed, raters=("ann",))
    (tmp_path / f"ann/{composed}.png").rename(tmp_path / f"ann/{apart}.PNG")
    (found,) = cases(DATASETS["folder"](tmp_path)).values()
    assert (found.name, found.rated.all()) == (composed, True)
    png(tmp_path / f"ann/{composed}.png", blob(1))
    with pytest.raises(InputError, match=r"differ in .* only; expected one of them"):
        DATASETS["folder"](tmp_path)


def test_two_endings_of_one_name(tmp_path: Path) -> None:
    folder(tmp_path)
    Pillow.fromarray(picture(0)).save(tmp_path / "images/a.jpg")
    with pytest.raises(InputError, match=r"a.jpg' and 'a.png' have the same name but for the ending"):
        DATASETS["folder"](tmp_path)


def test_structures_spelt_in_two_ways_are_one(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", picture(0))
    png(tmp_path / "ann/Cup/a.png", blob(0))
    png(tmp_path / "bob/cup/a.png", blob(0))
    source = DATASETS["folder"](tmp_path)
    (found,) = cases(source).values()
    assert source.task.structures == ("Cup",)
    assert found.rated.all()
    assert source.notes == ["'cup' was taken to be 'Cup'"]


# --- the folder: deeper than it should be ---------------------------------------------------------------


def test_structures_of_the_same_letters_are_kept_apart_and_told(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", picture(0))
    png(tmp_path / "ann/optic_cup/a.png", blob(3))
    png(tmp_path / "bob/optic-cup/a.png", blob(3))
    source = DATASETS["folder"](tmp_path)
    assert source.task.structures == ("optic-cup", "optic_cup")
    (note,) = source.notes
    assert note == (
        "the structures 'optic-cup' and 'optic_cup' have the same letters and were kept apart; "
        "if they mean the same, rename one"
    )


def test_deep_trees_on_request(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        png(tmp_path / f"images/{patient}/001.png", picture(1))
        png(tmp_path / f"ann/{patient}/001.png", blob(1))
    with pytest.raises(
        InputError, match=r"has no images but 'images/p1/001.png'; -o deep=yes reads folders within"
    ):
        DATASETS["folder"](tmp_path)
    source = DATASETS["folder"](tmp_path, deep="yes", group=r"^(\w+)/")
    found = cases(source)
    assert list(found) == ["p1/001", "p2/001"]
    assert (source.task.structures, found["p2/001"].group) == (("object",), "p2")
    assert all(sample.rated.all() for sample in found.values())
    assert left(source) == {}


def test_an_image_deeper_than_the_others_is_named(tmp_path: Path) -> None:
    folder(tmp_path)
    png(tmp_path / "images/more/c.png", picture(1))
    source = DATASETS["folder"](tmp_path)
    assert list(cases(source)) == ["a", "b"]
    assert left(source) == {"images/more/c.png": "not where, or not named as, this layout has its files"}


def test_masks_beside_folders_of_structures_are_named(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", picture(0))
    for rater in ("ann", "bob"):
        png(tmp_path / f"{rater}/disc/a.png", blob(0))
    png(tmp_path / "bob/a.png", blob(1))
    png(tmp_path / "bob/disc/old/a.png", blob(1))
    source = DATASETS["folder"](tmp_path)
    assert cases(source)["a"].rated.all()
    assert left(source) == {
        "bob/a.png": "beside folders for structures",
        "bob/disc/old/a.png": "not where, or not named as, this layout has its files",
    }


# --- the folder: masks as drawing programs save them ---------------------------------------------------


def soft(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.gaussian_filter(mask * 255.0, 1)).astype(np.uint8)


def test_soft_masks_by_threshold(tmp_path: Path) -> None:
    folder(tmp_path)
    drawn = soft(blob(0, (12, 10)))
    png(tmp_path / "ann/a.png", drawn)
    png(tmp_path / "bob/b.png", np.stack([soft(blob(1))] * 3, -1))
    with pytest.raises(
        InputError, match=r"2 masks do not fit:(?s:.*)ann/a.png'(?s:.*)-o threshold=(?s:.*)bob/b.png'"
    ):
        cases(DATASETS["folder"](tmp_path))
    source = DATASETS["folder"](tmp_path, threshold="128")
    found = cases(source)
    np.testing.assert_array_equal(found["a"].masks[0, 0], drawn >= 128)
    np.testing.assert_array_equal(found["a"].masks[1, 0], blob(10))
    assert source.here is None
    with pytest.raises(InputError, match="threshold 'x' is not understood"):
        DATASETS["folder"](tmp_path, threshold="x")
    with pytest.raises(InputError, match="does not go with -o labels="):
        cases(DATASETS["folder"](tmp_path, threshold="5", labels="x:1"))


@pytest.mark.parametrize(
    ("threshold", "says"),
    [
        ("0", "0 to 255, which all reach the threshold 0"),
        ("128", "0 to 1, which do not reach the threshold 128"),
    ],
)
def test_a_threshold_of_another_scale(tmp_path: Path, threshold: str, says: str) -> None:
    folder(tmp_path)
    png(tmp_path / "bob/b.png", blob(11).astype(np.uint8))  # 0 and 1, the others 0 and 255
    with pytest.raises(InputError, match=says):
        cases(DATASETS["folder"](tmp_path, threshold=threshold))


@pytest.mark.parametrize("labels", ["cup:1,cup:2", ":1"])
def test_labels_name_each_structure_once(tmp_path: Path, labels: str) -> None:
    with pytest.raises(InputError, match="each structure once"):
        DATASETS["folder"](folder(tmp_path), labels=labels)


def painted(red: np.ndarray, green: np.ndarray, ground: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    pixels = np.zeros((*red.shape, 3), np.uint8)
    pixels[:] = ground
    pixels[green] = (0, 255, 0)
    pixels[red] = (255, 0, 0)
    return pixels


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255)])
def test_masks_by_colour(tmp_path: Path, ground: tuple[int, int, int]) -> None:
    cup, disc = blob(1) & blob(2), blob(2)
    png(tmp_path / "images/a.png", picture(0))
    png(tmp_path / "ann/a.png", painted(cup, disc, ground))
    with pytest.raises(InputError, match=r"-o colour=.*it has #(00ff00|ff0000), #"):
        cases(DATASETS["folder"](tmp_path))
    source = DATASETS["folder"](tmp_path, colour="cup:#ff0000,disc:#00ff00+red")
    assert source.task.structures == ("cup", "disc")
    np.testing.assert_array_equal(cases(source)["a"].masks[0], [cup, disc])
    with pytest.raises(InputError, match=r"has other colours than those named: #00ff00; expected"):
        cases(DATASETS["folder"](tmp_path, colour="red"))


def test_a_colour_that_no_mask_has_is_not_an_empty_mask(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(
        InputError, match=r"4 masks do not fit:(?s:.*)has other colours than those named: #ffffff"
    ):
        cases(DATASETS["folder"](tmp_path, colour="red"))
    np.testing.assert_array_equal(
        cases(DATASETS["folder"](tmp_path, colour="white"))["a"].masks[0, 0], blob(0)
    )


def test_a_ground_of_another_colour_and_colours_that_were_smeared(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", picture(0, (48, 40)))
    cup = blob(1, (6, 5)).repeat(8, 0).repeat(8, 1)
    grey = painted(cup, cup, (128, 128, 128))
    png(tmp_path / "ann/a.png", grey)
    np.testing.assert_array_equal(
        cases(DATASETS["folder"](tmp_path, colour="cup:red,background:#808080"))["a"].masks[0, 0], cup
    )
    (tmp_path / "ann/a.png").unlink()
    Pillow.fromarray(grey).save(tmp_path / "ann/a.jpg", quality=95, subsampling=0)
    with pytest.raises(InputError, match="with it -o threshold=40"):
        cases(DATASETS["folder"](tmp_path, colour="cup:red,background:#808080"))
    near = cases(DATASETS["folder"](tmp_path, colour="cup:red,background:#808080", threshold="100"))["a"]
    assert (near.masks[0, 0] ^ cup).mean() < 0.02


@pytest.mark.parametrize("text", ["cup:#ff0000,#00ff00", "#ff", "rot", "cup:", ":red", "cup:red,cup:blue"])
def test_colours_that_are_none(tmp_path: Path, text: str) -> None:
    folder(tmp_path)
    with pytest.raises(InputError, match=r"is not a colour|is not understood|names no structure"):
        DATASETS["folder"](tmp_path, colour=text)


# --- MONAI, BIDS, nnU-Net --------------------------------------------------------------------------------


def test_monai_names_what_its_list_does_not(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", picture(0))
    for rater in ("ann", "bob", "cy"):
        png(tmp_path / f"labels/a_{rater}.png", soft(blob(1)))
    item = {"image": "images/a.png", "label_ann": "labels/a_ann.png", "label_bob": "labels/a_bob.png"}
    (tmp_path / "list.json").write_text(json.dumps({"training": [item]}))
    source = DATASETS["monai"](tmp_path, raters="label_*", threshold="100")
    np.testing.assert_array_equal(cases(source)["a"].masks[1, 0], soft(blob(1)) >= 100)
    assert left(source) == {"labels/a_cy.png": "not where, or not named as, this layout has its files"}


SHAPE = (6, 5, 4)


def bids(root: Path, *names: str) -> Path:
    nifti(root / "sub-01/anat/sub-01_T1w.nii.gz", picture(0, SHAPE))
    nifti(root / "sub-01/anat/sub-01_T2w.nii.gz", picture(1, SHAPE))
    for name in names:
        nifti(root / f"sub-01/anat/{name}.nii.gz", blob(2, SHAPE).astype(np.uint8))
    return root


def test_bids_in_another_order_and_with_seg(tmp_path: Path) -> None:
    root = bids(
        tmp_path,
        "sub-01_T2w_label-lesion_mask_desc-ann",
        "sub-01_T2w_label-Lesion_desc-bob_seg",
        "sub-01_label-lesion_mask",
        "sub-01_desc-ann_probseg",
    )
    nifti(root / "sub-01/anat/lesion_final.nii.gz", blob(2, SHAPE).astype(np.uint8))
    source = DATASETS["bids"](root)
    (found,) = cases(source).values()
    assert (source.task.raters, source.task.structures) == (("ann", "bob"), ("Lesion",))
    assert found.rated.all()
    np.testing.assert_allclose(found.image[0].T, picture(1, SHAPE) / 255, atol=1e-6)
    assert left(source) == {
        "sub-01/anat/sub-01_label-lesion_mask.nii.gz": "has no entity 'desc-' to name the rater",
        "sub-01/anat/sub-01_desc-ann_probseg.nii.gz": "holds probabilities",
        "sub-01/anat/lesion_final.nii.gz": "not where, or not named as, this layout has its files",
    }


def test_a_drawing_by_an_old_suffix_is_no_image(tmp_path: Path) -> None:
    root = bids(tmp_path, "sub-01_label-lesion_desc-ann_mask", "sub-01_label-lesion_desc-bob_roi")
    source = DATASETS["bids"](root, suffix="T2w")
    ((name, found),) = cases(source).items()
    assert (name, source.task.raters) == ("sub-01", ("ann",))
    np.testing.assert_allclose(found.image[0].T, picture(1, SHAPE) / 255, atol=1e-6)
    assert left(source) == {
        "sub-01/anat/sub-01_label-lesion_desc-bob_roi.nii.gz": "'roi' is none of mask, seg, dseg"
    }


@pytest.mark.parametrize("said", [{"Rater": ["ann"]}, {"Case": {"id": 5}}, {"Structure": {"a": 1}}])
def test_side_files_hold_names(tmp_path: Path, said: dict[str, Any]) -> None:
    root = bids(tmp_path, "sub-01_label-lesion_desc-ann_mask")
    (root / "sub-01/anat/sub-01_label-lesion_desc-ann_mask.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=f"'{next(iter(said))}' in the side file of .* expected a name"):
        DATASETS["bids"](root)


def test_bids_without_a_drawing_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"there is 'sub-01/anat/sub-01_T1w.nii.gz'; expected names such as sub-01_label"
    ):
        DATASETS["bids"](bids(tmp_path / "a"))
    root = bids(tmp_path / "b")
    bids(root / "derivatives/manual", "sub-01_desc-ann_mask")
    with pytest.raises(InputError, match=r"its derivatives are data sets of their own: '.*manual'"):
        DATASETS["bids"](root)


def nnunet(root: Path, channels: dict[str, str] | None = None, **more: Any) -> Path:
    named = channels or {"0": "CT", "1": "PET"}
    about = {"channel_names": named, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps({**about, **more}))
    for case in ("c1", "c2"):
        for number in range(len(named)):
            nifti(root / f"imagesTr/{case}_{number:04d}.nii.gz", picture(number, SHAPE))
        nifti(root / f"labelsTr_ann/{case}.nii.gz", blob(1, SHAPE).astype(np.uint8))
    return root


def test_nnunet_wants_every_channel_of_every_case(tmp_path: Path) -> None:
    assert len(cases(DATASETS["nnunet"](nnunet(tmp_path)))) == 2
    (tmp_path / "imagesTr/c2_0001.nii.gz").rename(tmp_path / "imagesTr/c2_0002.nii.gz")
    with pytest.raises(InputError, match=r"'c2' lacks channel 1 \(c2_0001.nii.gz\)"):
        DATASETS["nnunet"](tmp_path)
    (tmp_path / "imagesTr/c2_0000.nii.gz").unlink()
    with pytest.raises(InputError, match="'c2' lacks channel 0"):
        DATASETS["nnunet"](tmp_path)


def test_channels_of_two_names_of_a_case_are_not_mixed(tmp_path: Path) -> None:
    """One rater's copy has the CT, the other's the PET: neither is a whole image."""
    root = nnunet(tmp_path)
    shutil.rmtree(root / "imagesTr")
    shutil.rmtree(root / "labelsTr_ann")
    for rater, channel in (("ann", 0), ("bob", 1)):
        nifti(root / f"imagesTr/c1_{rater}_{channel:04d}.nii.gz", picture(channel, SHAPE))
        nifti(root / f"labelsTr/c1_{rater}.nii.gz", blob(1, SHAPE).astype(np.uint8))
    with pytest.raises(InputError, match="'c1_ann' lacks channel 1"):
        DATASETS["nnunet"](root, rater="_(ann|bob)$")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"labels": {"0": "background", "1": "liver"}}, "is of nnU-Net v1 or the Decathlon"),
        ({"modality": {"0": "CT"}}, "is of nnU-Net v1 or the Decathlon"),
        ({"labels": {"background": 0, "liver": 1.5}}, "is 1.5; expected a whole number"),
        ({"labels": [0, 1]}, "'labels' of .* expected an object"),
        ({"channel_names": {"0": "CT", "2": "PET"}}, "has the channels 0, 2; expected 0, 1, ... each once"),
        ({"channel_names": ["CT"]}, "'channel_names' of .* expected an object"),
        (
            {"labels": {"background": 0, "liver": 1, "spleen": 1}},
            "the label with the id 1: 'liver' and 'spleen'",
        ),
        ({"labels": {"background": 0, "liver": 1, "rest": []}}, "'rest' of .* lists no value"),
        ({"file_ending": 5}, "'file_ending' of .* is 5; expected a text"),
        (
            {"labels": {"background": 0, "liver": 1, "Liver": 2}},
            "the structures 'liver' and 'Liver' of .* differ in case",
        ),
    ],
)
def test_dataset_json_in_plain_words(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        DATASETS["nnunet"](nnunet(tmp_path, **more))


def test_labels_of_no_image_are_told_together(tmp_path: Path) -> None:
    root = nnunet(tmp_path)
    for case in ("c8", "c9"):
        nifti(root / f"labelsTr_ann/{case}.nii.gz", blob(1, SHAPE).astype(np.uint8))
    with pytest.raises(InputError, match="2 cases have labels but no image in imagesTr: 'c8', 'c9'"):
        DATASETS["nnunet"](root)


def test_a_rater_whose_label_maps_end_otherwise(tmp_path: Path) -> None:
    root = nnunet(tmp_path)
    png(root / "labelsTr_bob/c1.png", blob(1))
    with pytest.raises(InputError, match=r"labelsTr_bob' holds no label map that ends in '.nii.gz'"):
        DATASETS["nnunet"](root)


# --- published trees -------------------------------------------------------------------------------------


def bu_bil(root: Path, *experts: str, number: int = 2) -> Path:
    """As published: masks inverted, experts of some sets one level deeper."""
    png(root / f"BU-BIL_Dataset{number}/RawImages/B01.png", picture(0, (24, 24)))
    png(root / f"BU-BIL_Dataset{number}/GoldStandard/seg_B01.png", ~blob(0, (24, 24)))
    for seed, expert in enumerate(experts):
        png(root / f"BU-BIL_Dataset{number}/ExpertsAnnotations/{expert}/seg_B01.png", ~blob(seed, (24, 24)))
    return root


def test_experts_one_level_deeper(tmp_path: Path) -> None:
    bu_bil(tmp_path, "2A/Person1_Amira", "2A/Person1_ImageJ", "2A/Person2_Amira")
    source = DATASETS["bu-bil"](tmp_path, set="2", raters="experts")
    assert source.task.raters == ("Person1 Amira", "Person1 ImageJ", "Person2 Amira")
    (found,) = cases(source).values()
    np.testing.assert_array_equal(found.masks[2, 0], blob(2, (24, 24)))
    assert left(source) == {}
    source = DATASETS["bu-bil"](tmp_path, set="2", raters="persons", tool="imagej")
    assert source.task.raters == ("Person1",)
    np.testing.assert_array_equal(cases(source)["B01"].masks[0, 0], blob(1, (24, 24)))
    with pytest.raises(
        InputError, match=r"no mask by persons with the tool 'Paint' .* experts used Amira, ImageJ"
    ):
        DATASETS["bu-bil"](tmp_path, set="2", raters="persons", tool="Paint")
    bu_bil(tmp_path, "2B/Person1_Amira")
    with pytest.raises(
        InputError, match=r"2A/Person1_Amira/seg_B01.png' and '.*2B/.*' are both of 'B01' by 'Person1 Amira'"
    ):
        DATASETS["bu-bil"](tmp_path, set="2", raters="experts")


def test_an_import_of_experts_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mask by experts was found"):
        DATASETS["bu-bil"](bu_bil(tmp_path), raters="experts")
    bu_bil(tmp_path, "somewhere")
    with pytest.raises(InputError, match="no mask by experts was found"):
        DATASETS["bu-bil"](tmp_path, raters="experts")


def test_images_that_are_cut_to_the_window_already(tmp_path: Path) -> None:
    """Set 5: raw images have the size of the crowd's window."""
    root = bu_bil(tmp_path, "Expert1", number=5)
    folder_ = root / "BU-BIL_Dataset5"
    window = blob(3, (24, 24))
    png(folder_ / "CrowdsourcedAnnotations/mturk_annotation5-1/seg_B01.png", ~window)
    (folder_ / "crop_offsets.json").write_text(json.dumps({"B01": {"y": 30, "x": 9, "h": 24, "w": 24}}))
    large = np.zeros((80, 60), bool)
    large[30:54, 9:33] = blob(7, (24, 24))
    png(folder_ / "GoldStandard/seg_B01.png", ~large)
    source = DATASETS["bu-bil"](root, set="5", raters="all")
    (found,) = cases(source).values()
    assert source.task.raters == ("crowd 1", "Expert1")
    np.testing.assert_array_equal(found.masks[0, 0], window)
    assert found.reference is not None
    np.testing.assert_array_equal(found.reference[0], blob(7, (24, 24)))


def test_masks_without_an_image_are_named(tmp_path: Path) -> None:
    bu_bil(tmp_path, "Person1_Amira")
    png(tmp_path / "BU-BIL_Dataset2/ExpertsAnnotations/Person1_Amira/seg_B09.png", ~blob(1))
    source = DATASETS["bu-bil"](tmp_path, raters="experts")
    assert left(source) == {
        "BU-BIL_Dataset2/ExpertsAnnotations/Person1_Amira/seg_B09.png": "a mask without an image"
    }
    (tmp_path / "drive/training/images").mkdir(parents=True)
    Pillow.fromarray(picture(0, colour=True)).save(tmp_path / "drive/training/images/21_training.tif")
    for number in (21, 22):
        png(tmp_path / f"drive/training/1st_manual/{number}_manual1.png", blob(number))
    source = DATASETS["drive"](tmp_path / "drive")
    assert source.task.raters == ("1st manual",)
    assert len(cases(source)) == 1
    assert left(source) == {"training/1st_manual/22_manual1.png": "a mask without an image"}


def test_published_sets_without_any_mask(tmp_path: Path) -> None:
    (tmp_path / "chase").mkdir()
    Pillow.fromarray(picture(0, colour=True)).save(tmp_path / "chase/Image_01L.jpg")
    (tmp_path / "drive/test/images").mkdir(parents=True)
    Pillow.fromarray(picture(0, colour=True)).save(tmp_path / "drive/test/images/01_test.tif")
    (tmp_path / "riga").mkdir()
    Pillow.fromarray(picture(0, colour=True)).save(tmp_path / "riga/image1prime.tif")
    nifti(tmp_path / "qubiq/prostate/Training/case01/image.nii.gz", picture(0, (10, 12, 1)))
    for name, kind, options in (
        ("chase", "chase-db1", {}),
        ("drive", "drive", {}),
        ("riga", "riga", {}),
        ("qubiq", "qubiq", {"set": "prostate"}),
    ):
        with pytest.raises(InputError, match=r"no rater was found in|nothing that is drawn was found in"):
            DATASETS[kind](tmp_path / name, **options)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 200.0])
@pytest.mark.parametrize("centre", [(20.0, 15.0), (0.0, 0.0), (-3.0, 31.0), (90.0, 90.0)])
def test_an_ellipse_in_its_box_is_the_ellipse(centre: tuple[float, float], degrees: float) -> None:
    """Against the formula at every pixel."""
    row, column = np.mgrid[:30, :40] + 0.5
    turn = np.deg2rad(degrees)
    x, y = column - centre[0], row - centre[1]
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    expected = (along / 9) ** 2 + (across / 4) ** 2 <= 1
    np.testing.assert_array_equal(ellipse(centre, (9.0, 4.0), degrees, (30, 40)), expected)


# --- formats ---------------------------------------------------------------------------------------------


def meta_image(path: Path, volume: np.ndarray) -> None:
    """A MetaImage; .mhd keeps the voxels in a file beside it."""
    beside = path.suffix == ".mhd"
    head = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nElementSpacing = 1 1 1\n"
        f"DimSize = {' '.join(map(str, volume.shape))}\nElementType = MET_UCHAR\n"
        f"ElementDataFile = {path.with_suffix('.raw').name if beside else 'LOCAL'}\n"
    ).encode()
    content = volume.astype(np.uint8).tobytes("F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head if beside else head + content)
    if beside:
        path.with_suffix(".raw").write_bytes(content)


def test_whatever_images_are_read_masks_are_too(tmp_path: Path) -> None:
    """MetaImage, WebP and NumPy files, and none of their parts is called left over."""
    png(tmp_path / "planes/images/a.png", picture(0))
    for rater in ("ann", "bob"):
        (tmp_path / f"planes/{rater}").mkdir()
    np.save(tmp_path / "planes/ann/a.npy", blob(1))
    Pillow.fromarray(blob(1) * GREY).save(tmp_path / "planes/bob/a.webp", lossless=True)
    (found,) = cases(source := DATASETS["folder"](tmp_path / "planes")).values()
    np.testing.assert_array_equal(found.masks[:, 0], [blob(1), blob(1)])
    assert left(source) == {}
    root, mask = tmp_path / "volumes", blob(2, SHAPE)
    for rater, ending in (("images", ".mhd"), ("ann", ".mha"), ("bob", ".mhd")):
        meta_image(root / f"{rater}/v{ending}", mask if rater != "images" else picture(3, SHAPE))
    (found,) = cases(source := DATASETS["folder"](root)).values()
    assert found.masks[:, 0].sum((1, 2, 3)).tolist() == [mask.sum()] * 2
    assert left(source) == {}


def test_a_folder_of_a_rater_that_is_none(tmp_path: Path) -> None:
    """A matte beside the masks of three raters: one sentence says how to leave it out."""
    folder(tmp_path, "a", "b", "c", raters=("ann", "bob", "cy"))
    for name in "abc":
        png(tmp_path / f"alpha/{name}.png", soft(blob(1)))
    with pytest.raises(
        InputError, match="3 masks do not fit; all are in 'alpha', which -o without=alpha leaves out"
    ):
        cases(DATASETS["folder"](tmp_path))
    source = DATASETS["folder"](tmp_path, without="alpha")
    assert source.task.raters == ("ann", "bob", "cy")
    assert len(cases(source)) == 3
    assert left(source) == {}


def test_labels_kept_with_a_slope_are_rounded_and_said_to_be(tmp_path: Path) -> None:
    """As nibabel writes floats into 8 bits: 1 becomes 0.996."""
    import nibabel as nib

    root = nnunet(tmp_path, labels={"background": 0, "liver": 1, "tumour": 2})
    labels = np.zeros(SHAPE, np.float32)
    labels[1:3], labels[4:] = 1, 2
    image = nib.Nifti1Image(labels, np.eye(4))
    image.set_data_dtype(np.uint8)
    image.to_filename(root / "labelsTr_ann/c1.nii.gz")
    source = DATASETS["nnunet"](root)
    np.testing.assert_array_equal(cases(source)["c1"].masks[0].sum((1, 2, 3)), [40, 40])
    assert source.notes == ["'c1.nii.gz' keeps its labels with a slope, and was rounded to whole numbers"]
