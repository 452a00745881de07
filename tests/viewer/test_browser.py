"""Deciding by hand, in a real browser: what is painted is what is kept, and nothing is asked of the internet."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from volumes import TASK

from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.decision import Standing
from mrprism.datasets.decisions import Decisions

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: no browser is driven"
)
pytest.importorskip("fastapi", reason="the extra 'view' is not installed")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: no browser is driven")


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    masks = np.zeros((3, 2, 100, 120), bool)
    for r in range(3):
        masks[r, :, 30 : 60 + 4 * r, 40 : 80 - 3 * r] = True
    image = np.random.default_rng(0).random((1, 100, 120), np.float32)
    samples = [MultiRaterSample(f"eye{n}", image, masks, np.ones((3, 2), bool)) for n in range(2)]
    write_dataset(samples, tmp_path / "eyes", name="eyes", task=TASK)
    return tmp_path / "eyes"


@contextmanager
def served(folder: Path, who: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "mrprism", "view", str(folder), "--no-browser", "--port", "0"]
    command += ["--adjudicate", "--as", who]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().partition(": ")[2].strip(), server
        server.kill()


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, address: str, wrong: list[str]) -> Any:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(120_000)  # milliseconds: other tests run beside this one
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None if re.match(r"(http://127\.0\.0\.1:|blob:|data:)", asked.url) else wrong.append(asked.url)
        ),
    )
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")
    return page


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


def test_a_stroke_is_kept_taken_back_and_settled(browser: Any, eyes: Path) -> None:
    wrong: list[str] = []
    with served(eyes, "ann") as (address, _):
        page = opened(browser, address, wrong)
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
    assert wrong == []


def test_two_in_two_browsers_lose_nothing_and_a_kill_loses_nothing_saved(browser: Any, eyes: Path) -> None:
    wrong: list[str] = []
    with served(eyes, "ann") as (hers, first), served(eyes, "bob") as (his, _):
        ann, bob = opened(browser, hers, wrong), opened(browser, his, wrong)
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
    assert wrong == []


def test_what_is_shown_next_never_takes_the_mask_of_what_was_painted(browser: Any, eyes: Path) -> None:
    """A key pressed before the other structure is read, and a picture drawn anew while the hand paints."""
    wrong: list[str] = []
    other = "(c) => { desk.structure = shown.structure = c; return deskSlice(); }"
    with served(eyes, "ann") as (address, _):
        page = opened(browser, address, wrong)
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
    assert wrong == []
