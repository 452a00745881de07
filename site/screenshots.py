"""Pictures of every view of the viewer, for the documentation: `python site/screenshots.py` writes docs/images/view-*.png.

It draws phantoms, serves them, and looks at them in Chromium (playwright). With RUN, the folder of a trained run, also what a
run says.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@contextmanager
def viewed(folder: Path, *options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "mrprism", "view", str(folder), "--no-browser", "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as server:
        assert server.stdout is not None
        try:
            yield re.findall(r"http\S+", server.stdout.readline())[0]
        finally:
            server.kill()


def shot(
    browser: Any, address: str, name: str, *acts: str, size: dict[str, int] = DESK, light: bool = False
) -> None:
    """A picture of the page after some acts."""
    page = browser.new_page(viewport=size, color_scheme="light" if light else "dark")
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]", timeout=120_000)
    for act in acts:
        page.evaluate(act)
        page.wait_for_timeout(700)
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    page.close()
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


SOLID = """openSolid().then(() => { const v = solid.viewer; v.setRenderAzimuthElevation?.(140, 15); v.drawScene(); })"""
STROKE = """(() => { const before = desk.mask.slice(), box = { x0: 1e9, y0: 1e9, x1: 0, y1: 0 };
  desk.size = 9; drag({ x: 42, y: 88 }, { x: 52, y: 100 }, 1, box); paint(box); commit(before); })()"""


def main() -> None:
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for name, more in (("fundus", ["--cases", "40"]), ("volumes", ["--cases", "3", "--dims", "3"])):
            subprocess.run(
                [sys.executable, "-m", "mrprism", "phantom", str(Path(folder, name)), *more], check=True
            )
        fundus, volumes = Path(folder, "fundus"), Path(folder, "volumes")
        with viewed(fundus) as address:
            shot(
                browser,
                address,
                "view-outlines",
                "$('names').click()",
                "$('dashes').value = 'raters'; draw()",
                light=True,
            )
            weights = "[1, 1, 0.2, 0, 0, 1, 0].forEach((w, r) => { weighing.weights[r] = w; }); listWeights(); weigh()"
            opened = "$('what-if').open = true; $('what-if').scrollIntoView()"
            shot(browser, address, "view-what-if", opened, weights, "$('none').click()")
            shot(browser, address, "view-votes", "KEYS.v()", "pickRuler('distance')")
            shot(browser, address, "view-phone", size=PHONE)
        with viewed(fundus, "--adjudicate", "--as", "Dr Ann") as address:
            begun = "begin_('fusion', 'majority')"
            shot(browser, address, "adjudicate", "$('none').click()", begun, STROKE, "settle('agreed')")
            flagged = (
                "flagCase({ flag: true, note: 'Vessel at the rim: ask Dr Bob' }); $('flag').scrollIntoView()"
            )
            shot(
                browser,
                address,
                "adjudicate-queue",
                flagged,
                "$('sort').value = 'worth'; $('sort').onchange()",
                light=True,
            )
            page = browser.new_page(viewport=DESK, color_scheme="light")
            page.goto(address.replace("/?", "/summary?"))
            page.screenshot(path=IMAGES / "adjudicate-summary.png")
            page.close()
        with viewed(volumes) as address:
            consensus = "$('fusion').value = 'majority'; $('fusion').onchange()"
            shot(browser, address, "view-volume", consensus)
            shot(browser, address, "view-planes", consensus, "toggleThree()", SOLID)
        if run is not None:
            with viewed(run) as address:
                shot(browser, address, "view-run", "shown.heat = 'confidence'; panel(); show()")
        browser.close()


if __name__ == "__main__":
    main()
