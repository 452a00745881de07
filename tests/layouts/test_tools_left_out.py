"""Exports of annotation tools as they really come: what is not understood is named, and never "looked and saw nothing"."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from test_tools import brushed, cvat, done, mark, packed, runs
from trees import blob, cases, picture, png

from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS, Source

SIZE = {"original_width": 10, "original_height": 12, "image_rotation": 0}
POINTS = [[20, 25], [60, 25], [60, 50], [20, 50]]  # columns 2 to 5, rows 3 to 5: 12 pixels


def left(source: Source) -> list[tuple[str, str, str]]:
    assert source.ledger is not None
    return [(item.what, item.rater, item.why) for item in source.ledger.left]


def task(*annotations: dict[str, Any], image: str = "/data/upload/1/a.png", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": list(annotations), **more}


def studio(root: Path, *tasks: dict[str, Any], name: str = "export.json") -> Path:
    png(root / "images/a.png", picture(0))
    (root / name).write_text(json.dumps(list(tasks)))
    return root


def bare(kind: str, **value: Any) -> dict[str, Any]:
    """A mark whose label comes from a tag of its own."""
    return {"id": "m1", "type": kind, "from_name": "shape", "to_name": "img", **SIZE, "value": value}


def labels(*names: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "m1",
        "type": "labels",
        "from_name": "lab",
        "to_name": "img",
        "value": {"labels": list(names)},
        **more,
    }


def read(root: Path, **options: str) -> tuple[Source, dict[str, Any]]:
    source = DATASETS["label-studio"](root, **options)
    return source, cases(source)


# --- Label Studio: labels apart ----------------------------------------------------------------------


def test_shapes_with_their_labels_in_a_tag_of_their_own(tmp_path: Path) -> None:
    x, y, wide, high = 20, 25, 40, 25
    marks = {
        "ann": bare("polygon", points=POINTS),
        "bob": bare("brush", format="rle", rle=brushed(blob(3))),
        "cy": bare("rectangle", x=x, y=y, width=wide, height=high, rotation=0),
        "dee": bare("ellipse", x=40, y=37.5, radiusX=20, radiusY=12.5, rotation=0),
    }
    passes = [done(who, item, labels("cell")) for who, item in marks.items()]
    source, found = read(studio(tmp_path, task(*passes)))
    assert source.task.structures == ("cell",)
    sizes = dict(zip(source.task.raters, found["a"].masks[:, 0].sum((1, 2)).tolist(), strict=True))
    assert sizes == {"user ann": 12, "user bob": blob(3).sum(), "user cy": 12, "user dee": 8}
    assert found["a"].rated.all()
    assert left(source) == []


def test_several_labels_of_one_mark_and_labels_of_a_tag_for_two_marks(tmp_path: Path) -> None:
    two = done(1, bare("polygon", points=POINTS), labels("cell", "seen"))
    own = done(2, {**mark("polygonlabels", points=POINTS), "id": "m1"}, labels("other"))
    source, found = read(studio(tmp_path, task(two, own)))
    assert source.task.structures == ("cell", "seen", "other")
    np.testing.assert_array_equal(found["a"].masks.sum((2, 3)), [[12, 12, 0], [12, 0, 12]])


def bitmask(mask: np.ndarray) -> str:
    """Black pixels on a transparent ground, as the documentation has it."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask, 3] = 255
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def test_bitmasks_are_read(tmp_path: Path) -> None:
    one = done(1, mark("bitmasklabels", imageDataURL=bitmask(blob(4))))
    two = done(2, bare("bitmask", imageDataURL=bitmask(blob(5))), labels("cell"))
    _, found = read(studio(tmp_path, task(one, two)))
    np.testing.assert_array_equal(found["a"].masks[:, 0], [blob(4), blob(5)])


