"""DIARETDB1: marks as the annotation tool wrote them."""

from pathlib import Path

import numpy as np
import pytest
from trees import cases, picture, png

from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS

read = DATASETS["diaretdb1"]
HEADER = (
    '<?xml version="1.0" standalone="no"?>\n<!DOCTYPE imgannotool>\n<imgannotooldata>\n<header>\n'
    '<creator>Iiris</creator>\n<software version="0.2">MVPR/Image Annotation Tool</software>\n</header>\n'
)


def mark(region: str, kind: str, level: str = "High") -> str:
    point = "<representativepoint><coords2d>1,1</coords2d></representativepoint>"
    return (
        f"<marking>{region}{point}<confidencelevel>{level}</confidencelevel>"
        f"<markingtype>{kind}</markingtype></marking>\n"
    )


def circle(x: int, y: int, radius: int) -> str:
    place = f"<centroid><coords2d>{x},{y}</coords2d></centroid>"
    return f'<circleregion>{place}<radius direction="x">{radius}</radius></circleregion>'


def ellipse(x: int, y: int, along: int, across: int, angle: int) -> str:
    return (
        f"<ellipseregion><centroid><coords2d>{x},{y}</coords2d></centroid>"
        f'<radius direction="x">{along}</radius><radius direction="y">{across}</radius>'
        f"<angle>{angle}</angle></ellipseregion>"
    )


def polygon(*points: tuple[int, int]) -> str:
    corners = "".join(f"<coords2d>{x},{y}</coords2d>" for x, y in (*points, points[0]))
    return f"<polygonregion><centroid><coords2d>0,0</coords2d></centroid>{corners}</polygonregion>"


def expert(root: Path, image: int, number: int, *marks: str) -> Path:
    path = root / f"groundtruth/diaretdb1_image{image:03d}_{number:02d}_plain.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}<markinglist>\n{''.join(marks)}</markinglist>\n</imgannotooldata>\n")
    outside = HEADER.replace("imgannotool>", 'imgannotool SYSTEM "http://x/imgannotool.dtd">')
    path.with_name(path.name.replace("_plain", "")).write_text(outside + "</imgannotooldata>")
    return path


def tree(root: Path) -> Path:
    for image in (1, 2):
        png(root / f"images/diaretdb1_image{image:03d}.png", picture(image, (120, 160), colour=True))
    expert(
        root,
        1,
        1,
        mark(circle(50, 40, 5), "Red_small_dots"),
        mark(circle(90, 40, 0), "Red_small_dots", "Low"),
        mark(polygon((10, 10), (30, 10), (30, 20), (10, 20)), "Hard_exudates", "Medium"),
        mark(circle(100, 60, 20), "Disc"),
    )
    expert(root, 1, 2)
    expert(root, 2, 1)
    (root / "ddb1_v02_01_test_plain.txt").write_text("images/diaretdb1_image002.png groundtruth/x.xml\n")
    return root


def test_marks(tmp_path: Path) -> None:
    tree(tmp_path / "ddb1_v02_01")
    source = read(tmp_path)
    found = cases(source)
    task, first = source.task, found["diaretdb1_image001"]
    assert task.raters == ("expert 1", "expert 2")
    assert [s.split for s in found.values()] == [None, "test"]
    dots, exudates = task.structures.index("Red_small_dots"), task.structures.index("Hard_exudates")
    row, column = np.mgrid[:120, :160]
    near = (column - 50) ** 2 + (row - 40) ** 2 <= 25
    np.testing.assert_array_equal(first.masks[0, dots] & (column < 80), near)
    assert first.masks[0, exudates].sum() == 20 * 10
    assert first.rated.all() and not first.masks[1].any()
    np.testing.assert_array_equal(found["diaretdb1_image002"].rated[:, 0], [True, False])
    sure = cases(read(tmp_path, confidence="High"))["diaretdb1_image001"]
    assert sure.masks[0, dots].any() and not sure.masks[0, exudates].any()
    assert sure.rated[0].all()


def test_what_was_not_looked_for_is_missing_unless_marked(tmp_path: Path) -> None:
    found = cases(read(tree(tmp_path), structures="Haemorrhages, Disc"))["diaretdb1_image001"]
    np.testing.assert_array_equal(found.rated, [[True, True], [True, False]])
    assert found.masks[0, 1].sum() == pytest.approx(np.pi * 400, rel=0.01)


@pytest.mark.parametrize(
    ("region", "inside"),
    [  # marks of the real files that tell which way an angle turns, moved to the middle, and their points
        (ellipse(80, 60, 94, 56, 127), (80 + 46, 60 + 50)),
        (ellipse(80, 60, 53, 32, 128), (80 + 26, 60 + 33)),
    ],
)
def test_ellipses_hold_their_representative_point(
    tmp_path: Path, region: str, inside: tuple[int, int]
) -> None:
    expert(tree(tmp_path), 1, 1, mark(region, "Haemorrhages"))
    found = cases(read(tmp_path, structures="Haemorrhages"))["diaretdb1_image001"]
    x, y = inside
    assert found.masks[0, 0, y, x]
    assert not found.masks[0, 0, y, 160 - x]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (mark(circle(1, 1, 1), "Bubbles"), "a mark of the type 'Bubbles' with the confidence 'High'"),
        (mark(circle(1, 1, 1), "Disc", "Sure"), "with the confidence 'Sure'"),
        (mark(polygon((1, 1)), "Haemorrhages"), "a polygon of fewer than three points"),
        (mark("<lineregion/>", "Haemorrhages"), "cannot be read"),
        (mark("", "Haemorrhages"), "no region"),
        ("<marking>", "is not valid XML"),
    ],
)
def test_faults(tmp_path: Path, text: str, says: str) -> None:
    expert(tree(tmp_path), 1, 1, text)
    with pytest.raises(InputError, match=says):
        cases(read(tmp_path))


def test_a_tree_of_another_kind(tmp_path: Path) -> None:
    path = expert(tree(tmp_path), 3, 1)
    with pytest.raises(InputError, match=r"has no image 'diaretdb1_image003\.png'"):
        read(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="unknown structure 'Cup'; known: Hard_exudates"):
        read(tmp_path, structures="Cup")
    with pytest.raises(InputError, match="unknown confidence 'high'; known: Low, Medium, High"):
        read(tmp_path, confidence="high")
    for file in (tmp_path / "groundtruth").glob("*_plain.xml"):
        file.unlink()
    with pytest.raises(InputError, match="has no files like diaretdb1_image001_01_plain"):
        read(tmp_path)
