"""The four data sets at hand: made-up trees in their layouts, and the real files where they lie."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from trees import blob, cases, picture, png

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import open_dataset
from mrprism.layouts import DATASETS

DATA = Path(os.environ.get("MRPRISM_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the development data folder (MRPRISM_DATA)")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


# --- LIDC ---------------------------------------------------------------------------------------


def lidc(path: Path) -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([picture(0, (8, 16)), picture(1, (8, 16))])
    masks = np.random.default_rng(0).random((2, 4, 8, 16)) > 0.5
    masks[1, 2] = False
    np.savez(
        path,
        images=images,
        masks_packed=np.packbits(masks, axis=-1),
        patient=np.array(["LIDC-IDRI-0001", "LIDC-IDRI-0001"]),
        nodule=np.array([0, 1], np.int16),
        slice=np.array([3, 3], np.int16),
    )
    return images, masks


def test_lidc_archive(tmp_path: Path) -> None:
    images, masks = lidc(tmp_path / "lidc.npz")
    source = DATASETS["lidc"](tmp_path)
    assert source.task.anonymous
    found = cases(source)
    assert list(found) == ["LIDC-IDRI-0001_nodule00_slice003", "LIDC-IDRI-0001_nodule01_slice003"]
    second = found["LIDC-IDRI-0001_nodule01_slice003"]
    np.testing.assert_array_equal(second.image[0], images[1] / np.float32(255))
    np.testing.assert_array_equal(second.masks[:, 0], masks[1])
    assert second.rated.all()
    assert second.group == "LIDC-IDRI-0001"


def test_lidc_crops(tmp_path: Path) -> None:
    for split in ("train", "test"):
        png(tmp_path / split / "images/LIDC-IDRI-0007/z-105.0_c0.png", picture(3))
        for slot in range(4):
            mask = blob(slot) * (slot != 2)
            png(tmp_path / split / f"gt/LIDC-IDRI-0007/z-105.0_c0_l{slot}.png", mask.astype(np.uint8) * 255)
    (tmp_path / "train/images/.DS_Store").write_bytes(b"")
    samples = list(DATASETS["lidc"](tmp_path).samples)
    assert [s.split for s in samples] == ["train", "test"]
    assert samples[0].rated.all()
    assert not samples[0].masks[2].any()
    np.testing.assert_array_equal(samples[0].masks[3, 0], blob(3))


def test_lidc_broken(tmp_path: Path) -> None:
    (tmp_path / "lidc.npz").write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match="broken or not a LIDC archive"):
        cases(DATASETS["lidc"](tmp_path))
    (tmp_path / "lidc.npz").rename(tmp_path / "a.pickle")
    with pytest.raises(InputError, match="is a pickle, which can run code"):
        DATASETS["lidc"](tmp_path)


# --- BU-BIL -------------------------------------------------------------------------------------


def packed(root: Path, inverted: bool = False) -> None:
    for name in ("B01", "B02"):
        png(root / f"set1/images/{name}.png", picture(0))
        png(root / f"set1/gold/{name}.png", blob(0) ^ inverted)
        for slot in range(1, 8):
            png(root / f"set1/crowd/{name}_c{slot}.png", blob(slot) ^ inverted)
        for person in range(1, 6):
            for tool in ("Amira", "ImageJ"):
                png(root / f"set1/experts/{name}_Person{person}_{tool}.png", blob(10 + person) ^ inverted)
    for expert in (1, 2, 3):
        png(root / f"set4/experts/000092_Expert{expert}.png", blob(20 + expert))
    for slot in range(1, 8):
        png(root / f"set4/crowd/000092_c{slot}.png", blob(30 + slot))
    png(root / "set4/images/000092.png", picture(1))
    png(root / "set4/gold/000092.png", blob(1))


def test_bu_bil_raters(tmp_path: Path) -> None:
    packed(tmp_path)
    read = DATASETS["bu-bil"]
    crowd = read(tmp_path, set="1")
    assert crowd.task.anonymous
    assert crowd.task.raters == tuple(f"crowd {i}" for i in range(1, 8))
    found = cases(crowd)
    np.testing.assert_array_equal(found["B02"].masks[4, 0], blob(5))
    np.testing.assert_array_equal(found["B02"].reference, blob(0)[None])
    experts = read(tmp_path, set="1", raters="experts").task
    assert not experts.anonymous
    assert experts.raters[:3] == ("Person1 Amira", "Person1 ImageJ", "Person2 Amira")
    assert len(experts.raters) == 10
    assert read(tmp_path, set="1", raters="persons", tool="ImageJ").task.raters == tuple(
        f"Person{i}" for i in range(1, 6)
    )
    everything = read(tmp_path, raters="all")
    found = cases(everything)
    assert list(found) == ["set1/B01", "set1/B02", "set4/000092"]
    assert everything.task.raters[-1] == "set4 Expert3"
    assert found["set4/000092"].rated[:, 0].sum() == 10
    with pytest.raises(InputError, match="has no set '6'; it has 1, 4"):
        read(tmp_path, set="6")


def test_bu_bil_inverted(tmp_path: Path) -> None:
    packed(tmp_path, inverted=True)
    with pytest.raises(InputError, match="seems inverted"):
        cases(DATASETS["bu-bil"](tmp_path, set="1"))


def test_bu_bil_original(tmp_path: Path) -> None:
    root = tmp_path / "BU-BIL_Dataset6"
    image, gold = picture(0, (20, 30)), np.zeros((20, 30), bool)
    gold[6:12, 8:14] = True
    png(root / "RawImages/TPre01.png", image)
    png(root / "GoldStandard/seg_tpre01.png", ~gold)
    png(root / "ExpertAnnotations/Person1_Amira/seg_TPre01.png", np.where(gold, 0, 255).astype(np.uint8))
    window = gold[4:14, 6:18]
    grey = np.where(window, 0, 255).astype(np.uint8)
    colour = np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
    for slot in range(1, 8):
        png(root / f"CrowdsourcedAnnotations/mturk_annotation6-{slot}/seg_TPre01.png", colour)
    read = DATASETS["bu-bil"]
    found = cases(read(tmp_path, raters="experts"))["set6/TPre01"]
    np.testing.assert_array_equal(found.masks[0, 0], gold)
    with pytest.raises(InputError, match="are windows cut from the images"):
        read(tmp_path)
    (root / "crop_offsets.json").write_text(json.dumps({"TPre01": {"y": 4, "x": 6, "h": 10, "w": 12}}))
    found = cases(read(tmp_path))["set6/TPre01"]
    np.testing.assert_array_equal(found.masks[6, 0], window)
    assert found.reference is not None
    np.testing.assert_array_equal(found.reference[0], window)
    np.testing.assert_array_equal(found.image[0], image[4:14, 6:18] / np.float32(255))


# --- Drishti-GS ---------------------------------------------------------------------------------


def test_drishti_votes(tmp_path: Path) -> None:
    disc = np.random.default_rng(0).integers(0, 5, (12, 10)).astype(np.uint8)
    grey = np.array([0, 64, 128, 191, 255], np.uint8)
    crops, original = tmp_path / "crops", tmp_path / "original/Drishti-GS1_files"
    png(crops / "images/drishtiGS_001.png", picture(0, colour=True))
    png(crops / "od_votes/drishtiGS_001.png", disc)
    png(crops / "oc_votes/drishtiGS_001.png", disc // 2)
    (crops / "meta.json").write_text(json.dumps({"drishtiGS_001": {"split": "Test"}}))
    png(original / "Test/Images/drishtiGS_001.png", picture(0, colour=True))
    for part, votes in (("OD", disc), ("cup", disc // 2)):
        png(original / f"Test/Test_GT/drishtiGS_001/SoftMap/drishtiGS_001_{part}segSoftmap.png", grey[votes])
    (original / "Training").mkdir()
    for root in (crops, tmp_path / "original"):
        source = DATASETS["drishti"](root)
        assert source.task.raters == ()
        (found,) = cases(source).values()
        np.testing.assert_array_equal(found.votes, [disc, disc // 2])  # type: ignore[attr-defined]
        np.testing.assert_array_equal(found.reference, [disc >= 3, disc // 2 >= 3])
        assert found.split == "test"
    grey[2] = 127
    for part in ("OD", "cup"):
        png(original / f"Test/Test_GT/drishtiGS_001/SoftMap/drishtiGS_001_{part}segSoftmap.png", grey[disc])
    with pytest.raises(InputError, match="holds the grey value 127"):
        cases(DATASETS["drishti"](tmp_path / "original"))


def test_drishti_under_simulated_raters(tmp_path: Path) -> None:
    row, column = np.mgrid[:40, :40]
    votes = (((row - 20) ** 2 + (column - 20) ** 2) < 150).astype(np.uint8) * 4
    png(tmp_path / "images/a.png", picture(0, (40, 40), colour=True))
    png(tmp_path / "od_votes/a.png", votes)
    png(tmp_path / "oc_votes/a.png", votes)
    (tmp_path / "meta.json").write_text("{}")
    first, again, other = (
        cases(DATASETS["drishti"](tmp_path, raters="crowd", seed=seed))["a"].masks for seed in (0, 0, 1)
    )
    assert first.shape == (7, 2, 40, 40)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(InputError, match="unknown scenario 'mob'; known: symmetric"):
        DATASETS["drishti"](tmp_path, raters="mob")


# --- DRIVE --------------------------------------------------------------------------------------


def test_drive(tmp_path: Path) -> None:
    vessels = blob(1)
    for part, number in (("training", 21), ("test", 1)):
        folder = tmp_path / "DRIVE" / part
        png(folder / f"images/{number:02d}_{part}.png", picture(0, colour=True))
        png(folder / f"1st_manual/{number:02d}_manual1.png", vessels.astype(np.uint8) * 255)
        png(folder / f"mask/{number:02d}_{part}_mask.png", np.full((12, 10), 255, np.uint8))
    gif = Pillow.fromarray(vessels.astype(np.uint8), mode="P")
    gif.putpalette([4, 2, 4, 252, 254, 252])
    (tmp_path / "DRIVE/test/2nd_manual").mkdir()
    gif.save(tmp_path / "DRIVE/test/2nd_manual/01_manual2.gif")
    found = cases(DATASETS["drive"](tmp_path / "DRIVE"))
    assert {name: s.split for name, s in found.items()} == {"21_training": "train", "01_test": "test"}
    np.testing.assert_array_equal(found["21_training"].rated[:, 0], [True, False])
    np.testing.assert_array_equal(found["01_test"].masks[:, 0], [vessels, vessels])
    png(tmp_path / "DRIVE/test/1st_manual/01_manual1.png", picture(5))
    with pytest.raises(InputError, match="expected black and white"):
        cases(DATASETS["drive"](tmp_path / "DRIVE"))


# --- the command --------------------------------------------------------------------------------


def test_import_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, masks = lidc(tmp_path / "lidc.npz")
    out = tmp_path / "out"
    assert call(["import", "lidc", str(tmp_path / "lidc.npz"), str(out)]) == 0
    data = open_dataset(out)
    np.testing.assert_array_equal(data[1].masks[:, 0], masks[1])
    assert call(["check", str(out)]) == 0
    assert call(["import", "list"]) == 0
    capsys.readouterr()
    for arguments, says in (
        (["lidc", str(tmp_path / "lidc.npz"), str(out)], "exists already"),
        (["lidc", str(tmp_path / "gone.npz"), str(tmp_path / "o")], "does not exist"),
        (["lidcc", str(tmp_path), str(tmp_path / "o")], "unknown layout 'lidcc'; known: "),
        (["lidc", str(tmp_path), str(tmp_path / "o"), "--set", "1"], "lidc has no option 'set'"),
        (["drive", str(tmp_path), str(tmp_path / "o")], "neither 'training' nor 'test'"),
        (["drishti", str(tmp_path), str(tmp_path / "o"), "-o", "seed=x"], "expects a whole number"),
        (["drive", str(tmp_path)], "import needs a layout, a source and a place to write to"),
    ):
        assert call(["import", *arguments]) == 2
        assert says in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lidc.npz", "out"]


# --- the real files -----------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize(("key", "crowd", "images"), [("1", 0.849, 35), ("6", 0.851, 35)])
def test_bu_bil_majority_vote_reaches_the_known_figure(key: str, crowd: float, images: int) -> None:
    found = cases(DATASETS["bu-bil"](DATA / "bu_bil", set=key))
    assert len(found) == images
    scores = [
        dice(2 * s.masks[:, 0].sum(0) > 7, s.reference[0]) for s in found.values() if s.reference is not None
    ]
    assert np.mean(scores) == pytest.approx(crowd, abs=0.0006)


def pairs(sample: MultiRaterSample) -> float:
    masks = sample.masks[sample.rated[:, 0], 0]
    return float(np.mean([dice(a, b) for i, a in enumerate(masks) for b in masks[i + 1 :]]))


@needs_data
def test_lidc_and_drive_reach_their_known_agreement() -> None:
    lidc_found = cases(DATASETS["lidc"](DATA / "lidc"))
    assert (len(lidc_found), len({s.group for s in lidc_found.values()})) == (642, 399)
    assert np.mean([pairs(s) for s in lidc_found.values()]) == pytest.approx(0.82, abs=0.006)
    drive_found = cases(DATASETS["drive"](DATA / "drive"))
    twice = [s for s in drive_found.values() if s.rated.all()]
    assert (len(drive_found), len(twice)) == (40, 20)
    assert np.mean([pairs(s) for s in twice]) == pytest.approx(0.79, abs=0.006)


@needs_data
def test_drishti_is_all_there() -> None:
    source = DATASETS["drishti"](DATA / "drishti_gs")
    splits = []
    for sample in source.samples:
        splits.append(sample.split)
        assert sample.reference is not None
        assert sample.reference[0].sum() > sample.reference[1].sum() > 0
    assert (splits.count("train"), splits.count("test")) == (50, 51)
