"""Calls from Python for what a command does in several steps; the command line uses the same ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mrprism.core import given
from mrprism.core.errors import InputError, unknown
from mrprism.core.workers import On, Workers
from mrprism.output.lock import named

if TYPE_CHECKING:
    from mrprism.agreement import Agreement, Cases
    from mrprism.datasets import Dataset
    from mrprism.datasets.check import Check
    from mrprism.layouts.importing import Imported
    from mrprism.layouts.writers import Exported
    from mrprism.learn.run import Run
    from mrprism.learn.to_hf import ExportedModel
    from mrprism.learn.to_onnx import ExportedNetwork

AnyPath = str | os.PathLike[str]


def opened(dataset: Dataset | AnyPath) -> Dataset:
    """A data set that is open, or the one at a path.

    Raises:
        InputError: It cannot be opened, or is neither.
    """
    from mrprism.datasets import Dataset, open_dataset

    if isinstance(dataset, Dataset):
        return dataset
    return open_dataset(given.path(dataset, "a data set, or the path of one"))


def referenced(dataset: Dataset | AnyPath, reference: str) -> Dataset:
    """A data set with the references that are asked for: "dataset", its own, or "decisions".

    Raises:
        InputError: It cannot be opened, is in memory and has no decisions, or nothing is settled.
    """
    from mrprism.datasets import Dataset, open_dataset

    if not isinstance(dataset, Dataset):
        return open_dataset(os.fspath(dataset), reference=reference)
    if reference == "dataset" or dataset.decided:
        return dataset
    if dataset.place is None:
        raise InputError(
            f"data set '{dataset.name}' is in memory; decisions lie beside the masks of one on disk"
        )
    return open_dataset(dataset.place, reference=reference).subset(dataset.names)


def import_dataset(
    kind: str,
    src: AnyPath,
    out: AnyPath | None,
    *,
    name: str | None = None,
    strict: bool = False,
    dry_run: bool = False,
    jobs: int | None = None,
    on: On = "local",
    **options: Any,
) -> Imported:
    """Turn a published data set or a tool's export into a mrprism data set.

    Args:
        kind: The layout, one of `DATASETS`.
        out: A new folder, or a `dataset.json` beside files that can stay where they are.
        strict: Refuse the whole where anything that may be a rater's work would be left out.
        dry_run: Read everything and write nothing.
        jobs, on: As for `agree`.
        options: Of the layout, as `-o` of the command; `labels="disc:1+2,cup:2"`, say.

    Returns:
        `dataset`, what was written, and `ledger`, what became of everything that was seen.

    Raises:
        InputError: Something does not fit; nothing is left behind.
    """
    from mrprism.layouts.importing import import_dataset

    place = None if out is None else named(out)
    source = given.path(src, "the path of what is imported")
    return import_dataset(
        kind,
        source,
        place,
        options=options,
        name=name,
        strict=strict,
        dry_run=dry_run,
        workers=Workers(jobs, on),
    )


def check_dataset(
    dataset: Dataset | AnyPath,
    out: AnyPath | None = None,
    *,
    jobs: int | None = None,
    on: On = "local",
    each: Callable[[int, int], None] = lambda done, count: None,
) -> Check:
    """Read every file of a data set and say all that is wrong or suspicious.

    Args:
        dataset: On disk, where its files are.
        out: Also write all of it as a page.
        jobs, on, each: As for `agree`.

    Raises:
        InputError: There is no data set at all at this path.
    """
    from mrprism.datasets import Dataset
    from mrprism.datasets.check import check_dataset
    from mrprism.output.files import write_file
    from mrprism.output.lock import alone

    what = "a data set, or the path of one"
    place = dataset.path or dataset.root if isinstance(dataset, Dataset) else given.path(dataset, what)
    if place is None:
        raise InputError("a check reads files, and this data set is in memory; write_dataset puts it on disk")
    with nullcontext() if out is None else alone(out):
        check = check_dataset(place, workers=Workers(jobs, on), each=each)
        if out is not None:
            write_file(named(out), check.as_html())
    return check


def agree(
    dataset: Cases | AnyPath,
    out: AnyPath | None = None,
    *,
    candidates: Sequence[AnyPath] = (),
    seed: int = 0,
    resamples: int = 1000,
    margin: float = 0.05,
    distances: bool = True,
    pictures: int = 6,
    with_training_cases: bool = False,
    reference: str | None = None,
    outline: bool = False,
    jobs: int | None = None,
    on: On = "local",
    each: Callable[[int, int], None] = lambda done, count: None,
) -> Agreement:
    """Measure how much the raters of a data set differ.

    Args:
        dataset: A data set or its path.
        out: Folder for the page, the tables as CSV, and JSON; None: nothing is written.
        candidates: A model's masks of the same cases: a folder, or a data set with one rater.
        seed: Of the bootstrap; equal seeds give equal intervals.
        resamples: How many times the patients are drawn again. 0: no intervals.
        margin: How much lower a mean Dice is still within the readers' spread.
        distances: Also HD95, which takes most of the time.
        pictures: How many of the cases people most disagree on are shown on the page.
        with_training_cases: Judge a model also on cases that it was trained or chosen on.
        reference: Also hold each rater against the references: "dataset", those its `dataset.json` names; "decisions",
            what people settled in the viewer.
        outline: Also how far outside the others' outline each rater draws, and how steadily
            (`mrprism.fusion.outline_table`); nothing if raters are anonymous.
        jobs: How many cases at a time, each in a process of its own; None: one, or one for each core of a cluster.
        on: "local": processes of this machine; "ray": a Ray cluster.
        each: Called with the number of cases done and of all.

    Raises:
        InputError: The data set is empty, no case was outlined by two raters, or none has the reference asked for.
    """
    from mrprism.agreement import Cases, within_spread
    from mrprism.agreement import agree as measure
    from mrprism.agreement.against import against_reference
    from mrprism.agreement.candidate import candidate_masks
    from mrprism.agreement.write import write_agreement

    places = given.paths(candidates, "a model's folders")
    seed, resamples = given.whole(seed, "seed"), given.whole(resamples, "resamples")
    pictures, margin = given.whole(pictures, "pictures"), given.number(margin, "margin")
    data: Any = dataset if isinstance(dataset, Cases) else opened(dataset)
    workers = Workers(jobs, on)
    against = () if reference is None else against_reference(referenced(data, reference))
    if out is not None and named(out).exists() and not named(out).is_dir():
        raise InputError(f"'{out}' is a file; expected a folder to write to")
    models = [(path, candidate_masks(path, data, with_training_cases=with_training_cases)) for path in places]
    found = measure(
        data,
        seed=seed,
        resamples=resamples,
        margin=margin,
        distances=distances,
        workers=workers,
        each=lambda done: each(done, len(data)),
    )
    found = replace(found, against=against)
    if outline:
        found = replace(found, outlines=outlines_of(data, found, resamples, seed, workers))
    tests = [
        test
        for path, masks in models
        for test in within_spread(
            data, masks, margin=margin, seed=seed, resamples=resamples, name=path.resolve().name
        )
    ]
    if out is not None:
        write_agreement(found, data, Path(out), candidates=tests, pictures=pictures)
    return replace(found, candidates=tuple(tests))


def outlines_of(
    data: Any, found: Agreement, resamples: int, seed: int, workers: Workers
) -> tuple[dict[str, Any], ...]:
    """How each rater draws beside the others: the rows of the outline model, and each in words."""
    from mrprism.fusion.outline_table import outline_rows, tell

    groups = [patient or name for patient, name in zip(found.patients, found.cases, strict=True)]
    rows = outline_rows(data, found.task, groups, resamples=resamples, seed=seed, workers=workers)
    return tuple({**asdict(row), "draws": tell(row)} for row in rows)


def export(
    source: Dataset | Run | AnyPath,
    to: str,
    out: AnyPath,
    *,
    raters: str = "each",
    soft: bool = False,
    labels: str = "masks",
    split_seed: int = 0,
    licence: str = "",
) -> Exported | ExportedNetwork | ExportedModel:
    """Hand on masks, every rater's own or one consensus, to other tools; or a run as ONNX or for a hub of models.

    Args:
        source: A data set or its path; for "onnx" and "hf" a run or its folder.
        to: "nnunet", "bids", "nifti", "png", "tiff", "seg-nrrd", "coco", "dicom-seg", "onnx" or "hf".
        out: A folder that does not exist or is empty.
        raters: "each", or the name of a fusion.
        soft: For nnunet and a fusion: its probabilities, too.
        labels: "masks"; or for nnunet "votes": how many raters mark a pixel, as ordered regions.
        split_seed: With votes: of the split, as `compare` draws it where the data set does not fix one.
        licence: For hf: under which the model may be used, such as "cc-by-4.0".

    Raises:
        InputError: An unknown target or fusion, a folder that holds something, or masks the layout cannot hold.
    """
    from mrprism.layouts.writers import TARGETS, export_dataset

    if licence and to != "hf":
        raise InputError(f"--licence belongs to a model that is handed on with --to hf, not to {to}")
    if to == "hf":
        if raters != "each" or soft or labels != "masks":
            raise InputError("--raters, --soft and --labels belong to masks; hf hands on a run")
        from mrprism.learn.to_hf import export_model

        return export_model(source, out, licence=licence)  # type: ignore[arg-type]
    if to == "onnx":
        if raters != "each" or soft or labels != "masks":
            raise InputError(
                "--raters, --soft and --labels belong to masks; onnx hands on the network of a run"
            )
        from mrprism.learn.to_onnx import export_network

        return export_network(source, out)  # type: ignore[arg-type]
    if to not in TARGETS:
        raise unknown("target", to, [*TARGETS, "onnx", "hf"])
    return export_dataset(
        opened(source),  # type: ignore[arg-type]
        to,
        named(out),
        raters=raters,
        soft=soft,
        labels=labels,
        split_seed=split_seed,
    )


def view(
    source: Dataset | Run | AnyPath,
    *,
    dataset: Dataset | AnyPath | None = None,
    port: int | None = None,
    browser: bool = True,
    device: str | None = None,
    adjudicate: bool = False,
    who: str | None = None,
    blind: bool = False,
    host: str | None = None,
) -> None:
    """Show cases in the browser until interrupted; a data set in memory is shown from a temporary folder.

    Args:
        source: A data set or its path, or a run or its folder.
        dataset: Of a run: where its data set is, if not where it was at training.
        port: None: the usual one, or any that is free.
        device: Of a run: "cpu", "cuda"; None: a GPU if there is one.
        adjudicate: Disputed cases can be settled; what is decided is kept in the data set's folder `decisions`.
        who: The name of whoever decides.
        blind: Raters are called A, B, C, in another order for each case.
        host: An address of this machine at which others can come, too, with the key; None: nobody else.

    Raises:
        InputError: Nothing can be shown there, the port is taken, or decisions cannot be kept there.
    """
    from mrprism.datasets import Dataset
    from mrprism.datasets.keep import keep_dataset
    from mrprism.viewer.desk import Desk
    from mrprism.viewer.server import serve
    from mrprism.viewer.view import View

    port = None if port is None else given.whole(port, "port")
    if adjudicate != (who is not None):
        raise InputError(
            "--adjudicate needs the name of whoever decides, by --as NAME, and --as needs --adjudicate"
        )
    seed = f"{who or ''}" if blind else None

    def show(shown: View) -> None:
        desk = None if who is None else Desk(shown, who)
        serve(shown, port=port, browser=browser, desk=desk, host=host)

    if _is_run(source):
        from mrprism.learn.evaluate import dataset_of
        from mrprism.learn.predictor import load

        predictor = load(source, device)  # type: ignore[arg-type]
        config = predictor.run.config
        shown = dataset_of(predictor.run, dataset)  # type: ignore[arg-type]
        splits = {name: split for split in ("train", "val", "test") for name in getattr(config, split)}
        show(View(shown, f"{config.method} on {shown.name}", predictor, splits, blind=seed))
        return
    if dataset is not None or device is not None:
        raise InputError(f"dataset and device belong to a run, and '{source}' is none: it has no config.json")
    shown = opened(source)  # type: ignore[arg-type]
    if isinstance(source, Dataset) and shown.root is None:
        if adjudicate:
            raise InputError(
                "this data set is in memory, where decisions would be lost; write_dataset puts it on disk"
            )
        with TemporaryDirectory() as folder:
            shown = keep_dataset(shown, Path(folder, "data"))
            show(View(shown, shown.name, blind=seed))
        return
    show(View(shown, shown.name, blind=seed))


def _is_run(source: object) -> bool:
    if isinstance(source, str | os.PathLike):
        return Path(source, "config.json").is_file()
    return hasattr(source, "config") and hasattr(source, "path")
