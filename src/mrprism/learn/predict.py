"""A run and images in, predictions out, at each image's own size."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrprism import __version__
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.core.types import Image
from mrprism.datasets import Dataset, FileSample, open_dataset
from mrprism.datasets.dataset import need_images
from mrprism.datasets.dicom import dicom_files
from mrprism.datasets.open_image import is_series, open_image
from mrprism.images import ImageFile, Window, format_of, write_mask, write_probability
from mrprism.images.planes import Stack
from mrprism.images.slicing import Slicing, cut_volume, most_drawn, slice_of
from mrprism.learn.batch import Batch
from mrprism.learn.finite import check_answer
from mrprism.learn.loading import collate, resize, resize_sample
from mrprism.learn.methods.method import Method
from mrprism.learn.run import Run, check_device, load_method, out_of_memory
from mrprism.metrics.scores import Row, pick_examples, score, write_example, write_table
from mrprism.output.files import remove_leftovers, write_file

MAPS = ("probability", "raters", "confidence", "draws", "steps")  # fields of a Prediction with pixel axes


@dataclass(frozen=True)
class Predictor:
    """A run's method, ready to predict."""

    run: Run
    method: Method

    @property
    def task(self) -> Task:
        return self.run.config.task

    @property
    def slicing(self) -> Slicing:
        """How a volume is cut: as in training; along its file's z for a run on images."""
        return self.run.config.slicing or Slicing()

    def predict(self, case: Image | ImageFile | MultiRaterSample, *, on_disk: bool = False) -> Prediction:
        """Predict one case; the answer is NumPy arrays of the case's own height and width.

        Args:
            case: An image (channel, H, W) with intensities in [0, 1], an image file as `mrprism.images`
                reads it, or a sample. A volume (channel, D, H, W) is predicted slice by slice, as the run
                was trained. Masks of a sample are looked at only by a method that reads masks.
            on_disk: The maps of a volume stay in temporary files, as `mrprism.images.planes.Stack`: they are
                many times larger than the volume.

        Raises:
            InputError: The image has other channels than the run was trained on, or wrong values.
        """
        sample = case if isinstance(case, MultiRaterSample) else self._bare(case)
        _check_image(sample, self.task)
        if len(sample.space) == 3:
            prediction = self._stacked(sample, self._plane)
            return prediction if on_disk else _in_memory(prediction)
        return self._plane(self._alone(sample))

    def predict_slice(self, volume: MultiRaterSample, index: int) -> Prediction:
        """Predict one slice of a volume, which `cut_volume` has turned as `slicing` says.

        Raises:
            InputError: The volume has other channels than the run was trained on, or wrong values.
        """
        _check_image(slice_of(volume, index), self.task)
        return self._plane(slice_of(volume, index, self.slicing))

    def fuse(self, sample: MultiRaterSample, *, on_disk: bool = False) -> Prediction | None:
        """The sample's own masks, fused by the confidence that was learned; None if the method cannot.

        Done at training size and brought back, so on large images a little of the outline is lost.
        """
        if getattr(self.method, "fuse_given", None) is None:
            return None
        if len(sample.space) == 3:
            fused = self._stacked(sample, self._fuse_plane)
            return fused if on_disk else _in_memory(fused)
        return self._fuse_plane(self._alone(sample))

    def picture(self, sample: MultiRaterSample) -> Picture:
        """A case and what is said of it in the plane; of a volume the slice on which most is drawn."""
        if len(sample.space) == 2:
            shown = seen = self._alone(sample)
        else:
            volume = cut_volume(sample, self.slicing.cut(sample))
            index = most_drawn(volume)
            seen, shown = slice_of(volume, index, self.slicing), slice_of(volume, index)
            shown = replace(shown, name=sample.name)
        fused = None
        if sample.rated.any(0).all() and getattr(self.method, "fuse_given", None) is not None:
            fused = self._fuse_plane(seen)
        return Picture(shown, seen, self._plane(seen), fused)

    def _stacked(self, sample: MultiRaterSample, of: Callable[[MultiRaterSample], Prediction]) -> Prediction:
        """What is said of each slice of a volume, put together; every slice once, so nothing overlaps."""
        cut = self.slicing.cut(sample)
        volume = cut_volume(sample, cut)
        maps: dict[str, Stack] = {}
        for index in range(volume.space[0]):
            plane = of(slice_of(volume, index, self.slicing))
            for name, array in _named_maps(plane):
                if name in maps:
                    maps[name].append(array)
                else:
                    maps[name] = Stack(array, cut)
        steps = tuple(stack for name, stack in maps.items() if name.startswith("steps"))
        return Prediction(**{name: maps.get(name) for name in MAPS if name != "steps"}, steps=steps)

    def _alone(self, sample: MultiRaterSample) -> MultiRaterSample:
        """An image, if the network can do without neighbours."""
        if self.slicing.neighbours:
            raise InputError(
                f"'{sample.name}' is an image, but {self.run.path} was trained on slices with "
                f"{self.slicing.neighbours} neighbours on each side; expected a volume"
            )
        return sample

    def _fuse_plane(self, sample: MultiRaterSample) -> Prediction:
        fuse_given: Callable[[Batch], Tensor] = self.method.fuse_given  # type: ignore[assignment]
        resized = resize_sample(sample, self.run.config.size)
        with torch.inference_mode():
            fused = fuse_given(collate([resized], device=self.method.device).only("both"))
        case = Prediction(probability=_sized(fused[0], *sample.space).cpu().numpy())
        check_answer(case, sample.name, self.run.config.method)
        return case

    def _plane(self, sample: MultiRaterSample) -> Prediction:
        height, width = sample.space
        as_it_is = self.method.reads == "masks" and not any(True for _ in self.method.parameters())
        resized = sample if as_it_is else resize_sample(sample, self.run.config.size)
        # in float32 always: bf16 holds no calibrated probability near 0 and 1
        with torch.inference_mode(), _memory_hint(sample, self.method.device):
            batch = collate([resized], device=self.method.device).only(self.method.reads)
            torch.manual_seed(0)  # methods that draw samples give the same ones for the same image
            prediction = self.method.predict(batch)
            maps = {name: _sized(getattr(prediction, name), height, width) for name in MAPS}
            (case,) = replace(prediction, **maps).cases()
        check_answer(case, sample.name, self.run.config.method)
        return case

    def _bare(self, image: np.ndarray | ImageFile) -> MultiRaterSample:
        array = image.array if isinstance(image, ImageFile) else image
        if array.ndim not in (3, 4):
            raise InputError(f"an image has the axes (channel, H, W); this one has the shape {array.shape}")
        grey = isinstance(image, ImageFile) and all(np.array_equal(array[0], other) for other in array[1:])
        if grey and self.task.channels == 1:
            array = array[:1]  # grey saved as colour
        raters, structures = len(self.task.raters), len(self.task.structures)
        return FileSample(
            name=str(image.path) if isinstance(image, ImageFile) else "image",
            image=np.asarray(array, np.float32),
            masks=np.zeros((raters, structures, *array.shape[1:]), bool),
            rated=np.zeros((raters, structures), bool),
            geometry=image.geometry if isinstance(image, ImageFile) else None,
        )


