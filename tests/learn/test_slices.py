"""Volumes are cut as asked, learned from slice by slice, and put together again where they were."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from toy import SMALL, dataset, register
from volumes import SHAPE, TASK, geometry, volume_dataset, volumes

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import Dataset, FileSample, open_dataset
from mrprism.images import Geometry
from mrprism.images.planes import PlaneFile
from mrprism.images.slicing import PLANES, Slicing, cut_volume, most_drawn, slice_of
from mrprism.learn.batches import training_batches
from mrprism.learn.cases import Cases, SliceCases
from mrprism.learn.evaluate import evaluate
from mrprism.learn.predict import predict_files
from mrprism.learn.predictor import load
from mrprism.learn.run import Run
from mrprism.learn.train import train

pytestmark = pytest.mark.usefixtures("toys")


# --- cutting


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("lps", [True, False])
def test_a_cut_goes_back_where_it_was(plane: str, lps: bool) -> None:
    sample = dataclasses.replace(volumes(1)[0], geometry=geometry(lps=lps))
    cut = Slicing(plane).cut(sample)  # type: ignore[arg-type]
    masks = sample.masks
    assert np.array_equal(cut.back(cut.of(masks)), masks)
    assert np.shares_memory(cut.of(masks), masks)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_the_patient_s_planes_look_the_same_however_a_volume_is_stored(
    order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    """nibabel turns the volume to right-anterior-superior; from there the planes are read off by hand."""
    draw = np.random.default_rng(0)
    stored = draw.random((4, 5, 6)).astype(np.float32)  # x, y, z
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[list(order)] + draw.normal(0, 0.02, (3, 3))
    sample = FileSample(
        name="turned",
        image=stored.T[None],
        masks=np.zeros((1, 1, 6, 5, 4), bool),
        rated=np.ones((1, 1), bool),
        geometry=Geometry(affine, stored.shape),
    )
    ras = np.asarray(nibabel.as_closest_canonical(nibabel.Nifti1Image(stored, affine)).dataobj)
    expected = {
        "axial": ras.transpose(2, 1, 0)[:, ::-1, ::-1],  # up; front at the top; right on the left
        "coronal": ras.transpose(1, 2, 0)[::-1, ::-1, ::-1],  # from the front back; head at the top
        "sagittal": ras.transpose(0, 2, 1)[::-1, ::-1, ::-1],  # from the right; front on the left
    }
    for plane, view in expected.items():
        found = Slicing(plane).cut(sample).of(sample.image)[0]  # type: ignore[arg-type]
        assert np.array_equal(found, view), plane


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(InputError, match="is an image and not a volume"):
        Slicing("z").cut(dataset(1)[0])
    nowhere = dataclasses.replace(volumes(1)[0], geometry=None)
    assert Slicing("x").cut(nowhere).of(nowhere.image).shape == (1, 24, 7, 20)
    with pytest.raises(InputError, match=r"no position in the patient.*name the axis of its file, z, y or x"):
        Slicing("axial").cut(nowhere)


def test_neighbours_are_channels_and_ends_repeat() -> None:
    sample = volumes(1)[0]
    slicing = Slicing("z", neighbours=2)
    volume = cut_volume(sample, slicing.cut(sample))
    first = slice_of(volume, 0, slicing)
    assert first.image.shape == (5, 20, 24)
    assert slicing.channels(1) == 5
    for channel, z in enumerate((0, 0, 0, 1, 2)):
        assert np.array_equal(first.image[channel], sample.image[0, z])
    assert np.array_equal(slice_of(volume, 6, slicing).image[:3], sample.image[0, 4:7])
    assert np.array_equal(first.masks, sample.masks[:, :, 0])
    assert most_drawn(volume) in (2, 3, 4)


# --- slices as training cases


def test_slices_are_the_cases_that_were_their_own_images() -> None:
    given = {sample.name: sample for sample in volumes(2)}
    cases = SliceCases(given, list(given), 16, Slicing("y"))
    cut = [cut_volume(s, Slicing("y").cut(s)) for s in given.values()]
    planes = {p.name: p for volume in cut for i in range(20) if (p := slice_of(volume, i))}
    alone = Cases(planes, list(planes), 16)
    assert len(cases) == len(alone) == 40
    assert cases.names == alone.names
    for one, other in zip(cases, alone, strict=True):
        assert one.group == other.group
        for field in ("image", "masks", "reference", "rated"):
            assert np.array_equal(getattr(one, field), getattr(other, field)), field
    assert cases.lacking("reference") == []
    assert len(cases.lacking("diagnosis")) == 40
    assert [c.name for c in cases.first(3)] == list(cases.names[:3])
    (batch, *_) = training_batches(cases, batch_size=4, seed=0, epoch=0)
    assert batch.image is not None
    assert batch.image.shape == (4, 1, 16, 16)


def test_a_slice_is_kept_once_and_the_undrawn_ones_if_wanted() -> None:
    given = {sample.name: sample for sample in volumes(1)}
    everything = SliceCases(given, ["scan0"], 16, Slicing("z", neighbours=1))
    assert len(everything) == 7  # the two empty slices were looked at, too
    assert everything[0].image.shape == (3, 16, 16)
    drawn = SliceCases(given, ["scan0"], 16, Slicing("z", neighbours=1, drawn_only=True))
    every = drawn.every_slice()  # as a network meets them when it predicts
    assert len(every) == 7 > len(drawn) and every.every_slice() is every
    assert [case.name[-1] for case in drawn] == ["1", "2", "3", "4", "5"]
    assert len(drawn._spools["image"]) == 7  # slices 0 and 6 as neighbours
    assert np.array_equal(drawn[0].image, everything[1].image)
    assert drawn.fingerprint() != everything.fingerprint()
    assert drawn.fingerprint() == SliceCases(given, ["scan0"], 16, drawn.slicing).fingerprint()


def test_volumes_nobody_was_asked_about_are_left_out() -> None:
    asked, unasked = volumes(2)
    unasked = dataclasses.replace(
        unasked, rated=np.zeros_like(unasked.rated), masks=np.zeros_like(unasked.masks)
    )
    given = {"a": asked, "b": unasked}
    assert len(SliceCases(given, ["a", "b"], 16, Slicing("z"))) == 7
    with pytest.raises(InputError, match="no slice is left to use: no rater was asked about b"):
        SliceCases(given, ["b"], 16, Slicing("z"))


def test_plane_files_take_their_shape_only_and_say_when_the_disk_is_full() -> None:
    planes = PlaneFile((2, 3), np.dtype(np.float32))
    for number in range(4):
        assert planes.append(np.full((2, 3), number, np.float32)) == number
    assert planes[2].tolist() == [[2, 2, 2], [2, 2, 2]]
    assert planes.mapped().shape == (4, 2, 3)
    with pytest.raises(ValueError, match="shape"):
        planes.append(np.zeros((3, 2), np.float32))
    planes._file.close()

    class Full:
        def write(self, content: object) -> None:
            raise OSError(28, "No space left on device")

    planes._file = Full()  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"No space left on device; set TMPDIR"):
        planes.append(np.zeros((2, 3), np.float32))


# --- runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    patch = pytest.MonkeyPatch()
    register(patch)
    data, out = volume_dataset(), tmp_path_factory.mktemp("runs") / "toy"
    made = train(data, "toy", out, epochs=8, slices="coronal", neighbours=1, **SMALL)  # type: ignore[arg-type]
    patch.undo()
    return made


def test_a_run_keeps_how_volumes_are_cut_and_whole_patients_on_one_side(run: Run) -> None:
    config = Run.open(run.path).config
    assert (config.slices, config.neighbours, config.drawn_only) == ("coronal", 1, False)
    assert config.task == TASK
    assert config.network_task.channels == 3
    assert sorted(config.train + config.val + config.test) == [f"scan{i}" for i in range(6)]
    result = run.result()
    assert result is not None
    assert result.score is not None
    assert result.score > 0.6
    assert result.steps == 8 * (20 * len(config.train) // 2)


def test_predictions_lie_where_the_volume_lies(run: Run) -> None:
    predictor = load(run, device="cpu")
    sample = volumes(1)[0]
    prediction = predictor.predict(sample)
    assert prediction.raters is not None
    assert prediction.probability.shape == (2, *SHAPE)
    assert prediction.raters.shape == (3, 2, *SHAPE)
    assert [step.shape for step in prediction.steps] == [(2, *SHAPE)] * 2
    inside = prediction.probability[0][sample.reference[0]].mean()  # type: ignore[index]
    outside = prediction.probability[0][~sample.reference[0]].mean()  # type: ignore[index]
    assert inside > outside + 0.2
    kept = predictor.predict(sample, on_disk=True)
    assert kept.raters is not None
    assert np.array_equal(kept.raters[1, 0], prediction.raters[1, 0])
    assert np.array_equal(kept.raters[:, 1], prediction.raters[:, 1])
    assert kept.probability.shape == prediction.probability.shape
    assert len(list(kept.steps[0])) == 2
    with pytest.raises(InputError, match="trained on slices with 1 neighbours on each side; expected a vol"):
        predictor.predict(sample.image[:, 0])


def test_a_volume_stored_the_other_way_round_gets_the_same_answer(run: Run) -> None:
    predictor = load(run, device="cpu")
    sample = volumes(1)[0]
    flipped = dataclasses.replace(
        sample,
        image=sample.image[..., ::-1, ::-1].copy(),
        masks=sample.masks[..., ::-1, ::-1].copy(),
        reference=None,
        geometry=geometry(lps=False),
    )
    one, other = predictor.predict(sample).probability, predictor.predict(flipped).probability
    assert np.array_equal(one, other[..., ::-1, ::-1])


def test_volumes_are_scored_whole_and_shown_in_a_slice(run: Run) -> None:
    from mrprism.metrics.examples import read_example

    data = volume_dataset()
    rows = evaluate(run, data, device="cpu")
    assert {row.case for row in rows} == set(run.config.test)
    assert {row.reads for row in rows} == {"image", "both"}
    predictor = load(run, device="cpu")
    sample = data[run.config.test[0]]
    prediction = predictor.predict(sample)
    assert sample.reference is not None
    marked = prediction.probability[0] > 0.5
    by_hand = 2 * (marked & sample.reference[0]).sum() / (marked.sum() + sample.reference[0].sum())
    (dice,) = [
        row.value
        for row in rows
        if (row.case, row.structure, row.recurrence, row.target, row.metric, row.reads)
        == (sample.name, "disc", "final", "reference", "dice", "image")
    ]
    assert dice == pytest.approx(by_hand)
    example = read_example(next(run.examples.iterdir()))
    assert example.image.shape == (1, 7, 24)  # the image without its neighbours
    assert example.probability.shape == (2, 7, 24)


def test_wrong_settings_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    data: Dataset = volume_dataset()
    for settings, sentence in (
        ({}, r"is a volume of shape \(7, 20, 24\).*--slices axial, coronal"),
        ({"neighbours": 1}, "say which by --slices"),
        ({"slices": "z", "neighbours": -1}, "neighbours is -1"),
    ):
        with pytest.raises(InputError, match=sentence):
            train(data, "toy", tmp_path / "run", epochs=1, **SMALL, **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is an image and not a volume"):
        train(dataset(), "toy", tmp_path / "run", epochs=1, slices="z", **SMALL)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


# --- files


def nifti(path: Path, array: np.ndarray) -> Path:
    """A CT volume (D, H, W) that lies aslant."""
    turn = np.deg2rad(10)
    affine = np.eye(4)
    affine[:3, :3] = np.array(
        [[-np.cos(turn), np.sin(turn), 0], [-np.sin(turn), -np.cos(turn), 0], [0, 0, 1]]
    ) @ np.diag([0.7, 0.8, 2.5])
    affine[:3, 3] = (10, -20, 30)
    image = nibabel.Nifti1Image(array.T, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.fixture
def hounsfield() -> np.ndarray:
    """The first volume's image as numbers of a scanner, its window being -500 to 500."""
    values = np.round(volumes(1)[0].image[0] * 1000 - 500).astype(np.int16)
    values[0, 0, 0] = 2000  # metal, which would stretch the range
    return values


