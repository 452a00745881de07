"""Predictions come back at the input's own size, in its format and geometry, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest
import torch
from toy import SMALL, TASK, TOYS, Toy, dataset, register, samples

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import Dataset, write_dataset
from mrprism.images import read_image, read_mask
from mrprism.learn.evaluate import evaluate
from mrprism.learn.predict import predict_files
from mrprism.learn.predictor import Predictor, load
from mrprism.learn.run import Run
from mrprism.learn.train import train
from mrprism.metrics.examples import read_example
from mrprism.metrics.scores import read_table

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    register(patch)
    made = {name: train(dataset(), name, folder / name, epochs=8, **SMALL) for name in TOYS}  # type: ignore[arg-type]
    patch.undo()
    return made


@pytest.fixture
def predictor(runs: dict[str, Run]) -> Predictor:
    return load(runs["toy"], device="cpu")


def test_an_array_is_predicted_at_its_own_size(predictor: Predictor) -> None:
    prediction = predictor.predict(samples(1, height=31, width=47)[0].image)
    assert prediction.raters is not None
    assert prediction.confidence is not None
    assert prediction.probability.shape == (2, 31, 47)
    assert prediction.raters.shape == prediction.confidence.shape == (3, 2, 31, 47)
    assert [step.shape for step in prediction.steps] == [(2, 31, 47)] * 2
    for field in (prediction.probability, prediction.raters, prediction.confidence, *prediction.steps):
        assert isinstance(field, np.ndarray)
        assert field.min() >= 0
        assert field.max() <= 1


def test_at_training_size_it_is_the_method_s_own_answer(predictor: Predictor) -> None:
    image = samples(1)[0].image
    method = predictor.method
    assert isinstance(method, Toy)
    with torch.inference_mode():
        own = method.consensus(method.features(torch.from_numpy(image)[None])).sigmoid()
    assert np.allclose(predictor.predict(image).probability, own[0].numpy(), atol=1e-6)


def test_masks_and_reference_do_not_influence_an_image_reader(predictor: Predictor) -> None:
    sample = samples(1)[0]
    other = dataclasses.replace(sample, masks=~sample.masks, reference=None)
    assert np.array_equal(predictor.predict(sample).probability, predictor.predict(other).probability)


def test_a_volume_is_its_slices(predictor: Predictor) -> None:
    planes = [sample.image for sample in samples(3)]
    volume = predictor.predict(np.stack(planes, axis=1))
    assert volume.raters is not None
    assert volume.probability.shape == (2, 3, 20, 20)
    assert volume.raters.shape == (3, 2, 3, 20, 20)
    assert volume.steps[1].shape == (2, 3, 20, 20)
    for z, plane in enumerate(planes):
        assert np.array_equal(volume.probability[:, z], predictor.predict(plane).probability)


def test_wrong_images_are_refused(predictor: Predictor) -> None:
    for image, sentence in (
        (np.zeros((3, 20, 20), np.float32), "has 3 channels; the run takes 1"),
        (np.full((1, 20, 20), 255, np.float32), "intensities from 255 to 255; expected 0 to 1"),
        (np.full((1, 20, 20), np.nan, np.float32), "intensities from nan"),
        (np.zeros((20, 20), np.float32), r"axes \(channel, H, W\)"),
    ):
        with pytest.raises(InputError, match=sentence):
            predictor.predict(image)


def test_a_fusion_reads_masks_at_their_own_size(runs: dict[str, Run]) -> None:
    sample = samples(1, height=33, width=21)[0]
    prediction = load(runs["toy-fusion"], device="cpu").predict(sample)
    assert np.allclose(prediction.probability, sample.masks.mean(0))


# --- evaluate


def test_evaluate_scores_test_cases_and_keeps_examples(runs: dict[str, Run]) -> None:
    run = runs["toy"]
    rows = evaluate(run, dataset(), device="cpu", examples=2)
    assert {row.case for row in rows} == set(run.config.test)
    assert {row.recurrence for row in rows} == {"final", "Rec0", "Rec1"}
    assert {row.reads for row in rows} == {"image", "both"}
    assert {"reference", "mean of raters", "rater:ann"} <= {row.target for row in rows}
    assert len(read_table(run.table_file)) == len(rows)
    examples = [read_example(file) for file in sorted(run.examples.iterdir())]
    assert len(examples) == min(2, len(run.config.test))
    assert len(examples[0].steps) == 2
    assert examples[0].confidence is not None
    # the fusion of given masks, worked by hand for one case
    sample = dataset()[run.config.test[0]]
    predictor = load(run, device="cpu")
    prediction = predictor.predict(sample)
    fused = predictor.fuse(sample)
    assert fused is not None
    assert prediction.confidence is not None
    weights = prediction.confidence / prediction.confidence.sum(0)
    assert np.allclose(fused.probability, (weights * sample.masks).sum(0), atol=1e-5)


def test_a_fusion_is_evaluated_without_training(runs: dict[str, Run]) -> None:
    rows = evaluate(runs["toy-fusion"], dataset(), device="cpu")
    assert {row.reads for row in rows} == {"masks"}
    dice = [row.value for row in rows if row.metric == "dice" and row.target == "reference"]
    assert dice
    assert min(dice) == 1.0  # majority of shifts by -1, 0 and 1 is the truth


def test_other_splits_and_other_data(runs: dict[str, Run]) -> None:
    run = runs["toy"]
    rows = evaluate(run, dataset(), split="val", device="cpu")
    assert {row.case for row in rows} == set(run.config.val)
    assert (run.path / "table-val.csv").is_file()
    with pytest.raises(
        InputError, match=r"split 'all' is for cases .* never saw; it learned from the image of case"
    ):
        evaluate(run, dataset(), split="all", device="cpu")
    strangers = dataclasses.replace(TASK, raters=("dan", "eve", "fay"))
    copied = Dataset.from_samples("other", strangers, samples(12))
    with pytest.raises(InputError, match="learned from the image of case"):
        evaluate(run, copied, split="all", device="cpu")
    unseen = Dataset.from_samples("other", strangers, samples(3, height=24))
    rows = evaluate(run, unseen, split="all", device="cpu")
    assert len({row.case for row in rows}) == 3
    assert not {row.metric for row in rows} & {"rater_dice", "confidence"}
    lungs = dataclasses.replace(TASK, structures=("lung", "heart"))
    with pytest.raises(InputError, match=r"has the structures lung, heart; .* outlines disc, cup"):
        evaluate(run, Dataset.from_samples("lungs", lungs, samples(3)), split="all", device="cpu")
    with pytest.raises(InputError, match="say which data set"):
        evaluate(run, device="cpu")


# --- files


def photo(path: Path, height: int = 30, width: int = 26) -> Path:
    image = samples(1, height=height, width=width)[0].image
    PIL.Image.fromarray((image[0] * 255).astype(np.uint8)).save(path)
    return path


def test_png_gives_png_of_the_same_size(runs: dict[str, Run], predictor: Predictor, tmp_path: Path) -> None:
    file = photo(tmp_path / "eye.png")
    (folder,) = predict_files(runs["toy"], [file], tmp_path / "out", device="cpu")
    prediction = predictor.predict(read_image(file).array)
    assert prediction.confidence is not None
    with PIL.Image.open(folder / "probability_disc.png") as stored:
        pixels = np.asarray(stored)
    assert pixels.dtype == np.uint16
    assert pixels.shape == (30, 26)
    assert np.abs(pixels / 65535 - prediction.probability[0]).max() <= 0.5 / 65535 + 1e-6
    assert np.array_equal(read_mask(folder / "mask_cup.png").array, prediction.probability[1] > 0.5)
    confidence = read_image(folder / "confidence" / "bob_disc.png").array
    assert np.allclose(confidence[0], prediction.confidence[1, 0], atol=1e-4)
    names = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    assert len(names) == 1 + 2 * (3 + 3 + 3 + 2)
    assert "recurrences/rec1_cup.png" in names
    assert "raters/cy_cup.png" in names
    about = json.loads((folder / "prediction.json").read_text())
    assert about["raters"] == ["ann", "bob", "cy"]


def test_nifti_keeps_its_geometry(runs: dict[str, Run], tmp_path: Path) -> None:
    affine = np.array([[0, -0.7, 0, 12], [0.8, 0, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    volume = np.stack([s.image[0].T for s in samples(3, height=24, width=18)], axis=-1)
    nibabel.save(nibabel.Nifti1Image((volume * 255).astype(np.uint8), affine), tmp_path / "scan.nii.gz")
    (folder,) = predict_files(runs["toy"], [tmp_path / "scan.nii.gz"], tmp_path / "out", device="cpu")
    assert folder.name == "scan"
    for name in ("mask_disc", "probability_cup", "recurrences/rec0_disc", "raters/ann_cup"):
        written = nibabel.load(folder / f"{name}.nii.gz")
        assert written.shape == (18, 24, 3)
        assert np.allclose(written.affine, affine)


def test_tiff_gives_tiff(runs: dict[str, Run], tmp_path: Path) -> None:
    photo(tmp_path / "a.tif")
    (folder,) = predict_files(runs["toy"], [tmp_path / "a.tif"], tmp_path / "out", device="cpu")
    assert read_image(folder / "probability_disc.tif").array.shape == (1, 30, 26)


def test_done_images_are_skipped_and_changed_ones_are_not(runs: dict[str, Run], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo(folder / "a.png")
    photo(folder / "b.png")
    seen: list[tuple[str, bool]] = []

    def go() -> list[tuple[str, bool]]:
        seen.clear()
        predict_files(
            runs["toy"], [folder], tmp_path / "out", device="cpu", each=lambda f, s: seen.append((f.name, s))
        )
        return list(seen)

    assert go() == [("a", False), ("b", False)]
    assert go() == [("a", True), ("b", True)]
    photo(folder / "b.png", height=22)
    assert go() == [("a", True), ("b", False)]
    (tmp_path / "out" / "a" / "prediction.json").unlink()  # nothing says any more that it is ours
    with pytest.raises(InputError, match="is there already and holds no prediction"):
        go()
    shutil.rmtree(tmp_path / "out" / "a")
    assert go() == [("a", False), ("b", True)]


def test_a_full_disk_leaves_no_folder(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "a.png")
    written = []

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    command = ["predict", str(runs["toy"].path), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert call(command) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "absent.png", "does not exist"),
        (lambda folder: _broken(folder), "broken"),
        (lambda folder: _colour(folder), "has 3 channels; the run takes 1"),
        (lambda folder: folder, "there is no image"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, sentence: str
) -> None:
    (tmp_path / "in").mkdir()
    file = make(tmp_path / "in")  # type: ignore[operator]
    assert call(["predict", str(runs["toy"].path), str(file), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def _broken(folder: Path) -> Path:
    whole = photo(folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    return folder / "a.png"


def _colour(folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "c.png")
    return folder / "c.png"


def test_two_images_of_one_name_and_mask_readers_are_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        photo(tmp_path / folder / "a.png")
    with pytest.raises(InputError, match="would be written to one folder"):
        predict_files(runs["toy"], [tmp_path / "x", tmp_path / "y"], tmp_path / "out", device="cpu")
    with pytest.raises(InputError, match="reads masks and cannot outline images alone"):
        predict_files(runs["toy-fusion"], [tmp_path / "x"], tmp_path / "out", device="cpu")


# --- the commands


def test_the_commands(runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(samples(12), tmp_path / "squares", name="squares", task=TASK)
    run, data = str(runs["toy"].path), str(tmp_path / "squares")
    assert call(["evaluate", run, "--dataset", data, "--json"]) == 0
    summaries = json.loads(capsys.readouterr().out)
    assert {"mean", "sd", "n", "missing", "target"} <= set(summaries[0])
    assert call(["evaluate", run, "--dataset", data]) == 0
    shown = capsys.readouterr().out
    assert "raters' masks fused" in shown
    assert "Rec1" in shown
    photo(tmp_path / "a.png")
    assert call(["predict", run, str(tmp_path / "a.png"), "--out", str(tmp_path / "o"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [str(tmp_path / "o" / "a")]
    assert call(["evaluate", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_turned_photograph_is_outlined_as_it_is_shown(runs: dict[str, Run], tmp_path: Path) -> None:
    """EXIF and TIFF say how it is held; all that is written lies on what a viewer shows."""
    shown = np.round(255 * samples(1, height=24, width=32)[0].image[0]).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[274] = 6
    held = PIL.Image.fromarray(shown).transpose(PIL.Image.Transpose.ROTATE_90)
    PIL.Image.fromarray(shown).save(tmp_path / "plain.png")
    held.save(tmp_path / "exif.png", exif=exif)
    held.save(tmp_path / "tiff.tif", tiffinfo={274: 6})
    names = ("plain.png", "exif.png", "tiff.tif")
    folders = predict_files(runs["toy"], [tmp_path / name for name in names], tmp_path / "out", device="cpu")
    plain, *turned = (
        read_mask(next(folder.glob(f"mask_{TASK.structures[0]}.*"))).array for folder in folders
    )
    assert plain.shape == (24, 32)
    for mask in turned:
        np.testing.assert_array_equal(mask, plain)


def test_what_else_lies_in_a_folder_of_photographs_is_named(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = PIL.Image.fromarray(np.round(255 * samples(1)[0].image[0]).astype(np.uint8))
    for name in ("a.png", "more/b.png", ".hidden/c.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True, parents=True)
        image.save(tmp_path / "in" / name)
    (tmp_path / "in/list.txt").write_text("a")
    out = tmp_path / "in/out"
    for _ in range(2):  # what was written there is nothing that was left out
        assert [
            folder.name for folder in predict_files(runs["toy"], [tmp_path / "in"], out, device="cpu")
        ] == ["a"]
        said = capsys.readouterr().err
        assert "not predicted, for they are no images: " in said
        assert "list.txt'" in said and "more'" in said and "(2); folders inside are not looked into" in said
