"""What was settled goes out by every writer and comes back, and stands against the raters where it is asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from test_writers import TASK, flat, volumes

import mrprism
from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.decision import Start
from mrprism.datasets.decisions import Decisions
from mrprism.layouts.writers import TARGETS, export_dataset
from mrprism.metrics.overlap import dice


def settled(folder: Path, kind: str = "flat", *, cases: int = 2) -> Path:
    """A data set of whose cases the first are settled as ann drew them, less one pixel."""
    data = {"flat": flat, "volumes": volumes}[kind]()
    write_dataset((data[n] for n in range(len(data))), folder, name="boxes", task=TASK)
    opened = open_dataset(folder)
    assert opened.manifest is not None
    decisions = Decisions(folder, opened.manifest)
    for number in range(cases):
        for c, structure in enumerate(TASK.structures):
            decisions.save(
                f"case{number}", structure, "dr", mask=wanted(data[number].masks[0, c]), start=Start(kind="rater", of="ann"),
                status="final",
            )  # fmt: skip
    return folder


def wanted(mask: np.ndarray) -> np.ndarray:
    less = mask.copy()
    less[tuple(np.argwhere(mask)[0])] = False
    return less


BACK = {  # target: importer and where it reads
    "nifti": ("folder", ""),
    "png": ("folder", ""),
    "tiff": ("folder", ""),
    "seg-nrrd": ("slicer", ""),
    "coco": ("coco", "coco"),
    "dicom-seg": ("dicom-seg", ""),
    "nnunet": ("nnunet", ""),
    "bids": ("bids", ""),
}


@pytest.mark.parametrize("target", TARGETS)
def test_every_writer_hands_on_what_was_settled_and_importing_brings_it_back(
    target: str, tmp_path: Path
) -> None:
    if target == "dicom-seg" and find_spec("highdicom") is None:
        pytest.skip("needs the extra 'dicom'")
    kind = "flat" if target in ("png", "tiff", "coco") else "volumes"
    data = open_dataset(settled(tmp_path / "boxes", kind, cases=3 if target == "nnunet" else 2))
    made = export_dataset(data, target, tmp_path / "out", raters="decisions")
    assert made.raters == ("decisions",)
    layout, inside = BACK[target]
    options = {"images": str(tmp_path / "images")} if target == "bids" else {}
    if target == "bids":
        export_dataset(data, "nifti", tmp_path / "raw")
        (tmp_path / "images").mkdir()
        for path in (tmp_path / "raw" / "images").iterdir():
            name = path.name.removesuffix(".nii.gz")
            (tmp_path / "images" / f"sub-{name}_T1w.nii.gz").write_bytes(path.read_bytes())
    if target == "nnunet":
        (tmp_path / "out" / "labelsTr").rename(tmp_path / "out" / "labelsTr_decisions")
    back = mrprism.import_dataset(layout, tmp_path / "out" / inside, tmp_path / "back", **options).dataset
    for number in range(2):
        own = data[f"case{number}"].masks[0]
        name = next(name for name in back.names if f"case{number}" in name)
        found = back[name]
        r = back.task.raters.index(next(r for r in back.task.raters if "decisions" in r))
        for c, structure in enumerate(TASK.structures):
            at = back.task.structures.index(structure)
            mask, expected = found.masks[r, at], wanted(own[c])
            if target == "dicom-seg":  # whose series lie in another order of slices, rows and columns
                assert mask.sum() == expected.sum() < own[c].sum()
            else:
                assert np.array_equal(mask, expected), (name, structure)
            assert found.rated[r, at]
    if target != "nnunet":
        others = [name for name in back.names if "case2" in name]
        assert all(not back[name].rated.any() for name in others), (
            "what nobody settled is not done, and not empty"
        )


def test_an_export_of_the_raters_says_that_decisions_stay_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = settled(tmp_path / "boxes")
    assert call(["export", str(folder), "--to", "coco", "--out", str(tmp_path / "out")]) == 0
    assert "left out, as coco has no place for it: decisions" in capsys.readouterr().out
    decided = open_dataset(folder, reference="decisions")
    assert export_dataset(decided, "png", tmp_path / "png").left_out == ()
    assert list((tmp_path / "png" / "reference" / "disc").iterdir()), "as references they go along"


def test_nothing_settled_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = settled(tmp_path / "boxes", cases=0)
    with pytest.raises(InputError, match="no decision on data set 'boxes' is agreed or final"):
        mrprism.export(folder, "png", tmp_path / "out", raters="decisions")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="on disk"):
        mrprism.export(flat(), "png", tmp_path / "out", raters="decisions")


def test_agree_holds_each_rater_against_the_decisions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = settled(tmp_path / "boxes"), tmp_path / "agreement"
    assert call(["agree", str(folder), "--out", str(out), "--reference", "decisions", "--no-distances"]) == 0
    said = capsys.readouterr()
    assert "Each rater against the decisions" in said.out
    assert "1 case of 'boxes' without a reference" not in said.err, (
        "the third was never begun, which is no fault"
    )
    found = mrprism.agree(folder, reference="decisions", distances=False, resamples=0)
    rows = {(row["structure"], row["rater"]): row for row in found.against}
    masks = [flat()[n].masks for n in range(2)]
    ann = rows["disc", "ann"]
    expected = np.mean([dice(m[0, 0], wanted(m[0, 0])) for m in masks])
    assert (ann["cases"], ann["dice"], ann["left_out"]) == (2, pytest.approx(expected), 0)
    assert ann["marked_too_much"] == pytest.approx(2 / sum(int(m[0, 0].sum()) - 1 for m in masks))
    assert rows["disc", "bob"]["cases"] == 1, "bob did not do the second"
    assert (out / "reference.csv").read_text().startswith("structure,rater,cases,dice")
    assert mrprism.agree(folder, distances=False, resamples=0).against == ()
    with pytest.raises(InputError, match="no case of data set 'boxes' has a reference"):
        mrprism.agree(folder, reference="dataset", distances=False, resamples=0)
