"""Phantoms: what is drawn, as which data set, and by which command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import Dataset, open_dataset
from mrprism.datasets.body import body
from mrprism.datasets.overlay import lay_raters
from mrprism.datasets.phantom import fundus, phantom, phantom_task
from mrprism.datasets.raters import SCENARIOS, Style, by_slices, draw
from mrprism.datasets.simulate import SPLITS, phantom_dataset

RATERS = {"two": 2, "forty": 40, "sparse-40-3": 40, "sparse-40-1": 40, "site": 11}  # others: seven


def same(a: MultiRaterSample, b: MultiRaterSample) -> bool:
    assert a.reference is not None
    assert b.reference is not None
    return (
        a.name == b.name
        and np.array_equal(a.image, b.image)
        and np.array_equal(a.masks, b.masks)
        and np.array_equal(a.rated, b.rated)
        and np.array_equal(a.reference, b.reference)
    )


def test_a_seed_draws_the_same_cases_and_another_seed_others() -> None:
    first, again = (list(phantom("crowd", size=48, cases=3, seed=5)) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    other = next(phantom("crowd", size=48, cases=1, seed=6))
    assert not np.array_equal(first[0].image, other.image)
    assert len({sample.image.tobytes() for sample in first}) == 3


def test_a_longer_data_set_begins_with_a_shorter_one() -> None:
    short, long = phantom_dataset(size=32, cases=4), phantom_dataset(size=32, cases=7)
    assert all(same(short[n], long[n]) for n in range(4))
    assert long.splits[long.names[3]] == short.splits[short.names[3]]


@pytest.mark.parametrize("size", [32, 65, 128])
def test_the_truth_is_a_cup_inside_a_disc_of_stated_size(size: int) -> None:
    for number in range(12):
        image, (disc, cup) = fundus(np.random.default_rng(number), size)
        assert image.shape == (3, size, size)
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1
        assert cup.any()
        assert not (cup & ~disc).any()
        assert 0.15 < np.sqrt(disc.sum() / np.pi) / size < 0.35
        assert 0.35 < np.sqrt(cup.sum() / disc.sum()) < 0.8
        for mask in (disc, cup):
            assert ndimage.label(mask)[1] == 1
            assert not (mask[[0, -1]].any() or mask[:, [0, -1]].any()), "it lies inside the image"


def test_structures_can_be_seen() -> None:
    """Disc brighter than background, cup brighter than rim, on most images: there is something to learn."""
    seen = []
    for number in range(20):
        image, (disc, cup) = fundus(np.random.default_rng(number), 64)
        green = ndimage.median_filter(image[1], 5)
        seen.append((green[disc].mean() > green[~disc].mean(), green[cup].mean() > green[disc & ~cup].mean()))
    assert np.mean(seen, axis=0).min() > 0.8


def test_split_is_six_three_one_in_ten() -> None:
    splits = list(phantom_dataset(size=32, cases=20).splits.values())
    assert [splits.count(part) for part in ("train", "test", "val")] == [12, 6, 2]
    assert set(SPLITS[:4]) == {"train", "test", "val"}, "four cases already have all three"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_gives_samples_of_its_task(scenario: str) -> None:
    task = phantom_task(scenario)
    data = Dataset.from_samples(scenario, task, phantom(scenario, size=32, cases=2))
    assert task.structures == ("disc", "cup")
    assert task.anonymous == (scenario == "anonymous")
    assert len(data.task.raters) == len(SCENARIOS[scenario].styles)
    assert len(data.task.raters) == RATERS.get(scenario, 7)
    assert not data[0].masks[~data[0].rated].any()


def test_written_and_opened_again_it_is_the_same(tmp_path: Path) -> None:
    kept = phantom_dataset("missing", size=40, cases=5, seed=2)
    written = phantom_dataset("missing", size=40, cases=5, seed=2, out=tmp_path / "data")
    assert written.name == "missing phantom"
    assert written.splits == kept.splits
    assert written.task == kept.task
    for a, b in zip(kept, open_dataset(tmp_path / "data"), strict=True):
        assert np.array_equal(a.masks, b.masks)
        assert np.array_equal(a.rated, b.rated)
        assert a.reference is not None
        assert b.reference is not None
        assert np.array_equal(a.reference, b.reference)
        np.testing.assert_allclose(a.image, b.image, atol=0.5 / 255 + 1e-6)  # 8 bits


def test_raters_over_a_data_set_keep_all_but_the_masks(tmp_path: Path) -> None:
    source = phantom_dataset("symmetric", size=40, cases=4, out=tmp_path / "source")
    made = phantom_dataset("missing", seed=3, over=tmp_path / "source", out=tmp_path / "made")
    assert made.name == "symmetric phantom under missing raters"
    assert made.names == source.names
    assert made.splits == source.splits
    for a, b in zip(source, made, strict=True):
        assert np.array_equal(a.image, b.image)
        assert a.reference is not None
        assert b.reference is not None
        assert np.array_equal(a.reference, b.reference)
    assert not all(sample.rated.all() for sample in made)


def test_over_a_data_set_without_reference_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    bare = (replace(sample, reference=None) for sample in phantom(size=32, cases=1))
    task, samples = lay_raters(bare, phantom_task(), "crowd")
    assert len(task.raters) == 7
    with pytest.raises(InputError, match="case 'case0000' has no reference to draw simulated raters over"):
        list(samples)


def test_the_command_writes_and_says_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "phantom",
        str(tmp_path / "data"),
        "--size",
        "32",
        "--cases",
        "10",
        "--scenario",
        "anonymous",
    ]
    assert call([*arguments, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["cases"] == 10
    assert about["anonymous"] is True
    assert about["splits"] == {"train": 6, "val": 1, "test": 3}
    assert open_dataset(tmp_path / "data").task.anonymous
    assert call([*arguments]) == 2
    assert "exists already; expected a new or empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scenario", "herd"], "unknown scenario 'herd'; known: symmetric, crowd"),
        (["--size", "8"], "at least 32 pixels"),
        (["--cases", "0"], "at least 32 pixels and 1 case; asked for 128 pixels and 0 cases"),
        (["--over", "nowhere"], "nowhere"),
        (["--cases", "many"], "expected a whole number"),
    ],
)
def test_wrong_wishes_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert call(["phantom", str(tmp_path / "data"), *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_the_truth_of_a_volume_is_a_lesion_inside_an_organ_in_one_piece() -> None:
    for number in range(6):
        image, (organ, lesion) = body(np.random.default_rng(number), 48)
        assert image.shape == (1, 16, 48, 48)
        assert image.dtype == np.float32
        assert (image.min(), image.max()) == (0, 1), "what a reader of volumes would make of it"
        assert lesion.any()
        assert not (lesion & ~organ).any()
        for mask in (organ, lesion):
            assert ndimage.label(mask)[1] == 1
            assert not any(mask.take(side, axis).any() for axis in range(3) for side in (0, -1))
        rim = organ & ~lesion
        assert image[0][lesion].mean() > image[0][rim].mean() > image[0][~organ].mean()


def test_a_volume_has_thick_slices_and_fills_a_cube() -> None:
    sample = next(phantom("crowd", size=48, cases=1, dims=3))
    assert sample.masks.shape == (7, 2, 16, 48, 48)
    assert sample.spacing_mm == (6.0, 2.0, 2.0)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_gives_volumes_of_its_task(scenario: str) -> None:
    task = phantom_task(scenario, dims=3)
    data = Dataset.from_samples(scenario, task, phantom(scenario, size=32, cases=1, dims=3))
    assert task.structures == ("organ", "lesion")
    assert task.channels == 1
    assert not data[0].masks[~data[0].rated].any()


def test_raters_differ_in_millimetres_alike_along_every_axis() -> None:
    """Who draws a fifth of the radius too large goes so far beyond the truth across slices as within them."""
    place = np.ogrid[-15:16, -45:46, -45:46]
    truth = np.asarray((3 * place[0]) ** 2 + place[1] ** 2 + place[2] ** 2 <= 30**2)
    drawn = draw(truth, Style(bias=0.2, wobble=0.0), np.random.default_rng(0), (3.0, 1.0, 1.0))
    along_slices = 3 * drawn.any((1, 2)).sum() / 2
    along_rows = drawn.any((0, 2)).sum() / 2
    assert abs(along_rows - 36) <= 1
    assert abs(along_slices - 36) <= 3, "a slice is 3 mm"


def test_who_outlines_slice_by_slice_jumps_from_one_to_the_next() -> None:
    truth = np.zeros((20, 48, 48), bool)
    truth[2:18, 12:36, 12:36] = True

    def jumps(style: Style) -> float:
        areas = draw(truth, style, np.random.default_rng(3), (1.0, 1.0, 1.0)).sum((1, 2))[4:16]
        return float(np.abs(np.diff(areas)).mean() / areas.mean())

    assert jumps(Style(wobble=0.0)) == 0
    assert jumps(Style(wobble=0.0, between=0.1)) > 0.05
    group = SCENARIOS["crowd"]
    assert [style.between for style in by_slices(group).styles] == [style.wobble for style in group.styles]
    assert all(style.between == 0 for style in group.styles), "of pictures nothing changes"


def test_written_volumes_come_back_with_their_spacing(tmp_path: Path) -> None:
    kept = phantom_dataset("two", size=32, cases=2, dims=3)
    written = phantom_dataset("two", size=32, cases=2, dims=3, out=tmp_path / "data")
    assert written.name == "two phantom of volumes"
    for a, b in zip(kept, open_dataset(tmp_path / "data"), strict=True):
        assert np.array_equal(a.masks, b.masks)
        assert a.reference is not None
        assert b.reference is not None
        assert np.array_equal(a.reference, b.reference)
        assert a.spacing_mm is not None
        assert b.spacing_mm is not None
        np.testing.assert_allclose(a.spacing_mm, b.spacing_mm, rtol=1e-6)
        np.testing.assert_allclose(a.image, b.image, atol=1e-6)


def test_dimensions_that_cannot_be_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phantom_dataset("two", size=32, cases=1, out=tmp_path / "flat")
    out = ["phantom", str(tmp_path / "data")]
    assert call([*out, "--dims", "4"]) == 2
    assert "a phantom has 2 or 3 dimensions, not 4" in capsys.readouterr().err
    assert call([*out, "--dims", "3", "--over", str(tmp_path / "flat")]) == 2
    assert "in the dimensions its images have: leave --dims out" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
