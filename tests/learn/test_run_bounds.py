"""A run folder from elsewhere asks for more than it should: refused by its numbers and its header, unbuilt."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file
from torch import nn
from toy import SMALL, TASK, Toy, register, samples

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.datasets import write_dataset
from mrprism.learn import weights
from mrprism.learn.bounds import Names, Options
from mrprism.learn.checkpoint import Progress, load_checkpoint, save_checkpoint
from mrprism.learn.header import MOST_BYTES, read_header
from mrprism.learn.methods import METHODS
from mrprism.learn.methods.build import build_method
from mrprism.learn.run import Run, RunResult, read_model
from mrprism.learn.settings import RunConfig
from mrprism.learn.train import resume, train
from mrprism.learn.weights import load_method, tensor_bytes

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    patch = pytest.MonkeyPatch()
    register(patch)
    write_dataset(samples(8), folder / "squares", name="squares", task=TASK)
    train(folder / "squares", "toy", folder / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    patch.undo()
    PIL.Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / "a.png")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A forged run: its settings stand nowhere beside its weights, as in a run of 0.1; no tensor may be read."""
    shutil.copytree(made / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    for name in ("machine", "threads", "images"):
        config.pop(name)
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    file = tmp_path / "run/weights.safetensors"
    save_file(load_file(file), file)
    monkeypatch.setattr(weights, "read_tensors", lambda file: pytest.fail("a tensor was read"))
    return tmp_path / "run"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def edited(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))


MANY = [f"r{number}" for number in range(100_000)]

FORGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "members": (
        lambda c: c.update(method="deep-ensemble", options={"members": 100_000}, backbone="small"),
        "option 'members' of method 'deep-ensemble' is 100000: input should be less than or equal to 100",
    ),
    "members that are allowed, and not there": (
        lambda c: c.update(method="deep-ensemble", options={"members": 100}, backbone="small"),
        "asks for a network of more than 1039 parts",
    ),
    "passes": (lambda c: c.update(method="mc-dropout", options={"passes": 10**9}), "'passes' of method"),
    "steps": (lambda c: c.update(method="diagnosis-first-fusion", options={"steps": 10**8}), "'steps' of method"),
    "recurrences": (lambda c: c.update(method="mrprism", options={"recurrences": 10**7}), "'recurrences' of method"),
    "rounds when predicting": (
        lambda c: c.update(method="mrprism", options={"predict_recurrences": 10**7}),
        "'predict_recurrences' of method",
    ),
    "shuffles": (lambda c: c.update(method="mrprism", options={"shuffles": 101}), "'shuffles' of method"),
    "hypotheses": (
        lambda c: c.update(method="multiple-hypotheses", options={"hypotheses": 2**31}),
        "option 'hypotheses' is 2147483648; expected a number of at most 1e+09",
    ),
    "pixels": (lambda c: c.update(method="max-mig", options={"pixels": 10**9}), "'pixels' of method"),
    "joint classes of forty structures": (
        lambda c: [
            c.update(method="crowd-layer", options={"grouping": "joint"}),
            c["task"].update(structures=MANY[:40]),
        ],
        "40 structures cannot be read jointly, at most 10",
    ),
    "a hundred thousand raters": (lambda c: c["task"].update(raters=MANY), "there are 100000 raters; expected 1 to 1000"),
    "structures": (lambda c: c["task"].update(structures=MANY), "there are 100000 structures; expected 1 to 1000"),
    "channels": (lambda c: c["task"].update(channels=2**31), "there are 2147483648 channels; expected 1 to 1000"),
    "a thousand raters of a network of three": (
        lambda c: [c.update(method="mrprism", options={}, backbone="small"), c["task"].update(raters=MANY[:1000])],
        "weights.safetensors: these are not the weights",
    ),
    "no raters": (lambda c: c["task"].update(raters=[]), "there are 0 raters"),
    "two raters of one name": (lambda c: c["task"].update(raters=["ann", "ann"]), "two raters have one name"),
    "a name without end": (lambda c: c["task"].update(raters=["a" * 5000]), "at most 1000 letters"),
    "size": (lambda c: c.update(size=2**31), "size is 2147483648: input should be less than or equal to 4096"),
    "size of many digits": (lambda c: c.update(size=10**400), "size"),
    "size below zero": (lambda c: c.update(size=-1), "size is -1: input should be greater than or equal to 8"),
    "neighbours": (lambda c: c.update(neighbours=10**9, slices="axial"), "neighbours is 1000000000"),
    "epochs": (lambda c: c.update(epochs=10**12), "epochs is 1000000000000"),
    "batch": (lambda c: c.update(batch_size=10**12), "batch_size is 1000000000000"),
    "batch below one": (lambda c: c.update(batch_size=0), "batch_size is 0"),
    "a rate that is no number": (lambda c: c.update(learning_rate=float("nan")), "learning_rate"),
    "a rate without end": (lambda c: c.update(learning_rate=float("inf")), "learning_rate"),
    "clipping below zero": (lambda c: c.update(clip=-1), "clip is -1"),
    "clipping by NaN": (lambda c: c.update(clip=float("nan")), "clip"),
    "seed": (lambda c: c.update(seed=2**70), "seed"),
    "seed below zero": (lambda c: c.update(seed=-1), "seed is -1"),
    "processes": (lambda c: c.update(processes=0), "processes is 0"),
    "threads": (lambda c: c.update(threads=10**9), "threads is 1000000000"),
    "window": (lambda c: c.update(window=[-1e308, 1e308]), "less than 1e30 apart"),
    "window of NaN": (lambda c: c.update(window=[float("nan"), 1]), "window"),
    "window of no width": (lambda c: c.update(window=[1, 1]), "the lower one first"),
    "window upside down": (lambda c: c.update(window=[1, 0]), "the lower one first"),
    "an option that is no number": (lambda c: c.update(options={"wait": float("nan")}), "option 'wait' is nan"),
    "an option without end": (lambda c: c.update(options={"wait": float("-inf")}), "option 'wait' is -inf"),
    "an option of many digits": (lambda c: c.update(options={"width": 10**400}), "option 'width' is a number of 4"),
    "an option below all bounds": (lambda c: c.update(options={"width": -(10**12)}), "option 'width'"),
    "an option in an option": (
        lambda c: c.update(options={"width": json.loads(nested(50))}),
        "option 'width' has lists in lists, more than 5 deep",
    ),
    "an option of many values": (
        lambda c: c.update(options={"width": list(range(20_000))}),
        "option 'width' holds more than 10000 values",
    ),
    "an option of much text": (lambda c: c.update(options={"fail": "x" * 10**6}), "a text of 1000000 letters"),
    "many options": (lambda c: c.update(options={f"o{n}": 1 for n in range(20_000)}), "there are 20000 options"),
    "a wide network": (lambda c: c.update(options={"width": 10**8}), "these are not the weights of this run's method"),
    "a case on two sides": (lambda c: c.update(test=[*c["test"], c["train"][0]]), "is in train and in test"),
    "a case twice": (lambda c: c.update(train=[*c["train"], c["train"][0]]), "is there twice"),
    "a backbone of its own": (lambda c: c.update(method="fused-label", options={}, backbone="x" * 10**5), "backbone"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_config_is_refused_before_a_tensor_is_read(
    run: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, says = FORGED[name]
    edited(run, change)
    assert (
        call(["predict", str(run), str(made / "a.png"), "--out", str(tmp_path / "out"), "--device", "cpu"])
        == 2
    )
    said = capsys.readouterr().err
    assert says in said
    assert len(said) < 900  # a sentence, whatever was asked for
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [
    '{"options": {"a": ' + nested(100_000) + "}}", nested(100_000), "[" * 1_000_000, '{"size": ' + "9" * 100_000 + "}",
    "", "null", '"x"', '{"size": 1e999}', "\x00" * 1000,
], ids=range(9))  # fmt: skip
def test_a_config_that_is_no_config_is_refused(run: Path, text: str) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        Run.open(run)


@pytest.mark.parametrize("name", ["config.json", "result.json", "state.json"])
def test_json_of_gigabytes_is_not_read(run: Path, name: str) -> None:
    with (run / name).open("ab") as file:
        file.truncate(1 << 40)  # a hole: it takes no room
    with pytest.raises(InputError, match=rf"{name} has more than 64 MiB"):
        read_model(run / name, RunConfig)


def test_a_run_has_a_million_cases_at_most() -> None:
    with pytest.raises(ValidationError, match="there are 1000001 cases; at most 1000000 are read"):
        TypeAdapter(Names).validate_python(("a",) * 1_000_001)


def test_a_header_lists_a_hundred_thousand_tensors_at_most(run: Path) -> None:
    file, one = run / "weights.safetensors", tensor([0], 0)
    file.write_bytes(header_of({f"{number}": one for number in range(100_001)}))
    with pytest.raises(
        InputError, match=r"weights\.safetensors is not a complete safetensors file: .*100001"
    ):
        read_header(file)


def header_of(entries: object, data: int = 0) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def tensor(shape: list[Any], end: int, dtype: str = "F32", begin: int = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("content", [
    b"", b"1234567", struct.pack("<Q", 2**63), struct.pack("<Q", MOST_BYTES + 1) + bytes(100),
    struct.pack("<Q", 4) + b"[]  ", struct.pack("<Q", 200_000) + b"[" * 200_000, header_of([]), header_of({"a": 1}),
    header_of({"a": tensor([10**7], 4 * 10**7)}), header_of({"a": tensor([2**40, 2**40], 4)}, 4),
    header_of({"a": tensor([-1], -4)}), header_of({"a": tensor([1.0], 4)}, 4), header_of({"a": tensor([True], 4)}, 4),
    header_of({"a": tensor([1], 4, "F99")}, 4), header_of({"a": tensor([1] * 17, 4)}, 4),
    header_of({"a": tensor([1], 4), "__metadata__": {"mrprism": 3}}, 4),
    header_of({"a": tensor([1], 4), "__metadata__": []}, 4), header_of({"a": {"dtype": "F32"}}),
], ids=range(18))  # fmt: skip
def test_a_header_that_lies_is_refused(run: Path, content: bytes) -> None:
    file = run / "weights.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.safetensors is not a complete safetensors file"):
        read_header(file)
    with pytest.raises(InputError, match=r"weights\.safetensors is not a complete safetensors file"):
        load_method(Run.open(run))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "weights.safetensors"
    os.mkfifo(pipe)
    with pytest.raises(
        InputError, match=r"weights\.safetensors is not a complete safetensors file: it is no file"
    ):
        read_header(pipe)


@pytest.mark.parametrize("change", [
    lambda t: t.update(share=torch.zeros(10_000_000)), lambda t: t.update(share=torch.zeros(2, 2)),
    lambda t: t.update(epoch=torch.zeros(5)), lambda t: t.update(share=torch.zeros(3, dtype=torch.int64)),
    lambda t: t.pop("share"), lambda t: t.update(more=torch.zeros(1)),
    lambda t: t.update({"raters.bias": torch.zeros(7)}),
    lambda t: t.update({"raters.bias": t["raters.bias"].half()}),
    lambda t: t.update({"features.1.running_var": torch.zeros(10_000)}),
    lambda t: t.update({f"n{number}": torch.zeros(0) for number in range(5000)}),
], ids=range(10))  # fmt: skip
def test_tensors_that_do_not_fit_are_refused_by_the_header(
    run: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, torch.Tensor]], Any]
) -> None:
    file = run / "weights.safetensors"
    tensors = load_file(file)
    change(tensors)
    if tensors.get("share") is not None and len(tensors["share"]) == 10_000_000:
        edited(run, lambda c: c.update(train=c["train"][:1]))
    save_file(tensors, file)
    with pytest.raises(InputError, match="these are not the weights of this run's method"):
        load_method(Run.open(run))


