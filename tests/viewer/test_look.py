"""What the list is sorted by, what raters would say under other weights, and what the page can ask a run for."""

from __future__ import annotations

import io
import struct
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from volumes import TASK, volumes

from mrprism.agreement.pictures import outline
from mrprism.core.errors import InputError
from mrprism.core.patterns import count_patterns
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import Dataset, open_dataset, write_dataset

pytest.importorskip("fastapi", reason="the extra 'view' is not installed")
from test_viewer import Says, client, image_samples

from mrprism.viewer.desk import Desk
from mrprism.viewer.look import doubt_of, look, worth_of
from mrprism.viewer.server import _listen, _names, make_app
from mrprism.viewer.view import View


@pytest.mark.parametrize(
    ("marked", "raters", "expected"),
    [
        (4, 7, 1 - 4.5 / 8),  # one of them less, and there is a tie, which is background
        (3, 7, 0.0),  # one more makes four of eight, a tie: nothing changes
        (3, 6, 3.5 / 7),  # one more makes four of seven
        (7, 7, 0.0),
        (0, 7, 0.0),
        (1, 1, 1 - 1.5 / 2),
    ],
)
def test_the_value_of_the_next_look_by_hand(marked: int, raters: int, expected: float) -> None:
    """Ten pixels that this many marked, beside ten that all marked: where the majority changes, of what it marks."""
    masks = np.zeros((raters, 40), bool)
    masks[:, :10] = True
    masks[:marked, 10:20] = True
    inside = 10 + 10 * (2 * marked > raters)
    sure = 10 * (1 - (raters + 0.5) / (raters + 1)) if raters == 1 else 0  # of one rater all may change
    found = worth_of(count_patterns(masks, np.ones(raters, bool)))
    assert found == pytest.approx((10 * expected + sure) / inside)


def test_doubt_is_the_share_expected_to_be_wrong() -> None:
    assert doubt_of(np.array([[1.0, 1.0, 0.0]])) == 0
    assert doubt_of(np.array([[0.8, 0.4, 0.0]])) == pytest.approx((0.2 + 0.4) / 1.2)
    assert doubt_of(np.zeros((2, 4))) == 0


def test_the_list_s_number_is_the_panel_s(tmp_path: Path) -> None:
    write_dataset(image_samples(), tmp_path / "eyes", name="eyes", task=TASK)
    view = View(open_dataset(tmp_path / "eyes"), "eyes", Says())
    view.list.measure(threading.Event())
    with client(view) as get:
        listed = get.get("/api/cases").json()
        assert listed["done"]
        for number, row in enumerate(listed["cases"]):
            case = get.get(f"/api/cases/{number}").json()
            assert case["mean"] == pytest.approx(row["dice"], abs=1e-4)
            pairs = [value for table in case["dice"] for line in table for value in line if value is not None]
            assert row["lowest"] == pytest.approx(min(pairs), abs=1e-4)
            assert row["doubt"] == pytest.approx(0.1 / 0.9)
    in_memory = Dataset.from_samples("eyes", TASK, image_samples())
    with pytest.raises(InputError, match="not on disk"):
        look(in_memory, "eye0")


@pytest.mark.parametrize("raters", [3, 45])
def test_patterns_tell_who_marked_each_pixel(tmp_path: Path, raters: int) -> None:
    random = np.random.default_rng(raters)
    task = replace(TASK, raters=tuple(f"r{n}" for n in range(raters)))
    masks, rated = random.random((raters, 2, 9, 14)) > 0.5, np.ones((raters, 2), bool)
    rated[1, 0] = False
    masks[1, 0] = False
    sample = MultiRaterSample("x", random.random((1, 9, 14), np.float32), masks, rated)
    write_dataset([sample], tmp_path / "set", name="set", task=task)
    with client(View(open_dataset(tmp_path / "set"), "set")) as get:
        content = get.get("/api/cases/0/patterns?structure=0").content
    height, width, many, count = struct.unpack("<4I", content[:16])
    table = np.frombuffer(content[16 : 16 + many * count], np.uint8).reshape(many, count)
    number = np.frombuffer(content[16 + many * count :], "<u2").reshape(height, width)
    assert (height, width, count) == (9, 14, raters) and many <= 126
    assert len(np.unique(table, axis=0)) == many
    said = np.moveaxis(table[number], 2, 0)
    assert (said[1] == 2).all()
    assert np.array_equal(np.delete(said, 1, 0), np.delete(masks[:, 0], 1, 0))


class Weighs(Says):
    """Says the left half of the share of its first rater's weight."""

    weighs = True

    def under(self, plane: MultiRaterSample, trust: np.ndarray) -> np.ndarray:
        assert trust.shape == (2, 2)
        height, width = plane.space
        found = np.zeros((2, height, width))
        found[:, :, : round(width * (trust[0, 0] - 0.5) / 0.49)] = 1
        return found

    def predict(self, case: Any) -> Prediction:
        if hasattr(case, "array"):  # an image that was dropped
            case = MultiRaterSample(
                "x", case.array, np.zeros((2, 2, *case.array.shape[1:]), bool), np.zeros((2, 2), bool)
            )
        return super().predict(case)


