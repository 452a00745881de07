"""What the page can write: decisions, and nothing but decisions; by whoever was named, and by nobody else's page."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from volumes import TASK, volumes

import mrprism
from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import Dataset, open_dataset, write_dataset
from mrprism.datasets.decisions import Decisions
from mrprism.fusion.one_case import fuse_case
from mrprism.images.slicing import Slicing

pytest.importorskip("fastapi", reason="the extra 'view' is not installed")
from fastapi.testclient import TestClient
from test_viewer import KEY, Says, image_samples, png

from mrprism.viewer.desk import Desk
from mrprism.viewer.server import LARGEST_BODY, make_app
from mrprism.viewer.view import View


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    write_dataset(image_samples(), tmp_path / "eyes", name="eyes", task=TASK)
    return tmp_path / "eyes"


def client(folder: Path, who: str = "Dr Ann", **options: Any) -> TestClient:
    view = View(open_dataset(folder), folder.name, **options)
    opened = TestClient(make_app(view, KEY, Desk(view, who)), base_url="http://127.0.0.1:8642")
    opened.cookies.set("mrprism-key-8642", KEY)
    return opened


def painted(mask: np.ndarray) -> str:
    content = io.BytesIO()
    PIL.Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def kept(folder: Path, case: str = "eye1", structure: str = "disc") -> np.ndarray:
    manifest = open_dataset(folder).manifest
    assert manifest is not None
    decisions = Decisions(folder, manifest)
    held = decisions.standing(case)[structure].held
    assert held is not None
    return decisions.mask(held)


def test_the_whole_way_of_a_decision(eyes: Path) -> None:
    before = {path: path.read_bytes() for path in eyes.rglob("*") if path.is_file()}
    with client(eyes) as to:
        about = to.get("/api/about").json()["desk"]
        assert (about["who"], about["blind"]) == ("Dr Ann", False)
        begun = to.post(
            "/api/cases/1/decisions", json={"structure": 0, "start": {"kind": "fusion", "of": "majority"}}
        )
        made = begun.json()
        assert (made["status"], made["saves"][0]["from"]) == ("open", "fusion majority")
        shown = png(to.get(f"/api/cases/1/decision.png?structure=0&id={made['id']}").content)
        majority = fuse_case(open_dataset(eyes)["eye1"], "majority").probability[0] > 0.5
        assert np.array_equal(shown > 127, majority)
        mask = majority.copy()
        mask[0, :5] = True
        stroke = {"structure": 0, "base": [made["id"]], "sitting": "w", "slice": {"png": painted(mask)}}
        made = to.post("/api/cases/1/decisions", json=stroke).json()
        assert made["saves"][0]["changed"] == 5
        assert np.array_equal(kept(eyes), mask)
        final = {"structure": 0, "base": [made["id"]], "status": "final", "note": "<b>notch</b>"}
        made = to.post("/api/cases/1/decisions", json=final).json()
        assert (made["status"], made["saves"][0]["who"]) == ("final", "Dr Ann")
        assert to.get("/api/cases").json()["decided"] == {"eye1": "open"}, "the cup is not settled"
        to.post(
            "/api/cases/1/decisions",
            json={"structure": 1, "start": {"kind": "rater", "of": "0"}, "status": "agreed"},
        )
        assert to.get("/api/cases").json()["decided"] == {"eye1": "settled"}
        said = to.get("/api/summary").json()
        assert said["structures"]["disc"] == {
            "none": 2,
            "open": 0,
            "discuss": 0,
            "conflict": 0,
            "agreed": 0,
            "final": 1,
        }
        assert said["people"] == {"Dr Ann": {"settled": 2, "unseen": 0, "changed": 1}}
        cup = next(row for row in said["raters"] if (row["structure"], row["rater"]) == ("cup", "ann"))
        assert (cup["dice"], cup["cases"]) == (1, 1)
        page = to.get("/summary").text
        assert "&lt;b&gt;notch" in page and "<b>notch" not in page
    assert {path: path.read_bytes() for path in before} == before, "no rater's mask was touched"


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ({"kind": "union"}, lambda m: m[:2].any(0)),
        ({"kind": "intersection"}, lambda m: m[:2].all(0)),
        ({"kind": "rater", "of": "1"}, lambda m: m[1]),
        ({"kind": "reference"}, lambda m: m[0]),
        ({"kind": "empty"}, lambda m: np.zeros_like(m[0])),
        ({"kind": "fusion", "of": "staple"}, None),
    ],
)
def test_what_a_decision_can_begin_with(eyes: Path, start: dict[str, str], expected: Any) -> None:
    with client(eyes) as to:
        assert to.post("/api/cases/1/decisions", json={"structure": 0, "start": start}).status_code == 200
    if expected is None:
        wanted = fuse_case(open_dataset(eyes)["eye1"], "staple").probability[0] > 0.5
    else:
        wanted = expected(image_samples()[1].masks[:, 0])
    assert np.array_equal(kept(eyes), wanted)


def test_a_run_s_answer_is_a_beginning_too(eyes: Path) -> None:
    with client(eyes, predictor=Says()) as to:
        assert {"kind": "model", "of": None} in to.get("/api/about").json()["desk"]["starts"]
        to.post("/api/cases/1/decisions", json={"structure": 0, "start": {"kind": "model"}})
    mask = kept(eyes)
    assert mask[:, :8].all() and not mask[:, 8:].any()


def test_a_slice_of_a_volume_is_painted_in_any_plane(tmp_path: Path) -> None:
    write_dataset(volumes(1), tmp_path / "scans", name="scans", task=TASK, image_format="nifti")
    sample = open_dataset(tmp_path / "scans")[0]
    expected = np.zeros(sample.space, bool)
    with client(tmp_path / "scans") as to:
        made = to.post("/api/cases/0/decisions", json={"structure": 0, "start": {"kind": "empty"}}).json()
        for plane in ("axial", "coronal", "sagittal"):
            turned = Slicing(plane).cut(sample).of(expected)
            turned[3, 2:5, 1:4] = True
            asked = {"plane": plane, "index": 3, "png": painted(turned[3])}
            made = to.post(
                "/api/cases/0/decisions",
                json={"structure": 0, "base": [made["id"]], "sitting": "w", "slice": asked},
            ).json()
            address = f"/api/cases/0/decision.png?structure=0&id={made['id']}&plane={plane}&slice=3"
            assert np.array_equal(png(to.get(address).content) > 127, turned[3])
    assert np.array_equal(kept(tmp_path / "scans", sample.name), expected)
    assert made["saves"][0]["changed"] == expected.sum()


def test_two_windows_that_paint_at_once_lose_nothing(eyes: Path) -> None:
    first, second = client(eyes, "ann"), client(eyes, "bob")
    begun = first.post("/api/cases/1/decisions", json={"structure": 0, "start": {"kind": "empty"}}).json()[
        "id"
    ]
    base = {first: begun, second: begun}
    masks = {first: np.zeros((12, 16), bool), second: np.zeros((12, 16), bool)}
    for column in range(4):
        for row, to in enumerate((first, second)):
            masks[to][row, column] = True
            asked = {
                "structure": 0,
                "base": [base[to]],
                "sitting": f"{row}",
                "slice": {"png": painted(masks[to])},
            }
            base[to] = to.post("/api/cases/1/decisions", json=asked).json()["id"]
    said = first.get("/api/cases/1/decisions").json()["structures"][0]
    assert said["status"] == "conflict"
    assert {(save["who"], save["id"]) for save in said["saves"] if save["head"]} == {
        ("ann", base[first]),
        ("bob", base[second]),
    }
    for to in (first, second):
        shown = png(second.get(f"/api/cases/1/decision.png?structure=0&id={base[to]}").content)
        assert np.array_equal(shown > 127, masks[to])
    ended = second.post(
        "/api/cases/1/decisions",
        json={"structure": 0, "base": [base[first], base[second]], "status": "final"},
    )
    assert ended.json()["status"] == "final"
    assert np.array_equal(kept(eyes), masks[first])


def test_a_blind_view_tells_no_rater_s_name_and_shuffles_them_by_case(eyes: Path) -> None:
    to, open_ = client(eyes, blind="Dr Ann"), client(eyes)
    told = "".join(
        to.get(address).text
        for address in (
            "/api/about",
            "/api/cases",
            "/api/cases/0",
            "/api/cases/1",
            "/api/cases/1/outlines",
            "/api/summary",
        )
    )
    assert not any(f'"{name}"' in told for name in ("ann", "bob", "cy"))
    assert [rater["name"] for rater in to.get("/api/about").json()["raters"]] == [
        "rater A",
        "rater B",
        "rater C",
    ]
    view = View(open_dataset(eyes), "eyes", blind="Dr Ann")
    assert len({tuple(view.seats(f"case{n}")) for n in range(30)}) == 6, "every order of three occurs"
    assert view.seats("eye1") == View(open_dataset(eyes), "eyes", blind="Dr Ann").seats("eye1"), "and stays"
    seats = view.seats("eye1")
    plain, blind = (one.get("/api/cases/1/outlines").json()["raters"] for one in (open_, to))
    assert blind == [plain[r] for r in seats]
    for what in ("states", "dice"):
        seen, known = to.get("/api/cases/1").json()[what], open_.get("/api/cases/1").json()[what]
        expected = (
            [known[r] for r in seats]
            if what == "states"
            else [[[t[r][s] for s in seats] for r in seats] for t in known]
        )
        assert seen == expected
    place = seats.index(1)  # where bob sits
    made = to.post(
        "/api/cases/1/decisions", json={"structure": 0, "start": {"kind": "rater", "of": str(place)}}
    ).json()
    assert made["saves"][0]["from"] == f"rater {'ABC'[place]}"
    assert np.array_equal(kept(eyes), image_samples()[1].masks[1, 0])
    assert open_.get("/api/cases/1/decisions").json()["structures"][0]["saves"][0]["from"] == "rater bob"
    for file in (eyes / "masks").rglob("*eye2*.png"):
        file.write_bytes(b"no picture")
    refused = to.get("/api/cases/2")
    assert refused.status_code == 422
    assert "masks" not in refused.text, "which folder it is tells whose mask it is"


def test_what_raters_agree_on_is_accepted_and_said_to_be_unseen(eyes: Path) -> None:
    with client(eyes) as to:
        counted = to.post("/api/accept", json={"above": 0.99, "dry": True}).json()
        expected = [("eye0", "disc"), ("eye0", "cup"), ("eye2", "disc")]
        assert [(one["case"], one["structure"]) for one in counted["accepted"]] == expected
        assert not list((eyes / "decisions").rglob("*.json"))
        to.post(
            "/api/cases/0/decisions", json={"structure": 1, "start": {"kind": "union"}, "status": "discuss"}
        )
        done = to.post("/api/accept", json={"above": 0.99}).json()["accepted"]
        assert [(one["case"], one["structure"]) for one in done] == [expected[0], expected[2]], (
            "what was begun stays"
        )
        first = to.get("/api/cases/0/decisions").json()["structures"]
        assert (first[0]["status"], first[0]["saves"][0]["accepted_above"], first[1]["status"]) == (
            "agreed",
            0.99,
            "discuss",
        )
        assert to.get("/api/summary").json()["people"]["Dr Ann"]["unseen"] == 2
    assert np.array_equal(kept(eyes, "eye0"), image_samples()[0].masks[0, 0])


def test_a_damaged_file_of_flags_is_told_and_hides_nothing(eyes: Path) -> None:
    ann, bob = client(eyes), client(eyes, "bob")
    for who, note in ((ann, "rim"), (bob, "vessel")):
        assert who.post("/api/cases/0/flag", json={"flag": True, "note": note}).status_code == 200
    (file,) = (path for path in (eyes / "decisions" / "flags").glob("*.json") if "vessel" in path.read_text())
    file.write_text("{")
    told = ann.get("/api/cases").json()
    assert [file.name in fault for fault in told["faults"]] == [True]
    assert [flag["note"] for flag in told["flags"].values()] == ["rim"]


def test_another_site_s_page_can_write_nothing(eyes: Path) -> None:
    asked = {"structure": 0, "start": {"kind": "empty"}}
    with client(eyes) as to:
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:9999"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            answer = to.post("/api/cases/1/decisions", json=asked, headers=headers)
            assert answer.status_code == 403, headers
            assert "another site" in answer.json()["error"]
        form = to.post(
            "/api/cases/1/decisions", content=json.dumps(asked), headers={"content-type": "text/plain"}
        )
        assert form.status_code == 415
        chunks = to.post(
            "/api/cases/1/decisions", content=iter([b"{}"]), headers={"content-type": "application/json"}
        )
        assert chunks.status_code == 411
        large = to.post(
            "/api/cases/1/decisions",
            content=b" " * (LARGEST_BODY + 1),
            headers={"content-type": "application/json"},
        )
        assert large.status_code == 413
        assert (
            to.post("/api/cases/1/decisions", json=asked, headers={"host": "evil.example"}).status_code == 403
        )
        to.cookies.clear()
        assert to.post("/api/cases/1/decisions", json=asked).status_code == 403, "who has no key"
        own = {"origin": "http://127.0.0.1:8642", "sec-fetch-site": "same-origin"}
        assert to.post(f"/api/cases/1/decisions?key={KEY}", json=asked, headers=own).status_code == 200
    assert len(list((eyes / "decisions").rglob("*.json"))) == 1


SQUARE = painted(np.zeros((12, 16), bool))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"structure": 2, "start": {"kind": "empty"}}, "no structure number 2"),
        ({"structure": 0}, "nothing was decided"),
        ({"structure": 0, "status": "done", "start": {"kind": "empty"}}, "status"),
        ({"structure": 0, "start": {"kind": "rater", "of": "2"}}, "did not do this structure"),
        ({"structure": 0, "start": {"kind": "rater", "of": "../1"}}, "no rater number ../1"),
        ({"structure": 0, "start": {"kind": "fusion", "of": "vote"}}, "unknown method 'vote'"),
        ({"structure": 0, "start": {"kind": "model"}}, "not a run"),
        ({"structure": 0, "slice": {"png": SQUARE}}, "nothing was begun"),
        ({"structure": 0, "start": {"kind": "empty"}, "slice": {"png": "%%"}}, "cannot be read"),
        ({"structure": 0, "start": {"kind": "empty"}, "slice": {"png": SQUARE[:60]}}, "cannot be read"),
        (
            {"structure": 0, "start": {"kind": "empty"}, "slice": {"png": painted(np.zeros((9, 9), bool))}},
            "expected 16 × 12",
        ),
        ({"structure": 0, "start": {"kind": "empty"}, "note": "x" * 4001}, "4000"),
        ({"structure": 0, "start": {"kind": "empty"}, "file": "x"}, "extra inputs"),
        ({"structure": 0, "base": ["../../x"]}, "no decision '../../x'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence_and_writes_nothing(
    eyes: Path, asked: dict[str, Any], says: str
) -> None:
    with client(eyes) as to:
        answer = to.post("/api/cases/1/decisions", json=asked)
        assert answer.status_code == 422
        assert says in answer.json()["error"]
    assert not list((eyes / "decisions").rglob("*.json"))


def test_without_somebody_who_decides_nothing_can_be_written(eyes: Path) -> None:
    view = View(open_dataset(eyes), "eyes")
    with TestClient(make_app(view, KEY), base_url="http://127.0.0.1:8642") as to:
        to.get(f"/?key={KEY}")
        assert to.get("/api/about").json()["desk"] is None
        assert to.post("/api/cases/1/decisions", json={}).status_code == 404
        assert to.post("/api/accept", json={"above": 0.9}).status_code == 404
    assert not (eyes / "decisions").exists()


def test_the_interface_is_described(eyes: Path) -> None:
    with client(eyes) as to:
        described = to.get("/api/openapi.json").json()
        assert described["paths"]["/api/cases/{number}/decisions"]["post"]["summary"].startswith(
            "Begin, paint, settle"
        )
        assert "sitting" in described["components"]["schemas"]["Asked"]["properties"]


def test_the_command_says_what_it_needs(
    eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: str) -> str:
        assert call(["view", str(eyes), *arguments]) == 2
        return capsys.readouterr().err

    assert "--as NAME" in said("--adjudicate")
    assert "--as NAME" in said("--as", "ann")
    assert "nobody can be called" in said("--adjudicate", "--as", " ")
    (eyes / "decisions").write_text("in the way")
    assert "where decisions are kept" in said("--adjudicate", "--as", "ann")
    with pytest.raises(InputError, match="in memory"):
        mrprism.view(Dataset.from_samples("eyes", TASK, image_samples()), adjudicate=True, who="ann")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_set_that_cannot_be_written_to_is_refused_at_once(eyes: Path) -> None:
    eyes.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot write"):
            Desk(View(open_dataset(eyes), "eyes"), "ann")
    finally:
        eyes.chmod(0o700)