def test_a_method_that_cannot_be_outlined_is_counted_while_it_is_built(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's method may look at values in its constructor, which have none on the meta device."""

    class Looking(Toy):
        def __init__(self, task: Task, *, backbone: str = "small", layers: int = 1) -> None:
            super().__init__(task)
            assert float(torch.zeros(1).sum()) == 0.0
            self.more = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(layers))

    monkeypatch.setitem(METHODS, "looking", Looking)
    edited(run, lambda c: c.update(method="looking", options={"layers": 10_000_000}))
    with pytest.raises(InputError, match="asks for a network of more than"):
        load_method(Run.open(run))
    monkeypatch.undo()
    monkeypatch.setitem(METHODS, "looking", Looking)
    edited(run, lambda c: c.update(options={"layers": 1}))
    (run / "weights.safetensors").write_bytes(tensor_bytes(Looking(TASK).state_dict()))
    assert isinstance(load_method(Run.open(run)), Looking)
    assert (
        len(nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(2000))) == 2000
    )  # the count ended with the building


def test_options_on_the_command_line_have_the_same_bounds(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    for options, says in (
        (["--option", "wait=NaN"], "option 'wait' is nan"),
        (["--option", "width=1e99"], "option 'width' is 1e+99"),
        (["--learning-rate", "nan"], "learning_rate is nan"),
        (["--learning-rate", "inf"], "learning_rate is inf"),
        (["--clip", "nan"], "clip is nan"),
        (["--size", "100000"], "size is 100000"),
        (["--epochs", "9" * 30], "epochs"),
    ):
        assert call(["train", str(made / "squares"), "--out", str(out), "--method", "toy", *options]) == 2
        assert says in capsys.readouterr().err
        assert not out.exists()


@pytest.mark.parametrize("value", [
    {"a": 1}, {"a": [1, 2.5, "x", None, True]}, {"a": {"b": [{"c": 1}]}}, {"a": -1e9}, {},
])  # fmt: skip
def test_honest_options_pass(value: dict[str, Any]) -> None:
    assert TypeAdapter(Options).validate_python(value) == value


def test_options_in_circles_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValidationError, match=r"more than 5 deep|more than 10000 values"):
        TypeAdapter(Options).validate_python({"a": circle})


