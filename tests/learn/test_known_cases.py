"""A run knows its own cases again: by their images, whatever they are called and kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from toy import SMALL, TASK, dataset, samples
from volumes import TASK as VOLUME_TASK
from volumes import volumes

from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.split import SPLITS
from mrprism.images import read_image
from mrprism.learn.known_cases import image_mark, marks_of, split_of
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
