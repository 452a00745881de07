"""What a run says of the cases that are looked at: predictions, trust, and what it would say under other trust."""

from __future__ import annotations

import base64
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from mrprism.agreement.pictures import outline
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.images import ImageFile, read_image
from mrprism.images.reading import suffix_of
from mrprism.images.slicing import Slicing, cut_volume, slice_of
from mrprism.output.colours import CONFIDENCE_COLOURS, SHARE_COLOURS
from mrprism.viewer.look import doubt_of
from mrprism.viewer.opened import OpenCase
from mrprism.viewer.pictures import heat_png, image_png
from mrprism.viewer.spread import spread_of

if TYPE_CHECKING:
    from mrprism.viewer.view import View

KEPT_PREDICTIONS, KEPT_WAYS = 24, 4
SUREST = 0.99  # the chance of agreeing of a rater whose weight is 1; one half at weight 0


@runtime_checkable
class Predicts(Protocol):
    """A run that is ready to predict; `mrprism.learn.predictor.Predictor` is one."""

    @property
    def task(self) -> Task: ...
    @property
    def slicing(self) -> Slicing: ...
    def predict_slice(self, volume: MultiRaterSample, index: int) -> Prediction: ...
    def predict(self, case: MultiRaterSample | ImageFile) -> Prediction: ...


