"""COCO, CVAT and Label Studio, on made-up exports."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import blob, cases, picture, png

from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS
from mrprism.layouts.coco import unpack

SQUARE = [2, 1, 5, 1, 5, 4, 2, 4]


def square(size: tuple[int, int] = (12, 10)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[1:4, 2:5] = True
    return mask


def runs(flat: np.ndarray) -> list[int]:
    counts, last = [0], False
    for value in flat:
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


# --- COCO ---------------------------------------------------------------------------------------


def packed(counts: list[int]) -> str:
    text = ""
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
    return text


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_of_coco(seed: int) -> None:
    counts = [int(n) for n in np.random.default_rng(seed).integers(0, [5, 40, 3000, 90000] * 5)]
    assert unpack(packed(counts)) == counts


def test_run_lengths_by_hand() -> None:
    assert unpack("0") == [0]
    assert unpack("X3") == [104]  # 8 + 3 * 32
    with pytest.raises(InputError, match="cannot be there"):
        unpack("\x7f")
    with pytest.raises(InputError, match="middle of a number"):
        unpack("X")


def coco(root: Path, **rater: Any) -> None:
    png(root / "images/a.png", picture(0))
    png(root / "images/b.png", picture(1))
    for name, (images, annotations) in rater.items():
        document = {
            "images": [
                {"id": i, "file_name": f"{n}.png", "height": 12, "width": 10}
                for i, n in enumerate("ab")
                if n in images
            ],
            "categories": [{"id": 3, "name": "cell"}, {"id": 7, "name": "nucleus"}],
            "annotations": [
                {
                    "id": i,
                    "image_id": image,
                    "category_id": category,
                    "segmentation": segmentation,
                    "who": "x",
                }
                for i, (image, category, segmentation) in enumerate(annotations)
            ],
        }
        (root / f"{name}.json").write_text(json.dumps(document))


def test_coco(tmp_path: Path) -> None:
    other = [6, 6, 9, 6, 9, 9, 6, 9]
    down = blob(3).ravel(order="F")
    coco(
        tmp_path,
        ann=("ab", [(0, 3, [SQUARE, other]), (0, 7, {"size": [12, 10], "counts": runs(down)})]),
        bob=("b", [(1, 7, {"size": [12, 10], "counts": packed(runs(down))})]),
    )
    source = DATASETS["coco"](tmp_path)
    found = cases(source)
    assert source.task.structures == ("cell", "nucleus")
    want = square()
    want[6:9, 6:9] = True
    np.testing.assert_array_equal(found["a"].masks[0], [want, blob(3)])
    np.testing.assert_array_equal(found["a"].rated, [[True, True], [False, False]])
    assert found["b"].rated.all()
    assert not found["b"].masks[0].any()
    np.testing.assert_array_equal(found["b"].masks[1, 1], blob(3))
    assert DATASETS["coco"](tmp_path / "", rater="who").task.raters == ("x",)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([[1, 2, 3, 4]], "not three or more pairs"),
        ([[1, 2, 3, 4, 5, 6, 7]], "not three or more pairs"),
        ({"size": [10, 12], "counts": [120]}, "not for a picture of 12 × 10"),
        ({"size": [12, 10], "counts": [119]}, "add up to 119; expected 120"),
        ({"size": [12, 10], "counts": [130, -10]}, "hold the number -10; expected none below 0"),
        ({"size": [12, 10], "counts": "!!"}, "cannot be there"),
    ],
)
def test_coco_faults(tmp_path: Path, segmentation: Any, says: str) -> None:
    coco(tmp_path, ann=("a", [(0, 3, segmentation)]))
    with pytest.raises(InputError, match=says):
        cases(DATASETS["coco"](tmp_path))


def test_coco_files_that_are_not(tmp_path: Path) -> None:
    coco(tmp_path, ann=("a", []))
    for text, says in (("{", "not valid JSON"), ("{}", "not a COCO file"), ("[]", "not a COCO file")):
        (tmp_path / "ann.json").write_text(text)
        with pytest.raises(InputError, match=says):
            DATASETS["coco"](tmp_path)
    coco(tmp_path, ann=("a", []))
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(InputError, match=r"the picture 'a.png' is not in"):
        DATASETS["coco"](tmp_path)


# --- CVAT ---------------------------------------------------------------------------------------


def cvat(shapes: str, size: str = 'width="10" height="12"') -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><job><labels>'
        "<label><name>cell</name></label><label><name>background</name></label></labels></job></meta>"
        f'<image id="0" name="a.png" {size}>{shapes}</image></annotations>'
    )


def test_cvat(tmp_path: Path) -> None:
    png(tmp_path / "images/a.png", picture(0))
    box = blob(4)[2:9, 1:8]
    rle = ", ".join(map(str, runs(box.ravel())))
    (tmp_path / "ann.xml").write_text(
        cvat(
            '<polygon label="background" points="3,2;4,2;4,3;3,3" z_order="2"/>'
            '<box label="cell" xtl="2.00" ytl="1.00" xbr="5.00" ybr="4.00" z_order="1"/>'
            '<polyline label="cell" points="0,0;1,1" z_order="0"/>'
        )
    )
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob/annotations.xml").write_text(
        cvat(f'<mask label="cell" rle="{rle}" left="1" top="2" width="7" height="7" z_order="0"/>')
    )
    with zipfile.ZipFile(tmp_path / "cy.zip", "w") as archive:
        archive.writestr("annotations.xml", cvat(""))
    source = DATASETS["cvat"](tmp_path)
    (found,) = cases(source).values()
    assert (source.task.raters, source.task.structures) == (("ann", "bob", "cy"), ("cell",))
    assert source.ledger is not None
    assert [(item.what, item.rater, item.case) for item in source.ledger.left] == [
        ("a polyline of 'cell'", "ann", "a")
    ]
    holed = square()
    holed[2, 3] = False
    np.testing.assert_array_equal(found.masks[0, 0], holed)
    np.testing.assert_array_equal(found.masks[1, 0][2:9, 1:8], box)
    assert found.masks[1].sum() == box.sum()
    assert found.rated.all()
    assert not found.masks[2].any()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            cvat('<mask label="cell" rle="5" left="0" top="0" width="3" height="3"/>'),
            "add up to 5; expected 9",
        ),
        (cvat('<mask label="cell" rle="9" left="8" top="0" width="3" height="3"/>'), "leaves the picture"),
        (cvat('<polygon label="cell" points="1,1;2,2"/>'), "fewer than three points"),
        (cvat('<polygon label="cell" points="1,1;x,2;3,3"/>'), "cannot be read"),
        (cvat("", 'width="9" height="12"'), "says 12 × 9 for a picture of 12 × 10"),
        ('<!DOCTYPE x SYSTEM "file:///x"><annotations/>', "declares a document type"),
        ("<annotations", "not valid XML"),
        ("<other/>", "begins with 'other'"),
        ("<annotations><track/></annotations>", "for video"),
    ],
)
def test_cvat_faults(tmp_path: Path, text: str, says: str) -> None:
    png(tmp_path / "images/a.png", picture(0))
    (tmp_path / "ann.xml").write_text(text)
    with pytest.raises(InputError, match=says):
        cases(DATASETS["cvat"](tmp_path))


# --- Label Studio -------------------------------------------------------------------------------


def brushed(mask: np.ndarray, alpha: int = 255) -> list[int]:
    values = np.zeros((*mask.shape, 4), np.uint8)
    values[mask] = alpha
    flat = values.ravel()
    bits = f"{len(flat):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    i = 0
    while i < len(flat):
        end = i
        while end < len(flat) and flat[end] == flat[i] and end - i < 65536:
            end += 1
        if end - i > 2:
            bits += "1" + "11" + f"{end - i - 1:016b}" + f"{flat[i]:08b}"
        else:
            bits += "0" + "00" + f"{end - i - 1:03b}" + "".join(f"{v:08b}" for v in flat[i:end])
        i = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def mark(kind: str, label: str = "cell", **value: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "type": kind,
        "original_width": 10,
        "original_height": 12,
        "image_rotation": 0,
        "value": {**value, kind: [label]},
    }


def studio(root: Path, *annotations: dict[str, Any], image: str = "/data/upload/1/0123abcd-a.png") -> None:
    png(root / "images/a.png", picture(0))
    task = {
        "id": 1,
        "data": {"image": image},
        "annotations": list(annotations),
        "predictions": [{"result": []}],
    }
    (root / "export.json").write_text(json.dumps([task]))


def done(who: Any, *result: Any, **facts: Any) -> dict[str, Any]:
    return {"completed_by": who, "result": list(result), **facts}


def test_label_studio(tmp_path: Path) -> None:
    brush = mark("brushlabels", format="rle", rle=brushed(blob(2), alpha=1))
    points = (np.array(SQUARE).reshape(-1, 2) * [10, 100 / 12]).tolist()
    box = mark("rectanglelabels", "nucleus", x=20, y=100 / 12, width=30, height=25, rotation=0)
    studio(
        tmp_path,
        done(2, brush, box, updated_at="2026-01-02"),
        done(2, updated_at="2026-01-01"),
        done({"id": 5, "email": "bob@x"}, mark("polygonlabels", points=points)),
        done(10),
        done(11, brush, was_cancelled=True),
    )
    source = DATASETS["label-studio"](tmp_path)
    (found,) = cases(source).values()
    assert source.task.raters == ("bob@x", "user 2", "user 10")
    assert source.task.structures == ("cell", "nucleus")
    assert found.rated.all()
    np.testing.assert_array_equal(found.masks[:, 0], [square(), blob(2), np.zeros((12, 10))])
    np.testing.assert_array_equal(found.masks[1, 1], square())
    assert source.ledger is not None
    assert [(item.rater, item.why) for item in source.ledger.left] == [
        ("user 2", "an older annotation of the same rater; the newest counts")
    ]


def test_label_studio_local_files(tmp_path: Path) -> None:
    studio(
        tmp_path, done(1, mark("brushlabels", rle=brushed(blob(2)))), image="/data/local-files/?d=x%2Fa.png"
    )
    assert list(cases(DATASETS["label-studio"](tmp_path))) == ["a"]


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (mark("brushlabels", rle=brushed(np.zeros((3, 3), bool))), "holds 36 values; expected 12 × 10 × 4"),
        (mark("brushlabels", rle=brushed(blob(1))[:-9]), "cut short"),
        (mark("brushlabels", rle=[255, 255, 255, 255]), "cut short|holds 4294967295"),
        ({**mark("brushlabels", rle=[]), "image_rotation": 90}, "turned picture"),
        ({**mark("brushlabels", rle=[]), "original_width": 11}, "says 12 × 11"),
        (mark("polygonlabels", points="x"), "is 'x'; expected a list"),
        (mark("ellipselabels", x=1), "an ellipse of 'cell' in .* has no 'y'"),
    ],
)
def test_label_studio_faults(tmp_path: Path, result: Any, says: str) -> None:
    studio(tmp_path, done(1, result))
    with pytest.raises(InputError, match=says):
        cases(DATASETS["label-studio"](tmp_path))
