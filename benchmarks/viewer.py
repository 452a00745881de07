"""How quick the page of `mrprism view` is, in Chromium: `python benchmarks/viewer.py`, a few minutes on two cores.

It needs Chromium and playwright. Times are of the page's own clock, in milliseconds, the largest of several tries; memory is
that of the server. Prints a table for viewer.md.
"""

from __future__ import annotations

import json
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

import nibabel as nib
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

CASES, SIDE, RATERS, VOLUME = 10_000, 1024, 7, (300, 512, 512)
RAF = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"  # a frame was painted


def timed(page: Any, act: str, tries: int = 5) -> float:
    """Milliseconds until the page has done something and painted the next frame; the largest of several tries."""
    took = f"(async () => {{ const began = performance.now(); {act}; await {RAF}; return performance.now() - began; }})()"
    return max(page.evaluate(took) for _ in range(tries))


@contextmanager
def viewed(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "mrprism", "view", str(folder), "--no-browser", "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as server:
        assert server.stdout is not None
        try:
            yield re.findall(r"http\S+", server.stdout.readline())[0], server.pid
        finally:
            server.kill()


def manifest(folder: Path, cases: list[dict[str, Any]], raters: list[str]) -> None:
    whole = {
        "format": "mrprism-dataset/1",
        "name": folder.name,
        "channels": ["grey"],
        "structures": ["lesion"],
    }
    (folder / "dataset.json").write_text(json.dumps({**whole, "raters": raters, "cases": cases}))


def many(folder: Path) -> None:
    """10,000 cases of forty small images."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for n in range(40):
        Image.fromarray(random.integers(0, 255, (32, 32), np.uint8)).save(folder / f"i{n}.png")
        for r in range(3):
            mask = np.zeros((32, 32), np.uint8)
            mask[5 : 20 + r, 5 : 20 + n // 4] = 255
            Image.fromarray(mask).save(folder / f"m{n}-{r}.png")
    named = [
        {
            "name": f"patient{random.integers(10**6):06d}-{n}",
            "image": f"i{n % 40}.png",
            "masks": {f"r{r}": {"lesion": f"m{(n + 7 * r) % 40}-{r}.png"} for r in range(3)},
        }
        for n in range(CASES)
    ]
    manifest(folder, named, ["r0", "r1", "r2"])


def large(folder: Path) -> None:
    """One image of 1024 x 1024 and seven raters."""
    folder.mkdir()
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (SIDE, SIDE), np.uint8)).save(folder / "i.png")
    rows, columns = np.indices((SIDE, SIDE))
    for r in range(RATERS):
        angle = np.arctan2(rows - 512, columns - 512)
        edge = 300 + 40 * np.sin(5 * angle + r) + 15 * r
        Image.fromarray(np.where(np.hypot(rows - 512, columns - 512) < edge, 255, 0).astype(np.uint8)).save(
            folder / f"m{r}.png"
        )
    names = [f"r{r}" for r in range(RATERS)]
    case = {"name": "large", "image": "i.png", "masks": {n: {"lesion": f"m{n[1:]}.png"} for n in names}}
    manifest(folder, [case], names)


def deep(folder: Path) -> None:
    """A CT of 512 x 512 x 300 and three raters, as .nii.gz."""
    folder.mkdir()
    affine = np.diag([0.7, 0.7, 1.0, 1.0])
    plane = np.random.default_rng(0).integers(-1000, 1000, (VOLUME[2], VOLUME[1]), np.int16)
    values = np.repeat(plane[:, :, None], VOLUME[0], axis=2)
    nib.save(nib.Nifti1Image(values, affine), folder / "i.nii.gz")
    for r in range(3):
        mask = np.zeros(VOLUME[::-1], np.uint8)
        mask[150 : 350 + 5 * r, 160:340, 80 : 200 + 10 * r] = 1
        nib.save(nib.Nifti1Image(mask, affine), folder / f"m{r}.nii.gz")
    names = [f"r{r}" for r in range(3)]
    case = {"name": "deep", "image": "i.nii.gz", "masks": {n: {"lesion": f"m{n[1:]}.nii.gz"} for n in names}}
    manifest(folder, [case], names)


def peak(pid: int) -> float:
    """MB of a process's own memory at most; pages of mapped files, which can be given back, do not count."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(re.findall(rf"{name}:\s+(\d+)", text)[0]) for name in ("RssAnon",)) / 1024


def ready(page: Any, address: str) -> float:
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]", timeout=600_000)
    return float(page.evaluate("performance.now()"))


