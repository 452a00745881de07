"""A run's method, ready to predict: a case in, a prediction of the case's own size out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.core.types import Image
from mrprism.datasets import FileSample
from mrprism.images import ImageFile
from mrprism.images.slicing import Slicing, cut_volume, most_drawn, slice_of
from mrprism.learn.advice import predicting_advice
from mrprism.learn.batch import Batch
from mrprism.learn.batches import collate
from mrprism.learn.bounds import MOST_DRAWS
from mrprism.learn.calibration import COVERAGE, Calibration, read_calibration
from mrprism.learn.devices import check_device, keep_thread_limit
from mrprism.learn.finite import check_answer
from mrprism.learn.fused_by_plan import fused_by_plan
from mrprism.learn.hub import local
from mrprism.learn.methods.method import Method
from mrprism.learn.patches import planned_image, planned_masks, planned_space
from mrprism.learn.resize import resize_sample, sized
from mrprism.learn.run import Run
from mrprism.learn.stacks import MAPS, joined, stack_planes
from mrprism.learn.weights import load_method
from mrprism.learn.windows import Case, Windows, at_own_size


def load(
    run: str | Path | Run,
    device: str | None = None,
    draws: int | None = None,
    coverage: float | None = None,
) -> Predictor:
    """Load a run for predicting.

    Args:
        run: Its folder, also one that was exported with `--to hf`; or `hf:OWNER/NAME`, which is fetched once.
        device: "cpu", "cuda"; None: a GPU if there is one.
        draws: Outlines drawn for a case; None: as many as the run was trained with.
        coverage: Share of patients for whom inner and outer outlines are to hold; None: 0.9, where the run's validation
            cases suffice.

    Raises:
        InputError: No such run, its weights are not its own, its method does not draw, or its validation cases cannot
            promise such a coverage.
    """
    run = (
        run if isinstance(run, Run) else Run.open(local(given.path(run, "a run, or the path of its folder")))
    )
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    keep_thread_limit()
    method = load_method(run, device)
    if draws is not None:
        _draw(method, draws, run.config.method)
    calibration = read_calibration(run)
    if coverage is None:
        return Predictor(run, method, calibration)
    if calibration is None:
        raise InputError(
            f"{run.path} was not calibrated, so that no outline holds for a stated share of patients: it has no "
            "validation cases, or its method reads masks"
        )
    calibration.check(coverage, str(run.path))
    return Predictor(run, method, calibration, coverage)


def _draw(method: Method, draws: int, name: str) -> None:
    if method.draws is None:
        raise InputError(
            f"method '{name}' does not draw outlines, so it has no number of draws; those of "
            "ssn, prob-unet, pionono and mc-dropout, for instance, do"
        )
    if not 1 <= draws <= MOST_DRAWS:
        raise InputError(f"the number of draws is {draws}; expected 1 to {MOST_DRAWS}")
    method.draws = draws


@dataclass(frozen=True)
class Predictor:
    """A run's method, ready to predict."""

    run: Run
    method: Method
    calibration: Calibration | None = None
    coverage: float = COVERAGE  # of inner and outer outlines

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
        sample = case if isinstance(case, MultiRaterSample) else self.bare(case)
        _check_image(sample, self.task)
        if self._by_windows:
            prediction = self._planned(sample)
        elif len(sample.space) == 3:
            prediction = self._stacked(sample, self._plane)
        else:
            return self._plane(self._alone(sample))
        return prediction if on_disk else _in_memory(prediction)

    def predict_slice(self, volume: MultiRaterSample, index: int) -> Prediction:
        """Predict one slice of a volume, which `cut_volume` has turned as `slicing` says.

        Raises:
            InputError: The volume has other channels than the run was trained on, or wrong values.
        """
        _check_image(slice_of(volume, index), self.task)
        if self._by_windows:
            return next(self._planes(volume, index)[0])
        return self._plane(slice_of(volume, index, self.slicing))

    def fuse(
        self, sample: MultiRaterSample, *, on_disk: bool = False, said: Prediction | None = None
    ) -> Prediction | None:
        """The sample's own masks, fused by the confidence that was learned; None if the method cannot.

        How far each rater is trusted is read at training size; the masks are fused at their own.

        Args:
            said: What `predict` said of the sample; by a plan it would be worked out again.
        """
        if getattr(self.method, "fuse_given", None) is None:
            return None
        if self._by_windows:
            fused = fused_by_plan(self.method, sample, said or self._planned(sample))
            return fused if fused is None or on_disk else _in_memory(fused)
        if len(sample.space) == 3:
            fused = self._stacked(sample, self._fuse_plane)
            return fused if on_disk else _in_memory(fused)
        return self._fuse_plane(self._alone(sample))

    @property
    def weighs(self) -> bool:
        """Whether the method can say what it would answer if raters were trusted otherwise; of windows nobody asks it."""
        return getattr(self.method, "under", None) is not None and not self._by_windows

    def under(self, plane: MultiRaterSample, trust: np.ndarray) -> np.ndarray:
        """(C, H, W) What would be said of an image, or of a slice with its neighbours, if raters were trusted so.

        Args:
            trust: (R, C) the chance of agreeing of each rater of the run, above 0 and below 1.

        Raises:
            InputError: The method weighs no raters.
        """
        if not self.weighs:
            how = "by a plan " if self._by_windows else ""
            raise InputError(
                f"method '{self.run.config.method}' {how}does not weigh raters anew; mrprism does, for instance, on images of "
                "one size"
            )
        resized = resize_sample(plane, self.run.config.size)
        with torch.inference_mode():
            batch = collate([resized], device=self.method.device).only("image")
            chance = torch.as_tensor(trust, dtype=torch.float32, device=self.method.device)
            under: Callable[[Batch, Tensor], Tensor] = self.method.under  # type: ignore[assignment]
            found: np.ndarray = sized(under(batch, chance)[0], *plane.space).cpu().numpy()
        return found

    def picture(self, sample: MultiRaterSample) -> Picture:
        """A case and what is said of it in the plane; of a volume the slice on which most is drawn."""
        if self._by_windows:
            index = 0 if len(sample.space) == 2 else most_drawn(sample)
            shown = sample if len(sample.space) == 2 else replace(slice_of(sample, index), name=sample.name)
            return Picture(shown, shown, next(self._planes(sample, index)[0]), None)
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
        return Picture(shown, seen, replace(self._plane(seen), modes=self.modes(seen)), fused)

    @property
    def varies(self) -> bool:
        """Whether the method can say in which main ways its draws vary; of windows nobody asks it."""
        known = getattr(self.method, "modes", None) is not None and bool(getattr(self.method, "rank", 1))
        return known and not self._by_windows

    def modes(self, plane: MultiRaterSample) -> np.ndarray | None:
        """(M, 2, C, H, W) The main ways in which draws of an image, or of a slice with its neighbours, vary.

        Returns:
            The outline at either end of each way; None of a method that has none.
        """
        if not self.varies:
            return None
        resized = resize_sample(plane, self.run.config.size)
        of: Callable[[Batch], Tensor] = self.method.modes  # type: ignore[assignment]
        with torch.inference_mode():
            batch = collate([resized], device=self.method.device).only(self.method.reads)
            found: np.ndarray = sized(of(batch), *plane.space)[0].cpu().numpy()
        return found

    @property
    def _by_windows(self) -> bool:
        """Whether the run has a plan, and a network that is bound to it."""
        return self.run.config.plan is not None and any(True for _ in self.method.parameters())

    def _planned(self, sample: MultiRaterSample) -> Prediction:
        """What is said of a case that is brought to the run's plan, on the case's own grid."""
        planes, windows = self._planes(sample)
        whole = joined(planes, len(sample.space))
        return replace(whole, **windows.pooled())

    def _planes(
        self, sample: MultiRaterSample, only: int | None = None
    ) -> tuple[Iterator[Prediction], Windows]:
        """The slices of a case, or one of them, and the windows that answer for all as a whole once they are read."""
        plan = self.run.config.plan
        assert plan is not None
        planned = planned_space(plan, sample)
        masks = None if self.method.reads == "image" else planned_masks(sample.masks, 2, planned)
        image = planned_image(plan, sample, planned)
        windows = Windows(self.method, Case(sample.name, image, masks, sample.rated), plan)
        own = (1, *sample.space) if len(sample.space) == 2 else sample.space

        def planes() -> Iterator[Prediction]:
            with predicting_advice(sample, self.method.device):
                for plane in at_own_size(windows, (own[0], own[1], own[2]), only):
                    (case,) = replace(plane, **{n: _batched(getattr(plane, n)) for n in MAPS}).cases()
                    if self.calibration is not None:
                        case = self.calibration.apply(case, self.coverage)
                    check_answer(case, sample.name, self.run.config.method)
                    yield case

        return planes(), windows

    def _stacked(self, sample: MultiRaterSample, of: Callable[[MultiRaterSample], Prediction]) -> Prediction:
        """What is said of each slice of a volume, put together; every slice once, so nothing overlaps."""
        cut = self.slicing.cut(sample)
        volume = cut_volume(sample, cut)
        planes = (of(slice_of(volume, index, self.slicing)) for index in range(volume.space[0]))
        return stack_planes(planes, cut)

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
            batch = collate([resized], device=self.method.device)
            fused = fuse_given(replace(batch, given=_given(sample, self.method.device)).only("both"))
        case = Prediction(probability=sized(fused[0], *sample.space).cpu().numpy())
        check_answer(case, sample.name, self.run.config.method)
        return case

    def _plane(self, sample: MultiRaterSample) -> Prediction:
        height, width = sample.space
        as_it_is = self.method.reads == "masks" and not any(True for _ in self.method.parameters())
        resized = sample if as_it_is else resize_sample(sample, self.run.config.size)
        # in float32 always: bf16 holds no calibrated probability near 0 and 1
        with torch.inference_mode(), predicting_advice(sample, self.method.device):
            batch = collate([resized], device=self.method.device)
            if self.method.reads == "both":
                batch = replace(batch, given=_given(sample, self.method.device))
            batch = batch.only(self.method.reads)
            torch.manual_seed(0)  # methods that draw samples give the same ones for the same image
            prediction = self.method.predict(batch)
            maps = {name: sized(getattr(prediction, name), height, width) for name in MAPS}
            (case,) = replace(prediction, **maps).cases()
        if self.calibration is not None:
            case = self.calibration.apply(case, self.coverage)
        check_answer(case, sample.name, self.run.config.method)
        return case

    def bare(self, image: np.ndarray | ImageFile) -> MultiRaterSample:
        """An image as a sample that nobody outlined."""
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
            spacing_mm=image.spacing_mm if isinstance(image, ImageFile) else None,
        )


