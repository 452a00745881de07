"""A run's network as ONNX answers as the run does, and is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.learn.methods.build import build_method
from mrprism.learn.predictor import load
from mrprism.learn.run import Run
from mrprism.learn.settings import RunConfig
from mrprism.learn.weights import tensor_bytes

pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
pytest.importorskip("onnx", reason="the extra 'export' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")

import onnxruntime

from mrprism.learn.to_onnx import export_network

TASK = Task(1, ("disc", "cup"), ("ann", "bob", "cy"))
SIZE = 64


@pytest.fixture(autouse=True)
def shapes_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking shapes compares sizes, which would tie the exported network to the batch it was traced with."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def run_of(folder: Path, method: str, **options: object) -> Run:
    """A run whose weights are drawn, so that no answer is a constant."""
    torch.manual_seed(3)
    config = RunConfig(
        method=method, options=options, backbone="small", task=TASK, dataset="phantom", dataset_hash="0",
        train=("a",), val=(), test=(), size=SIZE, window=(-160.0, 240.0),
    )  # fmt: skip
    run = Run.create(folder, config)
    built = build_method(method, TASK, "small", options)
    weights = built.state_dict()
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not name.endswith(("running_var", "counted", "read")):
            tensor += 0.05 * torch.randn(tensor.shape)
    run.weights_file.write_bytes(tensor_bytes(weights))
    return run


@pytest.mark.parametrize(
    ("method", "outputs"),
    [("mrprism", ("probability", "raters", "confidence")), ("fused-label", ("probability",))],
)
def test_the_network_answers_as_the_run_does(method: str, outputs: tuple[str, ...], tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", method)
    made = export_network(run, tmp_path / "onnx")
    assert made.outputs == outputs
    assert made.difference <= 1e-4
    about = json.loads((tmp_path / "onnx" / "model.json").read_text("utf-8"))
    model = tmp_path / "onnx" / about["model"]
    assert sorted(p.name for p in (tmp_path / "onnx").iterdir()) == ["model.json", "model.onnx"]
    assert about["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert about["weights_sha256"] == hashlib.sha256(run.weights_file.read_bytes()).hexdigest()
    assert about["structures"] == ["disc", "cup"]
    assert about["raters"] == ["ann", "bob", "cy"]
    assert about["input"]["shape"] == [1, 1, SIZE, SIZE]
    assert about["input"]["window"] == [-160, 240]
    assert about["threshold"] == 0.5

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    predictor = load(run, "cpu")
    images = np.random.default_rng(0).random((4, 1, SIZE, SIZE), np.float32)
    for image in images:
        found = dict(zip(outputs, session.run(list(outputs), {"image": image[None]}), strict=True))
        expected = predictor.predict(image)
        assert np.ptp(expected.probability) > 0.01
        for name in outputs:
            wanted = getattr(expected, name)
            answer = np.broadcast_to(found[name][0], wanted.shape)
            assert np.abs(answer - wanted).max() <= 1e-4, name


def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(run: Run, match: str) -> None:
        with pytest.raises(InputError, match=match):
            export_network(run, tmp_path / "onnx")
        assert not (tmp_path / "onnx").exists()
        assert not list(tmp_path.glob(".*"))

    refused(run_of(tmp_path / "fuse", "fuse", fusion="majority"), "reads the raters' masks")
    empty = Run.create(tmp_path / "empty", run_of(tmp_path / "one", "fused-label").config)
    refused(empty, r"no weights\.safetensors yet")
    run = Run.open(tmp_path / "one")
    monkeypatch.setattr("torch.onnx.export", _fails)
    refused(run, "cannot be written as ONNX: no such operator")


def _fails(*_: object, **__: object) -> None:
    raise RuntimeError("no such operator\nand a long story")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", "fused-label")
    out = str(tmp_path / "onnx")
    assert call(["export", str(run.path), "--to", "onnx", "--out", out, "--raters", "staple"]) == 2
    assert "--raters, --soft and --labels belong to masks" in capsys.readouterr().err
    assert call(["export", str(tmp_path / "none"), "--to", "onnx", "--out", out]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert call(["export", str(run.path), "--to", "onnx", "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == ["probability"]
    assert call(["export", str(run.path), "--to", "onnx", "--out", out]) == 2
    assert "exists already" in capsys.readouterr().err
