"""What a run that draws several outlines, or that weighs raters, shows: its draws, ways and bounds; and in a real browser what
a run that was really trained says."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import served, served_here, until
from volumes import TASK

import mrprism
from mrprism.agreement.case import measure
from mrprism.agreement.pictures import outline
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import open_dataset, write_dataset
from mrprism.viewer.spread import spread_of

pytest.importorskip("fastapi", reason="the extra 'view' is not installed")
from test_viewer import KEY, Says, client, image_samples

from mrprism.viewer.server import make_app
from mrprism.viewer.view import View


def test_the_spread_of_draws_is_that_of_as_many_raters() -> None:
    draws = np.random.default_rng(0).random((5, 2, 8, 9)) < 0.4
    draws[0, 1] = draws[1, 1] = False  # two that mark nothing agree
    found = spread_of(draws, None)
    assert found["count"] == 5 and found["weights"] is None
    assert found["pixels"] == [[int(draws[s, c].sum()) for s in range(5)] for c in range(2)]
    for c in range(2):
        pairs = measure(draws[:, c], np.ones(5, bool), distances=False).dice
        assert found["dice"][c] == pytest.approx(pairs.mean(), abs=1e-4)
    alone = spread_of(draws[:1], np.array([[1.0, 0.25]]))
    assert alone["dice"] == [None, None] and alone["weights"] == [[1.0, 0.25]]


class Draws(Says):
    """Draws one column more each time, and varies in one way: from the left quarter to the left half."""

    varies, coverage = True, 0.8

    def predict(self, case: MultiRaterSample) -> Prediction:
        whole = super().predict(case)
        draws = np.zeros((3, *whole.probability.shape))
        for s in range(3):
            draws[s, ..., : s + 1] = 1
        return replace(
            whole,
            draws=draws,
            draw_weights=np.full((3, 2), 1 / 3),
            inner=draws[0] > 0.5,
            outer=draws[2] > 0.5,
        )

    def modes(self, plane: MultiRaterSample) -> np.ndarray:
        width = plane.space[1]
        ends = np.full((1, 2, 2, *plane.space), 0.01)
        ends[:, 0, ..., : width // 4] = 0.9
        ends[:, 1, ..., : width // 2] = 0.9
        ends[:, 0, ..., width // 4 : width // 2] = 0.2
        return ends


def test_draws_ways_and_bounds_of_a_slice(tmp_path: Path) -> None:
    write_dataset(image_samples(), tmp_path / "eyes", name="eyes", task=TASK)
    with client(View(open_dataset(tmp_path / "eyes"), "eyes", Draws())) as get:

        def left(columns: int) -> str:
            mask = np.zeros((12, 16), bool)
            mask[:, :columns] = True
            return outline(mask)

        said = get.get("/api/cases/0/prediction").json()
        assert said["draws"]["count"] == 3 and said["draws"]["pixels"] == [[12, 24, 36]] * 2
        assert said["draws"]["weights"] == [[0.3333, 0.3333]] * 3
        assert (said["inner"], said["outer"], said["coverage"]) == ([left(1)] * 2, [left(3)] * 2, 0.8)
        assert get.get("/api/cases/0/draw?draw=1").json()["structures"] == [left(2)] * 2
        # log-odds of the columns between, ln(0.2 / 0.8) and ln(0.9 / 0.1), pass 0 at 0.387 of the way: -0.45
        for at, columns in ((-2, 4), (-0.46, 4), (-0.44, 8), (2, 8)):
            found = get.get(f"/api/cases/0/way?way=0&at={at}").json()
            assert found == {"count": 1, "structures": [left(columns)] * 2}, at
        for wrong in ("draw?draw=3", "way?way=1&at=0", "way?way=0&at=2.5"):
            answer = get.get(f"/api/cases/0/{wrong}")
            assert answer.status_code == 422 and answer.json()["error"]
    with client(View(open_dataset(tmp_path / "eyes"), "eyes", Says())) as get:
        said = get.get("/api/cases/0/prediction").json()
        assert (said["draws"], said["varies"], said["inner"]) == (None, False, None)
        assert "draws no outlines" in get.get("/api/cases/0/draw?draw=0").json()["error"]
        assert "in which ways" in get.get("/api/cases/0/way?way=0&at=0").json()["error"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run of mrprism of three steps on small drawn images; what it says is its own, right or wrong."""
    pytest.importorskip("torch", reason="the extra 'learn' is not installed")
    data = mrprism.phantom("two", size=32, cases=6, out=tmp_path / "eyes")
    mrprism.train(
        data, "mrprism", tmp_path / "run", backbone="small", size=32, epochs=3, batch_size=4, learning_rate=0.01,
        augment="none", device="cpu", quiet=True,
    )  # fmt: skip
    return tmp_path / "run"


