"""A large volume is fused from its files: the same answer as from memory, and memory that does not grow."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from volumes import TASK, volumes

from mrprism.cli import call
from mrprism.datasets import open_dataset, write_dataset
from mrprism.fusion import streamed


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(write_dataset(volumes(2), tmp_path / "blocks", name="blocks", task=TASK))


def fused(data: Path, out: Path, *options: str) -> Path:
    assert call(["fuse", str(data), "--out", str(out), *options]) == 0
    return out


@pytest.mark.parametrize(
    "method", ["staple", "majority", "soft-vote", "weighted", "dawid-skene", "jaccard-mean"]
)
def test_from_files_and_from_memory_is_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    held = fused(data, tmp_path / "held", "--method", method)
    monkeypatch.setattr(streamed, "LARGE", 0)
    monkeypatch.setattr("mrprism.datasets.outlined.LARGE", 0)  # looks for copies afterwards
    monkeypatch.setattr("mrprism.datasets.dataset._read", lambda entry: pytest.fail("a case was held"))
    files = fused(data, tmp_path / "files", "--method", method)
    for file in sorted(path.relative_to(held) for path in held.rglob("*") if path.is_file()):
        if file.suffix == ".gz":
            one, other = nib.load(held / file), nib.load(files / file)
            assert one.header == other.header
            np.testing.assert_allclose(np.asarray(one.dataobj), np.asarray(other.dataobj), atol=1e-6)
    for case in (held / "cases").iterdir():
        one, other = (
            json.loads((out / "cases" / case.name / "case.json").read_text()) for out in (held, files)
        )
        assert {key: one[key] for key in ("name", "ties", "undrawn")} == {
            key: other[key] for key in ("name", "ties", "undrawn")
        }
        np.testing.assert_allclose(one["counts"], other["counts"], rtol=1e-5, atol=1e-3)


def test_what_cannot_be_read_so_is_held(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that looks at distances, pooled skill, masks on another grid than the image."""
    monkeypatch.setattr(streamed, "LARGE", 0)
    monkeypatch.setattr(streamed, "fuse_streams", lambda *_, **__: pytest.fail("read as files"))
    fused(data, tmp_path / "shape", "--method", "shape-average")
    fused(data, tmp_path / "pooled", "--pooled")
    fused(data, tmp_path / "smooth", "--smoothing", "1")
    dataset = open_dataset(data)
    found = dataset.mask_files(dataset.names[0])
    assert found is not None
    image = found[0]
    assert image is not None
    stored = nib.load(image)
    moved = stored.affine.copy()
    moved[:3, 3] += 5
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj), moved), image)
    assert call(["fuse", str(data), "--out", str(tmp_path / "moved"), "--method", "majority"]) == 2
    assert not list((tmp_path / "moved").rglob("*.gz"))


def test_a_broken_mask_leaves_no_case(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "LARGE", 0)
    dataset = open_dataset(data)
    found = dataset.mask_files(dataset.names[0])
    assert found is not None
    path = next(iter(found[1].values()))
    path.write_bytes(path.read_bytes()[:-20])
    assert call(["fuse", str(data), "--out", str(tmp_path / "out"), "--method", "majority"]) == 2
    assert not list((tmp_path / "out").rglob("*.gz"))


def test_volumes_below_the_limit_are_held(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "fuse_streams", lambda *_, **__: pytest.fail("read as files"))
    fused(data, tmp_path / "out", "--method", "majority")