def _png_of(colour: int, size: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    Pillow.fromarray(np.full(size, colour, np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _giant() -> str:
    head = b"IHDR" + struct.pack(">IIBBBBB", 2**30, 2**30, 8, 6, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk + bytes(99)).decode()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("data:image/jpeg;base64,AAAA", "expected a PNG as data:image/png;base64"),
        ("data:image/png;base64,AAAA", "holds a broken PNG"),
        ("data:image/png;base64,***", "holds a broken PNG"),
        (_png_of(0, (12, 10)), "no transparent pixels, so marked pixels cannot be found"),
        (bitmask(np.ones((3, 3), bool)), "is 3 × 3 for a picture of 12 × 10"),
        (_giant(), "is 1073741824 × 1073741824 for a picture|holds a broken PNG"),
    ],
)
def test_bitmasks_that_are_none(tmp_path: Path, url: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(studio(tmp_path, task(done(1, mark("bitmasklabels", imageDataURL=url)))))


# --- Label Studio: what is not understood --------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        mark("keypointlabels", x=5, y=5, width=1),
        mark("vectorlabels", vertices=[{"x": 1, "y": 1}], closed=False),
        mark("cuboidlabels", points=[]),
        mark("magiclabels"),
        {**mark("videorectangle"), "value": {"labels": ["cell"]}},
        labels("cell"),
        bare("polygon", points=POINTS),  # without a label anywhere
        mark("polygonlabels", points=[[20, 25], [60, 25]]),  # a line
        mark("polygonlabels", points=[[900, 900], [999, 900], [950, 950]]),  # beside the picture
        mark("rectanglelabels", x=20, y=25, width=0, height=0),
    ],
)
def test_a_mark_that_is_not_drawn_never_reads_as_empty(tmp_path: Path, item: dict[str, Any]) -> None:
    drawn = mark("polygonlabels", points=POINTS)
    png(tmp_path / "images/b.png", picture(1))
    tasks = [task(done(1, drawn), done(2, item)), task(done(2, drawn), image="b.png")]
    source, found = read(studio(tmp_path, *tasks))
    np.testing.assert_array_equal(found["a"].rated, [[True], [False]])
    np.testing.assert_array_equal(found["b"].rated, [[False], [True]])
    ((what, rater, why),) = left(source)
    assert rater == "user 2"
    assert what
    assert why


def test_points_beside_an_outline_leave_the_outline_and_unread_areas_do_not(tmp_path: Path) -> None:
    point = mark("keypointlabels", x=5, y=5, width=1)
    cuboid = mark("cuboidlabels", points=[])
    drawn = mark("polygonlabels", points=POINTS)
    png(tmp_path / "images/b.png", picture(1))
    one = task(done(1, drawn, point), done(2, drawn, cuboid), done(3))
    source, found = read(studio(tmp_path, one, task(done(2, drawn), image="b.png")))
    np.testing.assert_array_equal(found["a"].rated[:, 0], [True, False, True])  # 3 looked and saw nothing
    assert found["a"].masks[0].sum() == 12
    assert not found["a"].masks[2].any()
    assert [why for _, _, why in left(source)] == [
        "a point or line, which encloses nothing", "not a kind of mark that is read",
    ]  # fmt: skip


def test_a_label_met_on_unread_marks_alone_is_no_structure(tmp_path: Path) -> None:
    point = mark("keypointlabels", "landmark", x=5, y=5, width=1)
    root = studio(tmp_path, task(done(1, mark("polygonlabels", points=POINTS), point), done(2)))
    source, _ = read(root)
    assert source.task.structures == ("cell",)


def test_a_rater_of_whom_nothing_can_be_read(tmp_path: Path) -> None:
    drawn, cuboid = mark("polygonlabels", points=POINTS), mark("cuboidlabels", points=[])
    root = studio(tmp_path, task(done(1, drawn), done(2, cuboid)))
    with pytest.raises(
        InputError, match=r"no mask of the rater 'user 2' .* a cuboid of 'cell' was left out .*without=user 2"
    ):
        read(root)
    source, _ = read(root, without="user 2")
    assert source.task.raters == ("user 1",)
    root = studio(tmp_path, task(done(2, cuboid)))
    with pytest.raises(InputError, match=r"nothing that is drawn was found .* a cuboid of 'cell'"):
        read(root)


def test_marks_without_labels_get_a_name_on_request(tmp_path: Path) -> None:
    root = studio(tmp_path, task(done(1, bare("polygon", points=POINTS))))
    with pytest.raises(InputError, match="-o structure= names what such marks are of"):
        read(root)
    source, found = read(root, structure="lesion")
    assert source.task.structures == ("lesion",)
    assert found["a"].masks.sum() == 12