def paths(page: Any, kind: str) -> list[str]:
    found: list[str] = page.evaluate(
        f"[...document.querySelectorAll('#lines .{kind}')].map((line) => line.getAttribute('d'))"
    )
    return found


def test_a_trained_mrprism_answers_anew_when_a_weight_moves(opened: Any, trained: Path) -> None:
    with served(trained) as (address, _):
        page = opened(address)
        maps = []
        page.click("#heat button:has-text('probability')")
        until(page, "drawing.prediction && $('busy').hidden")
        steps = page.evaluate("drawing.prediction.steps.length")
        assert steps > 1, "its recurrences"
        for step in (0, steps - 1):
            page.locator("#step").fill(str(step))
            until(page, f"$('bar-what').textContent.endsWith('recurrence {step}') && $('busy').hidden")
            maps.append(page.evaluate("fetch($('overlay').getAttribute('href')).then((x) => x.arrayBuffer()).then((x) => [...new Uint8Array(x)].join())"))  # fmt: skip
        assert maps[0] != maps[1], "the slider shows another recurrence"
        asked: list[str] = []
        page.on("response", lambda answer: asked.append(answer.url) if "/under" in answer.url else None)
        page.click("#what-if summary")
        until(page, "weighing.under !== null")
        before = page.evaluate("weighing.under")
        page.locator("#weights input").nth(0).fill("0")
        until(page, f"JSON.stringify(weighing.under) !== JSON.stringify({before})")
        assert paths(page, "under") == [line for line in page.evaluate("weighing.under") if line]
        assert (
            page.evaluate(
                "getComputedStyle(document.querySelector('#lines .prediction') ?? document.body).fillOpacity"
            )
            == "0"
        )
        assert "gives one answer" in page.inner_text("#draws-none")


def test_draws_are_paged_through(opened: Any, tmp_path: Path) -> None:
    write_dataset(image_samples(), tmp_path / "eyes", name="eyes", task=TASK)
    view = View(open_dataset(tmp_path / "eyes"), "eyes", Draws())
    view.list.measure(threading.Event())
    with served_here(make_app(view, KEY)) as address:
        page = opened(f"{address}?key={KEY}#case=eye0")
        assert page.inner_text("#draw-says") == "none of 3" and not paths(page, "draw")
        assert len(paths(page, "bound")) == 4, "inner and outer outline of two structures"
        assert page.inner_text("#bounds-says") == "Inner and outer outline (80 % of patients)"

        def shows(several: str) -> None:
            until(page, f"document.body.dataset.several === '{several}'")

        seen = []
        for n in (1, 2):
            page.locator("#draw").fill(str(n))
            shows(f"{n - 1} false  0")
            assert page.inner_text("#draw-says") == f"{n} of 3"
            seen.append(paths(page, "chosen"))
        assert seen[0] != seen[1]
        page.check("#all-draws")
        shows("1 true  0")
        assert len(paths(page, "draw")) > len(seen[1])
        page.uncheck("#all-draws")
        page.select_option("#way", "0")
        shows("1 false 0 0")
        for at, end in (("-2", "less"), ("2", "more")):
            page.locator("#at").fill(at)
            shows(f"1 false 0 {at}")
            assert paths(page, "here") == paths(page, end), "two deviations away is the end of the way"
        assert paths(page, "less") != paths(page, "more")
        assert page.inner_text("#draws-says").startswith("Chance of this draw: disc 0.33, cup 0.33.")
        assert "12 to 36 pixels; mean Dice of two draws" in page.inner_text("#draws-says")
        page.uncheck("#bounds")
        assert not paths(page, "bound")