def main() -> None:
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for make in (many, large, deep):
            make(Path(folder, make.__name__))
        with viewed(Path(folder, "many")) as (address, _):
            page = chromium.new_page(viewport={"width": 1400, "height": 900})
            first = ready(page, address)
            rows.append((f"first case of {CASES:,}, from the page's beginning", f"{first:.0f}", "1000"))
            while page.evaluate("order.filter((row) => row.dice === null).length"):
                page.wait_for_timeout(1000)
            for column in ("name", "dice", "worth"):
                took = timed(page, f"$('sort').value = '{column}'; $('sort').onchange()")
                rows.append((f"{CASES:,} cases sorted by {column}", f"{took:.0f}", "100"))
            took = timed(page, "$('search').value = 'patient9 dice<0.8'; $('search').oninput()")
            rows.append((f"{CASES:,} cases searched", f"{took:.0f}", "100"))
            page.evaluate("$('search').value = ''; $('search').oninput()")
            took = timed(page, "$('cases').scrollTop += 100000; listCases()")
            rows.append((f"{CASES:,} cases, list moved by thousands", f"{took:.0f}", "100"))
            took = timed(page, "await readCases()")
            rows.append((f"{CASES:,} cases read again and listed", f"{took:.0f}", ""))
            page.close()
        with viewed(Path(folder, "large"), "--adjudicate", "--as", "ann") as (address, _):
            page = chromium.new_page(viewport={"width": 1400, "height": 900})
            rows.append(
                ("an image of 1024 × 1024, from the page's beginning", f"{ready(page, address):.0f}", "1000")
            )
            rows.append(("a rater hidden or shown", f"{timed(page, 'pickRater(2, false)', 9):.0f}", "50"))
            page.click("#what-if summary")
            page.wait_for_selector("body[data-weighed]")
            moved = "weighing.weights[2] = Math.random(); weigh()"
            rows.append(
                ("consensus of 7 raters under a moved weight", f"{timed(page, moved, 20):.0f}", "100")
            )
            page.click("#what-if summary")
            page.click("#desk-begin")
            page.wait_for_selector("#tools:not([hidden])")
            stroke = "const box = { x0: 1e9, y0: 1e9, x1: 0, y1: 0 }; drag({ x: 300, y: 300 }, { x: 340, y: 320 }, 1, box); paint(box)"
            page.evaluate("desk.size = 60")
            rows.append(("brush of 60 pixels, one move of the hand", f"{timed(page, stroke, 20):.0f}", "33"))
            page.close()
        with viewed(Path(folder, "deep")) as (address, pid):
            page = chromium.new_page(viewport={"width": 1400, "height": 900})
            took = ready(page, address)
            rows.append(("a CT of 512 × 512 × 300 and 3 raters, first slice", f"{took:.0f}", ""))
            rows.append(("the next slice", f"{timed(page, 'shown.slice++; await show()', 5):.0f}", ""))
            held = peak(pid)
            page.close()
        chromium.close()
    print("| what | ms | asked |\n|---|---|---|")
    for what, took, asked in rows:
        print(f"| {what} | {took} | {asked or '–'} |")
    whole = np.prod(VOLUME) * 4 / 1e6
    print(f"\nMemory of the server with the CT open: {held:.0f} MB; the volume as floats is {whole:.0f} MB.")


if __name__ == "__main__":
    main()
