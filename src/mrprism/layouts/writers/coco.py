"""COCO: `coco/images`, and beside it one `RATER.json` for each rater, masks as run lengths.

A picture that is not in a rater's file was not done by them; a category without annotation is empty.
`mrprism import coco OUT/coco` reads it back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from mrprism.layouts.writers.cases import Cases, flat, whole
from mrprism.output.files import write_file


def write(cases: Cases, folder: Path) -> None:
    """The pictures and one file for each rater."""
    task = cases.task
    categories = [{"id": c + 1, "name": name} for c, name in enumerate(task.structures)]
    files: dict[str, dict[str, Any]] = {
        rater: {"images": [], "categories": categories, "annotations": []} for rater in task.raters
    }
    for number, sample in enumerate(cases, start=1):
        name = f"{cases.files[sample.name]}.png"
        cases.image(flat(sample, "coco"), folder / "coco" / "images" / name)
        height, width = sample.space
        for r, document in enumerate(files.values()):
            if not whole(sample, task, r, "coco"):
                continue
            document["images"].append({"id": number, "file_name": name, "height": height, "width": width})
            for c, mask in enumerate(sample.masks[r]):
                if mask.any():
                    where = {"id": len(document["annotations"]) + 1, "image_id": number}
                    document["annotations"].append({**where, "category_id": c + 1, **annotation(mask)})
    for rater, document in files.items():
        text = json.dumps(document, ensure_ascii=False) + "\n"
        write_file(folder / "coco" / f"{cases.rater_files[rater]}.json", text, durable=False)


def annotation(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """Run lengths down the columns, zeros first; box x, y, width, height and area in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask.ravel(order="F"))},
        "bbox": [int(value) for value in box],
        "area": int(mask.sum()),
        "iscrowd": 0,
    }


def run_lengths(values: Bool[np.ndarray, " n"]) -> list[int]:
    """How many in turn are off, on, off, ...; the first may be 0."""
    turns = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff(np.concatenate([[0], turns, [len(values)]])).tolist()
    return [0, *counts] if len(values) and values[0] else counts