@dataclass(frozen=True)
class Picture:
    """One plane of a case, and what a method says of it."""

    shown: MultiRaterSample  # as a reader sees it
    seen: MultiRaterSample  # as the network sees it: a slice's neighbours are channels
    prediction: Prediction
    fused: Prediction | None  # the case's own masks, fused by what was learned


def load(run: str | Path | Run, device: str | None = None) -> Predictor:
    """Load a run for predicting.

    Args:
        device: "cpu", "cuda"; None: a GPU if there is one.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return Predictor(run, load_method(run, device))


def evaluate(
    run: str | Path | Run,
    dataset: Dataset | str | Path | None = None,
    *,
    split: str = "test",
    device: str | None = None,
    metrics: Collection[str] | None = None,
    examples: int = 8,
    each: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Score a run on the cases of a split, at their own size, and keep the table in the run folder.

    `table.csv` and `examples/` are for the test cases; another split gets `table-SPLIT.csv`.
    A method that gives confidences and can fuse is also scored as a fusion of the cases' own masks,
    in rows that say they read "both".

    Args:
        dataset: Where the data are now; None: where they were.
        split: "test", "val", "train"; or "all" for every case of another data set.
        examples: How many cases to keep for pictures: best, median, worst, then spread evenly.
        each: Called after each case with how many are done, of how many.

    Raises:
        InputError: The data set is gone, lacks a case, or has other structures than the run.
    """
    predictor = load(run, device)
    run = predictor.run
    remove_leftovers(run.path)
    data = dataset_of(run, dataset)
    names = data.names if split == "all" else _split(run, split)
    if split == "all" and data.name == run.config.dataset:
        raise InputError(
            f"split 'all' is for another data set; {run.path} was trained on cases of '{data.name}'"
        )
    if not names:
        raise InputError(f"{run.path} has no cases in its split '{split}'")
    rows: list[Row] = []
    for done, name in enumerate(names, 1):
        sample = data[name]
        prediction = _without_others(predictor.predict(sample, on_disk=True), data.task, run.config.task)
        rows += score(prediction, sample, data.task, reads=predictor.method.reads, metrics=metrics)
        fused = predictor.fuse(sample, on_disk=True) if sample.rated.any(0).all() else None
        if fused is not None:
            rows += score(fused, sample, data.task, reads="both", metrics=metrics)
        if each:
            each(done, len(names))
    table = {"test": "table.csv", "all": f"table-{_safe(data.name)}.csv"}.get(split, f"table-{split}.csv")
    write_table(rows, run.path / table)
    if split == "test" and examples:
        _keep_examples(predictor, data, rows, _spread(names, rows, examples))
    return rows