def test_answers_predictions_drafts_and_cancelled_passes_are_nobodys(tmp_path: Path) -> None:
    drawn = mark("polygonlabels", points=POINTS)
    choice = {"id": "c", "type": "choices", "value": {"choices": ["good"]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    item = task(
        done(1, drawn, choice, relation),
        done(2, drawn, was_cancelled=True),
        predictions=[{"result": [drawn]}],
        drafts=[{"result": [drawn]}],
    )
    source, _ = read(studio(tmp_path, item, {**task(), "id": 2}))
    assert left(source) == []
    assert source.task.raters == ("user 1",)
    said = " ".join(source.notes)
    for what in (
        "choices', 1",
        "relation', 1",
        "predictions, 1",
        "drafts, 1",
        "cancelled passes, 1",
        "annotated, 1",
    ):
        assert what in said


def test_a_pass_of_answers_only_is_not_known_unless_it_is_said_to_be_empty(tmp_path: Path) -> None:
    choice = {"id": "c", "type": "choices", "value": {"choices": ["no cell"]}}
    items = task(done(1, mark("polygonlabels", points=POINTS)), done(2, choice), done(3))
    said = r"rater 'user 2' could .*: an annotation with answers only \(choices\) was left out .* give -o answers=empty"
    with pytest.raises(InputError, match=said):
        read(studio(tmp_path, items))
    source, found = read(tmp_path, answers="empty")
    assert source.task.raters == ("user 1", "user 2", "user 3")
    assert found["a"].rated.all() and not found["a"].masks[1].any()
    with pytest.raises(InputError, match="option answers is 'no'; expected -o answers=empty"):
        read(tmp_path, answers="no")


def test_of_several_passes_the_newest_counts_and_the_others_are_named(tmp_path: Path) -> None:
    drawn = mark("polygonlabels", points=POINTS)
    old = done(1, id=7, updated_at="2024-01-01T00:00:00Z")
    new = done(1, drawn, id=8, updated_at="2025-01-01T00:00:00Z")
    source, found = read(studio(tmp_path, task(new, old)))
    assert found["a"].masks.sum() == 12
    assert left(source) == [
        ("annotation 7", "user 1", "an older annotation of the same rater; the newest counts")
    ]


# --- Label Studio: whose picture -----------------------------------------------------------------------


def test_pictures_of_one_name_in_two_folders_are_two_cases(tmp_path: Path) -> None:
    for folder in ("p1", "p2"):
        png(tmp_path / f"images/{folder}/001.png", picture(0))
    drawn = mark("polygonlabels", points=POINTS)
    tasks = [
        task(done(who, drawn), image=f"/data/local-files/?d={folder}/001.png")
        for who, folder in (("ann", "p1"), ("bob", "p2"))
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    source, found = read(tmp_path)
    assert source.task.raters == ("user ann", "user bob")
    assert {name: sample.rated[:, 0].tolist() for name, sample in found.items()} == {
        "p1/001": [True, False], "p2/001": [False, True],
    }  # fmt: skip


@pytest.mark.parametrize(
    "urls",
    [
        ("/data/upload/1/1a2b3c4d-a.png", "/data/upload/1/5e6f7a8b-a.png"),
        ("/data/local-files/?d=p1/a.png", "/data/local-files/?d=p2/a.png"),
        ("s3://bucket/p1/a.png", "s3://bucket/p2/a.png"),
        ("http://x.org/p1/a.png?token=1", "http://x.org/p2/a.png"),
    ],
)
def test_two_pictures_of_one_name_are_not_made_one(tmp_path: Path, urls: tuple[str, str]) -> None:
    drawn = mark("polygonlabels", points=POINTS)
    tasks = [task(done(who, drawn), image=url) for who, url in zip((1, 2), urls, strict=True)]
    with pytest.raises(InputError, match=r"are two pictures, and .* is the only one of that name"):
        read(studio(tmp_path, *tasks))


def test_a_picture_in_two_tasks_or_two_projects_is_one_case(tmp_path: Path) -> None:
    drawn = mark("polygonlabels", points=POINTS)
    same = [task(done(who, drawn)) for who in (1, 2)]
    _, found = read(studio(tmp_path / "tasks", *same))
    assert found["a"].rated.all()
    root = studio(tmp_path / "projects", task(done(1, drawn), image="/data/upload/1/1a2b3c4d-a.png"))
    studio(root, task(done(2, drawn), image="/data/upload/2/5e6f7a8b-a.png"), name="other.json")
    _, found = read(root)
    assert found["a"].rated.all()


def two_pictures(root: Path) -> dict[str, Any]:
    png(root / "images/b.png", picture(1))
    on = {**mark("polygonlabels", points=POINTS), "to_name": "img1"}
    other = {**mark("rectanglelabels", x=60, y=25, width=20, height=50), "to_name": "img2"}
    return {**task(done(1, on, other), done(2, on)), "data": {"before": "/d/a.png", "after": "/d/b.png"}}


def test_marks_on_two_pictures_of_a_task(tmp_path: Path) -> None:
    root = studio(tmp_path, two_pictures(tmp_path))
    with pytest.raises(InputError, match=r"shows 2 pictures \(before, after\); expected -o key="):
        read(root)
    with pytest.raises(InputError, match="has marks on several pictures, img1, img2; expected -o to="):
        read(root, key="before")
    source, found = read(root, key="before", to="img1")
    assert found["a"].masks.sum((1, 2, 3)).tolist() == [12, 12]
    assert left(source) == [("a rectangle of 'cell'", "user 1", "on another picture than 'img1'")]


def test_marks_on_one_of_two_pictures_are_not_guessed(tmp_path: Path) -> None:
    one = two_pictures(tmp_path)
    for annotation in one["annotations"]:
        annotation["result"] = annotation["result"][:1]
    root = studio(tmp_path, one)
    with pytest.raises(
        InputError, match=r"has marks on 'img1'; expected -o to=img1 if that tag shows 'before'"
    ):
        read(root, key="before")
    for annotation in one["annotations"]:
        annotation["result"][0]["to_name"] = "before"
    _, found = read(studio(tmp_path, one), key="before")
    assert found["a"].rated.all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": {"pages": ["/d/a.png", "/d/b.png"]}}, "shows 2 pages under 'pages'"),
        ({"data": {"text": "hello"}}, "has no picture in its data; expected -o key="),
        ({"data": "a.png"}, "'data' of task 1 in .* is 'a.png'; expected an object"),
        ({"annotations": 5}, "'annotations' of task 1 in .* is 5; expected a list"),
        ({"annotations": [7]}, "an annotation of task 1 in .* is 7; expected an object"),
        ({"annotations": [{"completed_by": 1}]}, "has no 'result'"),
        (
            {"annotations": [{"completed_by": {}, "result": []}]},
            "'completed_by' of .* is None; expected a name",
        ),
        ({"annotations": [{"completed_by": [], "result": []}]}, r"is \[\]; expected a name"),
    ],
)
def test_tasks_that_are_odd_are_said_in_words(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    odd = {**task(done(1, mark("polygonlabels", points=POINTS))), **change}
    with pytest.raises(InputError, match=says):
        read(studio(tmp_path, odd))


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (
            [{"id": 1, "image": "a.png", "annotator": 1, "label": []}],
            "kind 'JSON-MIN'; expected an export of the kind 'JSON'",
        ),
        ([{"id": 1, "data": {}, "completions": []}], "of Label Studio before version 1.0"),
        (
            {"annotations": [], "categories": [], "images": []},
            "is a COCO file .* expected mrprism import coco",
        ),
        ({"data": {}}, "expected a list of tasks"),
        (["a"], "expected an object"),
        ([{"id": 1, "data": {}}], "has no 'annotations'"),
    ],
)
def test_other_exports_are_refused_in_plain_words(tmp_path: Path, document: Any, says: str) -> None:
    root = studio(tmp_path)
    (root / "export.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=says):
        read(root)


# --- COCO ------------------------------------------------------------------------------------------------

SQUARE = [2, 1, 5, 1, 5, 4, 2, 4]


def coco(root: Path, rater: str = "ann", **changes: Any) -> Path:
    png(root / "images/a.png", picture(0))
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 12, "width": 10}],
        "categories": [{"id": 3, "name": "cell"}, {"id": 4, "name": "nucleus"}],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 3, "segmentation": [SQUARE], "bbox": [2, 1, 3, 3]}
        ],
    }
    (root / f"{rater}.json").write_text(json.dumps({**document, **changes}))
    return root


