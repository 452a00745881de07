"""LIDC-IDRI as published: a made-up scan, and the XML of its readers."""

from pathlib import Path

import numpy as np
import pytest

from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS

pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
import pydicom
from matplotlib.path import Path as MatplotlibPath
from readings import SERIES, nodule, outline, reading, roi
from slices import series
from trees import cases

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
VOLUME = np.random.default_rng(0).integers(-1000, 400, (4, 12, 14)).astype(np.int16)


def scan(root: Path) -> list[str]:
    """A patient's series; gives the UIDs of its slices in order."""
    folder = root / "LIDC-IDRI-0007/1.3.6.1.study/1.3.6.1.series"
    paths = series(folder, VOLUME, uid=SERIES, patient="LIDC-IDRI-0007", axes=UPRIGHT)
    return [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]


def test_contours_lie_outside_and_holes_are_cut(tmp_path: Path) -> None:
    uids = scan(tmp_path)
    big, hole = outline(2, 3, 9, 8), outline(4, 4, 6, 6)
    gappy = [(2, 3), (9, 3), (9, 8), (2, 8)]  # corners only, and not closed
    other = nodule(roi(uids[3], outline(10, 1, 12, 3)))
    reading(
        tmp_path / "LIDC-IDRI-0007/1.3.6.1.study/1.3.6.1.series/069.xml",
        nodule(roi(uids[1], big), roi(uids[1], hole, "FALSE"), roi(uids[2], big)) + other,
        nodule(roi(uids[1], gappy)),
        nodule(roi(uids[1], [(5, 5)]), ratings="")
        + "<nonNodule><nonNoduleID>9</nonNoduleID><locus><xCoord>1</xCoord><yCoord>1</yCoord></locus></nonNodule>",
        nodule(roi(uids[0], [(5, 5)]), roi(uids[1], big)) + nodule(roi(uids[2], big), ratings=""),
    )
    source = DATASETS["lidc"](tmp_path)
    assert source.task.anonymous
    (found,) = cases(source).values()
    assert (found.name, found.group) == ("LIDC-IDRI-0007", "LIDC-IDRI-0007")
    assert found.rated.all()
    inside = np.zeros(VOLUME.shape, dtype=bool)
    inside[1, 4:8, 3:9] = True
    np.testing.assert_array_equal(found.masks[1, 0], inside)
    np.testing.assert_array_equal(found.masks[3, 0], inside)
    assert not found.masks[2].any()
    inside[2] = inside[1]
    inside[1, 4:7, 4:7] = False
    inside[3, 2, 11] = True
    np.testing.assert_array_equal(found.masks[0, 0], inside)
    np.testing.assert_allclose(found.image[0], (VOLUME + 1000) / 1400, atol=1e-6)
    assert found.spacing_mm == pytest.approx((2.5, 0.7, 0.5))
    assert source.ledger is not None
    assert [(item.what, item.why) for item in source.ledger.left] == [
        ("a contour in '069.xml'", "it is a single point"),
        ("a nodule in '069.xml'", "it has an outline but no ratings, as nodules under 3 mm"),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_insides_are_those_of_matplotlib(tmp_path: Path, seed: int) -> None:
    """As the usual reader of this set fills contours: what the line encloses, without the line."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    reach = np.random.default_rng(seed).uniform(2, 5, 12)
    columns, rows = (np.round(c + reach * f(angles)).astype(int) for c, f in ((6.5, np.cos), (5.5, np.sin)))
    points = [(int(x), int(y)) for x, y in zip(columns, rows, strict=True)]
    uids = scan(tmp_path)
    reading(tmp_path / "1.xml", nodule(roi(uids[1], points)))
    (found,) = cases(DATASETS["lidc"](tmp_path)).values()
    y, x = np.mgrid[:12, :14]
    grid = np.column_stack([x.ravel(), y.ravel()])
    line = MatplotlibPath([*points, points[0]])
    # nudged inwards and outwards, the line's own pixels are told apart from the rest
    inner, outer = (line.contains_points(grid, radius=r).reshape(12, 14) for r in (-1e-6, 1e-6))
    np.testing.assert_array_equal(found.masks[0, 0, 1], inner & outer)


def test_xml_apart_fewer_sessions_and_what_is_left_out(tmp_path: Path) -> None:
    uids = scan(tmp_path / "LIDC-IDRI")
    reading(tmp_path / "tcia-lidc-xml/157/158.xml", nodule(roi(uids[1], outline(2, 3, 9, 8))), "")
    reading(tmp_path / "tcia-lidc-xml/157/159.xml", root="IdriReadMessage")
    reading(tmp_path / "tcia-lidc-xml/157/160.xml", "", uid="1.2.3")
    source = DATASETS["lidc"](tmp_path, window="-500:500")
    (found,) = cases(source).values()
    np.testing.assert_array_equal(found.rated[:, 0], [True, True, False, False])
    assert not found.masks[1].any()
    assert "1 XML files about X-ray pictures (IdriReadMessage) were left out" in source.notes
    assert source.ledger is not None
    assert {item.why for item in source.ledger.left if item.what.endswith(".xml")} == {
        "its series of slices is not there"
    }
    with pytest.raises(InputError, match="has no CT series with an XML file that names it"):
        DATASETS["lidc"](tmp_path, leave_out="LIDC-IDRI-0007, LIDC-IDRI-0008")


def test_two_slices_at_one_place(tmp_path: Path) -> None:
    uids = scan(tmp_path)
    folder = tmp_path / "LIDC-IDRI-0007/1.3.6.1.study/1.3.6.1.series"
    again = pydicom.dcmread(folder / "07.dcm")
    again.InstanceNumber = 9
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    again.save_as(folder / "again.dcm")
    reading(folder / "1.xml", nodule(roi(uids[1], outline(2, 3, 9, 8))))
    (found,) = cases(DATASETS["lidc"](tmp_path)).values()
    assert found.masks[0, 0, 1].any()


@pytest.mark.parametrize(
    ("session", "says"),
    [
        (
            nodule(roi("1.2.3", outline(2, 3, 9, 8))),
            "a contour on the slice 1.2.3, which is not in its series",
        ),
        (nodule(roi("{1}", [(2, 3), (99, 3), (5, 5)])), "without points or outside its slice"),
        (nodule(roi("{1}", [])), "without points or outside its slice"),
        (nodule(roi("{1}", outline(2, 3, 9, 8)).replace(">2<", ">2.5<")), "a contour that cannot be read"),
        (
            nodule(roi("{1}", outline(2, 3, 9, 8)).replace(">2<", f">{10**30}<")),
            "a contour that cannot be read",
        ),
        (
            "</readingSession>" + "<readingSession></readingSession>" * 4 + "<readingSession>",
            "6 reading sessions",
        ),
    ],
)
def test_faults(tmp_path: Path, session: str, says: str) -> None:
    uids = scan(tmp_path)
    reading(tmp_path / "1.xml", session.replace("{1}", uids[1]))
    with pytest.raises(InputError, match=says):
        cases(DATASETS["lidc"](tmp_path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<x/>", "begins with 'x'; expected LidcReadMessage"),
        ("<LidcReadMessage/>", "names no series"),
        ("<LidcReadMessage>", "is not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><LidcReadMessage/>', "declares a document type"),
    ],
)
def test_xml_of_another_kind(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "1.xml").write_text(text)
    with pytest.raises(InputError, match=says):
        DATASETS["lidc"](tmp_path)
