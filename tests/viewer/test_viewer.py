"""The viewer: what its page can ask for is right, and nothing else can be had from it."""

from __future__ import annotations

import io
import json
import re
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from volumes import TASK, volumes

from mrprism.agreement.pictures import outline
from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import open_dataset, write_dataset
from mrprism.images.slicing import Slicing
from mrprism.metrics.overlap import dice
from mrprism.output.colours import CONFIDENCE_COLOURS, rater_colour

pytest.importorskip("fastapi", reason="the extra 'view' is not installed")
from fastapi.testclient import TestClient

from mrprism.viewer.pictures import heat_png
from mrprism.viewer.server import make_app, serve
from mrprism.viewer.view import View

KEY = "secret"


def client(view: View, host: str = "127.0.0.1:8642") -> TestClient:
    opened = TestClient(make_app(view, KEY), base_url=f"http://{host}")
    opened.cookies.set(
        f"mrprism-key-{host.rpartition(':')[2] if host[-1].isdigit() and ':' in host else ''}", KEY
    )
    return opened


def image_samples() -> list[MultiRaterSample]:
    """Three pictures: all agree; two differ and one is absent; one saw nothing."""
    made = []
    for number in range(3):
        masks = np.zeros((3, 2, 12, 16), bool)
        masks[:, 0, 2:10, 3:11] = True
        masks[:, 1, 4:8, 5:9] = True
        rated = np.ones((3, 2), bool)
        if number == 1:
            masks[1] = np.roll(masks[1], 3, axis=-1)
            masks[2], rated[2] = False, False
        if number == 2:
            masks[0, 1] = False
        image = np.random.default_rng(number).random((1, 12, 16), np.float32)
        reference = masks[0] if number == 1 else None
        made.append(MultiRaterSample(f"eye{number}", image, masks, rated, reference, group=f"p{number}"))
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> View:
    folder = tmp_path_factory.mktemp("view") / "eyes"
    write_dataset(image_samples(), folder, name="eyes", task=TASK)
    return View(open_dataset(folder), "eyes")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> View:
    folder = tmp_path_factory.mktemp("view") / "scans"
    write_dataset(volumes(1), folder, name="scans", task=TASK, image_format="nifti")
    return View(open_dataset(folder), "scans")


def png(content: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(content)))


def test_the_page_needs_nothing_from_elsewhere(images: View) -> None:
    with client(images) as get:
        page = get.get("/")
        assert page.status_code == 200
        for name in re.findall(r'(?:src|href)="/([a-z]+[.][a-z]+)"', page.text):
            assert get.get(f"/{name}").status_code == 200
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", get.get(f"/{name}").text)
        assert "http" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"


def test_cases_say_who_did_what_and_how_far_raters_agree(images: View) -> None:
    with client(images) as get:
        about = get.get("/api/about").json()
        assert [rater["name"] for rater in about["raters"]] == ["ann", "bob", "cy"]
        assert about["raters"][1]["colour"] == rater_colour(1)
        assert "staple" in about["fusions"]
        images.list.measure(threading.Event())
        listed = get.get("/api/cases").json()
        assert listed["measured"] == 3
        case = get.get("/api/cases/1").json()
        assert case["states"] == [["drawn", "drawn"], ["drawn", "drawn"], ["absent", "absent"]]
        assert case["reference"] is True
        masks = image_samples()[1].masks
        assert case["dice"][0][0][1] == pytest.approx(dice(masks[0, 0], masks[1, 0]), abs=1e-4)
        assert case["dice"][0][0][2] is None
        both = [dice(masks[0, c], masks[1, c]) for c in range(2)]
        assert [row["dice"] for row in listed["cases"]][:2] == [1.0, pytest.approx(np.mean(both))]
        assert get.get("/api/cases/2").json()["states"][0] == ["drawn", "empty"]