def test_what_a_run_would_say_under_other_weights(tmp_path: Path) -> None:
    write_dataset(image_samples(), tmp_path / "eyes", name="eyes", task=TASK)
    view = View(open_dataset(tmp_path / "eyes"), "eyes", Weighs())
    with client(view) as get:
        assert get.get("/api/about").json()["weighs"]
        found = get.get("/api/cases/0/under?weights=0,0.5,1").json()["structures"]  # bob is the run's first
        half = np.zeros((12, 16), bool)
        half[:, :8] = True
        assert found == [outline(half)] * 2
        assert get.get("/api/cases/0/under?weights=1,0,1").json()["structures"] == ["", ""]
        for wrong in ("1,1", "1,1,2", "a,b,c", "1,1,nan"):
            assert get.get(f"/api/cases/0/under?weights={wrong}").status_code == 422
    with client(View(open_dataset(tmp_path / "eyes"), "eyes", Says())) as get:
        assert "does not weigh raters" in get.get("/api/cases/0/under?weights=1,1,1").json()["error"]
    with client(View(open_dataset(tmp_path / "eyes"), "eyes", Weighs(), blind="seed")) as get:
        assert not get.get("/api/about").json()["weighs"]
        assert get.get("/api/cases/0/under?weights=1,0,0").status_code == 422, (
            "it would show whose style is whose"
        )


def test_an_image_that_is_dropped_is_outlined_and_kept_nowhere(tmp_path: Path) -> None:
    write_dataset(image_samples(), tmp_path / "eyes", name="eyes", task=TASK)
    before = sorted(tmp_path.rglob("*"))
    content = io.BytesIO()
    PIL.Image.fromarray(np.full((10, 20), 90, np.uint8)).save(content, "PNG")
    kind = {"content-type": "application/octet-stream"}
    with client(View(open_dataset(tmp_path / "eyes"), "eyes", Weighs())) as to:
        found = to.post("/api/outline?name=new.png", content=content.getvalue(), headers=kind).json()
        assert (found["size"], found["marked"]) == ([10, 20], [100, 100])
        assert found["image"].startswith("data:image/png;base64,")
        refused = to.post("/api/outline?name=../../x.png", content=b"no picture", headers=kind)
        assert refused.status_code == 422 and "../../x.png" in refused.json()["error"]
        assert (
            to.post(
                "/api/outline?name=x.png", content=b"x", headers={"content-type": "text/plain"}
            ).status_code
            == 415
        )
        elsewhere = {**kind, "origin": "https://evil.example"}
        assert to.post("/api/outline?name=x.png", content=b"x", headers=elsewhere).status_code == 403
    with client(View(open_dataset(tmp_path / "eyes"), "eyes")) as to:
        assert to.post("/api/outline?name=x.png", content=b"x", headers=kind).status_code == 404
    assert sorted(tmp_path.rglob("*")) == before


def test_whole_volumes_and_surfaces_lie_in_the_patient(tmp_path: Path) -> None:
    write_dataset(volumes(1), tmp_path / "scans", name="scans", task=TASK, image_format="nifti")
    stored = nib.load(next((tmp_path / "scans" / "images").glob("*")))
    sample = open_dataset(tmp_path / "scans")[0]
    with client(View(open_dataset(tmp_path / "scans"), "scans")) as get:
        image = nib.Nifti1Image.from_bytes(get.get("/api/cases/0/image.nii").content)
        assert np.allclose(image.affine, stored.affine) and np.allclose(image.get_fdata(), stored.get_fdata())
        mask = nib.Nifti1Image.from_bytes(get.get("/api/cases/0/mask.nii?structure=0&of=rater0").content)
        assert np.array_equal(mask.get_fdata().transpose(2, 1, 0) > 0, sample.masks[0, 0])
        content = get.get("/api/cases/0/surface.mz3?structure=0&of=rater0").content
        magic, parts, faces, points, skip = struct.unpack("<2H3I", content[:16])
        assert (magic, parts, skip) == (0x5A4D, 3, 0)
        there = np.frombuffer(content[16 + 12 * faces :], "<f4").reshape(points, 3)
        marked = np.argwhere(sample.masks[0, 0])[:, ::-1] @ stored.affine[:3, :3].T + stored.affine[:3, 3]
        assert np.allclose(there.mean(axis=0), marked.mean(axis=0), atol=1.5)
        for of in ("rater9", "../x", "rater2"):
            assert get.get(f"/api/cases/0/surface.mz3?structure=1&of={of}").status_code in (200, 422)
        assert get.get("/api/cases/0/surface.mz3?structure=0&of=../x").status_code == 422


def test_others_may_come_only_where_it_is_asked_for_and_said(tmp_path: Path) -> None:
    write_dataset(image_samples(), tmp_path / "eyes", name="eyes", task=TASK)
    view = View(open_dataset(tmp_path / "eyes"), "eyes")
    from fastapi.testclient import TestClient

    from mrprism.viewer.server import _warning

    app = make_app(view, "k", None, ("192.0.2.4",))
    for host, status in (("192.0.2.4:8642", 200), ("127.0.0.1:8642", 200), ("evil.example:8642", 403)):
        assert TestClient(app, base_url=f"http://{host}").get("/api/about?key=k").status_code == status
        assert TestClient(app, base_url=f"http://{host}").get("/api/about?key=x").status_code == 403
    assert _names("192.0.2.4") == ("192.0.2.4",) and _names("::1") == ("[::1]",)
    assert _names("0.0.0.0")
    desk = Desk(view, "Dr Ann")
    assert "WARNING" in _warning("0.0.0.0", desk) and "decide as Dr Ann" in _warning("0.0.0.0", desk)
    for nowhere in ("203.0.113.7", "no such host"):
        with pytest.raises(InputError, match="is no address of this machine"):
            _listen(0, nowhere)
