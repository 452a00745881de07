"""What `check` says of names that look alike, of many faults of one kind, and of images that were turned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from mrprism.cli import call
from mrprism.datasets.check import check_dataset
from mrprism.datasets.findings import grouped, kind_of
from mrprism.datasets.manifest import Fault
from mrprism.datasets.pieces import Bits, Piece, piece_of, pieces_of, shared

SIZE = (30, 34)


def png(path: Path, array: np.ndarray, **options: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path, **options)
    return path.name


def data_set(root: Path, raters: list[str], structures: list[str], cases: int = 6, spoil: str = "") -> Path:
    """Squares by all raters; masks of ``spoil`` are grey."""
    rng = np.random.default_rng(0)
    entries = []
    for n in range(cases):
        png(root / f"c{n}.png", rng.integers(0, 256, SIZE).astype(np.uint8))
        masks: dict[str, dict[str, str]] = {}
        for r, rater in enumerate(raters):
            for c, structure in enumerate(structures):
                mask = np.zeros(SIZE, np.uint8)
                mask[4 + r + c : 15 + r, 5 + n : 19 + n - c] = 255
                if rater == spoil:
                    mask[4, 5 : 12 + n] = range(100, 107 + n)
                masks.setdefault(rater, {})[structure] = png(root / f"m{n}-{r}-{c}.png", mask)
        entries.append({"name": f"case {n}", "image": f"c{n}.png", "masks": masks})
    document = {"format": "mrprism-dataset/1", "name": "d", "channels": ["grey"], "structures": structures}
    (root / "dataset.json").write_text(json.dumps(document | {"raters": raters, "cases": entries}))
    return root


@pytest.mark.parametrize(
    ("raters", "structures", "said"),
    [
        (["ann", "Ann"], ["cup"], "raters 'ann' and 'Ann' differ in case, blanks or accents only"),
        (["Jose\u0301", "Jos\u00e9"], ["cup"], "raters 'Jose\u0301' and 'Jos\u00e9' differ"),
        (["a", "b"], ["cup", "Cup "], "structures 'cup' and 'Cup ' differ"),
        (["a", "b"], ["left lung", "left  lung"], "structures 'left lung' and 'left  lung' differ"),
    ],
)
def test_near_twins(tmp_path: Path, raters: list[str], structures: list[str], said: str) -> None:
    check = check_dataset(data_set(tmp_path, raters, structures))
    assert any(said in fault.sentence for fault in check.warnings)
    assert not check.errors


def test_other_names_are_not_twins(tmp_path: Path) -> None:
    check = check_dataset(data_set(tmp_path, ["ann", "anne"], ["cup", "cups"]))
    assert not any("differ in case" in fault.sentence for fault in check.faults)


def test_equal_findings_are_told_rater_by_rater(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = data_set(tmp_path, ["ann", "bob", "cy"], ["cup"], spoil="bob")
    check = check_dataset(root)
    assert len(check.errors) == 6
    assert {fault.rater for fault in check.errors} == {"bob"}
    assert call(["check", str(root)]) == 2
    said = capsys.readouterr().out
    assert said.count("has grey values") == 1
    assert "(and 5 more of this kind by rater 'bob'; mrprism check --json lists all)" in said
    assert "-o threshold=128" in said
    assert call(["check", str(root), "--json"]) == 2
    assert capsys.readouterr().out.count("has grey values") == 12  # sentence and what was found
    assert call(["check", str(root), "--out", str(tmp_path / "page.html")]) == 2
    assert (tmp_path / "page.html").read_text().count("has grey values") == 1


def test_kinds_of_sentences() -> None:
    one, other = "mask 'a 1.png' has grey values 0, 3, 255, ...", "mask 'b.png' has grey values 0, 12"
    assert kind_of(one) == kind_of(other)
    assert kind_of(one) != kind_of("mask 'a.png' has the size 3 × 4")
    faults = [
        Fault("error", "f", None, f"mask '{n}' is odd", rater=rater) for n in range(4) for rater in ("a", "b")
    ]
    faults += [Fault("error", "f", None, "mask '9' is odd", rater="c")] * 3
    assert [(finding.fault.rater, finding.more) for finding in grouped(faults)] == [
        ("a", 3), ("b", 3), ("c", 0), ("c", 0), ("c", 0)
    ]  # fmt: skip


def test_turned_images_are_named(tmp_path: Path) -> None:
    root = data_set(tmp_path, ["ann", "bob"], ["cup"])
    exif = Pillow.Exif()
    exif[274] = 3
    png(root / "c0.png", np.random.default_rng(1).integers(0, 256, SIZE).astype(np.uint8), exif=exif)
    warnings = [fault.sentence for fault in check_dataset(root).warnings]
    assert any("c0.png': it is turned, as its orientation 3 says" in sentence for sentence in warnings)


def test_a_mask_on_the_untouched_pixels_of_a_turned_image(tmp_path: Path) -> None:
    root = data_set(tmp_path, ["ann", "bob"], ["cup"], cases=1)
    exif = Pillow.Exif()
    exif[274] = 6
    png(root / "c0.png", np.random.default_rng(1).integers(0, 256, SIZE).astype(np.uint8), exif=exif)
    errors = [fault.sentence + str(fault.expected) for fault in check_dataset(root).errors]
    assert errors
    assert all(
        "30 × 34" in said and "34 × 30" in said and "as its orientation 6 says" in said for said in errors
    )


def test_bits_are_read_like_the_array() -> None:
    mask = np.zeros((9, 5, 7), bool)
    mask[1:8, :, 2:6] = np.random.default_rng(0).random((7, 5, 4)) > 0.5
    rows = np.packbits(mask.reshape(9, -1), axis=1)
    bits = Bits(rows, (5, 7), (1, 0, 2), (7, 5, 4))
    cut = mask[1:8, :, 2:6]
    assert (bits.shape, bits.size, len(bits)) == (cut.shape, cut.size, 7)
    for where in (
        slice(2, 5),
        slice(None),
        (slice(0, 3), slice(1, 2)),
        (slice(5, 99), slice(2, 4), slice(3, 4)),
    ):
        np.testing.assert_array_equal(bits[where], cut[where])
    np.testing.assert_array_equal(bits[3], cut[3])
    np.testing.assert_array_equal(bits[-1], cut[-1])
    piece = Piece((20, 20, 20), tuple(slice(3, 3 + n) for n in cut.shape), bits)
    box = (slice(0, 20), slice(2, 12), slice(3, 7))
    wide = np.zeros((20, 10, 4), bool)
    wide[3:10, 1:6] = cut
    np.testing.assert_array_equal(np.asarray(piece.on(box)), wide)
    np.testing.assert_array_equal(Piece(piece.shape, piece.box, cut).on(box), wide)
    assert (piece.pixels, shared(piece, piece)) == (cut.sum(), cut.sum())


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int16])
def test_pieces_are_the_masks(dtype: type) -> None:
    rng = np.random.default_rng(0)
    for shape in ((9, 11), (5, 6, 7)):
        labels = (rng.integers(0, 5, shape) * (rng.random(shape) > 0.6)).astype(dtype)
        labels[labels == 3] = 0
        values = {"one": [1], "two": [2, 4], "both": [1, 2], "none": [3], "ground": [0]}
        found = dict(pieces_of(labels, values))
        for name, own in values.items():
            whole = tuple(slice(0, n) for n in shape)
            mask = np.isin(labels, own)
            np.testing.assert_array_equal(found[name].on(whole), mask)
            np.testing.assert_array_equal(piece_of(mask).on(whole), mask)
            assert found[name].empty == (not mask.any())
            assert found[name].same(piece_of(mask)) or mask.any()
    far = np.array([[0, 2**31 - 1]], np.int64)
    assert not dict(pieces_of(far, {"far": [2**31 - 1]}))["far"].empty
