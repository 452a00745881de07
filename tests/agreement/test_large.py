"""A large volume is measured from its files: the same numbers as from memory, and nothing held."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from volumes import TASK, volumes

from mrprism.agreement import agree
from mrprism.agreement.case import measure
from mrprism.agreement.cases import outlined_case
from mrprism.agreement.page import page
from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset, outlined, write_dataset
from mrprism.datasets.pieces import Bits, piece_of
from mrprism.images.streams import NiftiMask
from mrprism.metrics import distance


@pytest.fixture
def data(tmp_path: Path) -> Path:
    samples = volumes(4)
    samples[1].rated[2, 0] = False  # absent
    samples[1].masks[2, 0] = False
    samples[2].masks[0, 1] = False  # drew nothing
    samples[3].masks[:, 0] = True  # up to every edge
    samples[3].masks[1, 0, 0] = False
    return Path(write_dataset(samples, tmp_path / "blocks", name="blocks", task=TASK))


def both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """What is found, and the page, from memory and from the files."""
    dataset = open_dataset(folder)
    answers = []
    for large in (outlined.LARGE, 0):
        monkeypatch.setattr(outlined, "LARGE", large)
        if not large:
            monkeypatch.setattr(
                "mrprism.datasets.dataset._read", lambda entry: pytest.fail("a case was held")
            )
        found = agree(dataset, resamples=20)
        answers.append((found.to_json(), page(found, dataset)))
    return answers[0], answers[1]


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "dataset.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def test_numbers_and_pictures_are_the_same(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, streamed = both(data, monkeypatch)
    assert json.dumps(held[0]) == json.dumps(streamed[0])  # to the last bit
    assert outlines(held[1]) == outlines(streamed[1])


def test_hd95_of_bits_is_that_of_the_masks(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "SLAB", 500)
    found = []
    for large in (distance.LARGE, 0):
        monkeypatch.setattr(distance, "LARGE", large)
        monkeypatch.setattr(outlined, "LARGE", large)
        case = outlined_case(open_dataset(data), 3)
        masks, outside = case.on_box(0)
        assert all(isinstance(mask, Bits) == (large == 0) for mask in masks)
        found.append(measure(masks, case.rated[:, 0], case.spacing_mm, outside=outside))
    np.testing.assert_allclose(found[0].hd95, found[1].hd95, rtol=1e-6)
    np.testing.assert_allclose(found[0].others_hd95, found[1].others_hd95, rtol=1e-6)
    assert (found[0].hd95 > 0).any()


def test_label_maps_second_readings_and_turned_masks(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_dataset(data).mask_files("scan0")
    assert found is not None
    files = found[1]
    disc, cup = (nib.load(files[0, c]) for c in (0, 1))
    labels = np.asarray(disc.dataobj) * 1
    labels[np.asarray(cup.dataobj) > 0] = 2
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), disc.affine), data / "labels.nii.gz")
    turned = nib.load(files[1, 0])
    nib.save(turned.as_reoriented([[0, -1], [1, 1], [2, 1]]), files[1, 0])

    def change(manifest: dict[str, Any]) -> None:
        case = manifest["cases"][0]
        manifest["labels"] = {"disc": [1, 2], "cup": [2]}
        case["readings"] = {"bob": [case["masks"]["cy"]], "ann": [dict(case["masks"]["bob"])]}
        case["masks"]["ann"] = "labels.nii.gz"

    edit(data, change)
    held, streamed = both(data, monkeypatch)
    assert json.dumps(held[0]) == json.dumps(streamed[0])
    assert any(row["rater"] == "bob" for row in streamed[0]["tables"]["again"])


def test_masks_without_an_image(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(data, lambda manifest: [case.pop("image") for case in manifest["cases"]] and None)
    held, streamed = both(data, monkeypatch)
    assert json.dumps(held[0]) == json.dumps(streamed[0])
    assert outlines(held[1]) == outlines(streamed[1])


def test_a_mask_is_cut_whatever_the_block(data: Path) -> None:
    found = open_dataset(data).mask_files("scan0")
    assert found is not None
    path = found[1][0, 1]
    whole = piece_of(np.asarray(nib.load(path).dataobj).T > 0)
    for block in (1, 1000, 1 << 20):
        piece = outlined.piece_of_stream(NiftiMask(path), block)
        assert piece.same(whole)


def test_what_was_cut_off_counts_as_background() -> None:
    rng = np.random.default_rng(1)
    masks = np.zeros((4, 9, 20, 20), bool)
    masks[:, 3:6, 4:9, 10:15] = rng.random((4, 3, 5, 5)) < 0.7
    rated = np.array([True, True, False, True])
    cut = masks[:, 3:6, 4:9, 10:15]
    whole = measure(masks, rated, (2.0, 1.0, 1.0))
    part = measure(cut, rated, (2.0, 1.0, 1.0), outside=masks[0].size - cut[0].size)
    for name in whole.__dataclass_fields__:
        one, other = getattr(whole, name), getattr(part, name)
        assert repr(one) == repr(other), name


def test_the_sentence_for_a_wrong_file_is_that_of_a_small_volume(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_dataset(data).mask_files("scan0")
    assert found is not None
    path = found[1][0, 0]
    stored = nib.load(path)
    several = np.asarray(stored.dataobj) * np.arange(1, 25).reshape(-1, 1, 1)
    nib.save(nib.Nifti1Image(several.astype(np.uint8), stored.affine), path)
    said = []
    for large in (outlined.LARGE, 0):
        monkeypatch.setattr(outlined, "LARGE", large)
        with pytest.raises(InputError, match="grey values") as error:
            agree(open_dataset(data), resamples=0)
        said.append(str(error.value))
    assert said[0] == said[1]


def outlines(html: str) -> str:
    """The page but for its photographs, whose intensities are stretched slice by slice."""
    kept, photos = re.subn('data:image/jpeg[^"]*', "", html)
    assert photos
    assert "<path" in kept
    assert ", slice " in kept
    return kept