def test_nifti_nrrd_and_dicom_get_the_same_answer_in_the_same_place(
    run: Run, tmp_path: Path, hounsfield: np.ndarray
) -> None:
    itk = pytest.importorskip("SimpleITK")
    scan = nifti(tmp_path / "scan.nii.gz", hounsfield)
    itk.WriteImage(itk.ReadImage(str(scan)), str(tmp_path / "slicer.nrrd"))
    out = tmp_path / "out"
    folders = predict_files(run, [scan, tmp_path / "slicer.nrrd"], out, window=(-500.0, 500.0), device="cpu")
    assert [folder.name for folder in folders] == ["scan", "slicer"]
    like = nibabel.load(scan)
    for name in (
        "probability_disc",
        "mask_cup",
        "raters/bob_disc",
        "confidence/cy_cup",
        "recurrences/rec0_cup",
    ):
        one, other = (nibabel.load(folder / f"{name}.nii.gz") for folder in folders)
        assert one.shape == other.shape == like.shape
        assert np.allclose(one.affine, like.affine, atol=1e-4)
        assert np.allclose(other.affine, like.affine, atol=1e-4)
        assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    window = np.clip((hounsfield.astype(np.float32) + 500) / 1000, 0, 1)[None]
    sample = dataclasses.replace(volumes(1)[0], image=window)
    expected = load(run, device="cpu").predict(sample).probability[0]
    found = np.asarray(nibabel.load(folders[0] / "probability_disc.nii.gz").dataobj).T
    assert np.allclose(found, expected, atol=1e-5)
    assert not list(out.rglob(".*"))


