"""Probabilities read as shares of votes, and outlines that hold: by SciPy, by hand, by counting."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import isotonic_regression
from toy import SMALL, TASK, register, samples

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.datasets import write_dataset
from mrprism.learn.calibration import (
    Calibration,
    Curve,
    Learned,
    curve_of,
    how_far,
    isotonic,
    moved,
    quantile,
)
from mrprism.learn.evaluate import evaluate
from mrprism.learn.predict import predict_files
from mrprism.learn.predictor import load
from mrprism.learn.run import Run
from mrprism.learn.train import train
from mrprism.metrics import METRICS, contains, ece, ece_in_region
from mrprism.metrics.calibration import around

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_pooling_as_scipy_has_it(count: int) -> None:
    for _ in range(20):
        values, weights = RNG.normal(size=count), RNG.uniform(0.1, 3, count)
        np.testing.assert_allclose(isotonic(values, weights), isotonic_regression(values, weights=weights).x)


def test_pooling_by_hand() -> None:
    found = isotonic(np.array([0.1, 0.5, 0.2, 0.9]), np.array([1.0, 1.0, 2.0, 1.0]))
    np.testing.assert_allclose(found, [0.1, 0.3, 0.3, 0.9])


def test_a_curve_goes_through_its_levels_and_begins_at_nothing() -> None:
    probability = np.array([0.1, 0.4, 0.6, 0.9])
    curve = curve_of(probability, np.array([0.05, 0.5, 0.3, 0.8]), np.ones(4))
    np.testing.assert_allclose(curve(probability), [0.05, 0.4, 0.4, 0.8], atol=1e-6)
    assert curve(np.zeros(1))[0] == 0 and curve(np.ones(1))[0] == pytest.approx(0.8)
    fine = curve(np.linspace(0, 1, 1000))
    assert (np.diff(fine) >= 0).all() and fine.min() >= 0 and fine.max() <= 1


@pytest.mark.parametrize(
    ("knots", "says"),
    [
        ({"probability": (0.1, 0.1), "share": (0.0, 1.0)}, "never falls"),
        ({"probability": (0.1, 0.2), "share": (1.0, 0.0)}, "never falls"),
        ({"probability": (0.1, 1.2), "share": (0.0, 1.0)}, "between 0 and 1"),
        ({"probability": (0.1,), "share": (0.0, 1.0)}, "as many shares"),
        ({"probability": (0.1, math.nan), "share": (0.0, 1.0)}, "between 0 and 1"),
    ],
)
def test_a_curve_that_is_none_is_refused(knots: dict[str, tuple[float, ...]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Curve(**knots)


def test_how_far_by_hand_and_that_far_holds() -> None:
    marked = np.zeros((20, 40), bool)
    marked[5:10, 10:20] = True
    wanted = marked.copy()
    wanted[5, 24] = True  # five pixels of forty beside the last one
    assert how_far(wanted, marked) == pytest.approx(5 / 40)
    assert how_far(marked, wanted) == 0
    assert how_far(wanted, np.zeros_like(marked)) == math.inf
    assert how_far(np.zeros_like(marked), np.zeros_like(marked)) == 0
    assert contains(moved(marked, 5 / 40), wanted) == 1
    assert contains(moved(marked, 3 / 40), wanted) == 0
    assert moved(marked, math.inf).all() and not moved(marked, -math.inf).any()
    assert not moved(np.zeros_like(marked), 0.2).any()


def test_far_is_as_far_when_the_image_is_stretched() -> None:
    marked, wanted = np.zeros((30, 30), bool), np.zeros((30, 30), bool)
    marked[10:20, 10:20] = True
    wanted[8:22, 7:23] = True
    stretched = how_far(wanted.repeat(4, axis=0), marked.repeat(4, axis=0))
    assert stretched == pytest.approx(how_far(wanted, marked), abs=1 / 30)


def test_shrinking_is_growing_of_what_lies_outside() -> None:
    marked = np.zeros((32, 32), bool)
    marked[8:24, 8:24] = True
    np.testing.assert_array_equal(moved(marked, -0.1), ~moved(~marked, 0.1))
    assert contains(marked, moved(marked, -0.1)) == 1


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_a_margin_holds_for_new_patients(coverage: float) -> None:
    """Whatever the distribution: of 20 patients and a new one, 4000 times."""
    held = 0
    for _ in range(4000):
        scores = RNG.exponential(size=21) ** 3
        margin = quantile(sorted(scores[:20].tolist()), coverage)
        assert margin is not None
        held += scores[20] <= margin
    assert coverage - 0.03 < held / 4000 < coverage + 1 / 21 + 0.03


def test_too_few_patients_promise_nothing() -> None:
    assert quantile([0.1] * 8, 0.9) is None
    assert quantile([0.1] * 9, 0.9) == 0.1
    assert quantile([0.1, 0.2, 0.3, None], 0.8) == math.inf


def calibration(patients: int = 9) -> Calibration:
    learned = Learned(
        curve=Curve(probability=(0.0, 1.0), share=(0.0, 0.5)),
        widened=(0.125,) * patients,
        narrowed=(0.0625,) * patients,
    )
    return Calibration(weights_sha256="0", cases=9, patients=patients, structures={"disc": learned})


def test_what_was_learned_is_applied() -> None:
    probability = np.zeros((1, 32, 32), np.float32)
    probability[0, 8:24, 8:24] = 0.8
    found = calibration().apply(Prediction(probability=probability))
    np.testing.assert_allclose(found.calibrated[0], probability[0] / 2)
    assert found.inner[0].sum() < 16 * 16 < found.outer[0].sum()
    assert not found.inner[0, 9].any() and found.outer[0, 5, 16]
    few = calibration(8).apply(Prediction(probability=probability))
    assert few.inner is None and few.outer is None and few.calibrated is not None
    assert calibration(8).apply(Prediction(probability=probability), 0.8).outer is not None


def test_at_another_size_half_a_training_pixel_is_added() -> None:
    """A mask is known to half a pixel of the size it was measured at; at that very size nothing is added."""
    marked = np.zeros((1, 32, 32), np.float32)
    marked[0, 12:20, 12:20] = 1
    fine = marked.repeat(4, axis=1).repeat(4, axis=2)
    same = calibration().model_copy(update={"pixel": 1 / 32})
    for probability, more in ((marked, 0), (fine, 2)):  # a quarter of 1/32 is a pixel of 128
        without = calibration().apply(Prediction(probability=probability))
        found = same.apply(Prediction(probability=probability))
        middle = probability.shape[-1] // 2
        assert found.outer[0, middle].sum() == without.outer[0, middle].sum() + 2 * more
        assert found.inner[0, middle].sum() == without.inner[0, middle].sum() - 2 * more


def test_a_coverage_that_patients_cannot_promise_is_refused() -> None:
    calibration(9).check(0.9, "run")
    with pytest.raises(
        InputError, match="run was calibrated on 9 patients, and outlines that hold for 95 % of patients"
    ):
        calibration(9).check(0.95, "run")
    with pytest.raises(InputError, match=r"need 19; expected a coverage of at most 0.9"):
        calibration(9).check(0.95, "run")
    for wrong in (0.2, 1.0, 1.5):
        with pytest.raises(InputError, match=r"expected at least 0.5 and less than 1"):
            calibration(9).check(wrong, "run")


def test_far_from_what_is_marked_nothing_changes() -> None:
    """A small probability beside an outline is a vote or two, in plain background it is nothing."""
    probability = np.full((1, 100, 100), 0.02, np.float32)
    probability[0, 10:30, 10:30] = 0.9
    learned = Learned(
        curve=Curve(probability=(0.0, 0.02, 0.9), share=(0.0, 0.3, 0.8)), widened=(), narrowed=()
    )
    kept = Calibration(weights_sha256="0", cases=1, patients=1, structures={"disc": learned})
    found = kept.apply(Prediction(probability=probability)).calibrated[0]
    assert found[8, 20] == pytest.approx(0.3) and found[20, 20] == pytest.approx(0.8)
    assert found[80, 80] == pytest.approx(0.02)
    nothing = kept.apply(Prediction(probability=np.full((1, 100, 100), 0.02, np.float32))).calibrated
    assert (nothing == np.float32(0.02)).all()


def test_the_region_is_what_lies_near() -> None:
    marked = np.zeros((100, 100), bool)
    marked[50, 50] = True
    assert around(marked).sum() == 11 * 11
    assert around(np.zeros((9, 9), bool)).all()


def test_ece_in_the_region_by_hand() -> None:
    votes = np.zeros((100, 100), int)
    votes[40:60, 40:60] = 2
    p = np.zeros((100, 100))
    p[40:60, 40:60] = 0.7
    inside = 30 * 30
    assert ece_in_region(p, votes, 2) == pytest.approx(0.3 * 400 / inside)
    assert ece(p, votes, 2) == pytest.approx(0.3 * 400 / 10_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    patch = pytest.MonkeyPatch()
    register(patch)
    write_dataset(samples(60), folder / "squares", name="squares", task=TASK)
    settings = SMALL | {"epochs": 3}
    train(folder / "squares", "toy", folder / "run", **settings)  # type: ignore[arg-type]
    yield folder
    patch.undo()


def test_training_ends_with_what_validation_cases_say(made: Path, tmp_path: Path) -> None:
    run = Run.open(made / "run")
    kept = json.loads((made / "run/calibration.json").read_text())
    assert kept["cases"] == len(run.config.val) and set(kept["structures"]) == {"disc", "cup"}
    rows = evaluate(made / "run")
    means = {
        name: np.mean([row.value for row in rows if (row.metric, row.target) == (name, "mean of raters")])
        for name in METRICS
        if any((row.metric, row.target) == (name, "mean of raters") for row in rows)
    }
    assert means["ece_region_after"] < means["ece_region"]
    assert means["brier_after"] <= means["brier"] + 0.01
    predictor = load(made / "run")
    from mrprism.datasets import open_dataset

    data = open_dataset(made / "squares")
    found = predictor.predict(data[run.config.test[0]])
    inside = around(found.probability[0] > 0.5)
    order = np.argsort(found.probability[0][inside])
    assert (np.diff(found.calibrated[0][inside][order]) >= 0).all()  # ranking stays
    image = next((made / "squares").glob(f"**/*{run.config.test[0]}*.png"), None)
    if image is not None:
        (folder,) = predict_files(made / "run", [image], tmp_path / "out")
        assert {file.name.partition("_")[0] for file in folder.glob("*_disc.png")} >= {
            "probability",
            "calibrated",
        }


def test_another_coverage_or_calibration_is_predicted_anew_and_said(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    image = next((made / "squares").glob("**/images/*.png"), None) or next((made / "squares").rglob("*.png"))
    skipped: list[bool] = []

    def again(**more: float) -> str:
        predict_files(
            tmp_path / "run", [image], tmp_path / "out", each=lambda _, s: skipped.append(s), **more
        )  # type: ignore[arg-type]
        return capsys.readouterr().err

    assert again() == "" and again() == ""
    assert (
        "1 image in" in (said := again(coverage=0.6)) and "another coverage, and are predicted anew" in said
    )
    assert again(coverage=0.6) == ""
    file = tmp_path / "run/calibration.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"cases": kept["cases"] + 1}))
    assert "another calibration" in again(coverage=0.6)
    assert skipped == [False, True, False, True, False]
    about = json.loads(next((tmp_path / "out").glob("*/prediction.json")).read_text())
    assert about["learned"]["coverage"] == 0.6
    file.unlink()
    with pytest.raises(InputError, match="was not calibrated"):
        again(coverage=0.6)


def test_a_model_that_is_handed_on_keeps_what_validation_cases_taught(made: Path, tmp_path: Path) -> None:
    from mrprism.learn.to_hf import export_model

    export_model(made / "run", tmp_path / "model")
    ours, theirs = load(made / "run"), load(tmp_path / "model")
    assert ours.calibration is not None and theirs.calibration is not None
    assert theirs.calibration.structures == ours.calibration.structures
    assert "case" not in (tmp_path / "model/calibration.json").read_text().replace('"cases"', "")


def test_what_belongs_to_other_weights_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    file = tmp_path / "run/calibration.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"weights_sha256": "0"}))
    with pytest.raises(InputError, match="other weights"):
        load(tmp_path / "run")
    kept["structures"] = {"disc": kept["structures"]["disc"]}
    file.write_text(json.dumps(kept))
    with pytest.raises(InputError, match=r"is of disc; the run outlines disc, cup"):
        load(tmp_path / "run")
    file.write_text("{}")
    with pytest.raises(InputError, match=r"calibration.json"):
        load(tmp_path / "run")
    file.unlink()
    assert load(tmp_path / "run").calibration is None