def predict_files(
    run: str | Path | Run | Predictor,
    files: Iterable[str | Path],
    out: str | Path,
    *,
    window: Window | None = None,
    device: str | None = None,
    each: Callable[[Path, bool], None] | None = None,
) -> list[Path]:
    """Outline images: a folder for each, in the image's size, geometry and format.

    A folder holds for each structure `probability_*` and `mask_*` (above 0.5), and where the method
    gives them `raters/` (each rater's predicted mask), `confidence/` (in each rater), `recurrences/`
    and `draws/`. PNG and JPEG give PNG: masks 0 and 255, probabilities 16 bit with 65535 for 1. TIFF
    gives TIFF and NIfTI, NRRD and DICOM give NIfTI, probabilities as float32. `prediction.json` says which
    run and image it came from.

    Volumes are predicted slice by slice into temporary files, and written from there. Folders appear
    whole or not at all. An image already predicted by these weights is skipped.

    Args:
        files: Images, folders of images, or folders that each hold a DICOM series.
        window: The file values that become 0 and 1; unless told the window of the data set that the run
            was trained on, where its manifest has one.
        each: Called after each image with its folder, and whether it was skipped.

    Returns:
        The folder of each image.

    Raises:
        InputError: No image, two images of one name, an unreadable image; what is done stays.
    """
    predictor = run if isinstance(run, Predictor) else load(run, device)
    if predictor.method.reads != "image":
        name = predictor.run.config.method
        raise InputError(f"method '{name}' reads masks and cannot outline images alone: use mrprism fuse")
    images, out = list(_images(files)), Path(out)
    folders: dict[str, Path] = {}
    for file in images:
        stem = _stem(file)
        if stem in folders:
            both = f"{folders[stem]} and {file}"
            raise InputError(f"{both} would be written to one folder, {out / stem}: predict them apart")
        folders[stem] = file
    weights = hashlib.sha256(predictor.run.weights_file.read_bytes()).hexdigest()
    window = window or predictor.run.config.window
    for stem, file in folders.items():
        folder = out / stem
        skip = _finished(folder, weights, file, window)
        if not skip:
            _predict_file(predictor, file, folder, weights, window)
        if each:
            each(folder, skip)
    return [out / stem for stem in folders]


