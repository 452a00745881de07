"""Rows of a comparison that were made elsewhere: the answers of any tool, scored as a run's are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mrprism import __version__
from mrprism.compare.answers import Answer, find_answers, read_answer
from mrprism.compare.candidates import OUTSIDE, Candidate
from mrprism.compare.plan import Plan
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import Dataset
from mrprism.images.slicing import Slicing, cut_volume, most_drawn, slice_of
from mrprism.metrics.examples import write_example
from mrprism.metrics.scores import Row, score, write_table
from mrprism.output.files import write_file
from mrprism.output.folders import replacing_folder

MOST_LETTERS = 60  # of a row's name


def outside(given: Sequence[str] | Mapping[str, str | Path]) -> dict[str, Path]:
    """Names and folders as `--with` gives them, NAME=FOLDER each.

    Raises:
        InputError: One has another form, a name twice, or a name that no row can have.
    """
    if isinstance(given, str):
        given = [given]
    pairs = list(given.items()) if isinstance(given, Mapping) else [_pair(word) for word in given]
    found: dict[str, Path] = {}
    for name, folder in pairs:
        if (
            not name.strip()
            or len(name) > MOST_LETTERS
            or any(c in name for c in "/\\\0\n")
            or name[0] == "."
        ):
            raise InputError(
                f"--with: '{name}' cannot be the name of a row; expected up to {MOST_LETTERS} letters, no slash, no dot "
                "in front"
            )
        if name.casefold() in {other.casefold() for other in found}:
            raise InputError(f"--with: '{name}' is given twice; expected another name for each row")
        found[name] = Path(folder)
    return found


def _pair(word: str) -> tuple[str, str]:
    name, equals, folder = word.partition("=")
    if not equals or not folder:
        raise InputError(f"--with: '{word}' should look like NAME=FOLDER, such as nnU-Net=predictions")
    return name, folder


def check_names(rows: Iterable[str], others: Sequence[Candidate]) -> None:
    """Refuse a row that would be called as a method of the comparison is.

    Raises:
        InputError: In one sentence.
    """
    taken = {candidate.label.casefold() for candidate in others if candidate.method != OUTSIDE}
    for name in rows:
        if name.casefold() in taken:
            raise InputError(f"--with: a row is called '{name}' already; expected another name")


def find_rows(rows: Mapping[str, Path], plan: Plan, dataset: Dataset) -> dict[str, dict[str, Answer]]:
    """The files of every row, before anything is trained.

    Raises:
        InputError: Something is missing.
    """
    return {
        name: find_answers(folder, name, plan.test, dataset.names, dataset.task)
        for name, folder in rows.items()
    }


@dataclass(frozen=True)
class Scored:
    """A row's scores, and the cases that pictures are made of; not yet on the disk."""

    name: str
    folder: Path
    rows: list[Row]
    shown: dict[int, tuple[MultiRaterSample, Prediction]]


def score_row(name: str, folder: Path, answers: Mapping[str, Answer], plan: Plan, dataset: Dataset) -> Scored:
    """Score a row on the test cases.

    Raises:
        InputError: An answer cannot be read or does not fit its case.
    """
    scored = Scored(name, folder, [], {})
    for case in plan.test:
        sample = dataset[case]
        prediction = read_answer(answers[case], sample, dataset.task.structures)
        scored.rows.extend(score(prediction, sample, dataset.task))
        if case in plan.shown:
            scored.shown[plan.shown.index(case)] = _in_plane(sample, prediction, plan)
    return scored


def keep_row(scored: Scored, plan: Plan, out: Path) -> None:
    """Write a row where runs lie, in the place of an older one of its name."""
    run = out / "runs" / Candidate(OUTSIDE, {"name": scored.name}).key / "seed0"
    run.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps(_about(scored.name, scored.folder, plan), indent=2)
    with replacing_folder(run) as new:
        write_table(scored.rows, new / "table.csv")
        write_file(new / "config.json", f"{about}\n")
        for number, (sample, prediction) in scored.shown.items():
            write_example(new / "shown" / "image" / f"{number}.npz", sample, prediction)


def _about(name: str, folder: Path, plan: Plan) -> dict[str, object]:
    return {
        "mrprism": __version__,
        "method": OUTSIDE,
        "options": {"name": name},
        "folder": str(folder.resolve()),
        "dataset": plan.dataset,
        "task": {
            "channels": plan.task.channels,
            "structures": list(plan.task.structures),
            "raters": list(plan.task.raters),
            "anonymous": plan.task.anonymous,
        },
        "test": list(plan.test),
        "seed": 0,
    }


def _in_plane(
    sample: MultiRaterSample, prediction: Prediction, plan: Plan
) -> tuple[MultiRaterSample, Prediction]:
    """A case and its answer as a picture shows them; of a volume the slice on which most is drawn."""
    if len(sample.space) == 2:
        return sample, Prediction(probability=prediction.probability)
    slicing = Slicing() if plan.budget.slices is None else Slicing(plan.budget.slices)
    cut = slicing.cut(sample)
    volume = cut_volume(sample, cut)
    index = most_drawn(volume)
    shown = replace(slice_of(volume, index), name=sample.name)
    return shown, Prediction(probability=np.ascontiguousarray(cut.of(prediction.probability)[:, index]))