def test_an_image_its_outlines_votes_and_consensus(images: View) -> None:
    masks = image_samples()[1].masks
    with client(images) as get:
        shown = png(get.get("/api/cases/1/image.png?low=0&high=0.5").content)
        assert shown.shape == (12, 16)
        stored = open_dataset(images.dataset.root)["eye1"].image[0]  # type: ignore[arg-type, index]
        assert np.abs(shown - np.clip(stored * 510, 0, 255)).max() <= 1
        drawn = get.get("/api/cases/1/outlines?fusion=majority").json()
        assert drawn["raters"][1][0] == outline(masks[1, 0])
        assert drawn["raters"][2] == [None, None]
        assert drawn["reference"][1] == outline(masks[0, 1])
        assert drawn["consensus"][0] == outline(masks[0, 0] & masks[1, 0])
        assert get.get("/api/cases/1/outlines").json()["consensus"] == [None, None]
        heat = png(get.get("/api/cases/1/votes.png?structure=0").content)
        marked = masks[:2, 0].any(axis=0)
        assert np.array_equal(heat[..., 3] > 0, marked)
        assert len({tuple(colour) for colour in heat[marked]}) == 2, "one of two, both"


def test_a_volume_is_shown_in_slices_of_any_plane(scans: View) -> None:
    sample = scans.dataset[0]
    with client(scans) as get:
        case = get.get("/api/cases/0").json()
        assert case["planes"] == {"axial": 7, "coronal": 20, "sagittal": 24}
        assert case["own_units"] is True
        profile = get.get("/api/cases/0/profile?plane=coronal").json()
        assert profile["aspect"] == pytest.approx(2.5 / 0.7)
        cut = Slicing("coronal").cut(sample)
        turned = cut.of(sample.masks)
        split = (turned.any(axis=0) & ~turned.all(axis=0)).sum(axis=(0, 2, 3))
        assert profile["disputed"] == split.tolist()
        drawn = get.get(f"/api/cases/0/outlines?plane=coronal&slice={profile['start']}").json()
        assert drawn["raters"][2][1] == outline(turned[2, 1, profile["start"]])
        low, high = case["range"]
        shown = png(get.get(f"/api/cases/0/image.png?plane=axial&slice=3&low={low}&high={high}").content)
        axial = Slicing("axial").cut(sample).of(sample.image)[0, 3]
        assert np.abs(shown / 255 - (axial - low) / (high - low)).max() < 0.01
        assert png(get.get("/api/cases/0/votes.png?structure=0&plane=sagittal&slice=9").content).shape == (
            7,
            20,
            4,
        )


