"""Images outlined by a run: a folder for each, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrprism import __version__
from mrprism.core import given
from mrprism.core.brief import counted
from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.core.workers import On, Workers, in_order
from mrprism.datasets.dicom import dicom_files
from mrprism.datasets.open_image import is_series
from mrprism.datasets.tree import is_system
from mrprism.images import ImageFile, Window, format_of, write_mask, write_probability
from mrprism.learn.known_cases import split_of
from mrprism.learn.loaded import Loaded
from mrprism.learn.predictor import Predictor, load
from mrprism.learn.run import Run
from mrprism.learn.scaling import open_alike
from mrprism.output.files import write_file
from mrprism.output.folders import remove_unfinished_in, replacing_folder
from mrprism.output.lock import alone_in
from mrprism.output.tables import to_csv
from mrprism.output.terminal import note, warn

_VOXELS = (".raw", ".zraw")  # of a header beside them
NEW = "new"  # the split of an image that the run does not know


@alone_in("out")
def predict_files(
    run: str | Path | Run | Predictor,
    files: Iterable[str | Path],
    out: str | Path,
    *,
    window: Window | None = None,
    device: str | None = None,
    draws: int | None = None,
    coverage: float | None = None,
    each: Callable[[Path, bool], None] | None = None,
    jobs: int | None = None,
    on: On = "local",
) -> list[Path]:
    """Outline images: a folder for each, in the image's size, geometry and format.

    A folder holds for each structure `probability_*` and `mask_*` (above 0.5); where the run had validation
    cases `calibrated_*`, the probability read as a share of the raters, and where it had enough patients among
    them `inner_*` and `outer_*`, masks that lie within, and hold, all raters' masks with the probability over
    patients that `prediction.json` states; and where the method gives them `raters/` (each rater's predicted
    mask), `confidence/` (in each rater), `recurrences/`, `votes/` (the chance that at least 1, 2, ... of the raters mark
    a pixel) and `draws/`. `cases.csv` beside the folders says which of the run's splits each image belongs to: "train"
    (learned from), "val" (chosen on), "test", or "new". PNG and JPEG give PNG: masks 0 and 255, probabilities 16 bit with 65535 for 1. TIFF
    gives TIFF and NIfTI, NRRD and DICOM give NIfTI, probabilities as float32. `prediction.json` says which
    run and image it came from.

    Volumes are predicted slice by slice into temporary files, and written from there. Folders appear
    whole or not at all. An image already predicted by these weights is skipped. One that was predicted with another
    coverage or calibration is predicted anew, which is said.

    Args:
        files: Images, folders of images, or folders that each hold a DICOM series.
        window: The file values that become 0 and 1; unless told the window of the data set that the run
            was trained on, where its manifest has one.
        draws: Outlines drawn of each image, by a method that draws; None: as many as the run was trained with.
        coverage: Share of patients for whom the inner and outer outlines are to hold; None: 0.9, where the validation
            cases suffice.
        each: Called after each image with its folder, and whether it was skipped.
        jobs: How many images at a time, each in a process of its own; None: one, or one for each core of a cluster.
        on: "local": processes of this machine; "ray": a Ray cluster.

    Returns:
        The folder of each image.

    Raises:
        InputError: No image, two images of one name, an unreadable image; what is done stays.
    """
    files = given.several(files, "images or folders of images")
    predictor = run if isinstance(run, Predictor) else load(run, device, draws, coverage)
    if predictor.method.reads != "image":
        name = predictor.run.config.method
        raise InputError(f"method '{name}' reads masks and cannot outline images alone: use mrprism fuse")
    out = Path(out)
    images = list(_images(files, out))
    folders: dict[str, Path] = {}
    for file in images:
        stem = _stem(file)
        if stem in folders:
            both = f"{folders[stem]} and {file}"
            raise InputError(
                f"{both} would be written to one folder, {out / stem}: predict them into different folders"
            )
        folders[stem] = file
    weights = hashlib.sha256(plain_file(predictor.run.weights_file).read_bytes()).hexdigest()
    remove_unfinished_in(out)
    learned = _learned(predictor)
    again: dict[str, list[str]] = {}
    workers, task = Workers(jobs, on), _Predicting(Loaded(predictor), out, weights, window, learned)
    try:
        with closing(in_order(task, list(folders.items()), workers, named=lambda item: item[0])) as done:
            for stem, (skip, other) in zip(folders, done, strict=True):
                if other:
                    again.setdefault(other, []).append(stem)
                if each:
                    each(out / stem, skip)
    finally:
        if not workers.alone:  # what a worker left that was killed
            remove_unfinished_in(out)
    for other, stems in again.items():
        warn(
            f"{counted(len(stems), 'image')} in '{out}' had been predicted with another {other}, and are predicted anew"
        )
    _write_cases(out, list(folders))
    return [out / stem for stem in folders]


@dataclass(frozen=True)
class _Predicting:
    """What all images have in common; called with one and the name of its folder."""

    loaded: Loaded
    out: Path
    weights: str
    window: Window | None
    learned: Mapping[str, object]

    def __call__(self, item: tuple[str, Path]) -> tuple[bool, str]:
        """Whether the image was done already; and if it was, but by what was learned otherwise, what that is."""
        (stem, file), predictor = item, self.loaded.predictor
        folder = self.out / stem
        window = self.window or predictor.run.config.window
        skip = _finished(folder, self.weights, file, window, predictor.method.draws)
        other = _learned_otherwise(folder, self.learned) if skip else ""
        if other or not skip:
            _predict_file(predictor, file, folder, self.weights, self.window)
        return skip and not other, other


def _predict_file(
    predictor: Predictor, file: Path, folder: Path, weights: str, window: Window | None
) -> None:
    image = open_alike(file, predictor.run.config, window)
    window = window or predictor.run.config.window
    prediction = predictor.predict(image, on_disk=True)
    about = {
        "mrprism": __version__,
        "run": str(predictor.run.path),
        "weights_sha256": weights,
        "image": file.name,
        "image_sha256": _sha256(file),
        "window": window,
        "structures": predictor.task.structures,
        "raters": predictor.task.raters,
        "split": split_of(predictor.run.config, _stem(file), predictor.bare(image).image) or NEW,
        "weights": _weights(prediction, predictor.task),
        "draws": predictor.method.draws,
        "draw_weights": _draw_weights(prediction, predictor.task),
        "coverage": predictor.coverage if prediction.inner is not None else None,
        "learned": _learned(predictor),
        "recurrences": len(prediction.steps),
        "probability": "0 to 65535 in PNG, 0 to 1 elsewhere; a mask is above half",
    }
    # an older one is of other weights or another image, as was seen before
    with replacing_folder(folder) as new:
        _write_maps(new, prediction, predictor.task, image, _suffix(image))
        write_file(new / "prediction.json", json.dumps(about, indent=2).encode() + b"\n")


def _write_cases(out: Path, names: Sequence[str]) -> None:
    """A table of the images in a folder, those of earlier calls too, and of the split of each."""
    rows = []
    earlier = [file.parent.name for file in out.glob("*/prediction.json")]
    for name in sorted({*names, *earlier}):
        try:
            about = json.loads(plain_file(out / name / "prediction.json").read_text(encoding="utf-8"))
            rows.append([name, str(about["image"]), str(about.get("split", "unknown"))])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # no answer of a run
    write_file(out / "cases.csv", to_csv(["folder", "image", "split"], rows))


def _weights(prediction: Prediction, task: Task) -> dict[str, dict[str, float]] | None:
    """What each rater's mask of this image would weigh in a fusion, by structure and rater."""
    if prediction.weights is None:
        return None
    return {
        structure: {rater: round(float(prediction.weights[r, c]), 4) for r, rater in enumerate(task.raters)}
        for c, structure in enumerate(task.structures)
    }


