"""What need not be converted stays where it lies, and reads as if it had been imported."""

import re
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS

from mrprism.cli import call
from mrprism.datasets import Dataset, open_dataset


def imported(kind: str, source: Path, out: Path, *options: str) -> Dataset:
    given = [part for option in options for part in ("-o", option)]
    assert call(["import", kind, str(source), str(out), *given]) == 0
    return open_dataset(out if out.is_dir() else out.parent)


@pytest.mark.parametrize(
    ("kind", "tree", "inside", "out", "options"),
    [
        ("folder", "retina", ".", "dataset.json", ["group=(.)", "structure=vessels"]),
        ("nnunet", "Dataset007_Liver", ".", "mrprism.json", ["window=-160:240"]),
        ("nnunet", "Dataset008_Liver", ".", "mrprism.json", ["rater=_(ann|bob)$", "window=-160:240"]),
        ("bids", "ms", "derivatives/manual", "dataset.json", ["window=-160:240"]),
        ("bids", "brains", "derivatives/tissue", "dataset.json", ["rater=seg", "window=-160:240"]),
        ("monai", "livers", ".", "dataset.json", ["raters=label_*", "group=patient", "window=-160:240"]),
        ("qu-brats", "MICCAI_BraTS2020_TrainingData", ".", "dataset.json", []),
    ],
)
def test_it_is_the_same_data_set(
    kind: str, tree: str, inside: str, out: str, options: list[str], tmp_path: Path
) -> None:
    root = tmp_path / tree
    LAYOUTS[tree](root)
    before = set(root.rglob("*"))
    moved = imported(kind, root / inside, tmp_path / "moved", *options)
    here = imported(kind, root / inside, root / out, *options)
    assert set(root.rglob("*")) - before == {root / out, (root / out).with_name("mrprism-import.json")}
    assert here.task == moved.task
    assert (here.name, here.names) == (moved.name, moved.names)
    for one, other in zip(here, moved, strict=True):
        np.testing.assert_array_equal(one.masks, other.masks)
        np.testing.assert_array_equal(one.rated, other.rated)
        np.testing.assert_allclose(one.image, other.image, atol=1e-4)
        assert (one.group, one.split, one.diagnosis) == (other.group, other.split, other.diagnosis)
        assert one.spacing_mm == pytest.approx(other.spacing_mm)
        assert (one.reference is None) == (other.reference is None)
        if one.reference is not None:
            np.testing.assert_array_equal(one.reference, other.reference)


def test_a_reference_and_label_maps_stay_too(tmp_path: Path) -> None:
    LAYOUTS["retina"](tmp_path / "retina")
    (tmp_path / "retina/bob").rename(tmp_path / "retina/Reference")
    moved = imported("folder", tmp_path / "retina", tmp_path / "moved", "labels=disc:255")
    here = imported("folder", tmp_path / "retina", tmp_path / "retina/mrprism.json", "labels=disc:255")
    assert here.task == moved.task
    assert [sample.reference is None for sample in here] == [False, False, True]
    np.testing.assert_array_equal(here["01"].reference, moved["01"].reference)


@pytest.mark.parametrize(
    ("kind", "tree", "out", "says"),
    [
        ("stare", "STARE", "STARE/dataset.json", "has files that must be converted; expected a new folder"),
        (
            "folder",
            "retina",
            "elsewhere/dataset.json",
            "lies outside '.*elsewhere'; expected 'dataset.json' in",
        ),
        ("folder", "retina", "dataset.json", "exists already; expected a new file"),
        ("folder", "retina", "retina/x.json", "would not be found again; expected the name dataset.json or"),
    ],
)
def test_faults(
    kind: str, tree: str, out: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    LAYOUTS[tree](tmp_path / tree)
    (tmp_path / "dataset.json").write_text("{}")
    assert call(["import", kind, str(tmp_path / tree), str(tmp_path / out)]) == 2
    assert re.search(says, capsys.readouterr().err)
    assert (tmp_path / "dataset.json").read_text() == "{}"
    assert not (tmp_path / "elsewhere/dataset.json").exists()