class Says:
    """A run that finds every rater's mask to be the left half."""

    task = replace(TASK, raters=("bob", "ann"))
    slicing = Slicing("axial")

    def predict(self, case: MultiRaterSample) -> Prediction:
        height, width = case.image.shape[-2:]
        half = np.zeros((2, height, width), np.float32)
        half[..., : width // 2] = 0.9
        confidence = np.stack([np.full_like(half, 0.8), np.full_like(half, 0.6)])
        return Prediction(half, raters=np.stack([half, half]), confidence=confidence, steps=(half / 2, half))

    def predict_slice(self, volume: MultiRaterSample, index: int) -> Prediction:
        assert volume.image.shape == (1, 7, 20, 24)
        return self.predict(volume)


@pytest.mark.parametrize("kind", ["images", "scans"])
def test_a_run_s_recurrences_raters_and_trust(kind: str, request: pytest.FixtureRequest) -> None:
    view = View(request.getfixturevalue(kind).dataset, "run", Says(), {"eye0": "test"})
    with client(view) as get:
        about = get.get("/api/about").json()
        assert [rater["predicted"] for rater in about["raters"]] == [True, True, False]
        where = "plane=axial&slice=2"
        said = get.get(f"/api/cases/0/prediction?{where}").json()
        assert [bool(step[0]) for step in said["steps"]] == [False, True], "only the last passes one half"
        assert said["confidence"] == [[pytest.approx(0.6)] * 2, [pytest.approx(0.8)] * 2, None]
        assert said["raters"][2] is None
        heat = png(get.get(f"/api/cases/0/probability.png?structure=0&step=1&{where}").content)
        assert (heat[:, -1, 3] == 0).all()
        assert (heat[:, 0, 3] > 0).all()
        trust = [
            png(get.get(f"/api/cases/0/confidence.png?structure=0&rater={r}&{where}").content) for r in (0, 1)
        ]
        assert not np.array_equal(trust[0], trust[1])
        refused = [
            f"probability.png?structure=0&step=2&{where}",
            f"confidence.png?structure=0&rater=2&{where}",
        ]
        for address in refused:
            answer = get.get(f"/api/cases/0/{address}")
            assert answer.status_code == 422
            assert answer.json()["error"]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("/api/cases/3", "no case number 3"),
        ("/api/cases/-1", "no case number -1"),
        ("/api/cases/eye1", "integer"),
        ("/api/cases/0/image.png?low=1&high=0", "is in the wrong order"),
        ("/api/cases/0/image.png?low=nan&high=0", "is in the wrong order"),
        ("/api/cases/0/image.png?low=0&high=1&channel=4", "no channel 4"),
        ("/api/cases/0/image.png", "field required"),
        ("/api/cases/0/outlines?fusion=vote", "unknown method 'vote'"),
        ("/api/cases/0/votes.png?structure=2", "no structure number 2"),
        ("/api/cases/0/prediction", "not a run"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(images: View, address: str, says: str) -> None:
    with client(images) as get:
        answer = get.get(address)
        assert answer.status_code == 422
        assert says in answer.json()["error"]


@pytest.mark.parametrize("query", ["plane=axial&slice=7", "plane=oblique&slice=0", "plane=../../etc&slice=0"])
def test_slices_that_are_not_there_are_refused(scans: View, query: str) -> None:
    with client(scans) as get:
        answer = get.get(f"/api/cases/0/outlines?{query}")
        assert answer.status_code == 422
        assert "no" in answer.json()["error"]


def test_no_file_can_be_named_and_nothing_written(images: View) -> None:
    with client(images) as get:
        for path in (
            "/dataset.json",
            "/../dataset.json",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/static/page.js",
            "/docs",
            "/openapi.json",
        ):
            assert get.get(path).status_code == 404, path
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert get.request(method, "/api/cases/0").status_code == 405


def test_only_this_machine_s_names_and_who_has_the_key(images: View) -> None:
    for host in ("evil.example", "evil.example:8642", "127.0.0.1.evil.example", "192.168.0.4:8642"):
        with client(images, host) as get:
            assert get.get("/api/about").status_code == 403, host
    for host in ("localhost:9000", "127.0.0.1", "[::1]:8642"):
        with client(images, host) as get:
            assert get.get("/api/about").status_code == 200, host
    stranger = TestClient(make_app(images, KEY), base_url="http://127.0.0.1:8642")
    assert stranger.get("/api/about").status_code == 403
    assert stranger.get("/?key=guess").status_code == 403
    assert stranger.get(f"/?key={KEY}").status_code == 200
    assert stranger.get("/api/about").status_code == 200, "the cookie is enough from now on"


def test_a_case_that_cannot_be_read_says_why_and_comes_first(tmp_path: Path) -> None:
    write_dataset(image_samples(), tmp_path / "eyes", name="eyes", task=TASK)
    view = View(open_dataset(tmp_path / "eyes"), "eyes")
    broken = next((tmp_path / "eyes").rglob("*eye2*.png"))
    for file in (tmp_path / "eyes").rglob("*eye2*.png"):
        file.write_bytes(broken.read_bytes()[:40])
    view.list.measure(threading.Event())
    with client(view) as get:
        row = get.get("/api/cases").json()["cases"][2]
        assert row["dice"] is None
        assert "eye2" in row["fault"]
        answer = get.get("/api/cases/2")
        assert answer.status_code == 422
        assert "eye2" in answer.json()["error"]


def test_the_command_refuses_what_it_cannot_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: str) -> str:
        assert call(["view", *arguments]) == 2
        sentence = capsys.readouterr().err
        assert sentence.count("\n") == 1
        return sentence

    assert "does not exist" in said(str(tmp_path / "nowhere"))
    assert "has no dataset.json" in said(str(tmp_path))
    assert "belong to a run" in said(str(tmp_path), "--dataset", str(tmp_path))
    assert "65535" in said(str(tmp_path), "--port", "70000")
    (tmp_path / "config.json").write_text(json.dumps({"method": "none"}))
    assert "config.json" in said(str(tmp_path))
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "mrprism.viewer.server")
    assert "pip install 'mrprism[view]'" in said(str(tmp_path / "nowhere"))