def _draw_weights(prediction: Prediction, task: Task) -> dict[str, list[float]] | None:
    """The chance of each draw by structure, where they are not alike."""
    if prediction.draw_weights is None:
        return None
    chances = np.asarray(prediction.draw_weights, np.float64)
    return {structure: chances[:, c].round(6).tolist() for c, structure in enumerate(task.structures)}


def _write_maps(folder: Path, prediction: Prediction, task: Task, image: ImageFile, suffix: str) -> None:
    def probability(name: str, array: np.ndarray) -> None:
        write_probability(folder / f"{name}{suffix}", array, like=image, spacing_mm=image.spacing_mm)

    def mask(name: str, array: np.ndarray) -> None:
        write_mask(folder / f"{name}{suffix}", array > 0.5, like=image, spacing_mm=image.spacing_mm)

    structures, raters = _file_names(task.structures), _file_names(task.raters)
    for c, structure in enumerate(structures):
        probability(f"probability_{structure}", prediction.probability[c])
        mask(f"mask_{structure}", prediction.probability[c])
        if prediction.calibrated is not None:
            probability(f"calibrated_{structure}", prediction.calibrated[c])
        for bound in ("inner", "outer"):
            if (outline := getattr(prediction, bound)) is not None:
                mask(f"{bound}_{structure}", outline[c])
        for r, rater in enumerate(raters):
            if prediction.raters is not None:
                mask(f"raters/{rater}_{structure}", prediction.raters[r, c])
            if prediction.confidence is not None:
                probability(f"confidence/{rater}_{structure}", prediction.confidence[r, c])
        for i, step in enumerate(prediction.steps):
            probability(f"recurrences/rec{i}_{structure}", step[c])
        for k, level in enumerate(() if prediction.at_least is None else prediction.at_least, start=1):
            probability(f"votes/at_least{k}_{structure}", level[c])
        for i, draw in enumerate(() if prediction.draws is None else prediction.draws):
            probability(f"draws/draw{i}_{structure}", draw[c])