@dataclass(frozen=True)
class Picture:
    """One plane of a case, and what a method says of it."""

    shown: MultiRaterSample  # as a reader sees it
    seen: MultiRaterSample  # as the network sees it: a slice's neighbours are channels
    prediction: Prediction
    fused: Prediction | None  # the case's own masks, fused by what was learned


def _check_image(sample: MultiRaterSample, task: Task) -> None:
    image = sample.picture
    if len(image) != task.channels:
        raise InputError(f"'{sample.name}' has {len(image)} channels; the run takes {task.channels}")
    low, high = float(image.min()), float(image.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 1:
        raise InputError(f"'{sample.name}' has intensities from {low:g} to {high:g}; expected 0 to 1")


def _given(sample: MultiRaterSample, device: torch.device) -> Tensor:
    """A sample's masks as a batch of one, at their own size; 0 where not rated."""
    masks = sample.masks & sample.rated[..., None, None]
    return torch.from_numpy(masks).to(device)[None].float()


def _batched(maps: Any) -> Any:
    """One case as a batch of one."""
    if isinstance(maps, tuple):
        return tuple(each[None] for each in maps)
    return None if maps is None else maps[None]


def _in_memory(prediction: Prediction) -> Prediction:
    def read(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(np.asarray(stack) for stack in value)
        return None if value is None else np.asarray(value)

    return replace(prediction, **{name: read(getattr(prediction, name)) for name in MAPS})
