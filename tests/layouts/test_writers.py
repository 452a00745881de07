"""What is exported and read back by this package's own importers is the same; the rest is read by others."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset, FileSample, open_dataset, write_dataset
from mrprism.fusion import FUSIONS
from mrprism.images import Geometry, read_labels, read_mask, read_values, write_image
from mrprism.layouts import DATASETS
from mrprism.layouts.writers import TARGETS, export_dataset
from mrprism.layouts.writers.coco import run_lengths

needs_dicom = pytest.mark.skipif(find_spec("highdicom") is None, reason="needs the extra 'dicom'")
TASK = Task(1, ("disc", "cup"), ("ann", "bob", "cy"))
TURN = np.array([[-0.8, 0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
AFFINE = np.eye(4)
AFFINE[:3, :3], AFFINE[:3, 3] = TURN * [0.7, 0.8, 2.5], [30, -20, 7]


def cases(*space: int, geometry: Geometry | None = None) -> list[MultiRaterSample]:
    """Boxes within boxes; bob never did the second case, cy saw no cup in the third."""
    made: list[MultiRaterSample] = []
    for number in range(3):
        rng = np.random.default_rng(number)
        masks = np.zeros((3, 2, *space), bool)
        for r in range(3):
            low = rng.integers(1, 3, len(space))
            outer = tuple(slice(int(n), int(n) + 5) for n in low)
            inner = tuple(slice(int(n) + 1, int(n) + 3 + r % 2) for n in low)
            masks[r, 0][outer], masks[r, 1][inner] = True, True
        rated = np.ones((3, 2), bool)
        if number == 1:
            masks[1], rated[1] = False, False
        if number == 2:
            masks[2, 1] = False
        image = np.round(rng.random((1, *space)) * 255).astype(np.float32) / 255
        spacing = None if geometry is None else tuple(float(s) for s in geometry.spacing[::-1])
        made.append(FileSample(f"case{number}", image, masks, rated, spacing_mm=spacing, geometry=geometry))
    return made


def flat() -> Dataset:
    return Dataset.from_samples("boxes", TASK, cases(9, 11))


def volumes() -> Dataset:
    return Dataset.from_samples("boxes", TASK, cases(9, 10, 11, geometry=Geometry(AFFINE, (11, 10, 9))))


def right_handed() -> Dataset:
    """DICOM orders slices by where they lie, which is the order of the array only then."""
    return Dataset.from_samples(
        "boxes", TASK, cases(9, 10, 11, geometry=Geometry(AFFINE * [1, 1, -1, 1], (11, 10, 9)))
    )


def incomplete_volumes() -> Dataset:
    return incomplete(cases(9, 10, 11, geometry=Geometry(AFFINE * [1, 1, -1, 1], (11, 10, 9))))


def incomplete(made: list[MultiRaterSample] | None = None) -> Dataset:
    first, *rest = made or cases(9, 11)
    masks, rated = first.masks.copy(), first.rated.copy()
    masks[0, 1], rated[0, 1] = False, False
    return Dataset.from_samples("boxes", TASK, [replace(first, masks=masks, rated=rated), *rest])


def same(dataset: Dataset, kind: str, folder: Path, **options: str) -> None:
    """The same raters, structures, masks, absences and positions come back."""
    source = DATASETS[kind](folder, **options)
    found = {sample.name: sample for sample in source.samples}
    assert set(found) == set(dataset.names)
    assert set(source.task.raters) == set(dataset.task.raters)
    assert set(source.task.structures) == set(dataset.task.structures)
    raters = [source.task.raters.index(rater) for rater in dataset.task.raters]
    structures = [source.task.structures.index(name) for name in dataset.task.structures]
    for sample in dataset:
        back = found[sample.name]
        np.testing.assert_array_equal(back.masks[raters][:, structures], sample.masks)
        np.testing.assert_array_equal(back.rated[raters][:, structures], sample.rated)
        lies = getattr(sample, "geometry", None)
        if lies is not None:
            assert isinstance(back, FileSample)
            assert back.geometry is not None
            np.testing.assert_allclose(back.geometry.affine, lies.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("target", "make", "kind", "inside"),
    [
        ("nnunet", flat, "nnunet", ""),
        ("nnunet", volumes, "nnunet", ""),
        ("nifti", flat, "folder", ""),
        ("nifti", volumes, "folder", ""),
        ("nifti", incomplete, "folder", ""),
        ("png", flat, "folder", ""),
        ("png", incomplete, "folder", ""),
        ("coco", flat, "coco", "coco"),
        ("tiff", flat, "folder", ""),
        ("tiff", incomplete, "folder", ""),
        ("seg-nrrd", volumes, "slicer", ""),
        pytest.param("dicom-seg", right_handed, "dicom-seg", "", marks=needs_dicom),
        pytest.param("dicom-seg", incomplete_volumes, "dicom-seg", "", marks=needs_dicom),
    ],
)
def test_round_trip(target, make, kind, inside, tmp_path):
    dataset = make()
    assert export_dataset(dataset, target, tmp_path / "out").cases == 3
    same(dataset, kind, tmp_path / "out" / inside)


@pytest.mark.parametrize("make", [volumes, incomplete])
def test_bids_comes_back_with_the_images_of_the_raw_data_set(make, tmp_path):
    dataset = make()
    export_dataset(dataset, "bids", tmp_path / "derivative")
    for sample in dataset:
        path = tmp_path / f"raw/sub-{sample.name}/anat/sub-{sample.name}_T1w.nii.gz"
        write_image(path, sample.image, like=sample.geometry)
    same(dataset, "bids", tmp_path / "derivative", images=str(tmp_path / "raw"))


@pytest.mark.parametrize("target", [target for target in TARGETS if target not in ("seg-nrrd", "dicom-seg")])
def test_the_manifest_lists_every_file_with_its_hash(target, tmp_path):
    export_dataset(flat(), target, tmp_path / "out")
    about = json.loads((tmp_path / "out/manifest.json").read_text())
    files = {p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*.*")}
    files.pop("manifest.json")
    assert about["sha256"] == {k: hashlib.sha256(p.read_bytes()).hexdigest() for k, p in files.items()}
    assert about["settings"] == {"to": target, "raters": "each", "soft": False}
    assert not list(tmp_path.glob(".*")), "nothing unfinished stays behind"


def test_a_fusion_is_what_nnunet_trains_on(tmp_path):
    export_dataset(flat(), "nnunet", tmp_path / "out", raters="majority")
    document = json.loads((tmp_path / "out/dataset.json").read_text())
    for sample in flat():
        labels = read_labels(tmp_path / f"out/labelsTr/{sample.name}.png").array
        fused = FUSIONS["majority"](sample.masks, sample.rated).probability > 0.5
        for c, structure in enumerate(TASK.structures):
            np.testing.assert_array_equal(np.isin(labels, document["labels"][structure]), fused[c])
    # painting the regions in this order gives nested structures back
    order = [name for name in document["labels"] if name != "background"]
    for name, value in zip(order, document["regions_class_order"], strict=True):
        assert value in document["labels"][name]
    assert order == ["disc", "cup"]


def test_soft_labels_beside_the_consensus(tmp_path):
    export_dataset(flat(), "nnunet", tmp_path / "out", raters="soft-vote", soft=True)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["settings"] == {"to": "nnunet", "raters": "soft-vote", "soft": True}
    for sample in flat():
        fused = FUSIONS["soft-vote"](sample.masks, sample.rated).probability
        for c, structure in enumerate(TASK.structures):
            name = f"softTr/{sample.name}_{structure}.png"
            np.testing.assert_allclose(
                read_values(tmp_path / "out" / name).array / 65535, fused[c], atol=1e-5
            )
            assert name in manifest["sha256"]
        assert (tmp_path / f"out/labelsTr/{sample.name}.png").is_file()
    for target, raters in (("png", "soft-vote"), ("nnunet", "each")):
        with pytest.raises(InputError, match="soft labels are for nnunet with a fusion"):
            export_dataset(flat(), target, tmp_path / "other", raters=raters, soft=True)


def test_structures_that_do_not_overlap_keep_plain_labels(tmp_path):
    apart = [replace(s, masks=s.masks & ~np.roll(s.masks, 1, 1)) for s in cases(9, 11)]
    export_dataset(Dataset.from_samples("apart", TASK, apart), "nnunet", tmp_path / "out")
    document = json.loads((tmp_path / "out/dataset.json").read_text())
    assert sorted(document["labels"].values()) == [0, 1, 2]
    assert "regions_class_order" not in document


def test_a_fixed_split_is_handed_on_to_nnunet(tmp_path):
    split = [replace(s, split=to) for s, to in zip(cases(9, 11), ("train", "val", "test"), strict=True)]
    export_dataset(Dataset.from_samples("boxes", TASK, split), "nnunet", tmp_path / "out")
    folds = json.loads((tmp_path / "out/splits_final.json").read_text())
    assert folds == [{"train": ["case0"], "val": ["case1"]}]


def test_bids_names_and_masks(tmp_path):
    export_dataset(volumes(), "bids", tmp_path / "out")
    drawn = sorted(p.name for p in (tmp_path / "out/sub-case1/anat").glob("*.nii.gz"))
    assert drawn == [
        f"sub-case1_label-{s}_desc-{r}_mask.nii.gz" for s in ("cup", "disc") for r in ("ann", "cy")
    ]
    mask = read_mask(tmp_path / "out/sub-case1/anat" / drawn[2])
    np.testing.assert_array_equal(mask.array, volumes()["case1"].masks[0, 0])
    side = json.loads((tmp_path / "out/sub-case1/anat" / drawn[2].replace("nii.gz", "json")).read_text())
    assert (side["Rater"], side["Manual"]) == ("ann", True)


def test_seg_nrrd_is_read_by_itk(tmp_path):
    itk = pytest.importorskip("SimpleITK")
    export_dataset(volumes(), "seg-nrrd", tmp_path / "out")
    read = itk.ReadImage(str(tmp_path / "out/ann/case0.seg.nrrd"))
    image = itk.ReadImage(str(tmp_path / "out/images/case0.nii.gz"))
    array = itk.GetArrayFromImage(read)  # z, y, x, layer
    np.testing.assert_array_equal(np.moveaxis(array, -1, 0), volumes()["case0"].masks[0])
    np.testing.assert_allclose(read.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(read.GetSpacing(), image.GetSpacing(), atol=1e-4)
    np.testing.assert_allclose(read.GetDirection(), image.GetDirection(), atol=1e-4)


def test_images_are_handed_on_as_they_are(tmp_path):
    write_dataset(cases(9, 11), tmp_path / "data", name="boxes", task=TASK)
    export_dataset(open_dataset(tmp_path / "data"), "coco", tmp_path / "out")
    copy, original = (tmp_path / p / "images/case0.png" for p in ("out/coco", "data"))
    assert copy.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("target", ["png", "coco", "nnunet"])
def test_names_of_every_script_come_back(target, tmp_path):
    names = ("Ängström", "фото", "田中")
    task = replace(TASK, raters=names)
    given = [
        replace(case, name=f"übung{n}", rated=np.ones((3, 2), bool)) for n, case in enumerate(cases(9, 11))
    ]
    export_dataset(Dataset.from_samples("boxes", task, given), target, tmp_path / "out")
    kind, folder = {"png": ("folder", ""), "coco": ("coco", "coco"), "nnunet": ("nnunet", "")}[target]
    back = DATASETS[kind](tmp_path / "out" / folder)
    assert set(back.task.raters) == set(names)
    assert {sample.name for sample in back.samples} == {"übung0", "übung1", "übung2"}


def test_what_has_no_place_is_named(tmp_path, capsys):
    given = [replace(case, reference=case.masks[0], group="p", split="test") for case in cases(9, 11)]
    data = Dataset.from_samples("boxes", TASK, given)
    assert export_dataset(data, "coco", tmp_path / "coco").left_out == ("reference", "split", "patients")
    assert export_dataset(data, "png", tmp_path / "png").left_out == ("split", "patients")
    assert export_dataset(data, "nnunet", tmp_path / "nnunet").left_out == ("patients",)
    assert export_dataset(flat(), "coco", tmp_path / "plain").left_out == ()
    write_dataset(given, tmp_path / "boxes", name="boxes", task=TASK)
    assert call(["export", str(tmp_path / "boxes"), "--to", "png", "--out", str(tmp_path / "again")]) == 0
    assert "left out, as png has no place for it: split, patients" in capsys.readouterr().out


def test_run_lengths_by_hand():
    assert run_lengths(np.array([1, 1, 0, 0, 0, 1], bool)) == [0, 2, 3, 1]
    assert run_lengths(np.array([0, 1], bool)) == [1, 1]
    assert run_lengths(np.zeros(3, bool)) == [3]


@pytest.mark.parametrize(
    ("make", "target", "raters", "says"),
    [
        (flat, "zip", "each", "unknown target 'zip'; known: nnunet, bids"),
        (flat, "png", "oracle", "unknown raters 'oracle'; known: each, soft-vote"),
        (volumes, "png", "each", "case 'case0' is a volume, which png cannot hold"),
        (volumes, "coco", "each", "case 'case0' is a volume, which coco cannot hold"),
        (flat, "seg-nrrd", "each", "case 'case0' is not a volume"),
        (incomplete, "coco", "each", "'ann' did not do 'cup' of case 'case0' but did others"),
        (incomplete, "nnunet", "each", "'ann' did not do 'cup' of case 'case0' but did others"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(make, target, raters, says, tmp_path):
    with pytest.raises(InputError, match=re.escape(says)):
        export_dataset(make(), target, tmp_path / "out", raters=raters)
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    data = write_dataset(cases(9, 11), tmp_path / "data", name="boxes", task=TASK)
    out = str(tmp_path / "out")
    assert call(["export", str(data), "--to", "coco", "--out", out, "--raters", "staple", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["raters"] == ["staple"]
    assert call(["export", str(data), "--to", "coco", "--out", out]) == 2
    assert "exists already" in capsys.readouterr().err
    assert call(["export", str(data), "--to", "paint", "--out", out]) == 2
    assert capsys.readouterr().err == (
        "mrprism: unknown target 'paint'; known: nnunet, bids, nifti, png, tiff, seg-nrrd, coco, dicom-seg, onnx, hf\n"
    )


@pytest.mark.parametrize("target", ["png", "coco"])
def test_a_turned_picture_is_handed_on_as_it_is_shown(tmp_path: Path, target: str) -> None:
    """Masks lie on what viewers show; other tools may not turn the picture."""
    import json

    from PIL import Image as Pillow

    root = tmp_path / "in"
    root.mkdir()
    shown = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
    exif = Pillow.Exif()
    exif[274] = 6
    Pillow.fromarray(np.rot90(shown, 1).copy()).save(root / "a.png", exif=exif)
    mask = np.zeros(shown.shape, np.uint8)
    mask[2:7, 3:15] = 255
    Pillow.fromarray(mask).save(root / "m.png")
    masks = {rater: {"cup": "m.png"} for rater in ("ann", "bob")}
    document = {
        "format": "mrprism-dataset/1", "name": "d", "channels": ["grey"], "structures": ["cup"],
        "raters": ["ann", "bob"], "cases": [{"name": "a", "image": "a.png", "masks": masks}],
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(document))
    assert call(["export", str(root), "--to", target, "--out", str(tmp_path / "out")]) == 0
    written = next(path for path in (tmp_path / "out").rglob("a.png") if "images" in path.parts)
    np.testing.assert_array_equal(np.asarray(Pillow.open(written)), shown)
