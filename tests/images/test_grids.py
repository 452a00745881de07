"""Whoever lays arrays over one another compares grids first; the same voxels in another order are the same."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrprism.agreement.candidate import candidate_folder
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.check import check_dataset
from mrprism.datasets.dataset import FileSample
from mrprism.datasets.manifest import Case, Manifest
from mrprism.datasets.write import write_manifest
from mrprism.fusion.files import fuse_files
from mrprism.images import Geometry, read_labels, read_mask
from mrprism.images.grids import in_order_of, reordering

itk = pytest.importorskip("SimpleITK")
MASK = np.zeros((6, 7, 8), np.uint8)  # z, y, x
MASK[1:4, 2:6, 1:3] = MASK[1, 2, 1:6] = 1
ORIGIN, SPACING = (-30.0, 12.0, 5.0), (0.7, 0.9, 2.5)


def volume(origin: tuple[float, ...] = ORIGIN, array: np.ndarray = MASK) -> object:
    image = itk.GetImageFromArray(array)
    image.SetOrigin(origin)
    image.SetSpacing(SPACING)
    return image


def save(path: Path, image: object) -> Path:
    itk.WriteImage(image, str(path))
    return path


FORMATS = ("nii.gz", "nii", "nrrd", "mha", "mhd", "nhdr")
METHODS = ("majority", "staple", "shape-average")


@pytest.mark.parametrize("ours", FORMATS)
def test_the_same_voxels_count_as_equal_in_every_format(tmp_path: Path, ours: str) -> None:
    first = save(tmp_path / f"first.{ours}", volume())
    ways = ["".join(w) for w in itertools.product("LR", "AP", "SI")] + ["PIR", "SRA", "ASL"]
    for number, way in enumerate(ways):
        ending = FORMATS[number % len(FORMATS)]
        other = read_mask(save(tmp_path / f"{way}.{ending}", itk.DICOMOrient(volume(), way)))
        turned = in_order_of(other, read_mask(first).geometry)
        np.testing.assert_array_equal(turned.array, MASK)
        assert turned.geometry is not None
        assert read_mask(first).geometry.differs(turned.geometry) is None
        assert turned.spacing_mm == pytest.approx(SPACING[::-1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("one", "two"), [("nii.gz", "nrrd"), ("nrrd", "mha"), ("mha", "nii.gz"), ("nii.gz", "nii.gz")]
)
def test_fusing_files(tmp_path: Path, method: str, one: str, two: str) -> None:
    a = save(tmp_path / f"a.{one}", volume())
    b = save(tmp_path / f"b.{two}", itk.DICOMOrient(volume(), "RPI"))
    found = fuse_files([a, b], method, tmp_path / "out")
    np.testing.assert_array_equal(read_mask(found.mask).array, MASK)
    for wrong in ((30.0, 12.0, 5.0), (-30.0, 12.0, 7.5)):
        c = save(tmp_path / f"c.{two}", volume(wrong))
        with pytest.raises(InputError, match=r"masks '.*a\..*' and '.*c\..*' lie on different grids: origin"):
            fuse_files([a, c], method, tmp_path / "not")
    mirrored = volume((25.0, 12.0, 5.0))
    mirrored.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="lie on different grids"):
        fuse_files([a, save(tmp_path / f"d.{two}", mirrored)], method, tmp_path / "not")
    assert not (tmp_path / "not").exists()


def test_the_result_has_the_place_of_the_first(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{name}.nrrd", volume()) for name in "ab"]
    found = fuse_files(files, "majority", tmp_path / "out")
    assert found.mask.name == "consensus.nii.gz"
    there, here = itk.ReadImage(str(found.mask)), volume()
    np.testing.assert_allclose(there.GetOrigin(), here.GetOrigin(), atol=1e-4)  # type: ignore[attr-defined]
    np.testing.assert_allclose(there.GetSpacing(), SPACING, atol=1e-4)


def test_spacing_is_compared_where_no_place_is_known(tmp_path: Path) -> None:
    head = "NRRD0005\ntype: uint8\ndimension: 3\nsizes: 8 7 6\nspacings: {}\nencoding: raw\n\n"
    for name, spacing in (("a", "1 1 2"), ("b", "1 1 3")):
        (tmp_path / f"{name}.nrrd").write_bytes(head.format(spacing).encode() + MASK.tobytes())
    with pytest.raises(InputError, match="spacing 2 × 1 × 1 mm against 3 × 1 × 1 mm"):
        fuse_files([tmp_path / "a.nrrd", tmp_path / "b.nrrd"], "majority", tmp_path / "out")


def test_a_candidate(tmp_path: Path) -> None:
    save(tmp_path / "case.nrrd", itk.DICOMOrient(volume(), "RAI"))
    lies = read_mask(save(tmp_path / "image.nii.gz", volume())).geometry
    sample = FileSample(
        "case",
        np.zeros((1, *MASK.shape), np.float32),
        MASK[None, None] > 0,
        np.ones((1, 1), bool),
        geometry=lies,
    )
    candidate = candidate_folder(tmp_path, ["case"], ["organ"])
    np.testing.assert_array_equal(candidate.on(sample)[0], MASK)
    save(tmp_path / "case.nrrd", volume((0, 0, 0)))
    with pytest.raises(InputError, match=r"case.nrrd' lies in another place than the readers' masks: origin"):
        candidate.on(sample)


def data_set(root: Path, image: object, masks: dict[str, object], **more: object) -> Path:
    root.mkdir()
    save(root / "image.nii.gz", image)
    for rater, mask in masks.items():
        save(root / f"{rater}.nrrd", mask)
    drawn = {rater: {"organ": f"{rater}.nrrd"} for rater in masks}
    case = Case(name="c", image="image.nii.gz", masks=drawn, **more)  # type: ignore[arg-type]
    manifest = Manifest(
        format="mrprism-dataset/1",
        name="d",
        channels=["ct"],
        structures=["organ"],
        raters=list(masks),
        cases=[case],
    )
    write_manifest(manifest, root)
    return root


def test_masks_are_turned_into_the_order_of_their_image(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 99, MASK.shape).astype(np.int16)
    masks = {"ann": volume(), "bob": itk.DICOMOrient(volume(), "ASR")}
    root = data_set(tmp_path / "d", volume(array=picture), masks)
    sample = open_dataset(root)[0]
    np.testing.assert_array_equal(sample.masks[:, 0], [MASK, MASK])


def test_two_spacings_for_one_case(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 99, MASK.shape).astype(np.int16)
    root = data_set(tmp_path / "d", volume(array=picture), {"ann": volume()}, spacing_mm=[1.0, 1.0, 1.0])
    sentence = (
        r"case 'c' has spacing_mm 1 × 1 × 1, its file '.*image.nii.gz' 2.5 × 0.9 × 0.7 mm; expected the same"
    )
    with pytest.raises(InputError, match=sentence):
        open_dataset(root)[0]
    assert any("has spacing_mm 1 × 1 × 1" in fault.sentence for fault in check_dataset(root).errors)


def test_size_and_values_are_both_told(tmp_path: Path) -> None:
    greys = np.arange(7 * 8 * 5, dtype=np.uint8).reshape(5, 7, 8)
    root = data_set(tmp_path / "d", volume(array=MASK.astype(np.int16)), {"ann": volume(array=greys)})
    told = [fault.sentence for fault in check_dataset(root).errors]
    assert any("has the size 5 × 7 × 8, its image" in sentence for sentence in told)
    assert any("has grey values 0, 1, 2" in sentence for sentence in told)
    with pytest.raises(InputError, match=r"has the size .* besides, .* has grey values"):
        open_dataset(root)[0]


def test_grids_that_no_turn_brings_together() -> None:
    lies = Geometry(np.diag([1.0, 1, 2, 1]), (4, 5, 6))
    for turn in (np.eye(4), np.diag([1.0, 1, 2.1, 1]), np.diag([0.0, 1, 1, 1])):
        assert reordering(Geometry(turn @ lies.affine, (4, 5, 6)), lies) is None
    far = np.diag([-1.0, 1, 2, 1])
    assert reordering(Geometry(far, (4, 5, 6)), lies) is None  # mirrored about its first voxel: elsewhere
    far[0, 3] = 3
    assert reordering(Geometry(far, (4, 5, 6)), lies) is not None


# --- NIfTI: one source for the size of a voxel ----------------------------------------------------


def nifti(path: Path, affine: np.ndarray, **header: object) -> Path:
    """A file whose header says what nibabel would not write."""
    nib.Nifti1Image(MASK.T.copy(), affine).to_filename(path)
    content = path.read_bytes()
    head = nib.Nifti1Header(content[:348])
    for key, value in header.items():
        head[key] = value
    path.write_bytes(head.binaryblock + content[348:])
    return path


def test_pixdim_and_sform_that_disagree(tmp_path: Path) -> None:
    image = nib.Nifti1Image(MASK.T.copy(), np.diag([0.5, 0.5, 2, 1]))
    image.header.set_zooms((1, 1, 1))
    image.to_filename(tmp_path / "a.nii.gz")
    sentence = r"gives two sizes for its voxels: 1 × 1 × 1 mm \(pixdim\) and 0.5 × 0.5 × 2 mm \(sform\)"
    with pytest.raises(InputError, match=sentence):
        read_mask(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=sentence):
        fuse_files([tmp_path / "a.nii.gz"] * 2, "majority", tmp_path / "out")


def test_rounded_pixdim_is_no_disagreement(tmp_path: Path) -> None:
    image = nib.Nifti1Image(MASK.T.copy(), np.diag([0.703125, 0.703125, 2, 1]))
    image.header.set_zooms((0.703, 0.703, 2))
    image.to_filename(tmp_path / "a.nii")
    assert read_mask(tmp_path / "a.nii").spacing_mm == pytest.approx((2, 0.703125, 0.703125))


@pytest.mark.parametrize(
    ("unit", "factor"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)]
)
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(MASK.T.copy(), np.diag([0.5, 0.5, 2, 1]))
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    file = read_mask(tmp_path / "a.nii")
    assert file.spacing_mm == pytest.approx((2 * factor, 0.5 * factor, 0.5 * factor))
    assert file.geometry is not None
    np.testing.assert_allclose(file.geometry.spacing, np.array([0.5, 0.5, 2]) * factor)
    found = fuse_files([tmp_path / "a.nii"] * 2, "majority", tmp_path / "out")
    again = read_mask(found.mask)  # written in millimetres
    assert again.spacing_mm == pytest.approx(file.spacing_mm)
    assert nib.load(found.mask).header.get_xyzt_units()[0] == "mm"


def test_without_a_position_pixdim_counts(tmp_path: Path) -> None:
    image = nib.Nifti1Image(MASK.T.copy(), None)
    image.header.set_zooms((0.5, 0.6, 2))
    image.to_filename(tmp_path / "a.nii")
    assert image.header["sform_code"] == image.header["qform_code"] == 0
    assert read_mask(tmp_path / "a.nii").spacing_mm == pytest.approx((2, 0.6, 0.5))


def test_negative_and_empty_pixdim(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", np.diag([0.5, 0.5, 2, 1]), pixdim=[1, -0.5, 0.5, 2, 0, 0, 0, 0])
    assert read_mask(tmp_path / "a.nii").spacing_mm == pytest.approx((2, 0.5, 0.5))
    nifti(tmp_path / "b.nii", np.diag([0.5, 0.5, 2, 1]), pixdim=[1, 0, 0, 0, 0, 0, 0, 0])
    assert read_mask(tmp_path / "b.nii").spacing_mm == pytest.approx((2, 0.5, 0.5))
    nifti(tmp_path / "c.nii", np.eye(4), pixdim=[1, -0.5, 0.5, 2, 0, 0, 0, 0], sform_code=0, qform_code=1)
    with pytest.raises(InputError, match="expected positive numbers"):
        read_mask(tmp_path / "c.nii")
    nifti(tmp_path / "d.nii", np.eye(4), srow_y=[0, 0, 0, 0])
    with pytest.raises(InputError, match="an axis has no length"):
        read_mask(tmp_path / "d.nii")


def test_qform_alone_and_qform_beside_sform(tmp_path: Path) -> None:
    turn = np.deg2rad(30)
    affine = np.eye(4)
    affine[:3, :3] = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    ) @ np.diag([0.5, 0.6, 2])
    image = nib.Nifti1Image(MASK.T.copy(), None)
    image.set_qform(affine, 1)
    image.to_filename(tmp_path / "q.nii")
    file = read_mask(tmp_path / "q.nii")
    assert file.geometry is not None
    np.testing.assert_allclose(file.geometry.affine, affine, atol=1e-6)
    assert file.notes == ()
    other = affine.copy()
    other[:3, 3] = 50, 0, 0
    image.set_sform(other, 2)
    image.to_filename(tmp_path / "s.nii")
    file = read_mask(tmp_path / "s.nii")
    assert file.geometry is not None
    np.testing.assert_allclose(file.geometry.affine, other, atol=1e-6)
    assert file.notes == ("its qform and its sform name different places; the sform is taken",)


# --- NIfTI masks as tools leave them --------------------------------------------------------------


def test_masks_that_are_almost_whole(tmp_path: Path) -> None:
    affine, drawn = np.diag([1.0, 1, 2, 1]), MASK.T.copy()

    def kept(dtype: type) -> nib.Nifti1Image:
        image = nib.Nifti1Image(drawn.astype(np.float64), affine)
        image.set_data_dtype(dtype)
        return image

    big = nib.Nifti1Header(endianness=">")
    big.set_data_dtype(np.int16)
    for number, image in enumerate(
        [
            kept(np.uint8),  # nibabel keeps 0 to 1 as 0 to 255 and a slope of 1/255
            kept(np.int16),
            nib.Nifti1Image((drawn * np.float32(0.9999999)).astype(np.float32), affine),
            nib.Nifti1Image(drawn + np.float32(1e-7), affine),
            nib.Nifti1Image(drawn.astype(np.int64), affine, dtype="int64"),
            nib.Nifti1Image(drawn[..., None], affine),
            nib.Nifti1Image(drawn[..., None, None], affine),
            nib.Nifti1Image(drawn.astype(">i2"), affine, big),
        ]
    ):
        path = tmp_path / f"{number}.nii.gz"
        image.to_filename(path)
        np.testing.assert_array_equal(read_mask(path).array, MASK)
        np.testing.assert_array_equal(read_labels(path).array, MASK)
        for method in ("majority", "shape-average"):
            found = fuse_files([path, path], method, tmp_path / f"{number}-{method}")
            np.testing.assert_array_equal(read_mask(found.mask).array, MASK)


@pytest.mark.parametrize("method", ["majority", "shape-average"])
@pytest.mark.parametrize("value", [0.9, 0.5, np.nan, np.inf])
def test_masks_that_are_not_whole(tmp_path: Path, value: float, method: str) -> None:
    soft = MASK.T.astype(np.float32)
    soft[soft > 0] = value
    nib.Nifti1Image(soft, np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"not whole numbers|not a whole number|NaN or infinite"):
        fuse_files([tmp_path / "a.nii"] * 2, method, tmp_path / "out")


def test_a_data_set_knows_its_grid_after_writing(tmp_path: Path) -> None:
    lies = read_mask(save(tmp_path / "a.mha", volume())).geometry
    sample = FileSample(
        "c", np.random.default_rng(0).random((1, *MASK.shape)).astype(np.float32), MASK[None, None] > 0,
        np.ones((1, 1), bool), spacing_mm=SPACING[::-1], geometry=lies,
    )  # fmt: skip
    samples: list[MultiRaterSample] = [sample]
    root = write_dataset(samples, tmp_path / "d", name="d", task=Task(1, ("organ",), ("ann",)))
    again = open_dataset(root)[0]
    assert isinstance(again, FileSample)
    assert again.geometry is not None
    assert lies is not None
    assert lies.differs(again.geometry) is None
