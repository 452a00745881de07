"""The tools of whoever decides, by hand and by key, in a real browser: the files say what was painted."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes
from serving import served, until
from test_browser import begin, by, drag, standing
from volumes import TASK

from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.decisions import Decisions
from mrprism.images.between import between
from mrprism.images.slicing import Slicing


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    masks = np.zeros((3, 2, 100, 120), bool)
    masks[:, 0, 30:60, 40:80] = True
    image = np.random.default_rng(0).random((1, 100, 120), np.float32)
    samples = [MultiRaterSample("eye0", image, masks, np.ones((3, 2), bool))]
    write_dataset(samples, tmp_path / "eyes", name="eyes", task=TASK)
    return tmp_path / "eyes"


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the image is on the screen."""
    corner = page.evaluate("(([x, y]) => { const c = $('picture').getBoundingClientRect(); return [c.left + view.x + x * view.scale, c.top + view.y + y * view.scale * view.aspect]; })", [x, y])  # fmt: skip
    return corner[0], corner[1]


def click(page: Any, x: float, y: float, **options: Any) -> None:
    page.mouse.click(*at(page, x, y), **options)
    page.wait_for_selector("body[data-saved=yes]")


def key(page: Any, name: str) -> None:
    page.keyboard.press(name)
    page.wait_for_timeout(60)
    page.wait_for_selector("body[data-saved=yes]")


def empty(page: Any) -> None:
    page.select_option("#desk-start", label="nothing")
    begin(page)
    page.wait_for_selector("body[data-saved=yes]")


def test_every_tool_and_its_key(opened: Any, eyes: Path) -> None:
    def mask() -> np.ndarray:
        return standing(eyes)[1]

    with served(eyes, *by("ann")) as (address, _):
        page = opened(address)
        empty(page)
        assert not mask().any()
        # polygon: three corners, closed by Enter; the same with Alt takes away
        key(page, "p")
        for corner in ((10, 10), (50, 10), (10, 50)):
            click(page, *corner)
        key(page, "Enter")
        triangle = mask()
        assert triangle[15, 15] and not triangle[45, 45] and abs(int(triangle.sum()) - 800) < 60
        # brush: a ring that is closed; fill: what it encloses, and never the outside
        key(page, "b")
        page.fill("#brush-size", "4")
        drag(page, (70, 50), (100, 50), (100, 80), (70, 80), (70, 50))
        ring = mask()
        key(page, "g")
        click(page, 85, 65)
        filled = mask()
        assert np.array_equal(filled, binary_fill_holes(ring))
        click(page, 5, 95)
        assert np.array_equal(mask(), filled), "the ground around is open to the border"
        assert "open" in page.inner_text("#desk-says")
        # fill with Alt takes a whole piece away
        page.keyboard.down("Alt")
        click(page, 15, 15)
        page.keyboard.up("Alt")
        without = mask()
        assert not without[:48, :48].any() and np.array_equal(without[48:, 65:], filled[48:, 65:])
        # eraser, and Alt with the brush
        key(page, "e")
        drag(page, (85, 60), (85, 70))
        assert not mask()[60:70, 85].any()
        key(page, "b")
        page.keyboard.down("Alt")
        drag(page, (75, 60), (75, 70))
        page.keyboard.up("Alt")
        holes = mask()
        assert not holes[60:70, 75].any()
        # smooth: a pixel is what most of the 5 x 5 around it are
        key(page, "s")
        padded = np.pad(holes, 2, mode="edge").astype(int)
        most = sum(padded[r : r + 100, c : c + 120] for r in range(5) for c in range(5)) > 12
        assert np.array_equal(mask(), most)
        # back and forth through all of it
        for _ in range(2):
            key(page, "Control+z")
        key(page, "Control+y")
        assert np.array_equal(mask(), holes)
        key(page, "u")
        assert mask()[65, 75]
        # the size of the brush by key; the note; what stands in the file
        before = page.evaluate("desk.size")
        key(page, ".")
        assert page.evaluate("desk.size") > before
        page.fill("#desk-note", "<img src=x onerror=alert(1)>")
        page.press("#desk-note", "Tab")
        page.wait_for_timeout(60)
        page.wait_for_selector("body[data-saved=yes]")
        found = standing(eyes)[0].held
        assert found is not None
        assert (found.start.kind, found.who, found.note) == ("empty", "ann", "<img src=x onerror=alert(1)>")
        assert found.changed == found.marked == mask().sum()


