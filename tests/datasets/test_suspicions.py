"""What `mrprism check` finds suspicious is in data sets made to have it, and in no phantom."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy.ndimage import binary_dilation, gaussian_filter

from mrprism.cli import call
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import pieces, write_dataset
from mrprism.datasets.check import Check, check_dataset
from mrprism.datasets.odd_shapes import odd_shape
from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.datasets.pieces import piece_of
from mrprism.datasets.suspicions import Corrections, keep, look_at, see

SCENARIOS = ("symmetric", "crowd", "majority", "anonymous", "missing")
R1, R2, R3, R4 = range(4)
DISC, CUP = range(2)


def checked(folder: Path, change: Callable[[MultiRaterSample, int], Any] | None = None) -> Check:
    """Check a phantom of eight cases, changed case by case."""
    samples = [replace(s, masks=s.masks.copy()) for s in phantom("crowd", size=64, cases=8, seed=1)]
    for number, sample in enumerate(samples):
        if change:
            change(sample, number)
    return check_dataset(write_dataset(samples, folder / "odd", name="odd", task=phantom_task("crowd")))


def warnings(check: Check) -> list[str]:
    assert check.errors == []
    return [fault.sentence for fault in check.warnings]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("size", [32, 96])
def test_phantoms_are_above_suspicion(tmp_path: Path, scenario: str, size: int) -> None:
    samples = phantom(scenario, size=size, cases=10, seed=5)
    out = write_dataset(samples, tmp_path / "data", name=scenario, task=phantom_task(scenario))
    assert check_dataset(out).faults == []
    assert call(["check", str(out)]) == 0


def test_a_rater_who_never_differs(tmp_path: Path) -> None:
    def copy(sample: MultiRaterSample, number: int) -> None:
        sample.masks[R3] = sample.masks[R1]

    names = phantom_task("crowd").raters
    assert warnings(checked(tmp_path, copy)) == [
        f"raters '{names[R1]}' and '{names[R3]}' never differ (16 masks)"
    ]


def edited(mask: np.ndarray, place: int) -> np.ndarray:
    """The mask with a bump put on its outline."""
    bump = np.zeros_like(mask)
    rows, columns = np.nonzero(mask)
    bump[rows[place % len(rows)], columns[place % len(rows)]] = True
    return mask | binary_dilation(bump, iterations=4)


def test_corrections_chained_one_on_another(tmp_path: Path) -> None:
    def chain(sample: MultiRaterSample, number: int) -> None:
        for c in (DISC, CUP):
            sample.masks[R2, c] = edited(sample.masks[R1, c], number)
            sample.masks[R4, c] = edited(sample.masks[R2, c], -1 - number)

    (found,) = warnings(checked(tmp_path, chain))
    one, two, _, four, *_ = phantom_task("crowd").raters
    assert found.startswith(
        f"masks by raters '{one}', '{two}', '{four}' seem to be corrections of one another"
    )
    assert f"{one}–{two} " in found
    assert f"{two}–{four} " in found
    assert f"{one}–{four} " not in found


def test_corrections_are_found_slab_by_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for slab in (1 << 21, 1):
        monkeypatch.setattr(pieces, "SLAB", slab)
        seen, rng = Corrections(), np.random.default_rng(1)
        for case in range(4):
            masks = gaussian_filter(rng.random((3, 21, 14, 12)), (0, 2, 2, 2)) > 0.5
            masks[1] = masks[0]
            masks[1, 5 + case : 9 + case, 4:9, 3:8] ^= True
            masks[2, :, :, -1] = True
            at = look_at(str(case), "", 0, {r: piece_of(mask) for r, mask in enumerate(masks)}, None)
            assert at is not None
            keep([seen], see([seen], at))
        found.append((list(seen.say("abc", "s")), dict(seen.shares), seen.edited.counts.tolist(), at.prints))
    assert found[0][0]
    assert found[0] == found[1]


def test_inverted_masks(tmp_path: Path) -> None:
    def invert(sample: MultiRaterSample, number: int) -> None:
        sample.masks[R2, DISC] = ~sample.masks[R2, DISC]
        if number == 3:
            sample.masks[R3, CUP] = ~sample.masks[R3, CUP]

    names = phantom_task("crowd").raters
    found = warnings(checked(tmp_path, invert))
    assert (
        f"all 8 masks of 'disc' by rater '{names[R2]}' look inverted: they mark what the others leave out"
        in found
    )
    assert any(
        s.startswith("masks ('case0003') of 'cup' by rater")
        and s.endswith("they mark what the others leave out")
        for s in found
    ), found


def test_the_same_mask_on_many_images(tmp_path: Path) -> None:
    kept: list[np.ndarray] = []

    def stamp(sample: MultiRaterSample, number: int) -> None:
        kept.append(sample.masks[R2, DISC].copy())
        if number < 5:
            sample.masks[R2, DISC] = kept[0]

    rater = phantom_task("crowd").raters[R2]
    assert warnings(checked(tmp_path, stamp)) == [
        f"rater '{rater}' has the same mask of 'disc' on different images: "
        "'case0000', 'case0001', 'case0002', 'case0003' and 1 more"
    ]


def test_one_mask_for_two_structures(tmp_path: Path) -> None:
    def double(sample: MultiRaterSample, number: int) -> None:
        sample.masks[R2, CUP] = sample.masks[R2, DISC]

    rater = phantom_task("crowd").raters[R2]
    assert f"rater '{rater}' has the same mask for 'disc' and 'cup' on all 8 cases with both" in warnings(
        checked(tmp_path, double)
    )


def test_a_volumes_mask_that_is_every_slices_border() -> None:
    frame = np.zeros((6, 12, 10), bool)
    frame[2:4] = True
    frame[:, 1:-1, 1:-1] = False
    assert odd_shape(frame) == "is nothing but the image's border"
    frame[3, 5, 5] = True
    assert odd_shape(frame) is None
    box = np.zeros((6, 12, 10), bool)
    assert odd_shape(box) is None
    box[2] = True
    assert odd_shape(box) is None  # one whole slice is drawn: odd, but no border


@pytest.mark.parametrize("width", [1, 3, 6])
def test_a_mask_that_is_its_images_border(tmp_path: Path, width: int) -> None:
    def frame(sample: MultiRaterSample, number: int) -> None:
        if number == 2:
            sample.masks[R2, DISC] = True
            sample.masks[R2, DISC, width:-width, width:-width] = False

    rater = phantom_task("crowd").raters[R2]
    check = checked(tmp_path, frame)
    assert warnings(check) == [
        f"the mask by rater '{rater}' of 'disc' on case 'case0002' is nothing but the image's border"
    ]
    assert check.warnings[0].file.endswith("case0002_disc.png")


def test_all_masks_of_a_rater_shifted(tmp_path: Path) -> None:
    def shift(sample: MultiRaterSample, number: int) -> None:
        sample.masks[R1] = np.roll(sample.masks[R1], 6, axis=-1)

    rater = phantom_task("crowd").raters[R1]
    found = warnings(checked(tmp_path, shift))
    assert [s.split(" lie ")[0] for s in found] == [
        f"all 8 masks of '{s}' by rater '{rater}'" for s in ("disc", "cup")
    ]
    assert all(s.endswith(") pixels from the others'") for s in found)


def test_two_raters_shifted_against_each_other(tmp_path: Path) -> None:
    task = Task(3, ("disc", "cup"), ("ann", "bob"))
    samples = []
    for sample in phantom("crowd", size=64, cases=6, seed=1):
        masks = np.stack([sample.masks[0], np.roll(sample.masks[0], -5, axis=-2)])
        samples.append(replace(sample, masks=masks, rated=np.ones((2, 2), bool), reference=None))
    found = warnings(check_dataset(write_dataset(samples, tmp_path / "two", name="two", task=task)))
    assert found == [
        f"all 6 masks of '{s}' by rater 'bob' lie (-5.0, +0.0) pixels from those by rater 'ann'"
        for s in ("disc", "cup")
    ]


def test_few_cases_need_a_longer_shift(tmp_path: Path) -> None:
    rater = phantom_task("crowd").raters[R1]
    for pixels, found in (
        (3, []),
        (8, [f"all 3 masks of '{s}' by rater '{rater}'" for s in ("disc", "cup")]),
    ):
        samples = [replace(s, masks=s.masks.copy()) for s in phantom("crowd", size=64, cases=3, seed=1)]
        for sample in samples:
            sample.masks[R1] = np.roll(sample.masks[R1], pixels, axis=-1)
        out = write_dataset(samples, tmp_path / f"{pixels}", name="few", task=phantom_task("crowd"))
        assert [s.split(" lie ")[0] for s in warnings(check_dataset(out))] == found


def test_all_of_them_at_once_in_the_terminal_on_the_page_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raters = phantom_task("crowd").raters
    samples = []
    for number, sample in enumerate(phantom("crowd", size=64, cases=8, seed=1)):
        masks = sample.masks.copy()
        for c in (DISC, CUP):
            masks[R2, c] = edited(masks[R1, c], number)
            masks[R4, c] = edited(masks[R2, c], -1 - number)
        masks[4] = np.roll(masks[4], 6, axis=-1)
        if number == 2:
            masks[5, DISC] = True
            masks[5, DISC, 2:-2, 2:-2] = False
        split = ("train", "test", None, None)[number % 4]
        group = f"p{number // 2}" if number < 2 else f"q{number}"
        samples.append(replace(sample, masks=masks, group=group, split=split))
    out = write_dataset(samples, tmp_path / "odd", name="odd", task=phantom_task("crowd"))
    page = tmp_path / "odd.html"
    said = [
        f"the mask by rater '{raters[5]}' of 'disc' on case 'case0002' is nothing but the image's border",
        f"all 8 masks of 'disc' by rater '{raters[4]}' lie (",
        f"all 8 masks of 'cup' by rater '{raters[4]}' lie (",
        f"masks by raters '{raters[R1]}', '{raters[R2]}', '{raters[R4]}' seem to be corrections of one another",
        "patient 'p0' has cases in test and train",
    ]
    assert call(["check", str(out), "--out", str(page)]) == 1
    terminal = capsys.readouterr().out
    assert call(["check", str(out), "--json"]) == 1
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert [fault["severity"] for fault in faults] == ["warning"] * 5
    html = unescape(page.read_text())
    for sentence in said:
        assert terminal.count(sentence) == 1
        assert sum(fault["sentence"].startswith(sentence) for fault in faults) == 1
        assert sentence in html


# --- one fault hides nothing about other files --------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    samples = list(phantom("crowd", size=32, cases=4, seed=1))
    return write_dataset(samples, tmp_path / "data", name="data", task=phantom_task("crowd"))


def test_masks_are_read_where_the_image_cannot_be(folder: Path) -> None:
    (folder / "images/case0001.png").write_bytes(b"nothing")
    rater = phantom_task("crowd").raters[0]
    Pillow.fromarray(np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)).save(
        folder / f"masks/{rater}/case0001_cup.png"
    )
    (folder / f"masks/{rater}/case0001_disc.png").unlink()
    first, second, third = check_dataset(folder).errors
    assert "does not exist" in first.sentence
    assert "case0001.png' is broken or not a PNG file" in second.sentence
    assert "case0001_cup.png' has grey values" in third.sentence
    assert third.file.endswith("case0001_cup.png")
    assert third.expected is not None
    assert third.expected.startswith("0 and at most one other value; if what is bright")
    assert third.found is not None
    assert third.found.endswith("has grey values 0, 1, 2, 3, 4, 5, ...")


def test_exit_codes_and_the_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "pages" / "check.html"
    assert call(["check", str(folder), "--out", str(page)]) == 0
    assert "No errors, no warnings" in page.read_text()
    document = json.loads((folder / "dataset.json").read_text())
    document["cases"][0].update(group="<p>", split="train")
    document["cases"][1].update(group="<p>", split="test")
    (folder / "dataset.json").write_text(json.dumps(document))
    assert call(["check", str(folder), "--out", str(page)]) == 1
    text = page.read_text()
    assert "No errors, 1 warning" in text
    assert "patient &#39;&lt;p&gt;&#39; has cases in test and train" in text
    assert "<script" not in text
    assert "http" not in text
    (folder / "images/case0003.png").unlink()
    assert call(["check", str(folder), "--out", str(page), "--json"]) == 2
    assert "images/case0003.png" in page.read_text()
    printed = capsys.readouterr().out
    found = json.loads(printed[printed.index("{\n") :])
    assert [fault["severity"] for fault in found["faults"]] == ["error", "warning"]
    assert found["faults"][0]["expected"] == "a file inside the data set's folder"
