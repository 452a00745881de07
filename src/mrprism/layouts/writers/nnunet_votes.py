"""nnU-Net v2 on the number of votes: one label map a case, and a region for "at least k raters mark it".

Region training gives each region an output of its own, trained with a binary loss: these are ordered heads, in two and
three dimensions, in a tool nobody has to change. The mean of a structure's regions is the expected share of votes.
`mrprism compare --with NAME=FOLDER` reads the regions' probabilities (`nnUNetv2_predict --save_probabilities`).

With one structure the label map holds the votes themselves, 0 to R. With several each way in which votes come together
gets a value. Where fewer than R rated a case, the same shares are asked of them: level k is marked where more than
(k - 1/2) / R of them mark it. Test cases have their image in `imagesTs` and no label map; `splits_final.json` has
training and validation cases.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.layouts.writers.cases import Cases, geometry, mask_file, volume
from mrprism.layouts.writers.nnunet import image_files, splits_file
from mrprism.output.files import write_file

MOST_VALUES = 255  # of a label map: it is written in one byte
VOTES = "mrprism_votes"  # in dataset.json: structure to its regions, from at least one vote on


def write(cases: Cases, folder: Path) -> None:
    """Images, one label map a case, `dataset.json` and `splits_final.json`.

    Raises:
        InputError: Nobody rated a structure of a case that others are rated in, files are of several kinds, or votes
            come together in more ways than a label map has values.
    """
    learned = [name for name in cases.names if cases.splits[name] != "test"]
    ending, ways = _survey(cases, set(learned))
    value = {way: number for number, way in enumerate(ways, start=1)}
    written: list[str] = []
    for sample in cases:
        name = cases.files[sample.name]
        if cases.splits[sample.name] == "test":
            image_files(cases, sample, folder / "imagesTs", ending)
            continue
        if not sample.rated.any():
            continue  # nobody was asked
        image_files(cases, sample, folder / "imagesTr", ending)
        levels = levels_of(sample)
        labels = np.zeros(sample.space, np.uint8)
        for way, number in value.items():
            labels[(levels == np.reshape(way, (-1, *(1,) * len(sample.space)))).all(axis=0)] = number
        mask_file(folder / "labelsTr" / f"{name}{ending}", labels, sample)
        written.append(sample.name)
    text = json.dumps(_document(cases, ways, ending, len(written)), indent=1, ensure_ascii=False) + "\n"
    write_file(folder / "dataset.json", text, durable=False)
    splits_file(cases, folder, written)


def levels_of(sample: MultiRaterSample) -> Integer[np.ndarray, "C *space"]:
    """Of each structure the highest level that is marked: with everybody there, the votes."""
    raters = len(sample.rated)
    levels = np.zeros(sample.masks.shape[1:], np.int16)
    for c in range(len(levels)):
        rated = sample.rated[:, c]
        votes, voters = sample.masks[rated, c].sum(axis=0, dtype=np.int32), int(rated.sum())
        for k in range(1, raters + 1):
            levels[c] += 2 * raters * votes > (2 * k - 1) * voters
    return levels


def _survey(cases: Cases, learned: set[str]) -> tuple[str, list[tuple[int, ...]]]:
    """The file ending, and the ways in which votes of the structures come together, few votes first."""
    raters, structures = len(cases.task.raters), cases.task.structures
    pixels: Counter[tuple[int, ...]] = Counter()
    nifti: bool | None = None
    for sample in cases:
        medical = volume(sample) or geometry(sample) is not None
        if nifti not in (None, medical):
            raise InputError(
                f"case '{sample.name}' is another kind of file than those before it; nnunet takes either NIfTI and "
                "volumes, or plain images"
            )
        nifti = medical
        if sample.name not in learned or not sample.rated.any():
            continue
        absent = [s for c, s in enumerate(structures) if not sample.rated[:, c].any()]
        if absent:
            raise InputError(
                f"nobody did '{absent[0]}' of case '{sample.name}' but others did other structures, which one label map "
                "cannot tell from no votes; expected every structure of a case, or export a data set of one structure"
            )
        found, counts = np.unique(levels_of(sample).reshape(len(structures), -1), axis=1, return_counts=True)
        pixels.update({tuple(way): int(n) for way, n in zip(found.T.tolist(), counts, strict=True)})
    if not pixels:
        raise InputError(
            f"no case of data set '{cases.name}' that may be learned from was rated; there are no votes"
        )
    ways = {way for way in pixels if any(way)}
    for c in range(len(structures)):
        top = max((way[c] for way in ways), default=0)
        if len(structures) == 1:
            ways |= {(k,) for k in range(1, raters + 1)}  # values are votes
        elif top < raters:  # a region of no value is none for nnU-Net
            ways.add(tuple(raters if other == c else 0 for other in range(len(structures))))
    if len(ways) > MOST_VALUES:
        raise InputError(
            f"votes of {', '.join(structures)} come together in {len(ways)} ways, and a label map has {MOST_VALUES} "
            "values; expected fewer structures: export one at a time"
        )
    return ".nii.gz" if nifti else ".png", sorted(ways, key=lambda way: (sum(way), way))


def _document(cases: Cases, ways: list[tuple[int, ...]], ending: str, trained: int) -> dict[str, Any]:
    raters = len(cases.task.raters)
    labels: dict[str, int | list[int]] = {"background": 0}
    order: list[int] = []
    regions: dict[str, list[str]] = {}
    for c, structure in enumerate(cases.task.structures):
        for k in range(1, raters + 1):
            inside = [number for number, way in enumerate(ways, start=1) if way[c] >= k]
            name = f"{cases.structure_files[structure]}_at_least_{k}"
            labels[name] = inside
            # what nnU-Net paints where a region is more than half sure; regions that hold others come first
            order.append(next((n for n in inside if ways[n - 1][c] == k), inside[0]))
            regions.setdefault(structure, []).append(name)
    channels = cases.channels or tuple(str(i) for i in range(cases.task.channels))
    return {
        "name": cases.name,
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels,
        "regions_class_order": order,
        "numTraining": trained,
        "file_ending": ending,
        VOTES: regions,
    }
