"""Kills, and files nobody meant well."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from events import until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset
from mrprism.datasets.check import check_dataset
from mrprism.datasets.manifest import schema
from mrprism.images import read_image, read_labels
from mrprism.images.nrrd import read_nrrd
from mrprism.layouts.brushes import unpack_brush
from mrprism.layouts.coco import unpack


def test_a_killed_import_is_started_again(tmp_path: Path) -> None:
    count = 300  # so many that it is killed before the end
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "lidc.npz",
        images=rng.integers(0, 256, (count, 16, 16)).astype(np.uint8),
        masks_packed=rng.integers(0, 256, (count, 4, 16, 2)).astype(np.uint8),
        patient=np.array([f"LIDC-IDRI-{i:04d}" for i in range(count)]),
        nodule=np.zeros(count, np.int16),
        slice=np.zeros(count, np.int16),
    )
    command = [
        sys.executable,
        "-m",
        "mrprism",
        "import",
        "lidc",
        str(tmp_path / "lidc.npz"),
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(list(tmp_path.glob(".out.*.unfinished/images/*"))) >= 5, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lidc.npz", "out"]
    data = open_dataset(tmp_path / "out")
    assert len(data) == count
    assert sum(1 for _ in (tmp_path / "out").rglob("*.png")) == count * 5
    assert not list((tmp_path / "out").rglob("*.tmp"))


GOOD: dict[str, Any] = {
    "format": "mrprism-dataset/1",
    "name": "x",
    "channels": ["grey"],
    "structures": ["a"],
    "raters": ["r"],
    "cases": [{"name": "c", "image": "c.png", "masks": {"r": {"a": "m.png"}}}],
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(key=st.sampled_from(sorted(schema()["properties"])), value=anything)
def test_any_manifest_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({**GOOD, key: value}))
    check_dataset(tmp_path)
    with pytest.raises(InputError):
        open_dataset(tmp_path)[0]


@quick
@given(key=st.sampled_from(sorted(schema()["$defs"]["Case"]["properties"])), value=anything)
def test_any_case_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({**GOOD, "cases": [{**GOOD["cases"][0], key: value}]}))
    check_dataset(tmp_path)
    with pytest.raises(InputError):
        open_dataset(tmp_path)[0]


@quick
@given(text=st.text(alphabet=st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_coco_runs(text: str) -> None:
    with contextlib.suppress(InputError):
        assert all(isinstance(count, int) for count in unpack(text))


@quick
@given(packed=st.lists(st.integers(0, 255), max_size=60))
def test_any_brush(packed: list[int]) -> None:
    with contextlib.suppress(InputError):
        assert unpack_brush([0, 0, 0, 16, *packed], (2, 2)).shape == (2, 2)


@quick
@given(ending=st.sampled_from([".png", ".nii", ".nii.gz", ".tif", ".jpg", ".gif"]), data=st.data())
def test_any_bytes(tmp_path: Path, ending: str, data: st.DataObject) -> None:
    starts = {
        ".png": b"\x89PNG\r\n\x1a\n",
        ".nii": (348).to_bytes(4, "little"),
        ".nii.gz": b"\x1f\x8b\x08",
        ".tif": b"II*\x00",
        ".jpg": b"\xff\xd8\xff\xe0",
        ".gif": b"GIF89a",
    }
    path = tmp_path / f"x{ending}"
    path.write_bytes(starts[ending] + data.draw(st.binary(max_size=400)))
    for read in (read_image, read_labels):
        with pytest.raises(InputError):
            read(path)


@quick
@given(header=st.binary(max_size=100), body=st.binary(max_size=50))
def test_any_nrrd(tmp_path: Path, header: bytes, body: bytes) -> None:
    (tmp_path / "x.nrrd").write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n" + header + b"\n\n" + body
    )
    with contextlib.suppress(InputError):
        assert read_nrrd(tmp_path / "x.nrrd").array.size > 0
