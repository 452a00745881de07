"""What a training begins with: under which settings, from whose cases; and those cases, at training size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mrprism.core.errors import InputError
from mrprism.datasets import Dataset
from mrprism.datasets.dataset import need_images
from mrprism.datasets.split import split_dataset
from mrprism.learn.bounds import fault_of
from mrprism.learn.cases import Cases, training_cases
from mrprism.learn.known_cases import marks_of
from mrprism.learn.methods.build import build_method
from mrprism.learn.patches import PlannedCases
from mrprism.learn.run import Run
from mrprism.learn.scaling import scaling_of
from mrprism.learn.settings import RunConfig, Select


@dataclass(frozen=True)
class Prepared:
    """All that is settled before the first step."""

    config: RunConfig
    cases: Cases  # learned from
    val: Cases  # chosen on


def prepare(dataset: Dataset, settings: Mapping[str, Any], select: Select | None) -> Prepared:
    """Split a data set, and read what is learned from and chosen on.

    Args:
        settings: Of `RunConfig`, but for what the data set says.
        select: As for `mrprism.train`.

    Raises:
        InputError: A setting is wrong, which is said before images are read; or an image is.
    """
    need_images(dataset, "training")
    if settings["slices"] is None and (settings["neighbours"] or settings["drawn_only"]):
        raise InputError("neighbours and drawn-only are for slices of volumes: say which by --slices")
    split = split_dataset(dataset, settings["split_seed"])
    place = dataset.place if dataset.decided else dataset.path
    whole = {
        **settings,
        **scaling_of(dataset),
        "task": dataset.task,
        "dataset": dataset.name,
        "dataset_path": None if place is None else str(place.resolve()),
        "reference": "decisions" if dataset.decided else "dataset",
        "train": split.train,
        "val": split.val,
        "test": split.test,
    }
    config = _config(whole, dataset_hash="", select="last")
    build_method(config.method, config.network_task, config.backbone, config.options)
    cases, val = _cases(dataset, config)
    images = {**cases.marks, **val.marks, **marks_of(dataset, split.test)}
    chosen = _select(select, val, config.schedule)
    config = _config(whole, dataset_hash=_hash(cases, val), select=chosen, images=images)
    return Prepared(config, cases, val)


def prepare_again(run: Run, dataset: Dataset) -> Prepared:
    """The same of a run that goes on.

    Raises:
        InputError: The data set lacks a case, or its cases have changed.
    """
    config = run.config
    missing = sorted({*config.train, *config.val} - set(dataset.names))
    if missing:
        raise InputError(
            f"data set '{dataset.name}' has no case '{missing[0]}', which {run.path} is trained on"
        )
    cases, val = _cases(dataset, config)
    if _hash(cases, val) != config.dataset_hash:
        raise InputError(f"the cases of data set '{dataset.name}' have changed since {run.path} was begun")
    return Prepared(config, cases, val)


def _cases(dataset: Dataset, config: RunConfig) -> tuple[Cases, Cases]:
    if config.plan is not None:
        return PlannedCases(dataset, config.train, config.plan), PlannedCases(
            dataset, config.val, config.plan
        )
    return (
        training_cases(dataset, config.train, config.size, config.slicing),
        training_cases(dataset, config.val, config.size, config.slicing),
    )


def _config(settings: Mapping[str, Any], **more: Any) -> RunConfig:
    try:
        return RunConfig(**settings, **more)
    except ValidationError as error:
        raise InputError(fault_of(error)) from error


def _select(select: Select | None, val: Cases, schedule: str) -> Select:
    lacking = val.lacking("reference")
    if select is None:
        if not len(val) or schedule == "cosine":
            return "last"
        return "val-consensus" if lacking else "val-reference"
    if select == "val-reference" and lacking:
        raise InputError(
            f"selecting by the reference needs one for every validation case; '{lacking[0]}' has none"
        )
    return select


def _hash(cases: Cases, val: Cases) -> str:
    return f"{cases.fingerprint()}{val.fingerprint()}"
