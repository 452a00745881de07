"""Runs by a plan, from training to predictions: images larger than a patch, and volumes as they are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import mrprism
from mrprism.cli import call
from mrprism.compare.plan import Budget, native
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset, open_dataset
from mrprism.learn.batches import collate
from mrprism.learn.fused_by_plan import fused_by_plan
from mrprism.learn.methods.build import build_method
from mrprism.learn.methods.mrprism import MrPrism
from mrprism.learn.plan import Plan, Reasoned, read_plan
from mrprism.learn.run import Run

FLAT = Plan(
    dims=2, long_side=40, patch=(24, 24), batch_size=2, patches_per_case=2, drawn=0.3, disputed=0.3, epochs=2
)
DEEP = Plan(
    dims=3,
    spacing_mm=(6.0, 4.0, 4.0),
    patch=(8, 16, 16),
    batch_size=2,
    patches_per_case=2,
    drawn=0.3,
    disputed=0.3,
    normalise="case",
    epochs=2,
)
PLANS = {"images": FLAT, "volumes": DEEP}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("sets")
    mrprism.phantom("crowd", size=48, cases=8, out=place / "images")
    mrprism.phantom("crowd", size=32, cases=8, dims=3, out=place / "volumes")
    return {kind: place / kind for kind in PLANS}


@pytest.fixture(scope="module")
def runs(sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    place = tmp_path_factory.mktemp("runs")
    return {kind: train(sets[kind], place / kind, PLANS[kind]) for kind in PLANS}


def train(data: Dataset | Path, out: Path, plan: Plan | str | Path, **more: object) -> Run:
    options = {"backbone": "small", "device": "cpu", "quiet": True, "checkpoint_every": 0.0, **more}
    return mrprism.train(data, "fused-label", out, plan=plan, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PLANS)
def test_a_run_keeps_its_plan(runs: dict[str, Run], kind: str) -> None:
    run, plan = runs[kind], PLANS[kind]
    config = Run.open(run.path).config
    assert config.plan == plan == read_plan(run.path / "plan.toml")
    assert (config.epochs, config.batch_size, config.dims) == (2, 2, plan.dims)
    assert config.network_task.spacing_mm == (plan.spacing_mm if plan.dims == 3 else None)
    cases = len(config.train)
    assert run.result() is not None
    assert run.result().steps == 2 * (cases * 2 // 2)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", PLANS)
def test_predictions_lie_on_the_case(runs: dict[str, Run], sets: dict[str, Path], kind: str) -> None:
    predictor = mrprism.load_run(runs[kind], device="cpu")
    sample = open_dataset(sets[kind])[7]
    said = predictor.predict(sample)
    assert said.probability.shape == (2, *sample.space)
    assert 0 <= said.probability.min() <= said.probability.max() <= 1
    stored = predictor.predict(sample, on_disk=True)
    np.testing.assert_array_equal(np.asarray(stored.probability), said.probability)
    if len(sample.space) == 3:
        np.testing.assert_allclose(
            predictor.predict_slice(sample, 3).probability, said.probability[:, 3], atol=1e-6
        )
    picture = predictor.picture(sample)
    at = () if len(sample.space) == 2 else (int(sample.masks.sum((0, 1, 3, 4)).argmax()),)
    np.testing.assert_allclose(
        picture.prediction.probability, said.probability[(slice(None), *at)], atol=1e-6
    )
    assert picture.shown.space == sample.space[-2:]


@pytest.mark.parametrize("kind", PLANS)
def test_scores_and_files(runs: dict[str, Run], sets: dict[str, Path], tmp_path: Path, kind: str) -> None:
    rows = mrprism.evaluate(runs[kind], device="cpu", examples=2)
    assert {row.case for row in rows} == set(runs[kind].config.test)
    assert len(list((runs[kind].path / "examples").glob("*.npz"))) == 2
    image = sorted((sets[kind] / "images").iterdir())[0]
    (folder,) = mrprism.predict(runs[kind], [image], tmp_path / "out", device="cpu")
    assert (folder / "prediction.json").is_file()
    if kind == "volumes":
        like, mask = nibabel.load(image), nibabel.load(next(folder.glob("mask_*.nii.gz")))
        assert like.shape == mask.shape
        np.testing.assert_allclose(like.affine, mask.affine)


@pytest.mark.parametrize("kind", PLANS)
def test_stopped_and_resumed_is_the_same(
    runs: dict[str, Run], sets: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """To the last bit: a training that was stopped after each of its first steps."""
    from mrprism.learn.loop import Training

    seen = 0
    before = Training._stop_or_save

    def stop(self: Training) -> None:
        nonlocal seen
        seen += 1
        if seen in (2, 5):
            self._save()
            raise KeyboardInterrupt
        before(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_stop_or_save", stop)
        with pytest.raises(KeyboardInterrupt):
            train(sets[kind], tmp_path / "run", PLANS[kind])
        with pytest.raises(KeyboardInterrupt):
            mrprism.resume(tmp_path / "run", device="cpu", quiet=True)
        mrprism.resume(tmp_path / "run", device="cpu", quiet=True)
    ours, theirs = (load_file(place / "weights.safetensors") for place in (tmp_path / "run", runs[kind].path))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, theirs[name])


def test_calibration_looks_at_whole_cases(runs: dict[str, Run]) -> None:
    """However many patches are drawn of a case."""
    for run in runs.values():
        about = json.loads((run.path / "calibration.json").read_text())
        assert about["patients"] == len(run.config.val)


def test_a_plan_is_tied_to_the_weights(runs: dict[str, Run], tmp_path: Path) -> None:
    shutil.copytree(runs["images"].path, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    file.write_text(file.read_text().replace('"overlap": 0.5', '"overlap": 0.25'))
    with pytest.raises(InputError, match=r"trained with plan\.overlap 0\.5"):
        mrprism.load_run(tmp_path / "run", device="cpu")


def test_another_plan_is_another_run(runs: dict[str, Run], sets: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="started with"):
        train(sets["images"], runs["images"].path, FLAT.model_copy(update={"overlap": 0.25}))
    with pytest.raises(InputError, match="a plan says how large cases are"):
        train(sets["images"], tmp_path / "other", FLAT, size=64)
    with pytest.raises(InputError, match="as they are or slice by slice"):
        train(sets["volumes"], tmp_path / "other", DEEP, slices="z")
    with pytest.raises(InputError, match="is an image and the plan is for volumes"):
        train(sets["images"], tmp_path / "other", DEEP)
    assert not (tmp_path / "other").exists()


def test_what_is_said_beside_a_plan_goes_before_it_even_where_it_is_the_papers(
    sets: dict[str, Path], tmp_path: Path
) -> None:
    run = train(sets["images"], tmp_path / "run", FLAT, epochs=1, batch_size=8, augment="full")
    assert (run.config.epochs, run.config.batch_size, run.config.augment) == (1, 8, "full")
    assert FLAT.batch_size != 8 and FLAT.epochs != 1


def test_volumes_are_planned_for_unasked(sets: dict[str, Path], tmp_path: Path) -> None:
    run = mrprism.train(
        sets["volumes"], "fused-label", tmp_path / "run", backbone="small", epochs=1, device="cpu", quiet=True
    )
    assert run.config.plan is not None
    assert (run.config.plan.dims, run.config.epochs) == (2, 1)  # of eleven slices: their slices are cases
    assert "spacing" in (run.path / "plan.toml").read_text()
    with pytest.raises(InputError, match="--slices axial"):
        mrprism.train(
            sets["volumes"], "fused-label", tmp_path / "other", backbone="small", size=32, device="cpu"
        )


def test_a_comparison_of_volumes_is_planned_for_once(sets: dict[str, Path]) -> None:
    data = mrprism.open_dataset(sets["volumes"])
    budget = native(Budget(backbone="small", epochs=2), data, None, "cpu")
    assert budget.plan is not None
    assert (budget.plan.dims, budget.epochs, budget.backbone) == (2, 2, "small")
    kept = budget.model_copy(update={"plan": budget.plan.model_copy(update={"overlap": 0.25})})
    again = native(Budget(backbone="small", epochs=2), data, kept, "cpu")
    assert again.plan is not None and again.plan.overlap == 0.25  # that of the comparison, begun earlier
    for said in (Budget(size=64), Budget(slices="axial")):
        assert native(said, data, None, "cpu") == said
    assert native(Budget(), mrprism.open_dataset(sets["images"]), None, "cpu") == Budget()


def test_the_command_line(sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is typed goes before what the plan says, also where it is what would be there without a plan."""
    (tmp_path / "plan.toml").write_text(Reasoned(FLAT, {}).to_toml())
    words = [
        "train",
        str(sets["images"]),
        "--method",
        "fused-label",
        "--backbone",
        "small",
        "--device",
        "cpu",
        "--quiet",
    ]
    told = ["--plan", str(tmp_path / "plan.toml"), "--no-evaluate", "--epochs", "1", "--batch-size", "8"]
    assert call([*words, "--out", str(tmp_path / "run"), *told]) == 0, capsys.readouterr().err
    config = Run.open(tmp_path / "run").config
    assert (config.epochs, config.batch_size) == (1, 8)
    assert config.plan == FLAT.model_copy(update={"epochs": 1, "batch_size": 8})
    kept = (tmp_path / "run" / "settings.toml").read_text()
    assert 'plan = "../plan.toml"' in kept
    assert "as was asked for" in (tmp_path / "run" / "plan.toml").read_text()
    assert call([*words, "--out", str(tmp_path / "x"), *told, "--size", "256"]) == 2
    assert "leave out size, or the plan" in capsys.readouterr().err
    auto = ["--plan", "auto", "--epochs", "1", "--no-evaluate"]
    assert call([*words, "--out", str(tmp_path / "auto"), *auto]) == 0, capsys.readouterr().err
    assert 'plan = "auto"' in (tmp_path / "auto" / "settings.toml").read_text()
    assert "every case is an image" in (tmp_path / "auto" / "plan.toml").read_text()
    assert call([*words, "--out", str(tmp_path / "x"), "--plan", str(tmp_path / "none.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch": [1000000, 16]}, "plan.patch"),
        ({"batch_size": 10**9}, "plan.batch_size"),
        ({"spacing_mm": [1e-9, 1.0]}, "plan.spacing_mm"),
        ({"magic": 1}, "plan.magic"),
        ({"dims": 3}, "plan: patch has 2 numbers"),
        ({"patches_per_case": 0}, "plan.patches_per_case"),
        ({"overlap": 0.999}, "plan.overlap"),
    ],
)
def test_hostile_plans_of_runs(
    runs: dict[str, Run], tmp_path: Path, change: dict[str, object], said: str
) -> None:
    config = json.loads((runs["images"].path / "config.json").read_text())
    config["plan"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as raised:
        Run.open(tmp_path)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_planned_run_is_no_onnx(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="predicts by windows"):
        mrprism.export(runs["images"].path, "onnx", tmp_path / "out")


@pytest.mark.parametrize("anonymous", [False, True])
def test_masks_are_fused_by_what_was_said_of_the_case(anonymous: bool) -> None:
    """Of a case that one window sees whole, at its own size, the answer is that of a run without a plan."""
    torch.manual_seed(0)
    task = Task(1, ("organ",), ("ann", "bob", "cy"), anonymous)
    method = build_method("mrprism", task, "small", {})
    assert isinstance(method, MrPrism)
    method.counted.uniform_(0.6, 0.9)
    method.eval()
    random = np.random.default_rng(0)
    masks = random.random((3, 1, 32, 32)) < 0.4
    rated = np.array([[True], [True], [False]])
    sample = MultiRaterSample("a", random.random((1, 32, 32), dtype=np.float32), masks, rated)
    with torch.inference_mode():
        batch = collate([sample])
        (said,) = method.predict(batch.only("image")).cases()
        expected = method.fuse_given(batch.only("both"))[0].numpy()
    fused = fused_by_plan(method, sample, said)
    assert fused is not None
    np.testing.assert_allclose(fused.probability, expected, atol=1e-5)
    deep = replace(sample, masks=masks[:, :, None], image=sample.picture[:, None])
    stacked = replace(
        said, **{n: getattr(said, n)[..., None, :, :] for n in ("probability", "raters", "confidence")}
    )
    volume = fused_by_plan(method, deep, stacked)
    assert volume is not None
    np.testing.assert_allclose(np.asarray(volume.probability)[:, 0], fused.probability, atol=1e-6)
