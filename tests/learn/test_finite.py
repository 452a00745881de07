"""NaN and infinity: refused in weights, never saved, never written as an answer, never compared away."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from toy import SMALL, TASK, Toy, dataset, register, samples

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.datasets import write_dataset
from mrprism.learn.batch import Batch
from mrprism.learn.checkpoint import Progress, load_checkpoint, save_checkpoint
from mrprism.learn.evaluate import evaluate
from mrprism.learn.finite import check_answer, not_finite
from mrprism.learn.methods import METHODS
from mrprism.learn.predictor import load
from mrprism.learn.run import Run
from mrprism.learn.train import train
from mrprism.metrics import METRICS
from mrprism.metrics.scores import Row, read_table, score, write_table

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy's run and its data set."""
    folder = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    register(patch)
    write_dataset(samples(8), folder / "squares", name="squares", task=TASK)
    train(folder / "squares", "toy", folder / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    patch.undo()
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    shutil.copytree(trained / "run", tmp_path / "run")
    return Run.open(tmp_path / "run")


def respoil(run: Run, name: str, value: float) -> None:
    """One value of one tensor of the weights is another; what the file says of itself stays."""
    with safe_open(run.weights_file, "pt") as file:
        about = file.metadata()
    tensors = load_file(run.weights_file)
    tensors[name].view(-1)[0] = value
    save_file(tensors, run.weights_file, about)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["features.0.weight", "features.1.running_var", "share"])
def test_weights_that_are_no_number_are_refused_by_every_command(
    run: Run, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: float
) -> None:
    respoil(run, name, value)
    PIL.Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    out = str(tmp_path / "out")
    for command in (
        ["predict", str(run.path), str(tmp_path / "a.png"), "--out", out, "--device", "cpu"],
        ["evaluate", str(run.path), "--dataset", str(trained / "squares"), "--device", "cpu"],
        ["export", str(run.path), "--to", "onnx", "--out", out],
    ):
        if command[0] == "export":
            pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
        assert call(command) == 2
        said = capsys.readouterr().err
        assert f"weights.safetensors: tensor '{name}' has 1 value that is NaN or infinite" in said
        assert "Traceback" not in said
    assert not Path(out).exists()


