"""Values and the window laid over them are kept apart, from import to prediction."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset
from mrprism.datasets.manifest import load
from mrprism.images import read_image, read_values
from mrprism.learn.predict import load as load_run
from mrprism.learn.predict import predict_files
from mrprism.learn.train import train

WINDOW = (-160.0, 240.0)


def tree(root: Path, count: int = 4) -> Path:
    """A folder of CT volumes in Hounsfield units, outlined by two."""
    rng = np.random.default_rng(0)
    affine = np.diag([0.8, 0.8, 2.5, 1])
    for folder in ("images", "ann", "bob"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        volume = rng.integers(-1024, 1500, (24, 24, 4)).astype(np.int16)
        mask = np.zeros(volume.shape, np.uint8)
        mask[6:16, 6:16, 1:3] = 1
        volume[mask > 0] = 100
        nib.Nifti1Image(volume, affine).to_filename(root / f"images/s{number}.nii.gz")
        for rater in ("ann", "bob"):
            nib.Nifti1Image(np.roll(mask, rater == "bob", 0), affine).to_filename(
                root / rater / f"s{number}.nii.gz"
            )
    return root


def imported(tmp_path: Path, *options: str) -> Path:
    assert call(["import", "folder", str(tree(tmp_path / "raw")), str(tmp_path / "set"), *options]) == 0
    return tmp_path / "set"


@pytest.mark.parametrize("options", [("-o", "window=-160:240"), ()])
def test_import_keeps_hounsfield_units(tmp_path: Path, options: tuple[str, ...]) -> None:
    root = imported(tmp_path, *options)
    for number in range(4):
        kept = nib.load(root / f"images/s{number}.nii.gz")
        original = nib.load(tmp_path / f"raw/images/s{number}.nii.gz")
        assert kept.get_data_dtype() == np.int16
        np.testing.assert_array_equal(np.asarray(kept.dataobj), np.asarray(original.dataobj))
        np.testing.assert_allclose(kept.affine, original.affine)
    manifest, faults = load(root / "dataset.json")
    assert manifest is not None
    assert not faults
    assert manifest.window == (WINDOW if options else None)
    assert all(case.window is None for case in manifest.cases)
    window = WINDOW if options else None
    expected = read_image(tmp_path / "raw/images/s0.nii.gz", window=window).array
    np.testing.assert_array_equal(open_dataset(root)[0].picture, expected)


def test_written_anew_the_values_stay(tmp_path: Path) -> None:
    root = imported(tmp_path, "-o", "window=-160:240")
    assert call(["import", "dataset", str(root), str(tmp_path / "again")]) == 0
    first, second = (read_values(folder / "images/s0.nii.gz").array for folder in (root, tmp_path / "again"))
    np.testing.assert_array_equal(first, second)
    manifest, _ = load(tmp_path / "again/dataset.json")
    assert manifest is not None
    assert manifest.window == WINDOW


def test_planes_with_a_window(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    for folder in ("images", "ann"):
        (root / folder).mkdir(parents=True)
    deep = np.random.default_rng(0).integers(0, 4000, (20, 22)).astype(np.uint16)
    Pillow.fromarray(deep).save(root / "images/a.png")
    Pillow.fromarray((deep > 2000) * np.uint8(255)).save(root / "ann/a.png")
    assert call(["import", "folder", str(root), str(tmp_path / "set"), "-o", "window=0:4000"]) == 0
    np.testing.assert_array_equal(read_values(tmp_path / "set/images/a.png").array, deep)
    np.testing.assert_array_equal(
        open_dataset(tmp_path / "set")[0].picture,
        read_image(root / "images/a.png", window=(0.0, 4000.0)).array,
    )


def trained(data: Path, out: Path) -> Path:
    train(data, "fused-label", out, size=32, epochs=1, backbone="small", slices="z", device="cpu", quiet=True)
    return out


def test_a_run_remembers_its_window(tmp_path: Path) -> None:
    run = trained(imported(tmp_path, "-o", "window=-160:240"), tmp_path / "run")
    config = load_run(run).run.config
    assert (config.window, config.several_windows, config.shares) == (WINDOW, False, False)
    raw, kept = tmp_path / "raw/images/s0.nii.gz", tmp_path / "set/images/s0.nii.gz"
    for name, file in (("raw", raw), ("kept", kept)):
        predict_files(run, [file], tmp_path / name)
    one, two = (
        read_values(next((tmp_path / name / "s0").glob("probability_*"))).array for name in ("raw", "kept")
    )
    np.testing.assert_array_equal(one, two)  # the raw CT and the imported one are outlined alike

    picture = tmp_path / "photo.png"
    Pillow.fromarray(np.arange(24 * 24, dtype=np.uint8).reshape(24, 24)).save(picture)
    with pytest.raises(
        InputError, match="is of the pictures of 8 or 16 bits, the run was trained on images with values"
    ):
        predict_files(run, [picture], tmp_path / "no")
    scaled = tmp_path / "scaled.nii.gz"
    nib.Nifti1Image(np.random.default_rng(0).random((24, 24, 4)).astype(np.float32), np.eye(4)).to_filename(
        scaled
    )
    with pytest.raises(
        InputError, match=r"values from .* but the run was trained on values in the window -160 to 240"
    ):
        predict_files(run, [scaled], tmp_path / "no")
    assert not list((tmp_path / "no").glob("*")) if (tmp_path / "no").exists() else True
    predict_files(run, [scaled], tmp_path / "told", window=(0.0, 1.0))


def test_a_set_of_the_first_version_still_opens_and_its_run_knows(tmp_path: Path) -> None:
    """There, images were written as floats from 0 to 1 and each case had the window (0, 1)."""
    import json

    root = imported(tmp_path, "-o", "window=-160:240")
    document = json.loads((root / "dataset.json").read_text())
    del document["window"]
    for case in document["cases"]:
        file = root / case["image"]
        image = nib.load(file)
        floats = np.clip((np.asarray(image.dataobj, np.float32) + 160) / 400, 0, 1)
        nib.Nifti1Image(floats, image.affine).to_filename(file)
        case["window"] = [0.0, 1.0]
    (root / "dataset.json").write_text(json.dumps(document))
    run = trained(root, tmp_path / "run")
    assert load_run(run).run.config.window == (0.0, 1.0)
    with pytest.raises(InputError, match=r"holds values from -1024 to .* in the window 0 to 1"):
        predict_files(run, [tmp_path / "raw/images/s0.nii.gz"], tmp_path / "out")


def test_several_windows_are_none(tmp_path: Path) -> None:
    import json

    root = imported(tmp_path, "-o", "window=-160:240")
    document = json.loads((root / "dataset.json").read_text())
    document["cases"][0]["window"] = [-1000.0, 400.0]
    (root / "dataset.json").write_text(json.dumps(document))
    run = trained(root, tmp_path / "run")
    assert load_run(run).run.config.several_windows
    with pytest.raises(InputError, match="had different windows"):
        predict_files(run, [tmp_path / "raw/images/s0.nii.gz"], tmp_path / "out")


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        ((-1e308, 1e308), "cannot be used"),
        ((5.0, 5.0), "is in the wrong order"),
        ((7.0, 5.0), "is in the wrong order"),
        ((float("nan"), 1.0), "is not finite"),
        ((0.0, float("inf")), "is not finite"),
        ((1e9, 1e9 + 1), "cannot be used"),
        ((0.0, 1e-40), "cannot be used"),
    ],
)
def test_windows_that_are_none(tmp_path: Path, window: tuple[float, float], sentence: str) -> None:
    Pillow.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=sentence):
        read_image(tmp_path / "a.png", window=window)