def test_a_kill_while_painting_loses_at_most_the_stroke(opened: Any, eyes: Path) -> None:
    with served(eyes, *by("ann")) as (address, server):
        page = opened(address)
        empty(page)
        drag(page, (10, 10), (40, 10))
        kept = standing(eyes)[1]
        page.mouse.move(*at(page, 10, 50))
        page.mouse.down()
        page.mouse.move(*at(page, 60, 50), steps=5)
        os.kill(server.pid, signal.SIGKILL)
        page.mouse.up()
        page.wait_for_selector("#desk-retry:not([hidden])")
        assert "not saved" in page.inner_text("#desk-says").lower()
        assert np.array_equal(standing(eyes)[1], kept)
        assert page.evaluate("desk.mask[50 * desk.width + 30]") == 1, "the page still has the stroke"
        page.evaluate("window.onbeforeunload = null; desk.jobs = []")


def test_slices_between_two_are_filled_and_that_is_taken_back(opened: Any, tmp_path: Path) -> None:
    space = (24, 40, 44)
    masks = np.zeros((2, 2, *space), bool)
    masks[0, 0, 12, 5:9, 5:9] = True
    image = np.random.default_rng(0).random((1, *space)).astype(np.float32)
    from dataclasses import replace

    task = replace(TASK, raters=("ann", "bob"))
    sample = MultiRaterSample("scan", image, masks, np.ones((2, 2), bool), spacing_mm=(3.0, 1.0, 1.0))
    write_dataset([sample], tmp_path / "scans", name="scans", task=task, image_format="nifti")
    folder = tmp_path / "scans"

    def mask() -> np.ndarray:
        manifest = open_dataset(folder).manifest
        assert manifest is not None
        decisions = Decisions(folder, manifest)
        held = decisions.standing("scan")["disc"].held
        assert held is not None
        return Slicing("axial").cut(open_dataset(folder)["scan"]).of(decisions.mask(held))

    def to(page: Any, slice_: int) -> None:
        page.evaluate(f"toSlice({slice_ - 1})")
        until(page, f"ready() && desk.at.index === {slice_ - 1}")

    with served(folder, *by("ann")) as (address, _):
        page = opened(address)
        empty(page)
        page.fill("#brush-size", "10")
        to(page, 10)
        drag(page, (10, 10), (20, 10))
        to(page, 20)
        drag(page, (20, 30), (34, 30))
        assert (page.input_value("#between-first"), page.input_value("#between-last")) == ("10", "20")
        drawn = mask()
        page.click("#between-go")
        until(page, "desk.filled && desk.base.get(desk.filled.key) === desk.filled.after")
        filled = mask()
        expected = drawn.copy()
        expected[10:19] = between(drawn[9], drawn[19], 9)
        assert np.array_equal(filled, expected) and filled[14].any()
        page.keyboard.press("Control+z")
        until(page, "desk.filled.nowbefore && ready()")
        assert np.array_equal(mask(), drawn)
        page.keyboard.press("Control+Shift+z")
        until(page, "desk.filled.nowafter && ready()")
        assert np.array_equal(mask(), filled)
        page.fill("#between-first", "1")
        page.fill("#between-last", "5")
        page.click("#between-go")
        until(page, "$('desk-says').textContent.includes('nothing is drawn on slice 1')")
        assert np.array_equal(mask(), filled)