def test_finite_weights_that_answer_nan_write_nothing(
    run: Run, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variance below zero is a number; what it gives is none."""
    PIL.Image.fromarray(np.full((20, 20), 200, np.uint8)).save(tmp_path / "a.png")
    respoil(run, "features.1.running_var", -1.0)
    (run.path / "calibration.json").unlink()  # of the weights as they were
    command = ["predict", str(run.path), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert call([*command, "--device", "cpu"]) == 2
    assert "NaN or infinite in its probability" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))
    table = run.table_file.read_bytes() if run.table_file.exists() else None
    assert call(["evaluate", str(run.path), "--dataset", str(trained / "squares")]) == 2
    said = capsys.readouterr().err
    assert "method 'toy' answers 'case0" in said
    assert "Traceback" not in said
    assert table == (run.table_file.read_bytes() if run.table_file.exists() else None)
    with pytest.raises(InputError, match="NaN or infinite in its probability"):
        load(run, "cpu").fuse(samples(1)[0])


class Overflowing(Toy):
    """Answers, or fuses, with a value that is no number somewhere."""

    def predict(self, batch: Batch) -> Prediction:
        found = super().predict(batch)
        maps = {
            "probability": found.probability,
            "raters": found.raters,
            "confidence": found.confidence,
            "steps": found.steps,
            "draws": found.probability[:, None].clone(),
        }
        spoilt = maps[self.fail]
        target = spoilt[0] if isinstance(spoilt, tuple) else spoilt
        target.view(-1)[3] = torch.nan
        return Prediction(**maps)


@pytest.mark.parametrize("field", ["probability", "raters", "confidence", "draws", "steps"])
def test_every_map_of_an_answer_is_looked_at(trained: Path, field: str) -> None:
    predictor = load(trained / "run", "cpu")
    method = Overflowing(TASK, fail=field)
    with pytest.raises(InputError, match=f"answers 'case00' with .* NaN or infinite in its {field}"):
        dataclasses.replace(predictor, method=method.eval()).predict(samples(1)[0])


def test_what_is_absent_or_not_a_float_is_no_fault() -> None:
    check_answer(Prediction(np.zeros((1, 2, 2)), ties=np.ones((1, 2, 2), bool)), "a", "toy")
    assert not_finite({"count": torch.tensor(3), "half": torch.ones(2, dtype=torch.bfloat16)}) is None
    assert not_finite({"half": torch.tensor([1, torch.nan], dtype=torch.bfloat16)}) == ("half", 1)


# --- training


def test_a_checkpoint_never_holds_nan(tmp_path: Path, trained: Path) -> None:
    run = Run.create(tmp_path / "run", Run.open(trained / "run").config)
    method = Toy(TASK)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    sum(p.sum() for p in method.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()
    save_checkpoint(run, Progress(total_steps=5), method, optimiser, method.state_dict())
    kept = {file.name: file.read_bytes() for file in run.checkpoint.iterdir()}
    first = next(iter(optimiser.state.values()))
    for spoilt, says in (
        (first["exp_avg_sq"], "optimiser of '0.exp_avg_sq'"),
        (method.share, "weights of 'share'"),
    ):
        if not spoilt.numel():
            method.share = spoilt = torch.zeros(2)
        before = spoilt.clone()
        spoilt.view(-1)[0] = torch.inf
        with pytest.raises(
            InputError, match=f"the {says} became NaN or infinite by step 6: .* that of step 5 is whole"
        ):
            save_checkpoint(run, Progress(total_steps=6), method, optimiser, None)
        spoilt.copy_(before)
    assert {file.name: file.read_bytes() for file in run.checkpoint.iterdir()} == kept


def test_an_optimiser_that_holds_nan_is_not_gone_on_with(tmp_path: Path, trained: Path) -> None:
    """The hash of the file is right: somebody saved it so."""
    import hashlib

    run = Run.create(tmp_path / "run", Run.open(trained / "run").config)
    method = Toy(TASK)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    sum(p.sum() for p in method.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()
    save_checkpoint(run, Progress(total_steps=1), method, optimiser, None)
    file = run.checkpoint / "optimiser-1.safetensors"
    tensors = load_file(file)
    tensors["2.exp_avg"].view(-1)[0] = torch.nan
    save_file(tensors, file)
    state = json.loads((run.checkpoint / "state.json").read_text())
    state["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (run.checkpoint / "state.json").write_text(json.dumps(state))
    with pytest.raises(
        InputError, match=r"optimiser-1\.safetensors: tensor '2\.exp_avg' has 1 value that is NaN"
    ):
        load_checkpoint(run, Toy(TASK), torch.optim.Adam(Toy(TASK).parameters(), lr=1e-2))


class RootOfZero(Toy):
    """From step 5 on a loss that is a number, with a gradient that is none: the root of a square at zero."""

    steps = 0

    def losses(self, batch: Batch) -> Iterator[dict[str, torch.Tensor]]:
        RootOfZero.steps += 1
        for terms in super().losses(batch):
            at_zero = 0 * self.consensus.weight.square().sum()
            yield {**terms, "root": at_zero.sqrt() if RootOfZero.steps >= 5 else at_zero}


@pytest.mark.parametrize("nan", ["stop", "skip"])
def test_a_gradient_that_is_no_number_is_never_stepped_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nan: str
) -> None:
    monkeypatch.setitem(METHODS, "toy", RootOfZero)
    RootOfZero.steps = 0
    settings = {**SMALL, "checkpoint_every": 0.0, "select": "last", "nan": nan, "augment": "none"}
    with pytest.raises(InputError) as caught:
        train(dataset(), "toy", tmp_path / "run", epochs=4, **settings)  # type: ignore[arg-type]
    said = str(caught.value)
    if nan == "stop":
        assert "the gradient of the loss is not a number any more" in said
        assert "epoch 2, step 1, with cases case" in said
        assert "that of step 4 is whole" in said
    else:
        assert "the loss of every batch of epoch 2 is not a number" in said
    run = Run.open(tmp_path / "run")
    method = Toy(TASK)
    load_checkpoint(run, method, None)
    assert not_finite(method.state_dict()) is None


def test_a_loss_that_becomes_nan_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses, count = Toy.losses, 0

    def spoilt(self: Toy, batch: Batch) -> Iterator[dict[str, torch.Tensor]]:
        nonlocal count
        count += 1
        for terms in losses(self, batch):
            yield {name: term * (torch.nan if count == 5 else 1) for name, term in terms.items()}

    monkeypatch.setattr(Toy, "losses", spoilt)
    write_dataset(samples(8), tmp_path / "squares", name="squares", task=TASK)
    command = ["train", str(tmp_path / "squares"), "--out", str(tmp_path / "run"), "--method", "toy"]
    command += [
        "--epochs",
        "4",
        "--size",
        "20",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        "--checkpoint-every",
        "0",
    ]
    assert call(command) == 2
    said = capsys.readouterr().err
    assert "the loss is not a number any more (consensus nan) in epoch" in said
    assert "that of step 4 is whole" in said
    assert "Traceback" not in said
    assert call(["train", "--resume", str(tmp_path / "run"), "--device", "cpu", "--no-evaluate"]) == 0


def test_a_network_that_answers_nan_while_training_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Toy.predict
    monkeypatch.setattr(
        Toy, "predict", lambda self, batch: Prediction(predict(self, batch).probability * torch.nan)
    )
    with pytest.raises(InputError, match="answers NaN or infinite values on the validation cases case"):
        train(dataset(8), "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]


# --- exports and tables


def test_onnx_that_differs_by_nan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    from mrprism.learn import to_onnx

    class Session:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
            found = np.zeros((1, 1, 4, 4), np.float32)
            found[0, 0, 2, 2] = np.nan
            return [found]

    monkeypatch.setattr(to_onnx.onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(to_onnx.Network, "forward", lambda self, image: (torch.zeros(1, 1, 4, 4),))
    with pytest.raises(InputError, match="gives NaN or infinite values in 'probability'"):
        to_onnx._difference(to_onnx.Network(Toy(TASK)), tmp_path / "x.onnx", (1, 4, 4), "toy")


def test_a_metric_that_is_always_defined_is_never_written_as_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = samples(1)[0]
    prediction = Prediction(np.zeros((2, 20, 20), np.float32))
    rows = score(prediction, sample, TASK)
    assert any(np.isnan(row.value) for row in rows if row.metric == "hd95")  # to an empty outline
    for value in (float("nan"), float("inf")):
        broken = dataclasses.replace(METRICS["brier"], function=lambda *_, value=value: value)
        monkeypatch.setitem(METRICS, "brier", broken)
        with pytest.raises(
            InputError, match=f"brier of 'disc' of case 'case00' is {value:g}; expected a number"
        ):
            score(prediction, sample, TASK)


@pytest.mark.parametrize(("metric", "value", "fine"), [
    ("dice", "nan", False), ("dice", "inf", False), ("hd95", "nan", True), ("hd95", "inf", False),
    ("soft_dice", "-Infinity", False), ("somebody's own", "nan", True), ("somebody's own", "1e999", False),
])  # fmt: skip
def test_a_table_with_values_that_cannot_be_is_refused(
    tmp_path: Path, metric: str, value: str, fine: bool
) -> None:
    write_table([Row("a", "a", "disc", "final", "reference", metric, 0.5)], tmp_path / "table.csv")
    text = (tmp_path / "table.csv").read_text()
    (tmp_path / "table.csv").write_text(text.replace("0.5", value))
    if fine:
        assert np.isnan(read_table(tmp_path / "table.csv")[0].value)
        return
    with pytest.raises(InputError, match="damaged at line 2"):
        read_table(tmp_path / "table.csv")


def test_evaluate_is_whole_or_not_at_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(run, dataset(8), device="cpu")
    before = run.table_file.read_bytes()
    respoil(run, "features.1.running_var", -1.0)
    (run.path / "calibration.json").unlink()  # of the weights as they were
    with pytest.raises(InputError, match="NaN or infinite"):
        evaluate(run, dataset(8), device="cpu")
    assert run.table_file.read_bytes() == before