# --- the checkpoint, and what a run says of how it ended


@pytest.mark.parametrize(("change", "says"), [
    (lambda s: s["progress"].update(epoch=10**30), "progress.epoch"),
    (lambda s: s["progress"].update(epoch=-1), "progress.epoch is -1"),
    (lambda s: s["progress"].update(seconds=float("nan")), "progress.seconds"),
    (lambda s: s["progress"].update(score=float("inf")), "progress.score"),
    (lambda s: s["progress"].update(epoch=3), "which a training of 2 epochs of"),
    (lambda s: s["progress"].update(step=10**9), "which a training of 2 epochs of"),
    (lambda s: s["progress"].update(total_steps=10**9), "which a training of 2 epochs of"),
    (lambda s: s["progress"].update(log_bytes=10**11), "its checkpoint was saved when it had 100000000000"),
    (lambda s: s["files"].update({"../../x": "0"}), "names the file '../../x'"),
    (lambda s: s["files"].update({"/etc/passwd": "0"}), "names the file '/etc/passwd'"),
    (lambda s: s["files"].update({"weights-9.safetensors": "0"}), "weights-9.safetensors is missing"),
], ids=range(11))  # fmt: skip
def test_a_checkpoint_that_cannot_be_is_refused(
    made: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], Any],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses, count = Toy.losses, 0

    def stopping(self: Toy, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count > 3:
            raise KeyboardInterrupt
        return losses(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "losses", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(made / "squares", "toy", tmp_path / "run", epochs=2, checkpoint_every=0.0, **SMALL)  # type: ignore[arg-type]
    file = tmp_path / "run/checkpoint/state.json"
    state = json.loads(file.read_text())
    change(state)
    file.write_text(json.dumps(state))
    size = (tmp_path / "run/log.jsonl").stat().st_size
    with pytest.raises(InputError) as caught:
        resume(tmp_path / "run", device="cpu", quiet=True)
    assert says in str(caught.value)
    assert (tmp_path / "run/log.jsonl").stat().st_size == size


@pytest.mark.parametrize(("name", "value"), [
    ("0.exp_avg", torch.zeros(3)), ("99999999.exp_avg", torch.zeros(3)), ("-1.step", torch.zeros(())),
    ("0.step", torch.zeros(3)), ("0.magic", torch.zeros(3)), ("exp_avg", torch.zeros(3)),
])  # fmt: skip
def test_an_optimiser_s_state_that_does_not_fit_is_refused(
    made: Path, tmp_path: Path, name: str, value: torch.Tensor
) -> None:
    import hashlib

    run = Run.create(tmp_path / "run", Run.open(made / "run").config)
    method = Toy(TASK)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    sum(p.sum() for p in method.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()
    save_checkpoint(run, Progress(total_steps=1), method, optimiser, None)
    file = run.checkpoint / "optimiser-1.safetensors"
    save_file({**load_file(file), name: value}, file)
    state = json.loads((run.checkpoint / "state.json").read_text())
    state["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (run.checkpoint / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="this is not the optimiser's state of this run"):
        load_checkpoint(run, Toy(TASK), torch.optim.Adam(Toy(TASK).parameters(), lr=1e-2))


@pytest.mark.parametrize("change", [
    {"score": float("nan")}, {"score": 7.0}, {"seconds": float("inf")}, {"seconds": -1.0}, {"parameters": -1},
    {"epochs": 10**40}, {"device": "x" * 10**6},
])  # fmt: skip
def test_a_result_that_cannot_be_is_refused(made: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    result = json.loads((made / "run/result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**result, **change}))
    with pytest.raises(InputError, match=f"result.json: {next(iter(change))}"):
        read_model(tmp_path / "result.json", RunResult)


def test_every_real_method_is_outlined_as_it_is_built() -> None:
    """On the meta device a method has the names, shapes and types of the one that is trained."""
    task = Task(1, ("disc", "cup"), ("ann", "bob", "cy"))
    for name in METHODS:
        built = build_method(name, task, "small", {})
        with torch.device("meta"):
            outline = build_method(name, task, "small", {})
        told = [
            {key: (value.shape, value.dtype) for key, value in each.state_dict().items()}
            for each in (built, outline)
        ]
        assert told[0] == told[1], name
        assert all(value.is_meta for value in outline.state_dict().values())


def test_the_bounds_do_not_bind_the_settings_of_the_paper(made: Path) -> None:
    config = Run.open(made / "run").config.model_dump()
    defaults = {name: f.default for name, f in RunConfig.model_fields.items() if name in ("size", "epochs")}
    assert RunConfig.model_validate(config | defaults | {"batch_size": 8}).size == 256