def _predict_file(
    predictor: Predictor, file: Path, folder: Path, weights: str, window: Window | None
) -> None:
    image = open_image(file, window=window)
    prediction = predictor.predict(image, on_disk=True)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    about = {
        "mrprism": __version__,
        "run": str(predictor.run.path),
        "weights_sha256": weights,
        "image": file.name,
        "image_sha256": _sha256(file),
        "window": window,
        "structures": predictor.task.structures,
        "raters": predictor.task.raters,
        "recurrences": len(prediction.steps),
        "probability": "0 to 65535 in PNG, 0 to 1 elsewhere; a mask is above half",
    }
    try:
        _write_maps(part, prediction, predictor.task, image, _suffix(image))
        write_file(part / "prediction.json", json.dumps(about, indent=2).encode() + b"\n")
        if folder.exists():
            shutil.rmtree(folder)  # an answer of other weights or for another image, as was seen before
        os.replace(part, folder)
    except OSError as error:
        raise InputError(f"cannot write '{folder}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_maps(folder: Path, prediction: Prediction, task: Task, image: ImageFile, suffix: str) -> None:
    def probability(name: str, array: np.ndarray) -> None:
        write_probability(folder / f"{name}{suffix}", array, like=image, spacing_mm=image.spacing_mm)

    def mask(name: str, array: np.ndarray) -> None:
        write_mask(folder / f"{name}{suffix}", array > 0.5, like=image, spacing_mm=image.spacing_mm)

    structures, raters = _file_names(task.structures), _file_names(task.raters)
    for c, structure in enumerate(structures):
        probability(f"probability_{structure}", prediction.probability[c])
        mask(f"mask_{structure}", prediction.probability[c])
        for r, rater in enumerate(raters):
            if prediction.raters is not None:
                mask(f"raters/{rater}_{structure}", prediction.raters[r, c])
            if prediction.confidence is not None:
                probability(f"confidence/{rater}_{structure}", prediction.confidence[r, c])
        for i, step in enumerate(prediction.steps):
            probability(f"recurrences/rec{i}_{structure}", step[c])
        for i, draw in enumerate(() if prediction.draws is None else prediction.draws):
            probability(f"draws/draw{i}_{structure}", draw[c])


def _keep_examples(predictor: Predictor, data: Dataset, rows: Sequence[Row], names: Sequence[str]) -> None:
    folder = predictor.run.examples
    shutil.rmtree(folder, ignore_errors=True)
    for number, name in enumerate(names):
        picture = predictor.picture(data[name])
        write_example(folder / f"{number}-{_safe(name)}.npz", picture.shown, picture.prediction)


def _spread(names: Sequence[str], rows: Sequence[Row], count: int) -> list[str]:
    """Best, median and worst first, then others evenly over the order of the cases."""
    picked = list(pick_examples(rows).values())[:count]
    others = [name for name in names if name not in picked]
    left = min(count - len(picked), len(others))
    return picked + [others[round(i)] for i in np.linspace(0, len(others) - 1, left)]


def dataset_of(run: Run, dataset: Dataset | str | Path | None) -> Dataset:
    """The data set a run was trained on, or another of the same structures.

    Raises:
        InputError: It is not where it was, or has other structures.
    """
    if dataset is None:
        if run.config.dataset_path is None:
            raise InputError(f"{run.path} was trained on data given from Python: say which data set to use")
        dataset = run.config.dataset_path
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if data.task.structures != run.config.task.structures:
        raise InputError(
            f"data set '{data.name}' has the structures {', '.join(data.task.structures)}; "
            f"{run.path} outlines {', '.join(run.config.task.structures)}"
        )
    need_images(data, "predicting")
    return data


def _split(run: Run, split: str) -> tuple[str, ...]:
    if split not in ("train", "val", "test"):
        raise InputError(f"there is no split '{split}'; known: train, val, test, all")
    names: tuple[str, ...] = getattr(run.config, split)
    return names


def _without_others(prediction: Prediction, data: Task, run: Task) -> Prediction:
    """Raters of another data set are other people: what was learned about ours says nothing of them."""
    return prediction if data.raters == run.raters else replace(prediction, raters=None, confidence=None)


@contextmanager
def _memory_hint(sample: MultiRaterSample, device: torch.device) -> Iterator[None]:
    """Say what helps where torch only says what failed."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        size = " × ".join(str(n) for n in sample.space)
        helps = "predict smaller images" if device.type == "cpu" else "give --device cpu, or smaller images"
        raise InputError(
            f"out of memory with '{sample.name}' of {size} pixels on {device}: {helps}"
        ) from error


def _check_image(sample: MultiRaterSample, task: Task) -> None:
    image = sample.picture
    if len(image) != task.channels:
        raise InputError(f"'{sample.name}' has {len(image)} channels; the run takes {task.channels}")
    low, high = float(image.min()), float(image.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 1:
        raise InputError(f"'{sample.name}' has intensities from {low:g} to {high:g}; expected 0 to 1")


def _sized(maps: Any, height: int, width: int) -> Any:
    """Maps at another size; a tuple of them map by map, None stays None."""
    if maps is None:
        return None
    if isinstance(maps, tuple):
        return tuple(_sized(each, height, width) for each in maps)
    flat = resize(maps.float().reshape(-1, *maps.shape[-2:]), height, width)
    return flat.clamp(0, 1).reshape(*maps.shape[:-2], height, width)


def _named_maps(prediction: Prediction) -> Iterator[tuple[str, np.ndarray]]:
    """The maps there are, by name; recurrences are steps0, steps1, ..."""
    for name in MAPS:
        value = getattr(prediction, name)
        if isinstance(value, tuple):
            yield from ((f"{name}{number}", step) for number, step in enumerate(value))
        elif value is not None:
            yield name, value


def _in_memory(prediction: Prediction) -> Prediction:
    def read(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(np.asarray(stack) for stack in value)
        return None if value is None else np.asarray(value)

    return Prediction(**{name: read(getattr(prediction, name)) for name in MAPS})


def _images(files: Iterable[str | Path]) -> Iterator[Path]:
    some, given = False, [Path(file) for file in files]
    for file in given:
        inside = sorted(file.iterdir()) if file.is_dir() and not is_series(file) else [file]
        for image in inside:
            readable = image.is_file() and format_of(image) and not image.name.startswith(".")
            if image == file or readable or is_series(image):
                some = True
                yield image
    if not some:
        where = ", ".join(f"'{file}'" for file in given)
        raise InputError(f"there is no image to predict in {where}; folders inside are not looked into")


def _finished(folder: Path, weights: str, image: Path, window: Window | None) -> bool:
    """Whether a folder holds this very answer already.

    Raises:
        InputError: It holds something that is no answer.
    """
    if not folder.exists():
        return False
    try:
        about = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
        made_from = about["weights_sha256"], about["image_sha256"], about.get("window")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"'{folder}' is there already and holds no prediction; expected a new folder"
        ) from None
    if not image.exists():
        return False
    return made_from == (weights, _sha256(image), None if window is None else list(window))


def _sha256(image: Path) -> str:
    """Of a file; of a series, of all its files."""
    if image.is_dir():
        return hashlib.sha256("".join(map(_sha256, dicom_files(image))).encode()).hexdigest()
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _suffix(image: ImageFile) -> str:
    return {"nifti": ".nii.gz", "nrrd": ".nii.gz", "dicom": ".nii.gz", "tiff": ".tif"}.get(
        image.format, ".png"
    )


def _stem(file: Path) -> str:
    if file.is_dir():
        return file.resolve().name
    return re.sub(r"(\.nii\.gz|\.[^.]+)$", "", file.name, flags=re.IGNORECASE)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _file_names(names: Sequence[str]) -> list[str]:
    """Names a file may have; numbered where two would become the same."""
    safe = [_safe(name) for name in names]
    return [name if safe.count(name) == 1 else f"{name}_{i + 1}" for i, name in enumerate(safe)]