def annotation(**changes: Any) -> list[dict[str, Any]]:
    made = {
        "id": 7,
        "image_id": 1,
        "category_id": 3,
        "segmentation": [SQUARE],
        "bbox": [2, 1, 3, 3],
        **changes,
    }
    return [{key: value for key, value in made.items() if value != "gone"}]


@pytest.mark.parametrize("segmentation", ["gone", None, [], [[]], {}, ""])
def test_a_box_without_an_outline_is_named_or_drawn(tmp_path: Path, segmentation: Any) -> None:
    coco(tmp_path)
    coco(tmp_path, "bob", annotations=annotation(segmentation=segmentation))
    source = DATASETS["coco"](tmp_path)
    (found,) = cases(source).values()
    np.testing.assert_array_equal(found.rated, [[True, True], [False, True]])
    assert left(source) == [
        ("annotation 7 of 'cell'", "bob", "it has a box and no outline; -o boxes=yes draws boxes")
    ]
    (found,) = cases(DATASETS["coco"](tmp_path, boxes="yes")).values()
    assert found.rated.all()
    np.testing.assert_array_equal(found.masks[0], found.masks[1])


def test_key_points_alone_are_named(tmp_path: Path) -> None:
    coco(tmp_path)
    coco(tmp_path, "bob", annotations=annotation(segmentation=[], bbox="gone", keypoints=[3, 3, 2]))
    source = DATASETS["coco"](tmp_path)
    assert cases(source)["a"].rated[1].tolist() == [False, True]
    assert "it has key points and no outline" in left(source)[0][2]


