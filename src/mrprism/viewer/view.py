"""What the page can ask for: cases, their slices, consensus and predictions. It reads and never writes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from mrprism.agreement.pictures import outline
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset
from mrprism.fusion import FUSIONS
from mrprism.fusion.one_case import fuse_case, known
from mrprism.images.slicing import Slicing, cut_volume
from mrprism.output.colours import (
    CONFIDENCE_COLOURS,
    PREDICTION_COLOUR,
    SHARE_COLOURS,
    rater_colour,
    rater_dash,
)
from mrprism.viewer.opened import OpenCase, mean_dice
from mrprism.viewer.pictures import colour_stops, heat_png, image_png

Found = TypeVar("Found")
Paths = list[str | None]  # SVG outlines in pixels of the slice, one a structure; None: not done
OPEN_CASES, KEPT_PREDICTIONS = 3, 24


@runtime_checkable
class Predicts(Protocol):
    """A run that is ready to predict; `mrprism.learn.predictor.Predictor` is one."""

    @property
    def task(self) -> Task: ...
    @property
    def slicing(self) -> Slicing: ...
    def predict_slice(self, volume: MultiRaterSample, index: int) -> Prediction: ...
    def predict(self, case: MultiRaterSample) -> Prediction: ...


class View:
    """A data set to look at, and if there is one the run that predicts its cases."""

    def __init__(
        self,
        dataset: Dataset,
        title: str,
        predictor: Predicts | None = None,
        splits: Mapping[str, str | None] | None = None,
        blind: str | None = None,
    ) -> None:
        """
        Args:
            splits: "train", "val" or "test" of each case, where the data set's own are not meant.
            blind: Raters are called A, B, C, in an order that is shuffled anew for each case; the text is the seed.
        """
        self.blind = blind
        self.dataset, self.title, self.predictor = dataset, title, predictor
        self.splits = dataset.splits if splits is None else splits
        self.task = dataset.task
        self._lock = threading.Lock()
        self._opened: OrderedDict[Hashable, OpenCase] = OrderedDict()
        self._fused: OrderedDict[Hashable, dict[int, np.ndarray]] = OrderedDict()
        self._predicted: OrderedDict[Hashable, Prediction] = OrderedDict()
        self._dice: dict[str, float | None] = {}
        self._unreadable: dict[str, str] = {}

    # ---- the whole ------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """What does not change from case to case."""
        predicted = self.predictor.task.raters if self.predictor else ()
        return {
            "title": self.title,
            "dataset": self.dataset.name,
            "cases": len(self.dataset),
            "structures": self.task.structures,
            "raters": [
                {
                    "name": name,
                    "colour": rater_colour(r),
                    "dash": rater_dash(r),
                    "predicted": self.blind is None and self.task.raters[r] in predicted,
                }
                for r, name in enumerate(self.called(""))
            ],
            "anonymous": self.task.anonymous,
            "fusions": list(FUSIONS) if len(self.task.raters) > 1 else [],
            "predicts": self.predictor is not None,
            "prediction_colour": PREDICTION_COLOUR,
            "share_colours": colour_stops(SHARE_COLOURS),
            "confidence_colours": colour_stops(CONFIDENCE_COLOURS),
        }

    def seats(self, case: str) -> list[int]:
        """Which rater of the data set is shown in each place; in a blind view another one for each case."""
        raters = list(range(len(self.task.raters)))
        if self.blind is not None:
            seed = hashlib.sha256(f"{self.blind}\0{case}".encode()).digest()
            np.random.default_rng(list(seed)).shuffle(raters)
        return raters

    def called(self, case: str) -> list[str]:
        """What raters are called in each place."""
        if self.blind is None:
            return [self.task.raters[r] for r in self.seats(case)]
        return [f"rater {_letters(place)}" for place in range(len(self.task.raters))]

    def cases(self) -> dict[str, Any]:
        """Every case with its raters' mean Dice as far as it is known by now."""
        groups = self.dataset.groups
        rows = [
            {
                "name": name,
                "group": groups[name] if groups[name] != name else None,
                "split": self.splits.get(name),
                "dice": self._dice.get(name),
                "fault": _unnamed(self._unreadable.get(name), self.blind),
            }
            for name in self.dataset.names
        ]
        measured = len(self._dice) + len(self._unreadable)
        return {"cases": rows, "measured": measured}

    def measure_all(self, stop: threading.Event) -> None:
        """Measure every case's disagreement, one after the other, until told to stop."""
        for name in self.dataset.names:
            if stop.is_set():
                return
            try:
                self._dice[name] = mean_dice(self.dataset, name)
            except InputError as error:
                self._unreadable[name] = str(error)

    # ---- one case -------------------------------------------------------------------------------

    def open(self, number: int) -> OpenCase:
        """A case by its position.

        Raises:
            InputError: There is none, or it cannot be read.
        """
        if not 0 <= number < len(self.dataset):
            raise InputError(f"there is no case number {number}; expected 0 to {len(self.dataset) - 1}")
        name = self.dataset.names[number]
        try:
            return self._once(self._opened, name, OPEN_CASES, lambda: OpenCase(self.dataset, name))
        except InputError:
            if self.blind is None:
                raise
            raise InputError(
                f"a file of case '{name}' cannot be read; a view that is not blind says which"
            ) from None

    def case(self, number: int) -> dict[str, Any]:
        """What is known of a case."""
        case = self.open(number)
        seats = self.seats(case.name)
        states = self._states(case)
        return {
            "name": case.name,
            "size": case.space,
            "spacing_mm": case.spacing_mm,
            "planes": self._planes(case),
            "colour": case.colour,
            "channels": self._channels(case),
            "own_units": case.own_units,
            "range": case.range,
            "window": case.window,
            "states": [states[r] for r in seats],
            "dice": [[[_number(table[r, s]) for s in seats] for r in seats] for table in case.dice],
            "reference": bool(case.reference),
            "voters": case.case.voters,
            "facts": {
                "image": case.case.image is not None,
                "again": list(case.case.readings) if self.blind is None else [],
                "group": case.case.group,
                "split": self.splits.get(case.name),
                "diagnosis": case.case.diagnosis,
            },
        }

    def profile(self, number: int, plane: str) -> dict[str, Any]:
        """How the raters differ along a volume, and where to begin: at the slice they differ on most."""
        case = self.open(number)
        if not case.planes:
            return {"disputed": [], "start": 0, "aspect": case.pixel_aspect(plane)}
        disputed = case.disputed(plane)
        start = int(np.argmax(disputed)) if any(disputed) else len(disputed) // 2
        return {"disputed": disputed, "start": start, "aspect": case.pixel_aspect(plane)}

    def image(self, number: int, plane: str, index: int, channel: int, window: tuple[float, float]) -> bytes:
        """The image of a slice as PNG."""
        low, high = window
        if not low < high or not np.isfinite([low, high]).all():
            raise InputError(
                f"the window {low:g} to {high:g} does not rise; expected two numbers, the smaller first"
            )
        case = self.open(number)
        if not case.colour and not 0 <= channel < len(case.values):
            raise InputError(
                f"case '{case.name}' has no channel {channel}; expected 0 to {len(case.values) - 1}"
            )
        shown = case.values if case.colour else case.values[channel : channel + 1]
        return image_png(case.flat(shown, plane, index), window)

    def outlines(self, number: int, plane: str, index: int, fusion: str) -> dict[str, Any]:
        """What raters, reference and (if one is named) a fusion mark on a slice."""
        case = self.open(number)
        structures = range(len(self.task.structures))

        def path(mask: np.ndarray) -> str:
            return outline(case.flat(mask, plane, index))

        raters: list[Paths] = [
            [path(case.masks[r, c]) if case.rated[r, c] else None for c in structures]
            for r in self.seats(case.name)
        ]
        reference: Paths = [path(case.reference[c]) if c in case.reference else None for c in structures]
        fused = self.fused(case, fusion) if fusion else {}
        consensus: Paths = [path(fused[c]) if c in fused else None for c in structures]
        return {"raters": raters, "reference": reference, "consensus": consensus}

    def votes(self, number: int, plane: str, index: int, structure: int) -> bytes:
        """The share of raters that marked each pixel, as PNG."""
        share = self.open(number).share(self.structure(structure), plane, index)
        return heat_png(share, SHARE_COLOURS)

    # ---- what a run says ------------------------------------------------------------------------

    def prediction(self, number: int, plane: str, index: int) -> dict[str, Any]:
        """A run's outlines of a slice: every recurrence, every rater, and how far each is trusted."""
        found = self._predict(number, plane, index)
        steps = found.steps or (found.probability,)
        if found.weights is not None:
            trust, said = self._of_raters(found.weights, float), "weight in the fusion"
        else:
            trust = self._of_raters(found.confidence, lambda map_: float(np.mean(map_)))
            said = "mean confidence"
        return {
            "steps": [[outline(mask > 0.5) for mask in step] for step in steps],
            "raters": self._of_raters(found.raters, lambda mask: outline(mask > 0.5)),
            "confidence": trust,
            "trusted_by": said,
        }

    def prediction_map(
        self, number: int, plane: str, index: int, structure: int, step: int, rater: int | None
    ) -> bytes:
        """The probability of a recurrence, or the confidence in a rater, as PNG."""
        structure = self.structure(structure)
        found = self._predict(number, plane, index)
        if rater is None:
            steps = found.steps or (found.probability,)
            if not 0 <= step < len(steps):
                raise InputError(f"there is no recurrence {step}; expected 0 to {len(steps) - 1}")
            return heat_png(steps[step][structure], SHARE_COLOURS)
        maps = self._of_raters(found.confidence, lambda map_: map_)
        if maps is None or not 0 <= rater < len(maps) or maps[rater] is None:
            raise InputError(f"this run says nothing of how far to trust rater number {rater}")
        return heat_png(maps[rater][structure], CONFIDENCE_COLOURS, 0.5, 1.0, opacity=(0.85, 0.2))

    def _predict(self, number: int, plane: str, index: int) -> Prediction:
        predictor = self.predictor
        if predictor is None:
            raise InputError("nothing is predicted here: this is a data set, not a run")
        case = self.open(number)
        if case.planes and plane != predictor.slicing.plane:
            raise InputError(f"this run predicts {predictor.slicing.plane} slices, not {plane} ones")

        def predict() -> Prediction:
            if not case.planes:
                return predictor.predict(case.scaled)
            volume = cut_volume(case.scaled, case.cut(plane))
            case.flat(case.values, plane, index)  # refuses a slice that is not there
            return predictor.predict_slice(volume, index)

        return self._once(self._predicted, (case.name, plane, index), KEPT_PREDICTIONS, predict)

    def predicted(self, case: OpenCase, structure: int) -> np.ndarray:
        """(*space) what the run marks of a structure; of a volume slice by slice, which takes a while.

        Raises:
            InputError: This is no run.
        """
        if self.predictor is None:
            raise InputError("nothing is predicted here: this is a data set, not a run")
        if not case.planes:
            return np.asarray(self.predictor.predict(case.scaled).probability[structure] > 0.5)
        cut = case.cut(self.predictor.slicing.plane)
        volume, found = cut_volume(case.scaled, cut), np.zeros(case.space, bool)
        turned = cut.of(found)  # a view
        for index in range(len(turned)):
            turned[index] = self.predictor.predict_slice(volume, index).probability[structure] > 0.5
        return found

    def _of_raters(self, maps: np.ndarray | None, of: Callable[[np.ndarray], Any]) -> list[Any] | None:
        """Something of each rater of the data set whom the run knows, structure by structure; None for others."""
        if maps is None or self.predictor is None:
            return None
        if self.blind is not None:
            return None
        learned = self.predictor.task.raters
        return [
            [of(map_) for map_ in maps[learned.index(name)]] if name in learned else None
            for name in self.task.raters
        ]

    # ---- parts ----------------------------------------------------------------------------------

    def fused(self, case: OpenCase, fusion: str) -> dict[int, np.ndarray]:
        """The fused mask of each structure that anybody did."""
        known(fusion)

        def fuse() -> dict[int, np.ndarray]:
            done = np.flatnonzero(case.rated.any(axis=0)).tolist()
            if not done:
                return {}
            sample = case.sample(np.broadcast_to(np.float32(0), case.values.shape))
            fused = {}
            for c in done:  # one at a time: a volume's probabilities are large
                one = MultiRaterSample(
                    sample.name,
                    sample.image,
                    case.masks[:, [c]],
                    case.rated[:, [c]],
                    spacing_mm=case.spacing_mm,
                )
                fused[c] = fuse_case(one, fusion).probability[0] > 0.5
            return fused

        return self._once(self._fused, (case.name, fusion), OPEN_CASES, fuse)

    def _states(self, case: OpenCase) -> list[list[str]]:
        """For each rater and structure: "drawn", "empty" (looked and saw nothing) or "absent" (did not do it)."""
        return [
            [
                "absent" if not done else "empty" if empty else "drawn"
                for done, empty in zip(*row, strict=True)
            ]
            for row in zip(case.rated.tolist(), case.empty.tolist(), strict=True)
        ]

    def _planes(self, case: OpenCase) -> dict[str, int]:
        """The planes there are and how many slices each has; for a run the one it predicts."""
        wanted = case.planes
        if wanted and self.predictor:
            wanted = (self.predictor.slicing.plane,)
        return {plane: case.space[case.cut(plane).axes[0]] for plane in wanted}

    def _channels(self, case: OpenCase) -> list[str]:
        return [] if case.colour or len(case.values) == 1 else list(case.manifest.channels)

    def structure(self, number: int) -> int:
        """A structure by its number.

        Raises:
            InputError: There is none.
        """
        if not 0 <= number < len(self.task.structures):
            raise InputError(
                f"there is no structure number {number}; expected 0 to {len(self.task.structures) - 1}"
            )
        return number

    def _once(
        self, kept: OrderedDict[Hashable, Found], key: Hashable, most: int, make: Callable[[], Found]
    ) -> Found:
        """Something made once and kept until others of its kind have been asked for."""
        with self._lock:
            if key not in kept:
                kept[key] = make()
                while len(kept) > most:
                    kept.popitem(last=False)
            kept.move_to_end(key)
            return kept[key]


def _unnamed(fault: str | None, blind: str | None) -> str | None:
    """A fault as a blind view tells it: its sentence may name a rater."""
    return fault if fault is None or blind is None else "a file of this case cannot be read"


def _letters(place: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    while place >= 0:
        place, letter = place // 26 - 1, chr(ord("A") + place % 26)
        letters = letter + letters
    return letters


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
