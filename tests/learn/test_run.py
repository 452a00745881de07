"""A run folder: whole files, refused when wrong, nothing unpickled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy import TASK, Toy

from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.learn.checkpoint import Progress, load_checkpoint, save_checkpoint
from mrprism.learn.methods import METHODS
from mrprism.learn.methods.build import build_method
from mrprism.learn.run import Run
from mrprism.learn.settings import RunConfig
from mrprism.learn.weights import load_method, tensor_bytes

pytestmark = pytest.mark.usefixtures("toys")


def config(**changes: object) -> RunConfig:
    settings: dict[str, object] = {
        "method": "toy",
        "task": TASK,
        "dataset": "squares",
        "dataset_hash": "0",
        "train": ("a",),
        "val": ("b",),
        "test": ("c",),
    }
    return RunConfig.model_validate(settings | changes)


def stepped(method: Toy, times: int = 3) -> torch.optim.Adam:
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(times):
        optimiser.zero_grad()
        sum(p.square().sum() for p in method.parameters()).backward()  # type: ignore[union-attr]
        optimiser.step()
    return optimiser


def test_config_comes_back_as_it_was(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "deep" / "run", config(options={"width": 6}))
    opened = Run.open(tmp_path / "deep" / "run")
    assert opened.config == made.config
    assert opened.config.task == TASK
    assert opened.result() is None
    assert opened.log() == []


def test_a_run_that_exists_is_refused(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", config())
    with pytest.raises(InputError, match="already holds a run: go on with it by --resume"):
        Run.create(tmp_path / "run", config())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    with pytest.raises(InputError, match="already holds files that are not a run"):
        Run.create(tmp_path / "photos", config())
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", config())


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text('{"method": "toy"')
    with pytest.raises(InputError, match=r"config\.json"):
        Run.open(tmp_path)


def test_unknown_method_and_option_name_the_known() -> None:
    with pytest.raises(InputError, match=r"unknown method 'mrprsm'; known: .*toy"):
        build_method("mrprsm", TASK, "small", {})
    with pytest.raises(
        InputError, match="method 'toy' has no option 'widht'; known: width, wait, fail, plain"
    ):
        build_method("toy", TASK, "small", {"widht": 3})


def test_options_are_what_their_annotations_say() -> None:
    with pytest.raises(
        InputError, match="option 'width' of method 'toy' is 'wide': input should be a valid integer"
    ):
        build_method("toy", TASK, "small", {"width": "wide"})


def test_options_without_annotation_and_those_passed_on_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Passing(Toy):
        def __init__(self, task: Task, *, spoon=None, **options):  # type: ignore[no-untyped-def]
            super().__init__(task, **options)
            self.spoon = spoon

    monkeypatch.setitem(METHODS, "passing", Passing)
    method = build_method("passing", TASK, "small", {"spoon": "wood", "wait": 0.5})
    assert (method.spoon, method.wait) == ("wood", 0.5)


def test_weights_come_back_with_buffers_of_their_own_size(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config())
    method = Toy(TASK)
    method.share = torch.arange(5.0)
    run.weights_file.write_bytes(tensor_bytes(method.state_dict()))
    loaded = load_method(run)
    assert not loaded.training
    for name, tensor in method.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_wrong_weights_are_refused_in_one_sentence(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config())
    with pytest.raises(InputError, match=r"has no weights\.safetensors yet"):
        load_method(run)
    save_file({"encoder.weight": torch.zeros(3)}, run.weights_file)
    with pytest.raises(InputError, match="these are not the weights of this run's method"):
        load_method(run)
    run.weights_file.write_bytes(tensor_bytes(Toy(TASK, width=7).state_dict()))
    with pytest.raises(InputError, match=r"differ in name, shape or type, first 'features\.0\.weight'"):
        load_method(run)
    run.weights_file.write_bytes(b"PK\x03\x04 this is no safetensors file")
    with pytest.raises(InputError, match="not a complete safetensors file"):
        load_method(run)


def test_checkpoint_brings_weights_optimiser_and_progress_back(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config())
    method = Toy(TASK)
    optimiser = stepped(method)
    progress = Progress(epoch=2, step=1, total_steps=7, score=0.5, chosen_epoch=2, streaks={"x": 2})
    save_checkpoint(run, progress, method, optimiser, method.state_dict())
    other = Toy(TASK)
    resumed = torch.optim.Adam(other.parameters(), lr=1e-2)
    assert load_checkpoint(run, other, resumed) == progress
    assert load_file(run.weights_file).keys() == method.state_dict().keys()
    for mine, theirs in ((method, other), (optimiser, resumed)):
        _same(mine.state_dict(), theirs.state_dict())  # type: ignore[attr-defined]
    # the next step is the same too
    for each, opt in ((method, optimiser), (other, resumed)):
        opt.zero_grad()
        sum(p.square().sum() for p in each.parameters()).backward()  # type: ignore[union-attr]
        opt.step()
    _same(method.state_dict(), other.state_dict())


def _same(mine: object, theirs: object) -> None:
    if isinstance(mine, torch.Tensor):
        assert isinstance(theirs, torch.Tensor)
        assert torch.equal(mine, theirs)
    elif isinstance(mine, dict):
        assert isinstance(theirs, dict)
        assert mine.keys() == theirs.keys()
        for key in mine:
            _same(mine[key], theirs[key])
    else:
        assert mine == theirs


def test_only_the_last_checkpoint_is_kept_and_damage_is_found(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config())
    method = Toy(TASK)
    for step in (1, 2):
        save_checkpoint(run, Progress(total_steps=step), method, stepped(method), None)
    names = sorted(file.name for file in run.checkpoint.iterdir())
    assert names == ["optimiser-2.safetensors", "state.json", "weights-2.safetensors"]
    damaged = run.checkpoint / "weights-2.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(InputError, match=r"weights-2\.safetensors is missing or damaged"):
        load_checkpoint(run, method, None)


def test_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "run", config())
    method = Toy(TASK)
    optimiser = stepped(method)
    save_checkpoint(run, Progress(total_steps=1), method, optimiser, method.state_dict())
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    stepped(method)
    for after in range(3):  # the disk fills up at each of the files in turn
        written = []

        def fsync(descriptor: int, after: int = after, written: list[int] = written) -> None:
            written.append(descriptor)
            if len(written) > after:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", fsync)
            with pytest.raises(InputError, match="No space left on device; that of step 1 is whole"):
                save_checkpoint(run, Progress(total_steps=2), method, optimiser, None)
        found = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
        assert found == before
        assert load_checkpoint(run, Toy(TASK), None).total_steps == 1


def test_a_log_cut_by_a_crash_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config())
    run.log_file.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert run.log() == [{"step": 1}, {"step": 2}]
