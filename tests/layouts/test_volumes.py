"""nnU-Net folders and 3D Slicer segmentations; the latter written by SimpleITK."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import blob, cases, nifti, picture, png

from mrprism.core.errors import InputError
from mrprism.images.nrrd import read_nrrd
from mrprism.layouts import DATASETS

RNG = np.random.default_rng(0)

# --- nnU-Net ------------------------------------------------------------------------------------


def nnunet(root: Path, labels: dict[str, Any], ending: str = ".nii.gz", **more: Any) -> None:
    root.mkdir(parents=True, exist_ok=True)
    document = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": 2,
        "file_ending": ending,
        **more,
    }
    (root / "dataset.json").write_text(json.dumps(document))


def test_nnunet_with_a_folder_for_each_rater(tmp_path: Path) -> None:
    root = tmp_path / "Dataset007_Liver"
    nnunet(root, {"background": 0, "liver": [1, 2], "lesion": 2}, regions_class_order=[1, 2])
    affine = np.diag([0.8, 0.8, 2.0, 1])
    labels = RNG.integers(0, 3, (6, 5, 4)).astype(np.uint8)
    nifti(root / "imagesTr/liver_1_0000.nii.gz", RNG.normal(0, 9, (6, 5, 4)).astype(np.float32), affine)
    nifti(root / "labelsTr_ann/liver_1.nii.gz", labels, affine)
    nifti(root / "labelsTr_bob/liver_1.nii.gz", labels * 0, affine)
    nifti(root / "labelsTr/liver_1.nii.gz", labels, affine)
    source = DATASETS["nnunet"](root)
    (found,) = cases(source).values()
    assert (source.task.structures, source.channels) == (("liver", "lesion"), ("CT",))
    np.testing.assert_array_equal(found.masks[0, 0].T, labels > 0)
    np.testing.assert_array_equal(found.masks[0, 1].T, labels == 2)
    assert found.rated.all()
    assert found.reference is not None
    nifti(root / "labelsTr_bob/liver_1.nii.gz", labels, np.eye(4))
    with pytest.raises(InputError, match="lies in another place"):
        cases(DATASETS["nnunet"](root))


def test_nnunet_with_a_data_set_for_each_rater(tmp_path: Path) -> None:
    drawn = {who: RNG.integers(0, 2, (6, 5, 4)).astype(np.uint8) for who in ("ann", "bob")}
    image = RNG.normal(0, 9, (6, 5, 4)).astype(np.float32)
    for number, who in enumerate(drawn):
        folder = tmp_path / f"Dataset50{number}_{who}"
        nnunet(folder, {"background": 0, "liver": 1}, name="Liver")
        for case in ("a", "b")[: 2 - number]:
            nifti(folder / f"imagesTr/{case}_0000.nii.gz", image)
            nifti(folder / f"labelsTr/{case}.nii.gz", drawn[who])
    source = DATASETS["nnunet"](tmp_path)
    assert (source.name, source.task.raters) == (tmp_path.name, ("ann", "bob"))
    found = cases(source)
    np.testing.assert_array_equal(found["a"].masks[:, 0], [mask.T for mask in drawn.values()])
    np.testing.assert_array_equal(found["b"].rated, [[True], [False]])
    assert DATASETS["nnunet"](tmp_path, rater="(a|b)").task.raters == ("a", "b")
    with pytest.raises(InputError, match=r"finds no rater in .*Dataset501_bob'"):
        DATASETS["nnunet"](tmp_path, rater="(ann)")
    with pytest.raises(InputError, match=r"Dataset500_ann' and .*Dataset501_bob' are both of rater ''"):
        DATASETS["nnunet"](tmp_path, rater="()")
    nnunet(tmp_path / "Dataset501_bob", {"background": 0, "liver": 1, "tumour": 2})
    with pytest.raises(
        InputError, match=r"501_bob/dataset.json' has the labels .*500_ann.*expected the same"
    ):
        DATASETS["nnunet"](tmp_path)


def test_nnunet_with_raters_in_names(tmp_path: Path) -> None:
    nnunet(tmp_path, {"background": 0, "cell": 1}, ".png", channel_names={"0": "red", "1": "green"})
    for case, rater in (("a", "ann"), ("a", "bob"), ("b", "bob")):
        for channel in range(2):
            png(tmp_path / f"imagesTr/{case}_{rater}_{channel:04d}.png", picture(channel))
        png(tmp_path / f"labelsTr/{case}_{rater}.png", blob(len(case + rater)).astype(np.uint8))
    found = cases(DATASETS["nnunet"](tmp_path, rater="_(ann|bob)$"))
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["b"].rated, [[False], [True]])
    np.testing.assert_array_equal(found["a"].image[1], picture(1) / np.float32(255))
    with pytest.raises(InputError, match=r"finds no rater in"):
        DATASETS["nnunet"](tmp_path, rater="_(ann)$")
    with pytest.raises(InputError, match="has no folders 'labelsTr_RATER'"):
        DATASETS["nnunet"](tmp_path)


@pytest.mark.parametrize(
    ("labels", "more", "says"),
    [
        ({"background": 0, "a": 1, "b": 3}, {}, r"has the labels \[1, 3\]; expected 1, 2, 3"),
        ({"a": 1}, {}, "must name the label 0 'background'"),
        ({"background": 0, "a": "x"}, {}, "'a' of 'labels' of .* is 'x'; expected a number"),
        ({"background": 0, "a": 1}, {"dataset": {}}, "lists its files itself"),
        ({"background": 0, "a": 1, "ignore": 2}, {}, "marks pixels to ignore"),
        ({"background": 0, "a": 1}, {}, "holds the values 2; expected 0, 1"),
    ],
)
def test_nnunet_faults(tmp_path: Path, labels: dict[str, Any], more: dict[str, Any], says: str) -> None:
    nnunet(tmp_path, labels, **more)
    nifti(tmp_path / "imagesTr/x_0000.nii.gz", picture(0, (4, 5, 6)))
    nifti(tmp_path / "labelsTr_ann/x.nii.gz", np.full((4, 5, 6), 2, np.uint8))
    with pytest.raises(InputError, match=says):
        cases(DATASETS["nnunet"](tmp_path))


# --- 3D Slicer ----------------------------------------------------------------------------------

SPACING, ORIGIN = (0.7, 0.8, 2.5), (-20.0, 13.0, 4.0)
DIRECTION = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def slicer_image(path: Path) -> np.ndarray:
    itk = pytest.importorskip("SimpleITK")
    path.parent.mkdir(parents=True, exist_ok=True)
    array = RNG.integers(-1000, 1000, (4, 9, 8)).astype(np.int16)
    image = itk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(DIRECTION)
    itk.WriteImage(image, str(path), useCompression=True)
    return array


def slicer_segmentation(
    path: Path,
    layers: np.ndarray,
    corner: tuple[float, float, float],
    facts: dict[str, str],
    spacing: tuple[float, ...] = SPACING,
) -> None:
    """A labelmap (layer, z, y, x) cut from the image at voxel (x, y, z)."""
    itk = pytest.importorskip("SimpleITK")
    path.parent.mkdir(parents=True, exist_ok=True)
    image = itk.GetImageFromArray(
        layers[0] if len(layers) == 1 else np.moveaxis(layers, 0, -1), len(layers) > 1
    )
    step = np.array(DIRECTION).reshape(3, 3) @ (np.array(corner) * SPACING)
    image.SetSpacing(spacing)
    image.SetOrigin((np.array(ORIGIN) + step).tolist())
    image.SetDirection(DIRECTION)
    for key, value in facts.items():
        image.SetMetaData(key, value)
    itk.WriteImage(image, str(path), useCompression=True)


def named(*segments: tuple[str, int, int]) -> dict[str, str]:
    facts = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    for i, (name, layer, value) in enumerate(segments):
        facts |= {
            f"Segment{i}_ID": f"id{i}",
            f"Segment{i}_Name": name,
            f"Segment{i}_Layer": str(layer),
            f"Segment{i}_LabelValue": str(value),
        }
    return facts


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz"])
def test_slicer(tmp_path: Path, ending: str) -> None:
    array = slicer_image(tmp_path / f"images/c.{ending}")
    one = RNG.integers(0, 3, (1, 2, 4, 3)).astype(np.uint8)
    slicer_segmentation(tmp_path / "ann/c.seg.nrrd", one, (2, 3, 1), named(("organ", 0, 1), ("cyst", 0, 2)))
    two = RNG.integers(0, 2, (2, 2, 4, 3)).astype(np.uint8)
    slicer_segmentation(tmp_path / "bob/c.seg.nrrd", two, (0, 0, 0), named(("cyst", 1, 1), ("organ", 0, 1)))
    nothing = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    slicer_segmentation(tmp_path / "cy/c.seg.nrrd", np.zeros((1, 1, 1, 1), np.uint8), (0, 0, 0), nothing)
    source = DATASETS["slicer"](tmp_path, window="-1000:1000")
    (found,) = cases(source).values()
    assert source.task.structures == ("organ", "cyst")
    np.testing.assert_allclose(found.image[0], (array + 1000) / 2000, atol=1e-6)
    np.testing.assert_allclose(found.spacing_mm, SPACING[::-1], rtol=1e-5)
    want = np.zeros((3, 2, 4, 9, 8), bool)
    for c in (0, 1):
        want[0, c, 1:3, 3:7, 2:5] = one[0] == c + 1
        want[1, c, 0:2, 0:4, 0:3] = two[c] == 1
    np.testing.assert_array_equal(found.masks, want)
    assert found.rated.all()


def test_slicer_faults(tmp_path: Path) -> None:
    slicer_image(tmp_path / "images/c.nii.gz")
    file = tmp_path / "ann/c.seg.nrrd"
    mask = np.ones((1, 2, 4, 3), np.uint8)

    def refused(says: str) -> None:
        with pytest.raises(InputError, match=says):
            cases(DATASETS["slicer"](tmp_path))

    slicer_segmentation(file, mask, (2.4, 3, 1), named(("organ", 0, 1)))
    refused("lies 0.40 voxels beside the grid")
    slicer_segmentation(file, mask, (6, 3, 1), named(("organ", 0, 1)))
    refused("segment 'organ' of .* reaches outside its image")
    slicer_segmentation(file, mask, (2, 3, 1), named(("organ", 0, 1)), (0.7, 0.7, 2.5))
    refused("is not on the grid of its image .* spacing")
    slicer_segmentation(file, mask, (2, 3, 1), named(("organ", 3, 1)))
    refused("lies in layer 3 of 1")
    slicer_segmentation(file, mask, (2, 3, 1), named(("organ", 0, 1), ("organ", 0, 2)))
    refused("two segments are named 'organ'")
    kept = named(("organ", 0, 1)) | {"Segmentation_MasterRepresentation": "Closed surface"}
    slicer_segmentation(file, mask, (2, 3, 1), kept)
    refused("is kept as 'Closed surface'")
    file.rename(tmp_path / "ann/d.seg.nrrd")
    refused("has no image 'd' in 'images'")


def test_broken_nrrd(tmp_path: Path) -> None:
    slicer_image(tmp_path / "images/c.nrrd")
    whole = (tmp_path / "images/c.nrrd").read_bytes()
    path = tmp_path / "x.nrrd"

    def refused(content: bytes, says: str) -> None:
        path.write_bytes(content)
        with pytest.raises(InputError, match=says):
            read_nrrd(path)

    refused(b"", "not an NRRD file")
    refused(whole[:200], "not an NRRD file|is broken|cut short")
    refused(whole[:-20], "is broken|cut short")
    refused(whole.replace(b"gzip", b"bzip2"), "is broken")
    refused(whole.replace(b"gzip", b"hex"), "no hexadecimal digits")
    refused(whole.replace(b"gzip", b"zstd"), "has the encoding 'zstd'")
    refused(whole.replace(b"sizes: 8 9 4", b"sizes: 8 9 5"), "cut short")
    refused(whole.replace(b"sizes: 8 9 4", b"sizes: 8 9 3"), "holds more than its header says")
    refused(whole.replace(b"sizes: 8 9 4", b"sizes: 99999 99999 4"), "more than MRPRISM_MAX_PIXELS")
    refused(whole.replace(b"sizes: 8 9 4", b"sizes: 8 9"), "has the sizes")
    refused(whole.replace(b"left-posterior-superior", b"scanner-xyz"), "lies in the space 'scanner-xyz'")
    refused(whole.replace(b"encoding:", b"data file: other.raw\nencoding:"), "which is not there")
    refused(whole.replace(b"type: short", b"type: block"), "is broken")
