"""Deciding by hand, in a real browser: what is painted is what is kept, and nothing is asked of the internet."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import served
from volumes import TASK

from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.decision import Standing
from mrprism.datasets.decisions import Decisions


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    masks = np.zeros((3, 2, 100, 120), bool)
    for r in range(3):
        masks[r, :, 30 : 60 + 4 * r, 40 : 80 - 3 * r] = True
    image = np.random.default_rng(0).random((1, 100, 120), np.float32)
    samples = [MultiRaterSample(f"eye{n}", image, masks, np.ones((3, 2), bool)) for n in range(2)]
    write_dataset(samples, tmp_path / "eyes", name="eyes", task=TASK)
    return tmp_path / "eyes"


def by(who: str) -> tuple[str, ...]:
    return "--adjudicate", "--as", who


def begin(page: Any) -> None:
    page.click("#desk-begin")
    page.wait_for_selector("#tools:not([hidden])")


def drag(page: Any, *points: tuple[float, float]) -> None:
    """From pixel to pixel of the image, x and y."""
    where = [page.evaluate("([x, y]) => { const c = $('picture').getBoundingClientRect(); return [c.left + view.x + x * view.scale, c.top + view.y + y * view.scale]; }", point) for point in points]  # fmt: skip
    page.mouse.move(*where[0])
    page.mouse.down()
    for x, y in where[1:]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()
    page.wait_for_selector("body[data-saved=yes]")


def standing(folder: Path, structure: str = "disc") -> tuple[Standing, np.ndarray]:
    manifest = open_dataset(folder).manifest
    assert manifest is not None
    decisions = Decisions(folder, manifest)
    found = decisions.standing("eye0")[structure]
    assert found.held is not None
    return found, decisions.mask(found.held)


def test_a_stroke_is_kept_taken_back_and_settled(opened: Any, eyes: Path) -> None:
    with served(eyes, *by("ann")) as (address, _):
        page = opened(address)
        begin(page)
        majority = standing(eyes)[1]
        drag(page, (10, 10), (30, 10))
        painted = standing(eyes)[1]
        added = painted & ~majority
        assert added[10, 10:31].all() and not added[20].any(), "a line as wide as the brush"
        assert not (majority & ~painted).any()
        page.keyboard.press("Control+z")
        page.wait_for_selector("body[data-saved=yes]")
        assert np.array_equal(standing(eyes)[1], majority)
        page.keyboard.press("Control+Shift+z")
        page.wait_for_selector("body[data-saved=yes]")
        assert np.array_equal(standing(eyes)[1], painted)
        page.keyboard.press("e")
        drag(page, (10, 10), (30, 10))
        assert np.array_equal(standing(eyes)[1], majority), "the eraser takes the same away"
        page.click("[data-status=final]")
        page.wait_for_selector("#desk-status[data-status=final]")
        assert standing(eyes)[0].status == "final"


def test_two_in_two_browsers_lose_nothing_and_a_kill_loses_nothing_saved(opened: Any, eyes: Path) -> None:
    with served(eyes, *by("ann")) as (hers, first), served(eyes, *by("bob")) as (his, _):
        ann, bob = opened(hers), opened(his)
        begin(ann)
        begin(bob)
        drag(ann, (8, 8), (20, 8))
        drag(bob, (8, 90), (20, 90))
        drag(ann, (100, 8), (110, 8))
        os.kill(first.pid, signal.SIGKILL)
        found = standing(eyes)[0]
        assert found.status == "conflict"
        manifest = open_dataset(eyes).manifest
        assert manifest is not None
        kept = {head.who: Decisions(eyes, manifest).mask(head) for head in found.heads}
        assert kept["ann"][8, 8:21].all() and kept["ann"][8, 100:111].all() and not kept["ann"][90].any()
        assert kept["bob"][90, 8:21].all() and not kept["bob"][8].any()
        bob.reload()
        bob.wait_for_selector("#conflict:not([hidden])")
        bob.locator("#conflict .row", has_text="ann").get_by_text("take").click()
        bob.wait_for_selector("#conflict[hidden]", state="attached")
        assert np.array_equal(standing(eyes)[1], kept["ann"])


def test_what_is_shown_next_never_takes_the_mask_of_what_was_painted(opened: Any, eyes: Path) -> None:
    """A key pressed before the other structure is read, and a picture drawn anew while the hand paints."""
    other = "(c) => { desk.structure = shown.structure = c; return deskSlice(); }"
    with served(eyes, *by("ann")) as (address, _):
        page = opened(address)
        begin(page)
        page.evaluate(other, 1)
        begin(page)
        page.wait_for_selector("body[data-saved=yes]")
        cup = standing(eyes, "cup")[1]
        page.evaluate(other, 0)
        drag(page, (10, 10), (30, 10))
        disc = standing(eyes)[1]
        page.evaluate(
            f"() => {{ const read = ({other})(1); smooth(); travel(desk.past, desk.future); return read; }}"
        )
        page.wait_for_selector("body[data-saved=yes]")
        assert np.array_equal(standing(eyes, "cup")[1], cup)
        assert np.array_equal(standing(eyes)[1], disc)
        page.evaluate(other, 0)
        page.evaluate(
            "() => { const read = deskSlice(), was = desk.mask.slice(); desk.mask[0] = 1; commit(was); return read; }"
        )
        drag(page, (60, 90), (70, 90))
        found = standing(eyes)[1]
        assert found[0, 0] and found[90, 60:71].all(), "a stroke painted while the picture was read is kept"
