"""A run handed on in the layout of a hub of models: read back offline, fetched by name from a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import mrprism
from mrprism.cli import call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hf")
    data = mrprism.phantom("crowd", size=32, cases=8, out=root / "data")
    small: dict[str, Any] = {"backbone": "small", "size": 32, "epochs": 1, "device": "cpu", "quiet": True}
    run = mrprism.train(data, "mrprism", root / "run", **small)
    mrprism.evaluate(run)
    assert call(["export", str(root / "run"), "--to", "hf", "--out", str(root / "model")]) == 0
    return root


def test_it_has_the_layout_and_answers_as_the_run_does(trained: Path) -> None:
    assert sorted(file.name for file in (trained / "model").iterdir()) == [
        "README.md",
        "calibration.json",
        "config.json",
        "model.safetensors",
    ]
    image = mrprism.open_dataset(trained / "data")[0].image
    assert image is not None
    ours = mrprism.load_run(trained / "run").predict(image)
    theirs = mrprism.load_run(trained / "model").predict(image)
    np.testing.assert_array_equal(ours.probability, theirs.probability)
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)
    with (
        safe_open(trained / "model/model.safetensors", "pt") as theirs_,
        safe_open(trained / "run/weights.safetensors", "pt") as ours_,
    ):
        assert set(theirs_.keys()) == set(ours_.keys())


def test_no_name_of_a_case_and_no_path_is_handed_on(trained: Path) -> None:
    assert "case0000" in (trained / "run/config.json").read_text()
    for file in (trained / "model").iterdir():
        content = file.read_bytes()
        assert b"case00" not in content, file.name
        assert str(trained).encode() not in content, file.name
    config = json.loads((trained / "model/config.json").read_text())
    assert config["dataset_path"] is None
    assert config["train"][0] == "train00001"
    assert config["images"].keys() == {*config["train"], *config["val"], *config["test"]}


def test_an_image_of_the_training_is_still_known(trained: Path, tmp_path: Path) -> None:
    name = mrprism.Run.open(trained / "run").config.train[0]
    mrprism.predict(trained / "model", [trained / f"data/images/{name}.png"], tmp_path / "out")
    assert json.loads((tmp_path / "out" / name / "prediction.json").read_text())["split"] == "train"


def test_the_card_says_what_a_stranger_has_to_know(trained: Path, tmp_path: Path) -> None:
    text = (trained / "model/README.md").read_text()
    header = text.split("---")[1]
    assert 'license: "other"' in header
    assert 'library_name: "mrprism"' in header
    for said in (
        "not a medical device",
        "rater1, rater2",
        "| cup | reference | Dice@0.5 |",
        "Nobody has said",
    ):
        assert said in text, said
    run = mrprism.Run.open(trained / "run")
    rows = [
        row.value
        for row in mrprism.evaluate(run)
        if (row.structure, row.recurrence, row.target, row.metric, row.reads)
        == ("cup", "final", "reference", "dice", "image")
    ]
    assert f"| cup | reference | Dice@0.5 | {np.mean(rows):.3f} |" in text
    model = mrprism.export(run, "hf", tmp_path / "m", licence="cc-by-4.0")
    assert 'license: "cc-by-4.0"' in (model.folder / "README.md").read_text()


def test_an_edited_config_is_refused(trained: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps({**config, "size": 64}))
    with pytest.raises(mrprism.InputError, match="was trained with size 32, and config"):
        mrprism.load_run(tmp_path / "model")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "hf", "--raters", "staple"], "--raters, --soft and --labels belong to masks"),
        (["--to", "hf", "--licence", "a b\nc"], "expected a short name such as cc-by-4.0"),
        (["--to", "onnx", "--licence", "mit"], "--licence belongs to a model"),
    ],
)
def test_what_does_not_fit_is_refused(
    words: list[str], said: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["export", str(trained / "run"), "--out", str(tmp_path / "m"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.fixture
def hub(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server of this machine that holds the model as anna/discs; what it was asked for."""
    place = tmp_path / "served/anna/discs/resolve/main"
    place.parent.mkdir(parents=True)
    place.symlink_to(trained / "model", target_is_directory=True)
    asked: list[str] = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MRPRISM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_name_is_fetched_once_and_then_read_from_here(
    hub: list[str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(trained / "data/images/case0000.png")
    words = ["predict", "hf:anna/discs", image, "--device", "cpu"]
    assert call([*words, "--out", str(tmp_path / "a")]) == 0
    assert hub == [
        f"/anna/discs/resolve/main/{file}"
        for file in ("config.json", "model.safetensors", "calibration.json")
    ]
    assert call([*words, "--out", str(tmp_path / "b")]) == 0
    assert len(hub) == 3, "nobody is asked again"
    ours = tmp_path / "ours"
    mrprism.predict(trained / "run", [image], ours, device="cpu")
    for file in ("probability_cup.png", "mask_disc.png"):
        there = (tmp_path / "a/case0000" / file).read_bytes()
        assert there == (ours / "case0000" / file).read_bytes()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:anna/nothing", "answers 404"),
        ("hf:anna/discs@v9", "answers 404"),
        ("hf:anna", "names no model; expected hf:OWNER/NAME"),
        ("hf:anna/discs/more", "names no model"),
        ("hf:../discs", "names no model"),
        ("hf:anna/discs@../x", "names no model"),
        ("hf:anna/di scs", "names no model"),
    ],
)
def test_a_wrong_name_is_one_sentence(
    name: str, said: str, hub: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["predict", name, "x.png", "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not list((tmp_path / "cache").rglob("*.*")), "nothing half-fetched is left"


def test_without_a_network_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MRPRISM_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert call(["predict", "hf:a/b", "x.png", "--out", str(tmp_path / "out")]) == 2
    assert "is there a network?" in capsys.readouterr().err
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    assert call(["predict", "hf:a/b", "x.png", "--out", str(tmp_path / "out")]) == 2
    assert "expected an address that begins with https://" in capsys.readouterr().err
