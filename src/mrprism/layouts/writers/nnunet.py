"""nnU-Net v2: `dataset.json`, `imagesTr`, and label maps: `labelsTr_RATER`, or `labelsTr` for a fusion.

nnU-Net trains on `labelsTr`, so a fusion can be trained on as it stands; `mrprism import nnunet` reads
the raters back. Its probabilities, for trainers that learn from soft labels, go to `softTr`. Structures that overlap become regions: each way they overlap gets a value.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.images import write_image, write_probability
from mrprism.layouts.writers.cases import Cases, geometry, mask_file, volume, whole
from mrprism.output.files import write_file

_MOST = 8  # structures: ways to overlap are counted in one byte


def write(cases: Cases, folder: Path) -> None:
    """Images, label maps and `dataset.json`; `splits_final.json` where the data set fixes a split."""
    if len(cases.task.structures) > _MOST:
        raise InputError(
            f"data set '{cases.name}' has {len(cases.task.structures)} structures; nnunet takes up to {_MOST}"
        )
    ending, pixels = _survey(cases)
    ways = sorted(pixels, key=lambda way: (way.bit_count(), way))  # alone before together
    value = np.zeros(1 << len(cases.task.structures), np.uint8)
    value[ways] = np.arange(1, len(ways) + 1)
    for sample in cases:
        name = cases.files[sample.name]
        image_files(cases, sample, folder / "imagesTr", ending)
        for r, rater in enumerate(cases.task.raters):
            if whole(sample, cases.task, r, "nnunet"):
                labels = "labelsTr" if cases.fused else f"labelsTr_{cases.rater_files[rater]}"
                mask_file(folder / labels / f"{name}{ending}", value[_way(sample.masks[r])], sample)
                _soft(cases, sample, folder / "softTr", ending)
        if sample.reference is not None and not cases.fused:
            mask_file(folder / "labelsTr" / f"{name}{ending}", value[_way(sample.reference)], sample)
    text = json.dumps(_document(cases, ways, pixels, ending), indent=1, ensure_ascii=False) + "\n"
    write_file(folder / "dataset.json", text, durable=False)
    splits_file(cases, folder, cases.names)


def splits_file(cases: Cases, folder: Path, names: Sequence[str]) -> None:
    """`splits_final.json`: one fold, of these cases; none where it would be without training or validation cases."""
    fold = {
        split: [cases.files[name] for name in names if cases.splits[name] == split]
        for split in ("train", "val")
    }
    if all(fold.values()):
        write_file(folder / "splits_final.json", json.dumps([fold], indent=1) + "\n", durable=False)


def _soft(cases: Cases, sample: MultiRaterSample, folder: Path, ending: str) -> None:
    """The probabilities of each structure, where they shall be written."""
    if cases.soft is None:
        return
    for structure, probability in zip(cases.task.structures, cases.soft(sample.name), strict=True):
        file = f"{cases.files[sample.name]}_{cases.structure_files[structure]}{ending}"
        write_probability(folder / file, probability, like=geometry(sample), spacing_mm=sample.spacing_mm)


def _way(masks: Bool[np.ndarray, "C *space"]) -> UInt8[np.ndarray, "*space"]:
    """Which structures hold each pixel: bit c is structure c."""
    bits = np.zeros(masks.shape[1:], np.uint8)
    for c, mask in enumerate(masks):
        bits |= mask.astype(np.uint8) << c
    return bits


def _survey(cases: Cases) -> tuple[str, Counter[int]]:
    """The file ending all cases share, and the ways structures occur with their pixels."""
    found: Counter[int] = Counter()
    nifti = False
    for number, sample in enumerate(cases):
        medical = volume(sample) or geometry(sample) is not None
        if number and medical != nifti:
            raise InputError(
                f"case '{sample.name}' is another kind of file than those before it; nnunet takes either "
                "NIfTI and volumes, or plain images"
            )
        nifti = medical
        drawn = [sample.masks[r] for r in range(len(cases.task.raters)) if sample.rated[r].all()]
        if sample.reference is not None and not cases.fused:
            drawn.append(sample.reference)
        for masks in drawn:
            found.update(dict(enumerate(np.bincount(_way(masks).ravel()).tolist())))
    found = Counter({way: pixels for way, pixels in found.items() if way and pixels})
    for c in range(len(cases.task.structures)):
        if not any(way >> c & 1 for way in found):
            found[1 << c] = 0  # nobody drew it, but nnU-Net wants a value for it
    return ".nii.gz" if nifti else ".png", found


def image_files(cases: Cases, sample: MultiRaterSample, folder: Path, ending: str) -> None:
    """One file for the image, or one for each channel where a file holds only one."""
    if sample.image is None:
        return
    name, channels = cases.files[sample.name], len(sample.image)
    if channels == 1 or (ending == ".png" and channels == 3):
        cases.image(sample, folder / f"{name}_0000{ending}")
        return
    for i, channel in enumerate(sample.image):
        write_image(
            folder / f"{name}_{i:04d}{ending}",
            channel[None],
            like=geometry(sample),
            spacing_mm=sample.spacing_mm,
            durable=False,
        )


def _document(cases: Cases, ways: list[int], pixels: Counter[int], ending: str) -> dict[str, Any]:
    values = {
        structure: [v for v, way in enumerate(ways, start=1) if way >> c & 1]
        for c, structure in enumerate(cases.task.structures)
    }
    regions = any(len(found) > 1 for found in values.values())
    # nnU-Net paints regions one over the other: what encloses comes before what lies within
    order = sorted(values, key=lambda structure: -len(values[structure]))
    channels = cases.channels or tuple(str(i) for i in range(cases.task.channels))
    document: dict[str, Any] = {
        "name": cases.name,
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": {"background": 0, **{s: values[s] if regions else values[s][0] for s in order}},
        "numTraining": len(cases),
        "file_ending": ending,
    }
    if regions:
        # and gives a region the value under which most of it was drawn
        document["regions_class_order"] = [
            max(values[structure], key=lambda value: pixels[ways[value - 1]]) for structure in order
        ]
    return document
