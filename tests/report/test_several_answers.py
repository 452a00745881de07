"""The page of a method that draws: its draws, the ways in which they vary, its raters as a map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricate import RATERS, fabricate_run

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.learn.batch import Batch
from mrprism.learn.contract import predicted, task
from mrprism.learn.methods.ssn import SSN, Normal
from mrprism.metrics.examples import read_example, write_example
from mrprism.report import build_report
from mrprism.report.plots import in_the_plane
from mrprism.report.reading import read_run


def drawing_run(folder: Path) -> Path:
    """A fabricated run whose examples have draws, modes and a calibrated probability."""
    run = fabricate_run(folder, method="pionono", cases=12, size=64, recurrences=1, confidence=False)
    noise = np.random.default_rng(0)
    for file in sorted((run / "examples").glob("*.npz")):
        example = read_example(file)
        p = example.probability
        draws = np.stack([np.clip(p + noise.normal(0, 0.3, p.shape), 0, 1) for _ in range(16)])
        modes = np.stack([np.stack([p * 0.5, np.clip(p * 1.8, 0, 1)]) for _ in range(3)])
        from mrprism.core.sample import MultiRaterSample

        sample = MultiRaterSample(
            example.name, example.image, example.masks, example.rated, reference=example.reference
        )
        write_example(file, sample, Prediction(p, draws=draws, modes=modes, calibrated=p**2))
    apart = np.abs(np.subtract.outer(np.arange(7.0), np.arange(7.0)))
    (run / "raters.json").write_text(json.dumps({"raters": RATERS, "distances": apart.tolist()}))
    return run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    return build_report([drawing_run(folder / "run")], folder / "page.html").read_text()


def test_draws_can_be_paged_through(page: str) -> None:
    cases = page.count('class="film"')
    assert cases >= 3
    assert page.count('<div class="title">Draw 1 ') == cases == page.count('<div class="title">Draw 12 ')
    assert "Draw 13" not in page  # as many as are kept
    assert 'tabindex="0" aria-label="Draws of' in page  # by keyboard, too


def test_ways_raters_and_calibration_are_there_and_the_page_stays_light(page: str) -> None:
    assert page.count(">Way 3<") == page.count('class="film"')
    assert "Who draws like whom" in page
    assert all(name in page for name in RATERS)
    assert "Pionono, calibrated" in page
    assert len(page) < 1_500_000  # draws are ragged: their outlines would be megabytes


def test_a_run_without_draws_has_none_of_it(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / "run", cases=8, size=64, log=False)
    text = build_report([run], tmp_path / "page.html").read_text()
    for word in ('class="film"', "Way 1", "Who draws like whom", ", calibrated"):
        assert word not in text


def test_points_of_the_plane_keep_distances_that_lie_in_it() -> None:
    points = np.random.default_rng(3).normal(size=(6, 2))
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    found, kept = in_the_plane(apart)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found, axis=2), apart, atol=1e-9)
    assert kept == pytest.approx(1)
    far = np.ones((4, 4)) - np.eye(4)  # a tetrahedron does not fit
    assert in_the_plane(far)[1] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"raters": ["x"], "distances": [[0.0]]}, "is of other raters"),
        ({"raters": list(RATERS), "distances": [[0.0] * 7] * 6}, "is of other raters"),
        ({"raters": list(RATERS), "distances": [[-1.0] * 7] * 7}, "no distances"),
        ({"raters": list(RATERS)}, "cannot be read"),
    ],
)
def test_distances_of_others_are_refused(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    run = fabricate_run(tmp_path / "run", cases=4, size=64, log=False, examples=False)
    (run / "raters.json").write_text(json.dumps(wrong))
    with pytest.raises(InputError, match=said):
        read_run(run)


def test_ways_are_the_principal_directions_the_widest_first() -> None:
    torch.manual_seed(0)
    method = SSN(task(), backbone="small", rank=4).eval()
    wide, narrow = torch.zeros(2, 8, 8), torch.zeros(2, 8, 8)
    wide[0, :4], narrow[1, 4:] = 3.0, 1.0
    turned = torch.stack([wide + narrow, wide - narrow]) / 2**0.5  # columns of P have no order of their own
    factor = torch.cat([turned, torch.zeros(2, 2, 8, 8)])[None]
    method.distribution = lambda image: Normal(torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 8, 8), factor)  # type: ignore[method-assign, assignment]
    batch = Batch(("a",), torch.zeros(1, 1, 8, 8))
    found = method.modes(batch, 2)[0]
    torch.testing.assert_close(found[0, 1], (2 * wide).sigmoid())  # more to the right
    torch.testing.assert_close(found[0, 0], (-2 * wide).sigmoid())
    torch.testing.assert_close(found[1, 1], (2 * narrow).sigmoid())
    assert "modes" not in predicted(method, batch)  # for pictures alone
