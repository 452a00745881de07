"""A run scored on cases of a data set, and a few of them kept for pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.rows import Rows
from mrprism.core.sample import Task
from mrprism.core.workers import On, Workers, in_order
from mrprism.datasets import Dataset, open_dataset
from mrprism.datasets.dataset import OWN_REFERENCE, need_images
from mrprism.learn.known_cases import split_of
from mrprism.learn.loaded import Loaded
from mrprism.learn.predictor import Predictor, load
from mrprism.learn.run import Run
from mrprism.learn.scaling import need_window
from mrprism.metrics.examples import write_example
from mrprism.metrics.scores import Row, pick_examples, score, write_table
from mrprism.output.files import remove_leftovers, write_file
from mrprism.output.folders import complete_set
from mrprism.output.lock import alone_in

RATERS_APART = "raters.json"  # how far apart a method has its raters


@alone_in("run")
def evaluate(
    run: str | Path | Run,
    dataset: Dataset | str | Path | None = None,
    *,
    split: str = "test",
    device: str | None = None,
    draws: int | None = None,
    metrics: Collection[str] | None = None,
    examples: int = 8,
    each: Callable[[int, int], None] | None = None,
    reference: str | None = None,
    jobs: int | None = None,
    on: On = "local",
) -> Rows[Row]:
    """Score a run on the cases of a split, at their own size, and keep the table in the run folder.

    `table.csv`, `examples/` and, of a method that knows raters apart, `raters.json` are for the test cases and change together; another split gets `table-SPLIT.csv`.
    A method that gives confidences and can fuse is also scored as a fusion of the cases' own masks,
    in rows that say they read "both".

    Args:
        dataset: Where the data are now; None: where they were.
        split: "test", "val", "train"; or "all" for every case of another data set, of which the run learned from none.
        draws: Outlines drawn of each case, by a method that draws; None: as many as the run was trained with.
        examples: How many cases to keep for pictures: best, median, worst, then spread evenly.
        each: Called after each case with how many are done, of how many.
        reference: Of a data set on disk: "dataset", the references it names; "decisions", what people settled in the
            viewer; None: as at training, or of another data set its own.
        jobs: How many cases at a time, each in a process of its own; None: one, or one for each core of a cluster.
        on: "local": processes of this machine; "ray": a Ray cluster.

    Raises:
        InputError: The data set is gone, lacks a case, or has other structures than the run; of split "all", the run
            learned from the image of a case, whatever it is called.
    """
    predictor = load(run, device, draws)
    run = predictor.run
    remove_leftovers(run.path)
    data = dataset_of(run, dataset, reference)
    names = data.names if split == "all" else _split(run, split)
    if split == "all" and data.name == run.config.dataset and not run.config.images:
        raise InputError(
            f"split 'all' is for another data set; {run.path} was trained on cases of '{data.name}'"
        )
    if not names:
        raise InputError(f"{run.path} has no cases in its split '{split}'")
    rows: Rows[Row] = Rows()
    task = _Scoring(Loaded(predictor), data, split == "all", metrics)
    with closing(in_order(task, names, Workers(jobs, on))) as scored:
        for done, found in enumerate(scored, 1):
            rows += found
            if each:
                each(done, len(names))
    table = {"test": "table.csv", "all": f"table-{_safe(data.name)}.csv"}.get(split, f"table-{split}.csv")
    if split != "test":
        write_table(rows, run.path / table)
        return rows
    older = ("table.csv", "examples", RATERS_APART)
    with complete_set(run.path, "evaluation", older, last=("table.csv",), known=True) as new:
        write_table(rows, new / table)
        if (distances := getattr(predictor.method, "rater_distances", None)) is not None:
            apart = {"raters": run.config.task.raters, "distances": distances().tolist()}
            write_file(new / RATERS_APART, json.dumps(apart) + "\n")
        if examples:
            _keep_examples(predictor, data, _spread(names, rows, examples), new / "examples")
    return rows


@dataclass(frozen=True)
class _Scoring:
    """What all cases have in common; called with the name of one, its rows."""

    loaded: Loaded
    data: Dataset
    unseen: bool  # the run must have learned from none
    metrics: Collection[str] | None

    def __call__(self, name: str) -> list[Row]:
        predictor, data = self.loaded.predictor, self.data
        run, sample = predictor.run, data[name]
        if self.unseen and split_of(run.config, image=sample.image) in ("train", "val"):
            raise InputError(
                f"split 'all' is for cases that {run.path} never saw; it learned from the image of case '{name}' of "
                f"'{data.name}'. Score its own test cases (split 'test'), or leave such cases out of the data set"
            )
        said = predictor.predict(sample, on_disk=True)
        prediction = _without_others(said, data.task, run.config.task)
        reads = predictor.method.reads
        rows = list(score(prediction, sample, data.task, reads=reads, metrics=self.metrics))
        fused = predictor.fuse(sample, on_disk=True, said=said) if sample.rated.any(0).all() else None
        if fused is not None:
            rows += score(fused, sample, data.task, reads="both", metrics=self.metrics)
        return rows


def dataset_of(run: Run, dataset: Dataset | str | Path | None, reference: str | None = None) -> Dataset:
    """The data set a run was trained on, or another of the same structures.

    Raises:
        InputError: It is not where it was, or has other structures.
    """
    if dataset is None:
        if run.config.dataset_path is None:
            raise InputError(f"{run.path} was trained on data given from Python: say which data set to use")
        dataset = run.config.dataset_path
    if isinstance(dataset, Dataset):
        if reference is not None:
            raise InputError(
                "reference is for a data set on disk; open this one with the reference that is meant"
            )
        data = dataset
    else:
        data = open_dataset(dataset, reference=reference or OWN_REFERENCE)
        if reference is None and data.name == run.config.dataset and run.config.reference != OWN_REFERENCE:
            data = open_dataset(dataset, reference=run.config.reference)
    if data.task.structures != run.config.task.structures:
        raise InputError(
            f"data set '{data.name}' has the structures {', '.join(data.task.structures)}; "
            f"{run.path} outlines {', '.join(run.config.task.structures)}"
        )
    need_images(data, "predicting")
    need_window(data, run.config)
    return data


def _split(run: Run, split: str) -> tuple[str, ...]:
    if split not in ("train", "val", "test"):
        raise InputError(f"there is no split '{split}'; known: train, val, test, all")
    names: tuple[str, ...] = getattr(run.config, split)
    return names


def _without_others(prediction: Prediction, data: Task, run: Task) -> Prediction:
    """Raters of another data set are other people: what was learned about ours says nothing of them."""
    return (
        prediction
        if data.raters == run.raters
        else replace(prediction, raters=None, confidence=None, weights=None)
    )


def _keep_examples(predictor: Predictor, data: Dataset, names: Sequence[str], folder: Path) -> None:
    for number, name in enumerate(names):
        picture = predictor.picture(data[name])
        write_example(folder / f"{number}-{_safe(name)}.npz", picture.shown, picture.prediction)


def _spread(names: Sequence[str], rows: Sequence[Row], count: int) -> list[str]:
    """Best, median and worst first, then others evenly over the order of the cases."""
    picked = list(pick_examples(rows).values())[:count]
    others = [name for name in names if name not in picked]
    left = min(count - len(picked), len(others))
    return picked + [others[round(i)] for i in np.linspace(0, len(others) - 1, left)]


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