def test_a_series_is_predicted_where_it_lies(run: Run, tmp_path: Path, hounsfield: np.ndarray) -> None:
    pytest.importorskip("pydicom")
    from slices import series

    series(tmp_path / "in" / "ct7", hounsfield, axes=(1, 0, 0, 0, 1, 0), pixel_mm=(0.8, 0.7))
    seen: list[bool] = []

    def go(window: tuple[float, float]) -> list[Path]:
        return predict_files(
            run,
            [tmp_path / "in"],
            tmp_path / "out",
            window=window,
            device="cpu",
            each=lambda _, done: seen.append(done),
        )

    (folder,) = go((-500.0, 500.0))
    go((-500.0, 500.0))
    go((-400.0, 400.0))
    assert folder.name == "ct7"
    assert seen == [False, True, False]  # another window is another answer
    mask = nibabel.load(folder / "mask_disc.nii.gz")
    assert mask.shape == (24, 20, 7)
    assert np.allclose(mask.affine, [[-0.7, 0, 0, 10], [0, -0.8, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])


def test_a_data_set_s_window_goes_with_the_run(tmp_path: Path, hounsfield: np.ndarray) -> None:
    """The whole way: CT with a window in its manifest, trained in place, predicted from a file."""
    cases = []
    for number, sample in enumerate(volumes(4)):
        values = np.round(sample.image[0] * 1000 - 500).astype(np.int16)
        nifti(tmp_path / f"ct{number}.nii.gz", values)
        masks = {}
        for r, rater in enumerate(TASK.raters):
            masks[rater] = {name: f"{rater}{number}{name}.nii.gz" for name in TASK.structures}
            for c, name in enumerate(TASK.structures):
                nifti(tmp_path / masks[rater][name], sample.masks[r, c].astype(np.uint8))
        cases.append({"name": f"ct{number}", "image": f"ct{number}.nii.gz", "masks": masks})
    about = {"format": "mrprism-dataset/1", "name": "ct", "channels": ["CT"], "window": [-500, 500]}
    about |= {"structures": TASK.structures, "raters": TASK.raters, "cases": cases}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    run, data = str(tmp_path / "run"), str(tmp_path)
    command = [
        "train",
        data,
        "--out",
        run,
        "--method",
        "toy",
        "--slices",
        "axial",
        "--drawn-only",
        "--size",
        "20",
    ]
    command += ["--backbone", "small", "--epochs", "1", "--device", "cpu", "--quiet"]
    assert call(command) == 0
    config = Run.open(run).config
    assert (config.window, config.slices, config.drawn_only) == ((-500, 500), "axial", True)
    assert (Path(run) / "table.csv").is_file()
    assert call(["predict", run, f"{data}/ct0.nii.gz", "--out", f"{data}/out", "--device", "cpu"]) == 0
    about = json.loads((tmp_path / "out" / "ct0" / "prediction.json").read_text())
    assert about["window"] == [-500, 500]
    sample = open_dataset(data)["ct0"]
    found = np.asarray(nibabel.load(tmp_path / "out" / "ct0" / "probability_cup.nii.gz").dataobj).T
    assert np.allclose(found, load(run, device="cpu").predict(sample).probability[1], atol=1e-6)
