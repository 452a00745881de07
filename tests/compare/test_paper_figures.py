"""Figures of the paper as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrprism.compare.build import write_comparison
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.metrics.examples import write_example
from mrprism.metrics.scores import FINAL, Row

from .folder import CASES, TASK, make_plan, make_run

KEYS = ("fused-label-label=soft-vote", "fused-label-label=majority", "crowd-layer", "mrprism")


def keep(run: Path, given: str, name: str, shift: int) -> None:
    """One case as a run keeps it: two raters, and a square that lies beside theirs."""
    drawn = np.zeros((24, 24), bool)
    drawn[6:16, 6:16] = True
    masks = np.stack([drawn, np.roll(drawn, 1, 0)])[:, None]
    sample = MultiRaterSample(name, np.full((3, 24, 24), 0.4, np.float32), masks, np.ones((2, 1), bool))
    found = Prediction(probability=np.roll(drawn, shift, 1)[None].astype(np.float32))
    write_example(run / "shown" / given / f"{name}.npz", sample, found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_plan(tmp_path, methods=KEYS[2:], seeds=(0,), shown=CASES[:2])
    for place, key in enumerate(KEYS):
        values = np.linspace(0.7, 0.8, 12) + 0.01 * place
        more = [Row(c, c, "disc", FINAL, "mean of raters", "dice", 0.99, "both") for c in CASES]
        run = make_run(tmp_path, key, 0, {FINAL: values.tolist()}, more=more if key == "mrprism" else ())
        for name in CASES[:2]:
            keep(run, "image", name, place)
            if key == "mrprism":
                keep(run, "masks", name, 0)
    return tmp_path


def test_each_figure_is_there_as_svg_and_pdf_with_what_it_says(folder: Path) -> None:
    write_comparison(folder)
    assert {p.name for p in folder.glob("figure*")} == {
        f"figure{number}.{suffix}" for number in (4, 5, 6) for suffix in ("svg", "pdf")
    }
    four, five, six = ((folder / f"figure{number}.svg").read_text() for number in (4, 5, 6))
    for text in ("disc", "ann", "bob", "Crowd layer (MW)", "MrPrism", "lowest", ">77.0<"):
        assert text in four
    for text in (*CASES[:2], "2 raters", "U-Net on the", "MrPrism", ">94.7<"):
        assert text in five
    assert "DivP" in six and "Crowd" not in six
    assert five.count("<image") == 2 * 5
    assert all((folder / f"figure{n}.pdf").read_bytes().startswith(b"%PDF") for n in (4, 5, 6))


def test_reliability_stands_on_the_page(folder: Path) -> None:
    page = write_comparison(folder)[0].read_text()
    assert 'id="reliability"' in page
    assert "share of votes" in page


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    write_comparison(folder)
    before = {path.name: path.read_bytes() for path in folder.glob("figure*")}
    write_comparison(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("figure*")} == before


def test_what_cannot_be_shown_gives_no_file(folder: Path, tmp_path: Path) -> None:
    """Anonymous raters have no columns, and without kept cases there are no pictures."""
    make_plan(
        folder, methods=KEYS[2:], seeds=(0,), task=type(TASK)(3, ("disc",), TASK.raters, anonymous=True)
    )
    write_comparison(folder)
    assert not list(folder.glob("figure*"))
