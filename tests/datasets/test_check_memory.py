"""An image that is looked at part by part is the image that is read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from volumes import TASK, volumes

from mrprism.datasets import case_files, open_dataset, write_dataset
from mrprism.datasets.case_files import image_in_parts, read_case_image
from mrprism.images.content import scale, scaling


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.bool_])
@pytest.mark.parametrize(("window", "top"), [(None, None), ((-3.0, 90.0), None), (None, 255.0)])
def test_parts_are_scaled_as_the_whole(
    kind: type, window: tuple[float, float] | None, top: float | None
) -> None:
    pixels = np.random.default_rng(0).normal(20, 50, (2, 7, 5, 4)).astype(kind)
    whole = scale(pixels, Path("x"), window, top)
    rule = scaling(pixels, Path("x"), window, top)
    parts = [rule(pixels[:, at : at + 3]) for at in (0, 3, 6)]
    assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


def test_the_fingerprint_is_that_of_the_whole_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset(write_dataset(volumes(2), tmp_path / "data", name="blocks", task=TASK))
    assert data.manifest is not None
    assert data.root is not None
    monkeypatch.setattr(case_files, "PART", 50)
    case = data.manifest.cases[0]
    image, file = read_case_image(data.root, data.manifest, case)
    parts, bare = image_in_parts(data.root, data.manifest, case)
    found = list(parts)
    assert len(found) > 1
    assert b"".join(part.tobytes() for part in found) == image.tobytes()
    assert bare.array.shape == file.array.shape
    assert bare.array.strides == (0,) * bare.array.ndim  # it holds nothing
    assert (bare.spacing_mm, bare.path) == (file.spacing_mm, file.path)
