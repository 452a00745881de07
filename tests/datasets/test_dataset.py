"""A data set written and read back is the same, and says what is wrong with it."""

import json
from pathlib import Path

import numpy as np
import pytest

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset, FileSample, open_dataset, write_dataset
from mrprism.images import read_image, write_image, write_mask

TASK = Task(channels=3, structures=("disc", "cup"), raters=("ann", "bob", "cy"))


def sample(
    name: str = "a", seed: int = 0, size: tuple[int, ...] = (12, 10), task: Task = TASK
) -> MultiRaterSample:
    rng = np.random.default_rng(seed)
    r, c = len(task.raters), len(task.structures)
    rated = np.ones((r, c), dtype=bool)
    rated[1, 1] = False
    masks = rng.random((r, c, *size)) > 0.5
    masks[0, 1] = False  # looked, saw nothing
    masks[~rated] = False
    image = np.round(rng.random((task.channels, *size)) * 255).astype(np.float32) / np.float32(255)
    return MultiRaterSample(
        name,
        image,
        masks,
        rated,
        rng.random((c, *size)) > 0.5,
        f"p{seed}",
        "train",
        1,
        tuple(0.5 for _ in size),
    )


def equal(one: MultiRaterSample, other: MultiRaterSample, tolerance: float = 0.0) -> None:
    assert one.image.dtype == other.image.dtype == np.float32
    np.testing.assert_allclose(one.image, other.image, atol=tolerance)
    np.testing.assert_array_equal(one.masks, other.masks)
    np.testing.assert_array_equal(one.rated, other.rated)
    np.testing.assert_array_equal(one.reference, other.reference)
    for fact in ("name", "group", "split", "diagnosis", "spacing_mm"):
        assert getattr(one, fact) == getattr(other, fact), fact


@pytest.mark.parametrize("image_format", ["png", "tiff", "nifti"])
def test_round_trip(tmp_path: Path, image_format: str) -> None:
    samples = [sample("a", 0), sample("b/1 ö", 1), sample("B-1", 2)]
    write_dataset(iter(samples), tmp_path / "out", name="toy", task=TASK, image_format=image_format)
    data = open_dataset(tmp_path / "out")
    assert (data.name, data.task, data.names) == ("toy", TASK, ("a", "b/1 ö", "B-1"))
    assert data.groups == {"a": "p0", "b/1 ö": "p1", "B-1": "p2"}
    assert set(data.splits.values()) == {"train"}
    for want in samples:
        equal(data[want.name], want)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_volumes_round_trip(tmp_path: Path, channels: int) -> None:
    task = Task(channels, ("lesion", "organ"), ("1", "2", "3"))
    rng = np.random.default_rng(0)
    want = sample("v", 3, (4, 6, 5), task)
    want = MultiRaterSample(**{**vars(want), "image": rng.random(want.image.shape).astype(np.float32)})
    write_dataset([want], tmp_path / "out", name="volumes", task=task)
    equal(open_dataset(tmp_path / "out")[0], want)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels_round_trip_as_png(tmp_path: Path, channels: int) -> None:
    task = Task(channels, ("disc", "cup"), ("1", "2", "3"))
    want = sample("v", 3, (6, 5), task)
    write_dataset([want], tmp_path / "out", name="channels", task=task)
    equal(open_dataset(tmp_path / "out")[0], want)


def test_votes_are_kept(tmp_path: Path) -> None:
    votes = np.random.default_rng(0).integers(0, 5, (2, 12, 10)).astype(np.uint8)
    want = FileSample(**vars(sample()), votes=votes, voters=4)
    write_dataset([want], tmp_path / "out", name="votes", task=TASK)
    got = open_dataset(tmp_path / "out")["a"]
    assert isinstance(got, FileSample)
    assert got.voters == 4
    np.testing.assert_array_equal(got.votes, votes)


def test_label_maps_may_nest(tmp_path: Path) -> None:
    write_image(tmp_path / "i.png", np.zeros((1, 3, 4), np.float32))
    labels = np.array([[0, 1, 2, 0], [1, 1, 2, 2], [0, 0, 0, 0]], np.uint8)
    write_mask(tmp_path / "m.png", labels)
    document = {
        "format": "mrprism-dataset/1",
        "name": "labels",
        "channels": ["grey"],
        "structures": ["disc", "cup"],
        "raters": ["ann", {"name": "bob", "years": 7}],
        "labels": {"disc": [1, 2], "cup": [2]},
        "cases": [{"name": "i", "image": "i.png", "masks": {"bob": "m.png"}}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    got = open_dataset(tmp_path)[0]
    np.testing.assert_array_equal(got.rated, [[False, False], [True, True]])
    np.testing.assert_array_equal(got.masks[1], [labels > 0, labels == 2])


def test_sequence_in_memory() -> None:
    data = Dataset.from_samples("memory", TASK, [sample("a", 0), sample("b", 1), sample("c", 2)])
    assert [s.name for s in data] == ["a", "b", "c"]
    assert data.subset(["c", "a"]).names == ("c", "a")
    assert data[1:].names == ("b", "c")
    assert data[-1].name == "c"
    assert data["b"] is data[1]
    assert data.root is None
    with pytest.raises(InputError, match="no case 'x'; it has a, b, c"):
        data["x"]
    with pytest.raises(InputError, match="is empty"):
        Dataset.from_samples("memory", TASK, [])
    with pytest.raises(InputError, match="two cases with the same name"):
        Dataset.from_samples("memory", TASK, [sample("a"), sample("a")])
    with pytest.raises(InputError, match="masks of case 'a' has the shape"):
        Dataset.from_samples("memory", Task(3, ("disc",), ("ann", "bob", "cy")), [sample("a")])


def test_reading_a_written_image(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", sample().image)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").array, sample().image)