def test_a_port_that_is_taken(images: View) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match=r"port \d+ cannot be used: address already in use"):
            serve(images, port=taken.getsockname()[1], browser=False)


def test_a_second_viewer_keeps_the_first_one_open(images: View) -> None:
    """Both are at 127.0.0.1, and cookies know no ports: a browser brings the cookies of both to either."""
    first = TestClient(make_app(images, "first"), base_url="http://127.0.0.1:8642")
    second = TestClient(make_app(images, "second"), base_url="http://127.0.0.1:40001")
    for tab, other, key in ((first, second, "first"), (second, first, "second")):
        assert tab.get(f"/?key={key}").status_code == 200
        other.cookies.update(tab.cookies)  # one browser
    assert sorted(first.cookies.keys()) == ["mrprism-key-40001", "mrprism-key-8642"]
    for tab in (first, second, first):
        assert tab.get("/api/about").status_code == 200
    assert first.get("/?key=second").status_code == 403, "the key of another viewer"
    stranger = TestClient(make_app(images, "third"), base_url="http://127.0.0.1:8643", cookies=first.cookies)
    assert stranger.get("/api/about").status_code == 403


def test_the_same_viewer_behind_a_tunnel(images: View) -> None:
    """The browser knows another port than the server; what counts is that it is always the same."""
    tab = TestClient(make_app(images, KEY), base_url="http://localhost:9000")
    assert tab.get(f"/?key={KEY}").status_code == 200
    assert tab.get("/api/about").status_code == 200
    assert list(tab.cookies.keys()) == ["mrprism-key-9000"]


@pytest.mark.parametrize("port", [None, 0])
def test_the_address_can_be_opened_once_it_is_printed(
    port: int | None, images: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[int] = []

    def printed(text: str, **_: object) -> None:
        where = int(re.findall(r"http://127\.0\.0\.1:(\d+)/\?key=", text)[0])
        with socket.create_connection(("127.0.0.1", where), timeout=5):
            reached.append(where)

    monkeypatch.setattr("builtins.print", printed)
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: None)
    serve(images, port=port, browser=False)
    assert reached
    assert reached[0] > 0


def test_two_that_begin_at_once_have_ports_of_their_own() -> None:
    from mrprism.viewer.server import _listen

    with _listen(0) as first, _listen(0) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        with pytest.raises(
            InputError, match="cannot be used: address already in use; name another by --port"
        ):
            _listen(first.getsockname()[1])
    with pytest.raises(InputError, match="does not exist; expected 0 to 65535"):
        _listen(70000)


def test_it_listens_on_this_machine_alone(images: View, monkeypatch: pytest.MonkeyPatch) -> None:
    listened: list[Any] = []
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: listened.append(sockets[0].getsockname()))
    serve(images, browser=False)
    assert listened[0][0] == "127.0.0.1"


def test_the_page_has_every_part_its_script_asks_for(images: View) -> None:
    with client(images) as get:
        page = get.get("/").text
        scripts = re.findall(r'<script src="(/[a-z]+\.js)" defer>', page)
        assert scripts == ["/page.js"]
        script = "".join(get.get(name).text for name in scripts)
    asked = set(re.findall(r'\$\("([a-z-]+)"\)', script))
    assert len(asked) > 40
    assert asked <= set(re.findall(r'id="([a-z-]+)"', page))


def test_where_the_run_trusts_a_rater_the_image_shows_through() -> None:
    confidence = np.array([[0.5, 1.0]])
    clear = png(heat_png(confidence, CONFIDENCE_COLOURS, 0.5, 1.0, opacity=(0.85, 0.2)))[0, :, 3]
    assert clear.tolist() == pytest.approx([0.85 * 255, 0.2 * 255], abs=1)
