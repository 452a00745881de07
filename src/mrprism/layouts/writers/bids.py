"""BIDS derivatives: `sub-CASE/anat/sub-CASE_label-STRUCTURE_desc-RATER_mask.nii.gz`.

BIDS names hold letters and digits only; `manifest.json` and the side file of each mask give the whole
names. Images belong to the raw data set, so they are not written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from mrprism import __version__
from mrprism.layouts.writers.cases import Cases, mask_file
from mrprism.output.files import write_file


def write(cases: Cases, folder: Path) -> None:
    """Masks, a side file for each, and the description of the derivative."""
    about = {
        "Name": cases.name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mrprism", "Version": __version__}],
    }
    write_file(folder / "dataset_description.json", _json(about), durable=False)
    subjects = labels(cases.names)
    raters, structures = labels(cases.task.raters), labels(cases.task.structures)
    rows = ["desc_id\tdescription"]
    rows += [
        f"{raters[rater]}\t{'consensus by' if cases.fused else 'drawn by'} {_plain(rater)}"
        for rater in cases.task.raters
    ]
    write_file(folder / "descriptions.tsv", "\n".join(rows) + "\n", durable=False)
    for sample in cases:
        subject = f"sub-{subjects[sample.name]}"
        for r, rater in enumerate(cases.task.raters):
            for c, structure in enumerate(cases.task.structures):
                if not sample.rated[r, c]:
                    continue
                stem = f"{subject}_label-{structures[structure]}_desc-{raters[rater]}_mask"
                mask_file(folder / subject / "anat" / f"{stem}.nii.gz", sample.masks[r, c], sample)
                side = {"Type": "ROI", "Manual": not cases.fused, "Case": sample.name}
                side |= {"Structure": structure, "Rater": rater}
                write_file(folder / subject / "anat" / f"{stem}.json", _json(side), durable=False)


def labels(names: Iterable[str]) -> dict[str, str]:
    """Distinct names of letters and digits only."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]", "", name) or "unnamed"
        label, number = plain, 1
        while label.lower() in {other.lower() for other in found.values()}:
            number += 1
            label = f"{plain}x{number}"
        found[name] = label
    return found


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _json(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