def test_runs_in_either_form_floats_and_crowds(tmp_path: Path) -> None:
    counts = runs(blob(5).ravel(order="F"))
    coco(tmp_path, annotations=annotation(segmentation={"size": [12, 10], "counts": counts}, iscrowd=1))
    coco(tmp_path, "bob", annotations=annotation(segmentation={"size": [12, 10], "counts": packed(counts)}))
    coco(tmp_path, "cy", annotations=annotation(segmentation=[[float(v) for v in SQUARE], SQUARE]))
    source = DATASETS["coco"](tmp_path)
    (found,) = cases(source).values()
    np.testing.assert_array_equal(found.masks[:2, 0], [blob(5), blob(5)])
    assert found.masks[2, 0].sum() == 9
    assert left(source) == []
    assert any("crowds" in note for note in source.notes)


def test_runs_that_mark_nothing_are_a_mask_that_marks_nothing(tmp_path: Path) -> None:
    coco(tmp_path, annotations=annotation(segmentation={"size": [12, 10], "counts": [120]}))
    source = DATASETS["coco"](tmp_path)
    assert cases(source)["a"].rated.all()
    assert left(source) == []


def test_two_categories_of_one_name_are_one_and_it_is_told(tmp_path: Path) -> None:
    coco(tmp_path, categories=[{"id": 3, "name": "cell"}, {"id": 7, "name": "cell"}])
    source = DATASETS["coco"](tmp_path)
    assert source.task.structures == ("cell",)
    assert "'ann.json' has 2 categories named 'cell', taken for one" in source.notes


def test_a_category_that_a_file_does_not_list_was_not_looked_for(tmp_path: Path) -> None:
    coco(tmp_path)
    coco(tmp_path, "bob", categories=[{"id": 3, "name": "cell"}])
    source = DATASETS["coco"](tmp_path)
    np.testing.assert_array_equal(cases(source)["a"].rated, [[True, True], [True, False]])
    assert "nobody marked nucleus: listed, and so looked for and found nowhere" in source.notes


