"""Drishti-GS1: optic disc and cup; how many of four experts marked each pixel, not who.

Forms: the original (`Drishti-GS1_files/{Training,Test}` with `SoftMap/*_{ODsegSoftmap,cupsegSoftmap}.png`,
grey 0, 64, 128, 191, 255 for 0 to 4 experts), and crops with `images`, `od_votes`, `oc_votes` (0 to 4)
and `meta.json`. Single experts cannot be recovered, so the votes are kept as votes; the reference is
what more than half (three of four) marked. Simulated raters can be laid over that reference.

Source: Sivaswamy et al., JSM Biomedical Imaging Data Papers 2(1), 2015. Research use.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.datasets.dataset import FileSample
from mrprism.datasets.tree import entries, matching, needed, subfolder
from mrprism.images import read_image, read_labels
from mrprism.layouts.fields import entry, of_kind
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import read_json
from mrprism.layouts.source import Source

VOTERS = 4
STRUCTURES = ("disc", "cup")
_SOFTMAP = np.full(256, -1, dtype=np.int16)
_SOFTMAP[[0, 64, 128, 191, 255]] = range(VOTERS + 1)


def read(source: Path, ledger: Ledger, *, raters: str | None = None, seed: int = 0) -> Source:
    """Read either form.

    Args:
        raters: A scenario of simulated raters (crowd, symmetric, ...) drawn over the reference;
            None for votes alone.
    """
    cases = _crops(source, ledger) if (source / "meta.json").is_file() else _original(source, ledger)
    task = Task(3, STRUCTURES, ())
    notes = ["votes of four experts; the files do not say which expert marked what"]
    if raters is None:
        return Source("drishti", task, cases, notes=notes, no_raters=True)
    from mrprism.datasets.overlay import lay_raters  # needs SciPy, which is slow to import

    task, samples = lay_raters(cases, task, raters, seed=seed)
    notes.append(f"raters are simulated: scenario {raters}, seed {seed}")
    return Source(f"drishti-{raters}", task, samples, notes=notes)


def _crops(root: Path, ledger: Ledger) -> Iterator[FileSample]:
    file = ledger.take(root / "meta.json")
    meta = of_kind(read_json(file), dict, f"'{file}'")
    splits = {name: entry(fact, "split", str, f"'{name}' in '{file}'") for name, fact in meta.items()}
    for match, path in matching(needed(root, "images"), r"(.+)\.png"):
        name = match[1]
        maps = [root / folder / f"{name}.png" for folder in ("od_votes", "oc_votes")]
        ledger.take_all([path, *maps])
        votes = [_votes(file, softmap=False) for file in maps]
        yield _sample(name, path, votes, splits.get(name, ""))


def _original(root: Path, ledger: Ledger) -> Iterator[FileSample]:
    root = subfolder(root, "Drishti-GS1_files") or root
    parts = [(split, subfolder(root, split)) for split in ("Training", "Test")]
    if all(folder is None for _, folder in parts):
        raise InputError(f"folder '{root}' has neither 'Training' nor 'Test'; expected Drishti-GS1's layout")
    for split, folder in parts:
        drawn = subfolder(folder, "GT", f"{split}_GT") if folder else None
        if folder is None:
            continue
        if drawn is None:
            ledger.know(folder, "a part that came without votes")
            ledger.note(f"'{ledger.named(folder)}' has no votes and was left out")
            continue
        images = needed(folder, "Images")
        images = subfolder(images, "ALL") or images
        for case in (p for p in entries(drawn) if p.is_dir()):
            maps = needed(case, "SoftMap")
            files = [maps / f"{case.name}_{part}.png" for part in ("ODsegSoftmap", "cupsegSoftmap")]
            path = images / f"{case.name}.png"
            ledger.take_all([path, *files])
            ledger.know(case / "AvgBoundary", "mean outlines of the experts")
            ledger.know(case / f"{case.name}_cdrValues.txt", "ratios that the experts gave")
            yield _sample(case.name, path, [_votes(file, softmap=True) for file in files], split)


def _votes(path: Path, softmap: bool) -> np.ndarray:
    values = read_labels(path).array
    if softmap:
        wrong = np.setdiff1d(values, np.flatnonzero(_SOFTMAP >= 0))
        if len(wrong):
            raise InputError(
                f"soft map '{path}' holds the grey value {wrong[0]}; expected 0, 64, 128, 191, 255"
            )
        values = _SOFTMAP[values]
    if values.max(initial=0) > VOTERS or values.min(initial=0) < 0:
        raise InputError(f"votes '{path}' reach {values.max()}; expected 0 to {VOTERS}")
    return values.astype(np.uint8)


def _sample(name: str, path: Path, votes: list[np.ndarray], split: str) -> FileSample:
    image = read_image(path).array
    for structure, count in zip(STRUCTURES, votes, strict=True):
        if count.shape != image.shape[1:]:
            raise InputError(
                f"{structure} votes of '{name}' have the size {count.shape}, "
                f"their image '{path}' {image.shape[1:]}"
            )
    counts = np.stack(votes)
    return FileSample(
        name=name,
        image=image,
        masks=np.zeros((0, len(STRUCTURES), *image.shape[1:]), dtype=bool),
        rated=np.zeros((0, len(STRUCTURES)), dtype=bool),
        reference=2 * counts > VOTERS,
        split={"training": "train", "test": "test"}.get(split.lower()),
        votes=counts,
        voters=VOTERS,
    )
