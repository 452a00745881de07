"""A config and what was trained with it belong together: a run edited by hand is refused, and says where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy import SMALL, TASK, Toy, register, samples

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import write_dataset
from mrprism.learn.machine import machine_of, threads_of, what_is_lost
from mrprism.learn.predict import load
from mrprism.learn.run import Run
from mrprism.learn.tie import settings_of
from mrprism.learn.train import resume, train

pytestmark = pytest.mark.usefixtures("toys")


class Stopped(Exception):  # noqa: N818 (no error)
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a finished run and one that was stopped after five steps."""
    folder = tmp_path_factory.mktemp("made")
    patch = pytest.MonkeyPatch()
    register(patch)
    write_dataset(samples(10), folder / "squares", name="squares", task=TASK)
    settings = {**SMALL, "options": {"width": 4}, "checkpoint_every": 0.0, "epochs": 3, "select": "last"}
    train(folder / "squares", "toy", folder / "finished", **settings)  # type: ignore[arg-type]
    losses, count = Toy.losses, 0

    def stopping(self: Toy, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count > 5:
            raise Stopped
        return losses(self, batch)

    patch.setattr(Toy, "losses", stopping)
    with pytest.raises(Stopped):
        train(folder / "squares", "toy", folder / "stopped", **settings)  # type: ignore[arg-type]
    patch.undo()
    return folder


Edit = Callable[[dict[str, Any]], Any]


def _swap(config: dict[str, Any], name: str) -> None:
    config["task"][name] = config["task"][name][::-1]


EDITS: dict[str, Edit] = {
    "learning_rate": lambda c: c.update(learning_rate=1e-3),
    "seed": lambda c: c.update(seed=7),
    "split_seed": lambda c: c.update(split_seed=7),
    "batch_size": lambda c: c.update(batch_size=3),
    "epochs": lambda c: c.update(epochs=30),
    "method": lambda c: c.update(method="fused-label", options={}),
    "options.width": lambda c: c["options"].update(width=5),
    "options.wait": lambda c: c["options"].update(wait=0.5),
    "task.raters": lambda c: _swap(c, "raters"),
    "task.structures": lambda c: _swap(c, "structures"),
    "task.anonymous": lambda c: c["task"].update(anonymous=True),
    "mrprism": lambda c: c.update(mrprism="0.3.7"),
    "window": lambda c: c.update(window=[0, 1]),
    "size": lambda c: c.update(size=24),
    "schedule": lambda c: c.update(schedule="cosine"),
    "augment": lambda c: c.update(augment="none"),
    "select": lambda c: c.update(select="val"),
    "clip": lambda c: c.update(clip=1.0),
    "nan": lambda c: c.update(nan="skip"),
    "test": lambda c: c.update(test=c["test"][:1]),
    "train": lambda c: c.update(train=c["train"][::-1]),
    "dataset": lambda c: c.update(dataset="circles"),
    "dataset_hash": lambda c: c.update(dataset_hash="0" * 128),
    "threads": lambda c: c.update(threads=99),
    "machine.torch": lambda c: c["machine"].update(torch="1.0"),
    "machine": lambda c: c.pop("machine"),
    "images": lambda c: c["images"].pop("case00"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_config_is_neither_resumed_nor_predicted_with(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for kind in ("stopped", "finished"):
        shutil.copytree(made / kind, tmp_path / kind)
        file = tmp_path / kind / "config.json"
        config = json.loads(file.read_text())
        EDITS[name](config)
        file.write_text(json.dumps(config))
    PIL.Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    run = str(tmp_path / "finished")
    for command in (
        ["train", "--resume", str(tmp_path / "stopped"), "--device", "cpu", "--no-evaluate"],
        ["train", "--resume", run, "--device", "cpu", "--no-evaluate"],
        ["predict", run, str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--device", "cpu"],
        ["evaluate", run, "--device", "cpu"],
    ):
        assert call(command) == 2, command
        said = capsys.readouterr().err
        assert name in said.split("put config.json back")[0]
        assert "config.json" in said
        assert "Traceback" not in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_sentence_names_both_values(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "stopped", tmp_path / "run")
    file = tmp_path / "run/config.json"
    file.write_text(file.read_text().replace('"learning_rate": 0.01', '"learning_rate": 0.02'))
    with pytest.raises(
        InputError,
        match=r"checkpoint was trained with learning_rate 0\.01, and config\.json says 0\.02: put config\.json back",
    ):
        resume(tmp_path / "run", device="cpu")


def test_what_may_change_is_where_the_data_and_the_run_are(made: Path, tmp_path: Path) -> None:
    for kind in ("stopped", "finished"):
        shutil.copytree(made / kind, tmp_path / kind)
    shutil.copytree(made / "squares", tmp_path / "moved")
    file = tmp_path / "stopped/config.json"
    config = json.loads(file.read_text())
    config["dataset_path"] = str(tmp_path / "moved")
    file.write_text(json.dumps(config))
    gone_on = resume(tmp_path / "stopped", device="cpu", quiet=True)
    assert gone_on.weights_file.read_bytes() == (made / "finished/weights.safetensors").read_bytes()
    assert load(tmp_path / "finished", "cpu").predict(samples(1)[0]).probability.shape == (2, 20, 20)


def test_weights_of_another_run_are_refused(made: Path, tmp_path: Path) -> None:
    """The same network, trained with another seed: names and shapes say nothing."""
    shutil.copytree(made / "finished", tmp_path / "run")
    other = train(made / "squares", "toy", tmp_path / "other", epochs=3, seed=1, select="last", **SMALL)  # type: ignore[arg-type]
    shutil.copy(other.weights_file, tmp_path / "run/weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors was trained with .*seed"):
        load(tmp_path / "run", "cpu")
    save_file(load_file(other.weights_file), tmp_path / "run/weights.safetensors")
    with pytest.raises(InputError, match="does not say which settings it was trained with"):
        load(tmp_path / "run", "cpu")
    save_file(load_file(other.weights_file), tmp_path / "run/weights.safetensors", {"mrprism": "[1]"})
    with pytest.raises(InputError, match="what stands beside the weights is not what mrprism writes"):
        load(tmp_path / "run", "cpu")


def as_of_0_1(run: Path) -> None:
    """The run as version 0.1 wrote it: no marks of images, no machine, nothing beside the weights."""
    config = json.loads((run / "config.json").read_text())
    for name in ("images", "threads", "machine"):
        config.pop(name)
    config["mrprism"] = "0.1.0"
    (run / "config.json").write_text(json.dumps(config))
    if (run / "weights.safetensors").exists():
        save_file(load_file(run / "weights.safetensors"), run / "weights.safetensors")
    state = run / "checkpoint/state.json"
    if state.exists():
        content = json.loads(state.read_text())
        content.pop("settings")
        state.write_text(json.dumps(content))


def test_runs_of_0_1_still_open_and_it_is_said(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("stopped", "finished"):
        shutil.copytree(made / kind, tmp_path / kind)
        as_of_0_1(tmp_path / kind)
    assert load(tmp_path / "finished", "cpu").predict(samples(1)[0]).probability.shape == (2, 20, 20)
    PIL.Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    run = str(tmp_path / "finished")
    for command in (
        ["predict", run, str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--device", "cpu"],
        ["evaluate", run, "--dataset", str(made / "squares"), "--device", "cpu", "--json"],
    ):
        assert call(command) == 0
        assert "note: the run is of mrprism 0.1.0, which did not keep" in capsys.readouterr().err
    assert call(["train", "--resume", str(tmp_path / "stopped"), "--device", "cpu", "--no-evaluate"]) == 0
    assert "which did not keep the settings beside the weights" in " ".join(capsys.readouterr().err.split())
    one, other = (
        load_file(folder / "weights.safetensors") for folder in (tmp_path / "stopped", made / "finished")
    )
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_settings_are_told_as_they_are_or_by_their_hash(made: Path) -> None:
    config = Run.open(made / "finished").config
    told = settings_of(config)
    assert told["learning_rate"] == "0.01"
    assert told["options.width"] == "4"
    assert told["task.raters"] == '["ann", "bob", "cy"]'
    assert told["dataset_hash"].startswith("sha256:")
    assert "dataset_path" not in told
    assert max(map(len, told.values())) < 90


# --- the machine


def test_resuming_with_other_threads_gives_the_same_weights(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "stopped", tmp_path / "run")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        run = resume(tmp_path / "run", device="cpu", quiet=True)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert run.weights_file.read_bytes() == (made / "finished/weights.safetensors").read_bytes()


def test_a_run_keeps_its_machine_and_says_what_another_one_loses(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Run.open(made / "stopped").config
    assert config.threads == torch.get_num_threads()
    assert config.machine == machine_of(torch.device("cpu"))
    assert set(config.machine) == {"device", "processor", "torch", "numpy", "monai"}
    assert what_is_lost(config, torch.device("cpu")) is None
    with threads_of(config.model_copy(update={"threads": 3})):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == config.threads
    moved = what_is_lost(config, torch.device("cuda"))
    assert moved is not None
    assert "device cpu, now cuda" in moved
    on_gpu = config.model_copy(update={"machine": {**config.machine, "device": "cuda", "torch": "1.0"}})
    assert what_is_lost(on_gpu, torch.device("cuda")) is None  # nothing was promised
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    limited = what_is_lost(config.model_copy(update={"threads": 8}), torch.device("cpu"))
    assert limited is not None
    assert "8 threads, now 1 by OMP_THREAD_LIMIT" in limited
    monkeypatch.delenv("OMP_THREAD_LIMIT")

    shutil.copytree(made / "stopped", tmp_path / "run")
    from mrprism.learn import machine

    monkeypatch.setattr(machine, "version", lambda name: "9.9")
    assert call(["train", "--resume", str(tmp_path / "run"), "--device", "cpu", "--no-evaluate"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"torch {config.machine['torch']}, now 9.9" in said
    assert "will not be, bit for bit, those of a training never stopped" in said
    (line,) = [line for line in Run.open(tmp_path / "run").log() if "resumed_with" in line]
    assert line["resumed_with"]["torch"] == "9.9"


def test_the_same_command_goes_on_under_the_begun_run_s_own_settings(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "stopped", tmp_path / "run")
    settings = {**SMALL, "options": {"width": 4}, "epochs": 3, "select": "last"}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        run = train(made / "squares", "toy", tmp_path / "run", **settings)  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(before)
    assert run.config == Run.open(made / "stopped").config
    assert run.weights_file.read_bytes() == (made / "finished/weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    "option", [["--epochs", "30"], ["--seed", "1"], ["--method", "mrprism"], ["--drawn-only"]]
)
def test_settings_beside_resume_are_refused_not_ignored(
    made: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    assert call(["train", "--resume", str(made / "stopped"), "--device", "cpu", *option]) == 2
    said = capsys.readouterr().err
    assert f"--resume goes on with the run's own settings: leave out {option[0]}" in said