def test_one_spelling_of_several(tmp_path: Path) -> None:
    coco(tmp_path, categories=[{"id": 3, "name": "Zelle é"}])
    coco(tmp_path, "bob", categories=[{"id": 3, "name": "zelle  e\u0301 "}])
    source = DATASETS["coco"](tmp_path)
    (found,) = cases(source).values()
    assert source.task.structures == ("Zelle é",)
    np.testing.assert_array_equal(found.masks[0], found.masks[1])
    assert source.notes == ["'zelle  e\u0301 ' was taken to be 'Zelle é'"]
    coco(tmp_path, "bob", categories=[{"id": 3, "name": "cup"}, {"id": 4, "name": "Cup"}])
    with pytest.raises(InputError, match="has the structures 'cup' and 'Cup', which differ in case"):
        DATASETS["coco"](tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"annotations": annotation(image_id=9)}, "annotation 7 in .* names the picture 9, which .* does not list"),
        ({"annotations": annotation(image_id="gone")}, "names the picture None, which"),
        ({"annotations": annotation(image_id=[1])}, r"names the picture \[1\], which"),
        ({"annotations": annotation(category_id=9)}, "names the category 9, which .* does not list"),
        ({"annotations": {"a": 1}}, "'annotations' of .* expected a list"),
        ({"annotations": [5]}, "an annotation of .* is 5; expected an object"),
        ({"annotations": annotation(segmentation=[[1, 2, "x", 4, 5, 6]])}, "a polygon of annotation 7 .* is 'x'; expected a number"),
        ({"annotations": annotation(segmentation={"size": [12, 10]})}, "has no 'counts'"),
        ({"annotations": annotation(segmentation={"size": "12", "counts": [120]})}, "not for a picture of 12 × 10: '12'"),
        ({"annotations": annotation(segmentation={"size": [12, 10], "counts": [60.5, 59.5]})}, "a run of annotation 7 .* expected a whole number"),
        ({"images": [{"id": 1, "height": 12, "width": 10}]}, "picture 1 in .* has no 'file_name'"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": "12", "width": 10}]}, "'height' of picture 1 .* is '12'; expected a number"),
        ({"images": [{"id": True, "file_name": "a.png", "height": 12, "width": 10}]}, "has a picture with the id True; expected"),
        ({"annotations": annotation(image_id=True)}, "names the picture True, which"),
        ({"images": [{"id": [], "file_name": "a.png", "height": 12, "width": 10}]}, r"has a picture with the id \[\]; expected"),
        ({"images": [{"id": 1, "file_name": n, "height": 12, "width": 10} for n in ("a.png", "b.png")]}, "says two things of the picture with the id 1: 'a.png' of 12 × 10 and 'b.png'"),
        ({"categories": [{"id": 3, "name": "cell"}, {"id": 3, "name": "cup"}]}, "says two things of the category with the id 3"),
        ({"categories": [{"id": 3}]}, "the name of category 3 in .* is None; expected a name"),
    ],
)  # fmt: skip
def test_coco_files_that_are_odd_are_said_in_words(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    coco(tmp_path, **changes)
    with pytest.raises(InputError, match=says):
        cases(DATASETS["coco"](tmp_path))


def test_a_key_that_stands_twice_in_json(tmp_path: Path) -> None:
    coco(tmp_path)
    file = tmp_path / "ann.json"
    file.write_text(file.read_text().replace('"annotations": [', '"annotations": [], "annotations": [', 1))
    with pytest.raises(InputError, match="the key 'annotations' appears twice in one object"):
        DATASETS["coco"](tmp_path)


def test_the_same_entry_twice_is_no_fault(tmp_path: Path) -> None:
    one = {"id": 1, "file_name": "a.png", "height": 12, "width": 10}
    coco(tmp_path, images=[one, one])
    assert list(cases(DATASETS["coco"](tmp_path))) == ["a"]


def test_names_of_pictures_are_found_however_they_are_written(tmp_path: Path) -> None:
    for name in ("images\\a.png", "somewhere/images/a.png", "A.PNG", "a.png "):
        coco(tmp_path, images=[{"id": 1, "file_name": name, "height": 12, "width": 10}])
        assert list(cases(DATASETS["coco"](tmp_path))) == ["a"]
    png(tmp_path / "images/p1/c.png", picture(0))
    coco(tmp_path, images=[{"id": 1, "file_name": "p2/c.png", "height": 12, "width": 10}])
    with pytest.raises(InputError, match=r"the picture 'p2/c.png' is not in"):
        DATASETS["coco"](tmp_path)
    coco(tmp_path, images=[{"id": 1, "file_name": "p1/a.png", "height": 12, "width": 10}])
    coco(tmp_path, "bob", images=[{"id": 1, "file_name": "p2/a.png", "height": 12, "width": 10}])
    with pytest.raises(InputError, match=r"'p1/a.png' and 'p2/a.png' .* are two pictures"):
        DATASETS["coco"](tmp_path)


# --- CVAT ------------------------------------------------------------------------------------------------


def exports(root: Path, **shapes: str) -> Path:
    png(root / "images/a.png", picture(0))
    for rater, text in shapes.items():
        (root / f"{rater}.xml").write_text(cvat(text))
    return root


BOX = '<box label="cell" xtl="2" ytl="1" xbr="5" ybr="4" z_order="0"/>'


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ('<polyline label="cell" points="1,1;5,5"/>', False),
        ('<points label="cell" points="1,1"/>', False),
        ('<skeleton label="cell"/>', False),
        ('<cuboid label="cell"/>', True),
        ('<hexagon label="cell"/>', True),
    ],
)
def test_shapes_of_cvat_that_are_not_drawn(tmp_path: Path, shape: str, area: bool) -> None:
    root = exports(tmp_path, ann=BOX, bob=shape, cy=BOX + shape)
    with pytest.raises(InputError, match=r"no mask of the rater 'bob'"):
        cases(DATASETS["cvat"](root))
    source = DATASETS["cvat"](root, without="bob") if not area else DATASETS["cvat"](root, without="bob,cy")
    (found,) = cases(source).values()
    assert found.rated.all()
    assert {who for _, who, _ in left(source)} == (
        set() if area else {"cy"}
    )  # who is not wanted is not looked at


