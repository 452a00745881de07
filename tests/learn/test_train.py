"""The training loop: it learns, chooses honestly, warns, refuses, and says what to do."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import SMALL, TASK, Toy, dataset, samples

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.datasets import Dataset, write_dataset
from mrprism.learn.batch import Batch
from mrprism.learn.cases import Cases
from mrprism.learn.methods import METHODS
from mrprism.learn.run import Run
from mrprism.learn.settings import Select
from mrprism.learn.train import resume, train
from mrprism.learn.validation import validate

pytestmark = pytest.mark.usefixtures("toys")


def test_training_learns_and_leaves_a_whole_run(tmp_path: Path) -> None:
    run = train(dataset(16), "toy", tmp_path / "run", epochs=30, augment="light", **SMALL)  # type: ignore[arg-type]
    result = run.result()
    assert result is not None
    assert result.score is not None
    assert result.score > 0.8
    assert not result.collapsed
    assert result.steps == 30 * (len(run.config.train) // 2)
    assert not run.checkpoint.exists()
    log = run.log()
    steps = [line for line in log if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, result.steps + 1))
    assert set(steps[0]["terms"]) == {"consensus", "raters", "size"}
    assert steps[0]["loss"] > steps[-1]["loss"]
    validations = [line["validation"] for line in log if "validation" in line]
    assert max(v["score"] for v in validations) == result.score
    assert [v["chosen"] for v in validations].count(True) >= 1
    assert {*run.config.train, *run.config.val, *run.config.test} == {f"case{i:02d}" for i in range(16)}


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = train(dataset(), "toy", tmp_path / name, epochs=2, seed=seed, **SMALL)  # type: ignore[arg-type]
        weights.append(load_file(run.weights_file)["consensus.weight"])
        assert run.config.test == Run.open(tmp_path / "a").config.test  # the split has a seed of its own
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_what_chooses_the_weights(tmp_path: Path) -> None:
    referenced = train(dataset(), "toy", tmp_path / "a", epochs=1, **SMALL)  # type: ignore[arg-type]
    assert referenced.config.select == "val-reference"
    bare = train(dataset(reference=False), "toy", tmp_path / "b", epochs=1, **SMALL)  # type: ignore[arg-type]
    assert bare.config.select == "val-consensus"
    resting = train(dataset(), "toy", tmp_path / "e", epochs=1, schedule="cosine", **SMALL)  # type: ignore[arg-type]
    assert resting.config.select == "last"
    last = train(dataset(), "toy", tmp_path / "c", epochs=3, select="last", **SMALL)  # type: ignore[arg-type]
    result = last.result()
    assert result is not None
    assert result.chosen_epoch == 3
    with pytest.raises(InputError, match="needs one for every validation case"):
        train(dataset(reference=False), "toy", tmp_path / "d", epochs=1, select="val-reference", **SMALL)  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("select", ["val", "val-consensus"])
def test_selection_by_raters_never_reads_the_reference(tmp_path: Path, select: Select) -> None:
    """References turned upside down change nothing where they are not asked for."""
    other = [dataclasses.replace(s, reference=~s.reference) for s in samples(12) if s.reference is not None]
    upside_down = Dataset.from_samples("squares", TASK, other)
    logs = []
    for name, data in (("a", dataset()), ("b", upside_down)):
        run = train(data, "toy", tmp_path / name, epochs=3, select=select, **SMALL)  # type: ignore[arg-type]
        logs.append([line["validation"] for line in run.log() if "validation" in line])
    assert logs[0] == logs[1]


class Answer(Toy):
    """Predicts what it is told."""

    answer: torch.Tensor

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        return Prediction(probability=self.answer.expand(len(batch.image), *self.answer.shape))


def test_validation_scores_are_worked_by_hand() -> None:
    (sample,) = samples(1, height=4, width=4)
    masks = np.zeros((3, 2, 4, 4), bool)
    masks[0, :, 0, :2] = masks[1, :, 0, :1] = True  # votes 2, 1, 0, 0 of 3; then 1, 0 of 3
    reference = np.zeros((2, 4, 4), bool)
    reference[:, 0, :2] = True
    sample = dataclasses.replace(sample, masks=masks, reference=reference)
    cases = Cases({"case00": sample}, ["case00"], 4)
    method = Answer(TASK)
    method.answer = torch.zeros(2, 4, 4)
    method.answer[:, 0, 0] = 0.6
    found = {
        target: validate(
            method, cases, target, batch_size=1, device="cpu", autocast=torch.autocast("cpu", enabled=False)
        )
        for target in ("reference", "mean of raters")
    }
    # at 0.5 one pixel of two: 2·1/(1+2)
    assert found["reference"].structures == pytest.approx({"disc": 2 / 3, "cup": 2 / 3})
    # votes 2/3 and 1/3: above 0.1 and 0.3 two pixels (2/3), above 0.5 one (1), above 0.7 and 0.9 none (1)
    assert found["mean of raters"].score == pytest.approx((2 / 3 + 2 / 3 + 1 + 1 + 1) / 5)


@pytest.mark.parametrize(
    ("fail", "sentence"),
    [("constant", "disc: the probability is constant"), ("agreement", "agreement of every rater is 0.5")],
)
def test_collapse_is_said(
    tmp_path: Path, fail: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(dataset(), "toy", tmp_path / "run", epochs=4, options={"fail": fail}, **SMALL)  # type: ignore[arg-type]
    result = run.result()
    assert result is not None
    assert result.collapsed
    assert any(sentence in each for each in result.collapse)
    assert sentence in capsys.readouterr().err
    assert any(sentence in each for line in run.log() for each in line.get("collapse", ()))


def test_a_loss_that_is_no_number_stops_and_names_the_cases(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"consensus nan.* epoch 1, step 1, with cases case\d\d, case\d\d"):
        train(dataset(), "toy", tmp_path / "run", epochs=1, options={"fail": "nan"}, **SMALL)  # type: ignore[arg-type]


def test_out_of_memory_says_what_to_lower(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch size 2 and size 20: lower the batch size first"):
        train(dataset(), "toy", tmp_path / "run", epochs=1, options={"fail": "memory"}, **SMALL)  # type: ignore[arg-type]


def test_wrong_settings_leave_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for wrong, sentence in (
        ({"method": "toi"}, "unknown method 'toi'; known:"),
        ({"epochs": 0}, "epochs is 0"),
        ({"options": {"widht": 1}}, "no option 'widht'"),
        ({"device": "cuda"}, "no CUDA device"),
        ({"size": 4}, "size is 4"),
    ):
        if "device" in wrong and torch.cuda.is_available():
            continue
        settings = {"method": "toy", "epochs": 1, **SMALL, **wrong}
        with pytest.raises(InputError, match=sentence):
            train(dataset(), out=out, **settings)  # type: ignore[arg-type]
        assert not out.exists()


def test_needs_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "needs", frozenset({"diagnosis"}))
    with pytest.raises(InputError, match="needs a diagnosis for every training case"):
        train(dataset(), "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    monkeypatch.setattr(Toy, "needs", frozenset({"named raters"}))
    slots = Dataset.from_samples("slots", dataclasses.replace(TASK, anonymous=True), samples(12))
    with pytest.raises(InputError, match="raters are anonymous"):
        train(slots, "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]


def test_a_method_with_nothing_to_learn_becomes_a_run(tmp_path: Path) -> None:
    run = train(dataset(), "toy-fusion", tmp_path / "run", epochs=5, **SMALL)  # type: ignore[arg-type]
    result = run.result()
    assert result is not None
    assert (result.epochs, result.steps, result.parameters) == (0, 0, 0)
    assert result.score is not None
    assert result.score > 0.9


def test_one_case_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 patients cannot be divided"):
        train(dataset(1), "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is empty"):
        dataset(0)


def test_cosine_and_clipping(tmp_path: Path) -> None:
    run = train(
        dataset(), "toy", tmp_path / "run", epochs=2, schedule="cosine", clip=1e-9, select="last", **SMALL
    )  # type: ignore[arg-type]
    rates = [line["lr"] for line in run.log() if "lr" in line]
    assert rates[0] == pytest.approx(1e-2)
    assert rates == sorted(rates, reverse=True)
    assert rates[len(rates) // 2] == pytest.approx(5e-3)


def test_tensorboard_is_fed_through_accelerate(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = train(dataset(), "toy", tmp_path / "run", epochs=1, track="tensorboard", **SMALL)  # type: ignore[arg-type]
    assert list((run.path / "tracking").rglob("events.*"))


# --- stopping and resuming, in this process (tests/learn/test_kill_resume.py kills another one)


def test_a_stop_saves_and_resuming_gives_the_very_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGINT)  # a shell that starts tests behind itself sets its own
    straight = train(dataset(), "toy", tmp_path / "a", epochs=3, **SMALL)  # type: ignore[arg-type]
    count = 0
    losses = Toy.losses

    def stopping(self: Toy, batch: Batch) -> object:
        nonlocal count
        count += 1
        if count == 6:
            signal.raise_signal(signal.SIGINT)
        return losses(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "losses", stopping)
        with pytest.raises(
            KeyboardInterrupt, match=r"stopped after step 6; go on with: mrprism train --resume"
        ):
            train(dataset(), "toy", tmp_path / "b", epochs=3, **SMALL)  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGINT) is handler
    stopped = Run.open(tmp_path / "b")
    assert len(stopped.log()) >= 6
    resumed = resume(tmp_path / "b", dataset(), device="cpu", quiet=True)
    assert _log(resumed) == _log(straight)
    assert straight.weights_file.read_bytes() == resumed.weights_file.read_bytes()
    again = train(dataset(), "toy", tmp_path / "b", epochs=3, resume=True, **SMALL)  # type: ignore[arg-type]
    assert again.result() == resumed.result()


def test_resuming_on_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Toy, "losses", lambda self, batch: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(dataset(), "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    other = [dataclasses.replace(s, masks=~s.masks) for s in samples(12)]
    with pytest.raises(InputError, match="have changed since"):
        resume(tmp_path / "run", Dataset.from_samples("squares", TASK, other), device="cpu")
    with pytest.raises(InputError, match="data given from Python"):
        resume(tmp_path / "run", device="cpu")


def _log(run: Run) -> list[dict[str, object]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in run.log()]


# --- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(samples(12), tmp_path / "squares", name="squares", task=TASK)
    return tmp_path / "squares"


ARGUMENTS = ["--method", "toy", "--epochs", "2", "--size", "20", "--batch-size", "2", "--device", "cpu"]


def test_the_command_trains_and_scores(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert call(["train", str(folder), "--out", str(out), "--option", "width=3", *ARGUMENTS]) == 0
    shown = capsys.readouterr()
    assert "epoch 2/2" in shown.err
    assert "soft Dice" in shown.out
    assert Run.open(out).config.options == {"width": 3}
    assert (out / "table.csv").is_file()
    assert call(["train", str(folder), "--out", str(out), *ARGUMENTS]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert call(["train", "--resume", str(out), "--no-evaluate"]) == 0  # finished: nothing to do


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "toi"], "unknown method 'toi'; known:"),
        (["--option", "width"], "not of the form NAME=VALUE"),
        (["--option", "wdith=3"], "has no option 'wdith'"),
        (["--schedule", "linear"], "'linear' is not one of"),
        (["--track", "excel"], "'excel' is not one of"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert call(["train", str(folder), "--out", str(tmp_path / "run"), *ARGUMENTS, *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_full_disk_ends_the_command_with_a_sentence(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mrprism.learn import checkpoint

    write = checkpoint.write_file

    def full(path: Path, content: bytes) -> None:
        if path.name.startswith("optimiser-") and not path.name.startswith("optimiser-1."):
            raise InputError(f"cannot write '{path}': No space left on device")
        write(path, content)

    monkeypatch.setattr(checkpoint, "write_file", full)
    out = tmp_path / "run"
    command = ["train", str(folder), "--out", str(out), "--checkpoint-every", "0", *ARGUMENTS]
    assert call(command) == 2
    assert "No space left on device; that of step 1 is whole" in capsys.readouterr().err
    state = json.loads((out / "checkpoint" / "state.json").read_text())
    assert state["progress"]["total_steps"] == 1
    monkeypatch.undo()
    monkeypatch.setitem(METHODS, "toy", Toy)
    assert call(["train", "--resume", str(out), "--device", "cpu", "--no-evaluate"]) == 0