def _images(files: Iterable[str | Path], out: Path) -> Iterator[Path]:
    """The images among what was given; what else lies in a folder is named."""
    some, given, others = False, [Path(file) for file in files], []
    for file in given:
        inside = sorted(file.iterdir()) if file.is_dir() and not is_series(file) else [file]
        for image in inside:
            readable = plain_file(image).is_file() and format_of(image) and not image.name.startswith(".")
            if image == file or readable or is_series(image):
                some = True
                yield image
            elif not (
                is_system(image.name) or image.suffix.lower() in _VOXELS or image.resolve() == out.resolve()
            ):
                others.append(image)
    if others and some:
        names = ", ".join(f"'{other}'" for other in others[:3]) + (", ..." if len(others) > 3 else "")
        note(
            f"not predicted, for they are no images: {names} ({len(others)}); folders inside are not looked into"
        )
    if not some:
        where = ", ".join(f"'{file}'" for file in given)
        raise InputError(f"there is no image to predict in {where}; folders inside are not looked into")


def _finished(folder: Path, weights: str, image: Path, window: Window | None, draws: int | None) -> bool:
    """Whether a folder holds this very answer already.

    Raises:
        InputError: It holds something that is no answer.
    """
    if not folder.exists():
        return False
    try:
        about = json.loads(plain_file(folder / "prediction.json").read_text(encoding="utf-8"))
        made_from = (
            about["weights_sha256"],
            about["image_sha256"],
            about.get("window"),
            about.get("draws", draws),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"'{folder}' is there already and holds no prediction; expected a new folder"
        ) from None
    if not image.exists():
        return False
    return made_from == (weights, _sha256(image), None if window is None else list(window), draws)


def _learned(predictor: Predictor) -> dict[str, object]:
    """Under which coverage and calibration outlines are given."""
    calibration = predictor.calibration
    if calibration is None:
        return {"coverage": None, "calibration": None}
    mark = hashlib.sha256(calibration.model_dump_json().encode()).hexdigest()
    return {"coverage": predictor.coverage, "calibration": mark}


def _learned_otherwise(folder: Path, learned: Mapping[str, object]) -> str:
    """What of it was another when a folder was made, in words; empty where nothing was."""
    before = json.loads(plain_file(folder / "prediction.json").read_text(encoding="utf-8")).get("learned")
    if not isinstance(before, dict):  # of a version that did not say
        return "" if learned["calibration"] is None else "calibration, or one that was not noted"
    return " and ".join(name for name, value in learned.items() if before.get(name) != value)


def _sha256(image: Path) -> str:
    """Of a file; of a series, of all its files."""
    if image.is_dir():
        return hashlib.sha256("".join(map(_sha256, dicom_files(image))).encode()).hexdigest()
    with plain_file(image).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _suffix(image: ImageFile) -> str:
    if image.format in ("nifti", "nrrd", "metaimage", "dicom") or (
        image.array.ndim == 4 and image.format != "tiff"
    ):
        return ".nii.gz"
    return ".tif" if image.format == "tiff" else ".png"


def _stem(file: Path) -> str:
    if file.is_dir():
        return file.resolve().name
    return re.sub(r"(\.nii\.gz|\.[^.]+)$", "", file.name, flags=re.IGNORECASE)


def _file_names(names: Sequence[str]) -> list[str]:
    """Names a file may have; numbered where two would become the same."""
    safe = [_safe(name) for name in names]
    return [name if safe.count(name) == 1 else f"{name}_{i + 1}" for i, name in enumerate(safe)]


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
