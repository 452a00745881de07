"""What the page can ask for: cases, their slices, consensus and predictions. It reads and never writes."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

from mrprism.agreement.pictures import outline
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import Dataset
from mrprism.fusion import FUSIONS
from mrprism.fusion.one_case import fuse_case, known
from mrprism.output.colours import (
    CONFIDENCE_COLOURS,
    PREDICTION_COLOUR,
    RATER_DASHES,
    SHARE_COLOURS,
    STOPS,
    rater_colour,
    rater_dash,
)
from mrprism.viewer.answers import Answers, Predicts
from mrprism.viewer.case_list import CaseList
from mrprism.viewer.opened import OpenCase
from mrprism.viewer.pictures import heat_png, image_png
from mrprism.viewer.solid import mesh, nifti
from mrprism.viewer.weigh import vote_patterns

Found = TypeVar("Found")
Paths = list[str | None]  # SVG outlines in pixels of the slice, one a structure; None: not done
OPEN_CASES = 3


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
        self.lock = threading.Lock()
        self._opened: OrderedDict[Hashable, OpenCase] = OrderedDict()
        self._fused: OrderedDict[Hashable, dict[int, np.ndarray]] = OrderedDict()
        self.run = None if predictor is None else Answers(self, predictor)
        self.list = CaseList(self)

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
            "structure_dashes": [
                RATER_DASHES[c % len(RATER_DASHES)] for c in range(len(self.task.structures))
            ],
            "anonymous": self.task.anonymous,
            "fusions": list(FUSIONS) if len(self.task.raters) > 1 else [],
            "predicts": self.predictor is not None,
            "weighs": self.run is not None and self.run.weighs,
            "prediction_colour": PREDICTION_COLOUR,
            "share_colours": STOPS[SHARE_COLOURS],
            "confidence_colours": STOPS[CONFIDENCE_COLOURS],
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

    @property
    def answers(self) -> Answers:
        """What the run says.

        Raises:
            InputError: This is no run.
        """
        if self.run is None:
            raise InputError("nothing is predicted here: this is a data set, not a run")
        return self.run

    # ---- one case -------------------------------------------------------------------------------

    def name_of(self, number: int) -> str:
        """The name of a case by its position.

        Raises:
            InputError: There is none.
        """
        if not 0 <= number < len(self.dataset):
            raise InputError(f"there is no case number {number}; expected 0 to {len(self.dataset) - 1}")
        return self.dataset.names[number]

    def open(self, number: int) -> OpenCase:
        """A case by its position.

        Raises:
            InputError: There is none, or it cannot be read.
        """
        name = self.name_of(number)
        try:
            return self.once(self._opened, name, OPEN_CASES, lambda: OpenCase(self.dataset, name))
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
            "cuts": {
                plane: {"axes": cut.axes, "steps": cut.steps, "aspect": case.pixel_aspect(plane)}
                for plane, cut in ((plane, case.cut(plane)) for plane in case.planes)
            },
            "mm": self._millimetres(case),
            "aspect": None if case.planes else case.pixel_aspect(""),
            "colour": case.colour,
            "channels": self._channels(case),
            "own_units": case.own_units,
            "range": case.range,
            "window": case.window,
            "states": [states[r] for r in seats],
            "dice": [[[_number(table[r, s]) for s in seats] for r in seats] for table in case.dice],
            "mean": _rounded(case.mean_dice),
            "readings": [] if self.blind is not None else self._readings(case),
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
        return {
            "disputed": case.disputed(plane),
            "start": case.most_disputed(plane),
            "aspect": case.pixel_aspect(plane),
        }

    def image(self, number: int, plane: str, index: int, channel: int, window: tuple[float, float]) -> bytes:
        """The image of a slice as PNG."""
        low, high = window
        if not low < high or not np.isfinite([low, high]).all():
            raise InputError(
                f"the window {low:g} to {high:g} is in the wrong order; expected two numbers, the smaller first"
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
        again = [
            {"rater": r, "reading": n, "structure": c, "path": path(mask)}
            for (r, n, c), mask in (() if self.blind is not None else case.again.items())
        ]
        return {"raters": raters, "reference": reference, "consensus": consensus, "again": again}

    def votes(self, number: int, plane: str, index: int, structure: int) -> bytes:
        """The share of raters that marked each pixel, as PNG."""
        share = self.open(number).share(self.structure(structure), plane, index)
        return heat_png(share, SHARE_COLOURS)

    def value(self, number: int, plane: str, index: int, row: int, column: int) -> dict[str, Any]:
        """What lies under the pointer: the image's values, how many marked it, and where it is in the patient.

        Raises:
            InputError: There is no such pixel.
        """
        case = self.open(number)
        values = case.slice_at(case.values, plane, index)
        if not (0 <= row < values.shape[-2] and 0 <= column < values.shape[-1]):
            raise InputError(f"case '{case.name}' has no pixel in row {row}, column {column} of this slice")
        masks = case.slice_at(case.masks, plane, index)[..., row, column]
        return {
            "values": [float(f"{value:.6g}") for value in values[:, row, column]],
            "marked": (masks & case.rated).sum(axis=0).tolist(),
            "of": case.rated.sum(axis=0).tolist(),
            "mm": case.patient_mm(plane, index, row, column),
        }

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

        return self.once(self._fused, (case.name, fusion), OPEN_CASES, fuse)

    def patterns(self, number: int, plane: str, index: int, structure: int) -> bytes:
        """See `vote_patterns`."""
        case = self.open(number)
        return vote_patterns(case, self.structure(structure), plane, index, self.seats(case.name))

    def surface(self, number: int, structure: int, of: str) -> bytes:
        """The surface of a structure of a volume, see `solid.mesh`; `of` as in `mask_file`."""
        case, mask = self._volume_mask(number, structure, of)
        return mesh(mask, case)

    def mask_file(self, number: int, structure: int, of: str) -> bytes:
        """A whole mask of a volume as NIfTI, where it lies in the patient.

        Args:
            of: "rater" and its place, "reference", or a fusion.
        """
        case, mask = self._volume_mask(number, structure, of)
        return nifti(np.asarray(mask, np.uint8), case)

    def _volume_mask(self, number: int, structure: int, of: str) -> tuple[OpenCase, np.ndarray]:
        case, c = self.open(number), self.structure(structure)
        if not case.planes:
            raise InputError(f"case '{case.name}' is an image; expected a volume")
        if rater := re.fullmatch(r"rater(\d{1,4})", of):
            seats = self.seats(case.name)
            r = seats[int(rater[1])] if int(rater[1]) < len(seats) else None
            mask = case.masks[r, c] if r is not None and case.rated[r, c] else None
        elif of == "reference":
            mask = case.reference.get(c)
        else:
            mask = self.fused(case, of).get(c)
        if mask is None:
            raise InputError(f"nobody drew this structure of case '{case.name}' so; there is no such mask")
        return case, mask

    def image_file(self, number: int, channel: int) -> bytes:
        """One channel of a volume as NIfTI, with the file's own values where it keeps them."""
        case = self.open(number)
        if not case.planes or not 0 <= channel < len(case.values):
            raise InputError(f"case '{case.name}' has no volume of channel {channel}")
        return nifti(np.asarray(case.values[channel], np.float32), case)

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

    def _millimetres(self, case: OpenCase) -> dict[str, list[float]] | None:
        """Height and width of a pixel of each plane; "" of an image. None where it is unknown."""
        if case.spacing_mm is None:
            return None
        if not case.planes:
            return {"": list(case.spacing_mm)}
        return {plane: [case.spacing_mm[axis] for axis in case.cut(plane).axes[1:]] for plane in case.planes}

    def _readings(self, case: OpenCase) -> list[dict[str, Any]]:
        """Further readings of the same case by the same rater, and Dice with the first."""
        return [
            {"rater": r, "reading": n, "structure": c, "dice": _rounded(case.dice_again(r, c, mask))}
            for (r, n, c), mask in case.again.items()
        ]

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

    def once(
        self, kept: OrderedDict[Hashable, Found], key: Hashable, most: int, make: Callable[[], Found]
    ) -> Found:
        """Something made once and kept until others of its kind have been asked for."""
        with self.lock:
            if key not in kept:
                kept[key] = make()
                while len(kept) > most:
                    kept.popitem(last=False)
            kept.move_to_end(key)
            return kept[key]


def _letters(place: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    while place >= 0:
        place, letter = place // 26 - 1, chr(ord("A") + place % 26)
        letters = letter + letters
    return letters


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else _number(value)