def test_a_tag_is_no_mark_and_a_box_of_no_size_is_named(tmp_path: Path) -> None:
    none = BOX.replace('xbr="5"', 'xbr="2"')
    root = exports(tmp_path, ann=BOX, bob='<tag label="cell"/>', cy=none)
    with pytest.raises(InputError, match=r"no mask of the rater 'cy' .* a box of 'cell' .*encloses no pixel"):
        cases(DATASETS["cvat"](root))
    source = DATASETS["cvat"](root, without="cy")
    (found,) = cases(source).values()
    np.testing.assert_array_equal(found.rated[:, 0], [True, True])
    assert not found.masks[1].any()
    assert left(source) == []
    assert source.task.raters == ("ann", "bob")


def test_a_cut_that_cannot_be_drawn_leaves_no_structure_known(tmp_path: Path) -> None:
    root = exports(tmp_path, ann=BOX, bob=BOX + '<cuboid label="background"/>')
    with pytest.raises(
        InputError, match=r"no mask of the rater 'bob' .* a cuboid of 'background' was left out"
    ):
        cases(DATASETS["cvat"](root))


def test_labels_that_a_job_does_not_have_were_not_looked_for(tmp_path: Path) -> None:
    root = exports(tmp_path, ann=BOX, bob=BOX)
    more = (
        (root / "bob.xml")
        .read_text()
        .replace("<name>cell</name>", "<name>Cell</name></label><label><name>cup</name>")
    )
    (root / "bob.xml").write_text(more.replace('label="cell"', 'label="Cell"'))
    source = DATASETS["cvat"](root)
    (found,) = cases(source).values()
    assert source.task.structures == ("cell", "cup")
    np.testing.assert_array_equal(found.rated, [[True, False], [True, True]])


# --- files and persons that would vanish -------------------------------------------------------------


@pytest.mark.parametrize("one", [1, {"id": 1, "email": "ann@new.org"}])
def test_a_person_of_an_export_has_one_name(tmp_path: Path, one: Any) -> None:
    first = done({"id": 1, "email": "ann@old.org"}, mark("polygonlabels", points=POINTS))
    second = done(one, mark("polygonlabels", points=POINTS))
    root = studio(tmp_path, task(first), task(second, image="/data/upload/1/b.png"))
    png(root / "images/b.png", picture(1))
    with pytest.raises(InputError, match=r"two things of the person with the id 1: 'ann@old.org' and"):
        read(root)


def test_a_file_without_a_picture_is_no_rater_who_vanishes(tmp_path: Path) -> None:
    png(tmp_path / "cvat/images/a.png", picture(0))
    (tmp_path / "cvat/ann.xml").write_text(cvat('<box label="cell" xtl="1" ytl="1" xbr="5" ybr="4"/>'))
    (tmp_path / "cvat/bob.xml").write_text("<annotations><version>1.1</version></annotations>")
    with pytest.raises(InputError, match=r"bob.xml' lists no picture; .* -o without=bob"):
        DATASETS["cvat"](tmp_path / "cvat")
    assert DATASETS["cvat"](tmp_path / "cvat", without="bob").task.raters == ("ann",)
    png(tmp_path / "coco/images/a.png", picture(0))
    (tmp_path / "coco/bob.json").write_text(json.dumps({"images": [], "categories": [], "annotations": []}))
    with pytest.raises(InputError, match=r"bob.json' lists no picture; .* -o without=bob"):
        DATASETS["coco"](tmp_path / "coco")
