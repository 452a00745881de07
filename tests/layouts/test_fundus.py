"""RIGA in three forms, REFUGE with seven raters, STARE and CHASE_DB1, on made-up trees."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from scipy import ndimage
from trees import blob, cases, picture, png

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.layouts import DATASETS

HEADER = ",imgName,maskName,label,center,xmin,ymin,xmax,ymax,width,height,discFlag,rater\n"


def disc(radius: float, size: int = 64, centre: tuple[float, float] = (32, 32)) -> np.ndarray:
    row, column = np.mgrid[:size, :size]
    return (row - centre[0]) ** 2 + (column - centre[1]) ** 2 <= radius**2


# --- RIGA ---------------------------------------------------------------------------------------


def disc_region(root: Path, middle: int = 128) -> None:
    lines = HEADER
    for k in range(7):
        grey = disc(20 + k) * np.uint8(middle)
        grey[disc(8 + k)] = 255
        folder = "FinalLabel" if k == 0 else f"Rater{k}"
        if k != 4:
            png(root / f"MESSIDOR/{folder}/图1.png", grey)
        name = "MESSIDOR\\FinalLabel\\图1.png"
        lines += f"{k},MESSIDOR\\Image\\图1.jpg,{name},1,x,0,0,9,9,64,64,1,{k}\n"
    (root / "MESSIDOR/Image").mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(picture(0, (64, 64), colour=True)).save(root / "MESSIDOR/Image/图1.jpg")
    (root / "Glaucoma_multirater_MESSIDOR.csv").write_bytes(lines.encode("gbk"))


def test_riga_disc_region(tmp_path: Path) -> None:
    disc_region(tmp_path / "DiscRegion")
    (found,) = cases(DATASETS["riga"](tmp_path)).values()
    assert (found.diagnosis, found.split) == (1, "train")
    assert found.rated.all() and len(found.rated) == 5  # there is no mask of rater 4
    np.testing.assert_array_equal(found.masks[4], [disc(26), disc(14)])
    np.testing.assert_array_equal(found.reference, [disc(20), disc(8)])


def test_riga_disc_region_is_looked_at(tmp_path: Path) -> None:
    root = tmp_path / "DiscRegion"
    disc_region(root)
    grey = disc(20) * np.uint8(128)
    grey[0, 0] = 77
    png(root / "MESSIDOR/Rater2/图1.png", grey)
    with pytest.raises(InputError, match="has the grey values 77, 128 besides 0 and 255"):
        cases(DATASETS["riga"](tmp_path))
    disc_region(root)
    table = root / "Glaucoma_multirater_MESSIDOR.csv"
    whole = table.read_bytes()
    table.write_bytes(b"\n".join(whole.split(b"\n")[:-2]))
    with pytest.raises(InputError, match="has 6 rows; expected seven for each image"):
        cases(DATASETS["riga"](tmp_path))
    table.write_bytes(whole.replace(b"MESSIDOR\\Image", b"..\\Image"))
    with pytest.raises(InputError, match="not a path inside"):
        cases(DATASETS["riga"](tmp_path))
    table.write_bytes(whole.replace(b"imgName", b"image"))
    with pytest.raises(InputError, match="has no column 'imgName'"):
        cases(DATASETS["riga"](tmp_path))


def test_riga_plus_is_inverted(tmp_path: Path) -> None:
    png(tmp_path / "RIGA/MESSIDOR_Base1/1.png", picture(0, (64, 64), colour=True))
    for k in (1, 2, 6):
        grey = np.full((64, 64), 255, np.uint8)
        grey[disc(20)] = 128
        grey[disc(10 + k)] = 0
        png(tmp_path / f"RIGA/MESSIDOR_Base1/1_mask-{k}.png", grey)
    row = "image,mask\nRIGA/MESSIDOR_Base1/1.png,RIGA/MESSIDOR_Base1/1_mask.png\n"
    for split in ("train", "test"):
        (tmp_path / f"MESSIDOR_Base1_{split}.csv").write_text(row)
    source = DATASETS["riga"](tmp_path)
    (found,) = cases(source).values()
    assert source.task.raters == ("rater 1", "rater 2", "rater 6")
    assert source.notes[0].endswith("is in several tables and was taken once")
    assert found.rated.all()
    np.testing.assert_array_equal(found.masks[2], [disc(20), disc(16)])
    png(tmp_path / "RIGA/MESSIDOR_Base1/1_mask-2.png", np.full((64, 64), 127, np.uint8))
    with pytest.raises(InputError, match="holds the grey value 127"):
        cases(DATASETS["riga"](tmp_path))


def lined(image: np.ndarray, *outlines: np.ndarray) -> np.ndarray:
    drawn = image.copy()
    for mask in outlines:
        drawn[mask & ~ndimage.binary_erosion(mask, iterations=2)] = (0, 255, 0)
    return drawn


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_riga_original_outlines_become_masks(tmp_path: Path) -> None:
    magrabia = tmp_path / "Magrabia/Magrabia/MagrabiaMale"
    rushed = tmp_path / "BinRushed/BinRushed1-Corrected"
    for folder in (magrabia, rushed, tmp_path / "BinRushed/BinRushed1"):
        folder.mkdir(parents=True)
    image = picture(0, (96, 96), colour=True) // 4 + 60
    outer, inner = disc(34, 96, (48, 48)), disc(17, 96, (50, 46))
    tifffile.imwrite(magrabia / "Image7prime.tif", image, photometric="rgb")
    tifffile.imwrite(magrabia / "Image7-1.tif", lined(image, outer, inner), photometric="rgb")
    tifffile.imwrite(magrabia / "image7-3.tif", lined(image, outer), photometric="rgb")
    beside = disc(8, 96, (10, 10))
    tifffile.imwrite(
        magrabia / "image7-4.tif", lined(image, disc(20, 96, (60, 60)), beside), photometric="rgb"
    )
    tifffile.imwrite(magrabia / "image48-1.tif", image, photometric="rgb")
    smooth = np.full((96, 96, 3), 90, np.uint8)
    Pillow.fromarray(smooth).save(rushed / "image1prime.jpg", quality=95)
    Pillow.fromarray(lined(smooth, outer, inner)).save(rushed / "image1-2.jpg", quality=95)
    tifffile.imwrite(rushed / "image1-3.tif", lined(smooth, outer, inner), photometric="rgb")
    with pytest.raises(InputError, match="no mask of the rater 'rater 4' could be read"):
        cases(DATASETS["riga"](tmp_path))
    source = DATASETS["riga"](tmp_path, without="rater 4")
    found = cases(source)
    assert source.task.raters == ("rater 1", "rater 2", "rater 3")
    assert list(found) == ["BinRushed1-Corrected/image1", "MagrabiaMale/image7"]
    lossless, lossy = found["MagrabiaMale/image7"], found["BinRushed1-Corrected/image1"]
    np.testing.assert_array_equal(lossless.rated[:, 0], [True, False, False])
    np.testing.assert_array_equal(lossy.rated[:, 0], [False, True, True])
    for sample, k in ((lossless, 0), (lossy, 1), (lossy, 2)):
        # a line of two pixels lies inside the drawn shape: half of it is taken
        assert iou(sample.masks[k, 0], ndimage.binary_erosion(outer)) > 0.96
        assert iou(sample.masks[k, 1], ndimage.binary_erosion(inner)) > 0.94
    assert source.ledger is not None
    assert [(item.what.rsplit("/", 1)[-1], item.why, item.rater) for item in source.ledger.left] == [
        ("image48-1.tif", "there is no prime photograph to compare it with", "rater 1"),
        (
            "image7-3.tif",
            "counts as missing: the lines enclose 1 areas, expected two, one inside the other",
            "rater 3",
        ),
        ("image7-4.tif", "counts as missing: neither line lies inside the other", "rater 4"),
    ]


# --- REFUGE -------------------------------------------------------------------------------------


def refuge(root: Path, inverted: bool) -> None:
    folder = root / "REFUGE-Multirater/Test-400/0544"
    folder.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(picture(0, (64, 64), colour=True)).save(folder / "0544.jpg")
    Pillow.fromarray(picture(0, (32, 16), colour=True)).save(folder / "0544_cropped.jpg")
    for structure, radius in (("disc", 20), ("cup", 10)):
        for k in range(1, 8):
            png(folder / f"0544_seg_{structure}_{k}.png", disc(radius + k / 2) * np.uint8(255))
        Pillow.fromarray((disc(radius + 2) ^ inverted) * np.uint8(255)).save(folder / f"0544_{structure}.bmp")
    (root / "REFUGE1Test.csv").write_text(
        "imgName,maskName,multimaskName,label\n"
        "REFUGE/test_dataset/Test400/T0001.jpg,x,Dataset-new-2/Test-400/0544/0544.jpg,1\n"
        "REFUGE/test_dataset/Test400/T0002.jpg,x,,0\n"
    )


@pytest.mark.parametrize("inverted", [False, True])
def test_refuge(tmp_path: Path, inverted: bool) -> None:
    refuge(tmp_path, inverted)
    source = DATASETS["refuge"](tmp_path)
    (found,) = cases(source).values()
    assert (found.name, found.split, found.diagnosis) == ("test_0544", "test", 1)
    assert found.rated.all()
    np.testing.assert_array_equal(found.masks[6], [disc(23.5), disc(13.5)])
    np.testing.assert_array_equal(found.reference, [disc(22), disc(12)])
    assert "1 rows of" in source.notes[0]


def test_refuge_polarity_is_not_guessed(tmp_path: Path) -> None:
    refuge(tmp_path, inverted=False)
    wrong = tmp_path / "REFUGE-Multirater/Test-400/0544/0544_disc.bmp"
    frame = np.ones((64, 64), bool)
    frame[1:-1, 1:-1] = disc(22)[1:-1, 1:-1]
    Pillow.fromarray(frame * np.uint8(255)).save(wrong)
    with pytest.raises(InputError, match="its border and the raters disagree"):
        cases(DATASETS["refuge"](tmp_path))


def test_refuge_private_form_and_single_masks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Pillow.fromarray(picture(0, (64, 64), colour=True)).save(tmp_path / "a/0003_ci.jpg")
    for k in (1, 7):
        png(tmp_path / f"a/0003_seg_cup_c_{k}.png", disc(20) * np.uint8(255))
        png(tmp_path / f"a/0003_seg_disc_c_{k}.png", disc(10) * np.uint8(255))
    source = DATASETS["refuge"](tmp_path / "a")
    found = cases(source)["0003"]
    assert source.task.raters == ("rater 1", "rater 7")
    assert found.rated.all()
    assert any("of the cup of '0003' outside the disc" in note for note in source.notes)
    (tmp_path / "b/Annotation-Training400/Disc_Cup_Masks").mkdir(parents=True)
    with pytest.raises(InputError, match="REFUGE with one mask an image"):
        DATASETS["refuge"](tmp_path / "b")


# --- vessels ------------------------------------------------------------------------------------


def check_vessels(found: MultiRaterSample, first: int, second: int | None) -> None:
    np.testing.assert_array_equal(found.masks[0, 0], blob(first))
    np.testing.assert_array_equal(found.rated[:, 0], [True, second is not None])
    if second is not None:
        np.testing.assert_array_equal(found.masks[1, 0], blob(second))


@pytest.mark.parametrize("packed", [False, True])
def test_stare(tmp_path: Path, packed: bool) -> None:
    def save(path: Path, array: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(array).save(path.with_suffix(".pgm" if array.ndim == 2 else ".ppm"), "PPM")
        raw = path.with_suffix(".pgm" if array.ndim == 2 else ".ppm").rename(path).read_bytes()
        if packed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(raw))
            path.unlink()

    save(tmp_path / "stare-images/im0001.ppm", picture(0, colour=True))
    save(tmp_path / "labels-ah/im0001.ah.ppm", blob(1) * np.uint8(255))
    save(tmp_path / "labels-vk/im0001.vk.ppm", blob(2) * np.uint8(255))
    found = cases(DATASETS["stare"](tmp_path))
    assert list(found) == ["im0001"]
    check_vessels(found["im0001"], 1, 2)


def test_chase(tmp_path: Path) -> None:
    for eye in "LR":
        Pillow.fromarray(picture(0, colour=True)).save(tmp_path / f"Image_03{eye}.jpg")
        png(tmp_path / f"Image_03{eye}_1stHO.png", blob(1))
    png(tmp_path / "Image_03L_2ndHO.png", blob(2))
    found = cases(DATASETS["chase-db1"](tmp_path))
    check_vessels(found["Image_03L"], 1, 2)
    check_vessels(found["Image_03R"], 1, None)
    assert {s.group for s in found.values()} == {"child 03"}
