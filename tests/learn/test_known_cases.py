"""A run knows its own cases again: by their images, whatever they are called and kept in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from toy import SMALL, TASK, dataset, samples
from volumes import TASK as VOLUME_TASK
from volumes import volumes

from mrprism.cli import call
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.split import SPLITS
from mrprism.images import read_image
from mrprism.learn.known_cases import image_mark, marks_of, split_of
from mrprism.learn.predict import predict_files
from mrprism.learn.run import Run
from mrprism.learn.train import train

pytestmark = pytest.mark.usefixtures("toys")


def test_every_case_of_a_run_is_known_by_its_image_and_a_new_one_is_not(tmp_path: Path) -> None:
    write_dataset(samples(12), tmp_path / "squares", name="squares", task=TASK)
    made = train(tmp_path / "squares", "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    config = Run.open(made.path).config
    data = open_dataset(tmp_path / "squares")
    assert set(config.images) == set(data.names)
    for part in SPLITS:
        for name in getattr(config, part):
            image = data[name].image
            assert image is not None
            assert split_of(config, name, image) == part
            assert split_of(config, "renamed", image) == part
            # the same picture as somebody else's file of another format
            pixels = np.rint(image[0] * 255).astype(np.uint8)
            if np.array_equal(np.float32(pixels) / 255, image[0]):
                PIL.Image.fromarray(pixels).save(tmp_path / "photo.tif")
                assert split_of(config, "photo", read_image(tmp_path / "photo.tif").array) == part
    stranger = samples(13)[12].image
    assert stranger is not None
    assert split_of(config, "case00", stranger) is None  # another picture that happens to bear the name
    changed = np.array(data["case00"].image)
    changed[0, 3, 3] = 1 - changed[0, 3, 3]
    assert split_of(config, "case00", changed) is None
    assert split_of(config, "case00") is not None  # no picture at hand: the name is all there is


def test_runs_that_kept_no_images_know_their_cases_by_name(tmp_path: Path) -> None:
    made = train(dataset(), "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    old = made.config.model_copy(update={"images": {}})
    for part in SPLITS:
        for name in getattr(old, part):
            assert split_of(old, name, np.zeros((1, 4, 4), np.float32)) == part
    assert split_of(old, "elsewhere") is None
    assert split_of(old) is None


def test_volumes_are_known_too(tmp_path: Path) -> None:
    data = open_dataset(write_dataset(volumes(3), tmp_path / "blocks", name="blocks", task=VOLUME_TASK))
    marks = marks_of(data, data.names)
    assert len(set(marks.values())) == 3
    (first, *_) = data.names
    image = data[first].image
    assert image is not None
    assert image_mark(image) == marks[first]
    assert image_mark(image[:, ::-1]) != marks[first]
    assert image_mark(np.stack([image[0], image[0]])) != marks[first]


def test_predict_writes_the_split_of_each_image_and_agree_leaves_out_what_the_model_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole folder predicted, training cases included: the verdict is about the others."""
    data = open_dataset(write_dataset(samples(24), tmp_path / "squares", name="squares", task=TASK))
    made = train(tmp_path / "squares", "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    config = Run.open(made.path).config
    images = sorted((tmp_path / "squares" / "images").iterdir())
    stranger = samples(25)[24].image
    assert stranger is not None
    PIL.Image.fromarray(np.rint(stranger[0] * 255).astype(np.uint8)).save(tmp_path / "stranger.png")
    predict_files(made, [*images, tmp_path / "stranger.png"], tmp_path / "out", device="cpu")
    with (tmp_path / "out" / "cases.csv").open(encoding="utf-8", newline="") as file:
        found = {row["folder"]: row["split"] for row in csv.DictReader(file)}
    expected = {name: part for part in SPLITS for name in getattr(config, part)}
    assert found == {**expected, "stranger": "new"}
    line = ["agree", str(tmp_path / "squares"), "--candidate", str(tmp_path / "out"), "--no-distances"]
    assert call([*line, "--out", str(tmp_path / "one"), "--resamples", "20"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{len(config.train)} cases on which out was trained are left out." in said
    rows = json.loads((tmp_path / "one" / "agreement.json").read_text("utf-8"))["tables"]["spread"]
    of_model = [row for row in rows if row["candidate"] == "out"]
    assert {row["cases"] for row in of_model} == {len(config.test)}
    assert {(row["trained_on"], row["chosen_on"]) for row in of_model} == {
        (len(config.train), len(config.val))
    }
    again = [*line, "--out", str(tmp_path / "two"), "--resamples", "20", "--with-training-cases"]
    assert call(again) == 0
    assert "left out" not in capsys.readouterr().out
    rows = json.loads((tmp_path / "two" / "agreement.json").read_text("utf-8"))["tables"]["spread"]
    assert next(row for row in rows if row["candidate"] == "out")["cases"] == len(data)


def test_a_model_is_not_judged_on_training_cases_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(samples(12), tmp_path / "squares", name="squares", task=TASK)
    made = train(tmp_path / "squares", "toy", tmp_path / "run", epochs=1, **SMALL)  # type: ignore[arg-type]
    learned = [tmp_path / "squares" / "images" / f"{n}.png" for n in Run.open(made.path).config.train]
    predict_files(made, learned, tmp_path / "out", device="cpu")
    line = [
        "agree",
        str(tmp_path / "squares"),
        "--candidate",
        str(tmp_path / "out"),
        "--out",
        str(tmp_path / "a"),
    ]
    assert call(line) == 2
    assert "--with-training-cases" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