class Answers:
    """A run beside the cases of a view."""

    def __init__(self, view: View, predictor: Predicts) -> None:
        self.view, self.predictor = view, predictor
        self._predicted: OrderedDict[Hashable, Prediction] = OrderedDict()
        self._varied: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        # a run answers one question at a time; cases are opened meanwhile, which `view.lock` guards
        self.predicting = threading.Lock()

    @property
    def weighs(self) -> bool:
        """Whether it can say what it would answer if raters were trusted otherwise; not in a blind view, where a rater's
        weight alone would show whose style is whose."""
        return self.view.blind is None and bool(getattr(self.predictor, "weighs", False))

    def doubt(self, name: str) -> float | None:
        """`doubt_of` what is predicted; of a volume on the slice raters differ on most. None: it cannot be."""
        try:
            case = OpenCase(self.view.dataset, name)
            with self.predicting:
                if not case.planes:
                    return doubt_of(np.asarray(self.predictor.predict(case.scaled).probability))
                index = case.most_disputed(self.predictor.slicing.plane)
                volume = cut_volume(case.scaled, case.cut(self.predictor.slicing.plane))
                return doubt_of(np.asarray(self.predictor.predict_slice(volume, index).probability))
        except InputError:
            return None  # said when the case is opened

    def under(self, number: int, plane: str, index: int, weights: Sequence[float]) -> list[str]:
        """Outlines of each structure that the run would draw if raters counted so.

        Args:
            weights: 0 to 1 of each rater of the data set: a chance of agreeing of one half up to `SUREST`.

        Raises:
            InputError: The run weighs no raters, or these are not as many numbers as raters.
        """
        raters = self.view.task.raters
        if len(weights) != len(raters) or not all(0 <= weight <= 1 for weight in weights):
            raise InputError(f"expected {len(raters)} weights from 0 to 1, one for each rater")
        if not self.weighs:
            raise InputError(
                "this run does not weigh raters; one of the method mrprism does, for instance, where raters have names"
            )
        given = dict(zip(raters, weights, strict=True))
        learned = self.predictor.task
        trust = np.array([0.5 + (SUREST - 0.5) * given.get(name, 0.0) for name in learned.raters])
        trust = np.repeat(trust[:, None], len(learned.structures), axis=1)
        shown = self._plane(self._in_its_plane(number, plane), plane, index)
        with self.predicting:
            found: np.ndarray = self.predictor.under(shown, trust)  # type: ignore[attr-defined]
        return [outline(mask > 0.5) for mask in found]

    def outline_of(self, name: str, content: bytes) -> dict[str, Any]:
        """What is predicted for an image that is in no data set, such as one that was dropped onto the page.

        Args:
            name: Of its file; what kind of file it is.

        Raises:
            InputError: It cannot be read, is a volume, or does not fit the run.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "dropped" + suffix_of(Path(Path(name).name)))
            path.write_bytes(content)
            try:
                image = read_image(path)
            except InputError as error:
                raise InputError(str(error).replace(str(path), name)) from None
        if image.array.ndim != 3:
            raise InputError(f"'{name}' is a volume; expected an image, or use mrprism predict")
        with self.predicting:
            found = self.predictor.predict(image)
        window = (float(image.array.min()), max(float(image.array.max()), float(image.array.min()) + 1e-6))
        shown = image.array if len(image.array) == 3 else image.array[:1]
        png = image_png(shown, (0.0, 1.0) if len(shown) == 3 else window)
        return {
            "name": name,
            "size": list(image.array.shape[1:]),
            "image": "data:image/png;base64," + base64.b64encode(png).decode(),
            "structures": [outline(mask > 0.5) for mask in found.probability],
            "marked": [int((mask > 0.5).sum()) for mask in found.probability],
            "doubt": doubt_of(np.asarray(found.probability)),
        }

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
            "draws": None
            if found.draws is None
            else spread_of(np.asarray(found.draws) > 0.5, found.draw_weights),
            "varies": bool(getattr(self.predictor, "varies", False)),
            "inner": None if found.inner is None else [outline(mask) for mask in found.inner],
            "outer": None if found.outer is None else [outline(mask) for mask in found.outer],
            "coverage": getattr(self.predictor, "coverage", None),
        }

    def draw(self, number: int, plane: str, index: int, draw: int) -> dict[str, Any]:
        """One of the outlines that a run draws of a slice.

        Raises:
            InputError: The run's method does not draw, or draws not so many.
        """
        draws = self._predict(number, plane, index).draws
        if draws is None:
            raise InputError("this run's method draws no outlines; ssn or prob-unet do, for instance")
        if not 0 <= draw < len(draws):
            raise InputError(f"there is no draw {draw}; expected 0 to {len(draws) - 1}")
        return {"structures": [outline(mask > 0.5) for mask in draws[draw]]}

    def way(self, number: int, plane: str, index: int, way: int, at: float) -> dict[str, Any]:
        """What a run would draw of a slice along one of the main ways in which its draws vary.

        Args:
            at: Standard deviations from the middle, -2 to 2.

        Raises:
            InputError: The run's method knows no such way, or it is left too far.
        """
        ways = self._ways(number, plane, index)
        if not 0 <= way < len(ways):
            raise InputError(f"there is no way {way}; expected 0 to {len(ways) - 1}")
        if not -2 <= at <= 2:
            raise InputError(f"{at:g} is too far along a way; expected -2 to 2 standard deviations")
        less, more = np.clip(ways[way].astype(np.float64), 1e-12, 1 - 1e-12)
        share = (at + 2) / 4  # log-odds change evenly along a way, and both ends are known
        odds = (1 - share) * np.log(less / (1 - less)) + share * np.log(more / (1 - more))
        return {"count": len(ways), "structures": [outline(mask > 0) for mask in odds]}

    def _ways(self, number: int, plane: str, index: int) -> np.ndarray:
        if not getattr(self.predictor, "varies", False):
            raise InputError(
                "this run's method does not say in which ways its draws vary; ssn does, for instance"
            )
        case = self._in_its_plane(number, plane)

        def ask() -> np.ndarray:
            shown = self._plane(case, plane, index)
            with self.predicting:
                found: np.ndarray = self.predictor.modes(shown)  # type: ignore[attr-defined]
            return found

        return self.view.once(self._varied, (case.name, plane, index), KEPT_WAYS, ask)

    def prediction_map(
        self, number: int, plane: str, index: int, structure: int, step: int, rater: int | None
    ) -> bytes:
        """The probability of a recurrence, or the confidence in a rater, as PNG."""
        structure = self.view.structure(structure)
        found = self._predict(number, plane, index)
        if rater is None:
            steps = found.steps or (found.probability,)
            if not 0 <= step < len(steps):
                raise InputError(f"there is no recurrence {step}; expected 0 to {len(steps) - 1}")
            return heat_png(steps[step][structure], SHARE_COLOURS)
        maps = self._of_raters(found.confidence, lambda map_: map_)
        if maps is None or not 0 <= rater < len(maps) or maps[rater] is None:
            raise InputError(f"this run does not say how far to trust rater number {rater}")
        return heat_png(maps[rater][structure], CONFIDENCE_COLOURS, 0.5, 1.0, opacity=(0.85, 0.2))

    def _predict(self, number: int, plane: str, index: int) -> Prediction:
        predictor = self.predictor
        case = self._in_its_plane(number, plane)

        def predict() -> Prediction:
            if case.planes:
                case.slice_at(case.values, plane, index)  # refuses a slice that is not there
            with self.predicting:
                if not case.planes:
                    return predictor.predict(case.scaled)
                return predictor.predict_slice(cut_volume(case.scaled, case.cut(plane)), index)

        return self.view.once(self._predicted, (case.name, plane, index), KEPT_PREDICTIONS, predict)

    def _plane(self, case: OpenCase, plane: str, index: int) -> MultiRaterSample:
        """An image, or a slice with the neighbours that the run wants."""
        if not case.planes:
            return case.scaled
        case.slice_at(case.values, plane, index)  # refuses a slice that is not there
        return slice_of(cut_volume(case.scaled, case.cut(plane)), index, self.predictor.slicing)

    def _in_its_plane(self, number: int, plane: str) -> OpenCase:
        case = self.view.open(number)
        if case.planes and plane != self.predictor.slicing.plane:
            raise InputError(f"this run predicts {self.predictor.slicing.plane} slices, not {plane} ones")
        return case

    def predicted(self, case: OpenCase, structure: int) -> np.ndarray:
        """(*space) what the run marks of a structure; of a volume slice by slice, which takes a while."""
        if not case.planes:
            with self.predicting:
                return np.asarray(self.predictor.predict(case.scaled).probability[structure] > 0.5)
        cut = case.cut(self.predictor.slicing.plane)
        volume, found = cut_volume(case.scaled, cut), np.zeros(case.space, bool)
        turned = cut.of(found)  # a view
        for index in range(len(turned)):
            with self.predicting:
                turned[index] = self.predictor.predict_slice(volume, index).probability[structure] > 0.5
        return found

    def _of_raters(self, maps: np.ndarray | None, of: Callable[[np.ndarray], Any]) -> list[Any] | None:
        """Something of each rater of the data set whom the run knows, structure by structure; None for others."""
        if maps is None or self.view.blind is not None:
            return None
        learned = self.predictor.task.raters
        return [
            [of(map_) for map_ in maps[learned.index(name)]] if name in learned else None
            for name in self.view.task.raters
        ]
