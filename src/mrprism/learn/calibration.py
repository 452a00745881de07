"""What validation cases say of a trained network: how its probabilities have to be read, and how far it errs.

    RUN/calibration.json    for each structure a monotone curve from probability to vote share, and for each
                            patient how far outlines had to be widened and narrowed to hold all raters' masks

Isotonic regression from probability to vote share in a region of interest, patients weighing alike: Sousa et al.,
"TwinTrack", 2026, arXiv:2604.15950. Outlines that hold with a stated probability over patients: split conformal
prediction (Vovk et al., "Algorithmic learning in a random world", 2005) of a distance from the outline.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.ndimage import distance_transform_edt

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.learn.batches import collate
from mrprism.learn.bounds import Text
from mrprism.learn.cases import Cases
from mrprism.learn.methods.method import Method
from mrprism.learn.patches import PlannedCases
from mrprism.learn.run import Run, read_model
from mrprism.learn.windows import Case, Windows
from mrprism.metrics.calibration import around
from mrprism.output.files import write_file

FILE = "calibration.json"
COVERAGE = 0.9  # of inner and outer outlines, unless told otherwise
LEAST_COVERAGE = 0.5
BINS = 500  # of probability, evenly in log-odds from -FARTHEST to FARTHEST
FARTHEST = 12.5
MOST = 100_000  # knots and patients in a file


class Curve(BaseModel):
    """A monotone curve by its knots, straight between them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probability: tuple[float, ...] = Field(min_length=1, max_length=MOST)
    share: tuple[float, ...] = Field(min_length=1, max_length=MOST)

    @model_validator(mode="after")
    def _rises(self) -> Curve:
        if len(self.probability) != len(self.share):
            raise ValueError("a curve has as many shares as probabilities")
        for values, strictly in ((self.probability, True), (self.share, False)):
            if not all(0 <= value <= 1 for value in values):
                raise ValueError("knots of a curve lie between 0 and 1")
            if any(b < a or (strictly and b == a) for a, b in itertools.pairwise(values)):
                raise ValueError("a curve never falls")
        return self

    def __call__(self, probability: Float[np.ndarray, "*space"]) -> Float[np.ndarray, "*space"]:
        """Vote shares; before the first and after the last knot its value."""
        return np.asarray(np.interp(probability, self.probability, self.share), np.float32)


class Learned(BaseModel):
    """What was learned of one structure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    curve: Curve | None  # None: in no validation case was it rated and marked
    # for each patient, ascending, in shares of the image's side; None: infinite, nothing would have done
    widened: tuple[float | None, ...] = Field(max_length=MOST)
    narrowed: tuple[float | None, ...] = Field(max_length=MOST)


class Calibration(BaseModel):
    """All of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["mrprism-calibration/1"] = "mrprism-calibration/1"
    weights_sha256: Text  # of the network it belongs to
    cases: int
    patients: int
    pixel: float = Field(
        default=0.0, ge=0, le=1
    )  # side of one where margins were measured, in shares; 0: not known
    structures: dict[Text, Learned]

    def check(self, coverage: float, who: str) -> None:
        """Refuse a coverage that these patients cannot promise.

        Raises:
            InputError: It is no share, or there are too few patients for it.
        """
        if not LEAST_COVERAGE <= coverage < 1:
            hint = f"; {coverage:g} % is written {coverage / 100:g}" if 50 <= coverage < 100 else ""
            raise InputError(
                f"the coverage is {coverage:g}; expected at least {LEAST_COVERAGE:g} and less than 1{hint}"
            )
        fewest = min(len(one.widened) for one in self.structures.values())
        if quantile([0.0] * fewest, coverage) is None:
            most = fewest / (fewest + 1)
            raise InputError(
                f"{who} was calibrated on {fewest} patients, and outlines that hold for {100 * coverage:g} % of patients "
                f"need {math.ceil(round(coverage / (1 - coverage), 6))}; expected a coverage of at most "
                f"{math.floor(1000 * most) / 1000:g}"
            )

    def apply(self, prediction: Prediction, coverage: float = COVERAGE) -> Prediction:
        """One case in the plane, with `calibrated`, and `inner` and `outer` outlines where patients allow."""
        learned = list(self.structures.values())
        pairs = zip(learned, prediction.probability, strict=True)
        calibrated = np.stack([_read(one.curve, p) for one, p in pairs])
        bounds = [(quantile(one.narrowed, coverage), quantile(one.widened, coverage)) for one in learned]
        if any(bound is None or math.isinf(bound) for pair in bounds for bound in pair):
            return replace(prediction, calibrated=calibrated)
        marked = prediction.probability > 0.5
        # outlines were measured to half a pixel of the training size: at another size that much is added
        half = (
            self.pixel / 2
            if self.pixel and any(round(1 / self.pixel) != side for side in marked.shape[1:])
            else 0.0
        )
        inner = np.stack([moved(m, -float(b[0] or 0) - half) for m, b in zip(marked, bounds, strict=True)])
        outer = np.stack([moved(m, float(b[1] or 0) + half) for m, b in zip(marked, bounds, strict=True)])
        return replace(prediction, calibrated=calibrated, inner=inner, outer=outer)


def _read(curve: Curve | None, probability: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """The probability read as a share, in the region that the curve was learned in; elsewhere as it is."""
    inside = _region(probability)
    if curve is None or inside is None:
        return probability
    return np.asarray(np.where(inside, curve(probability), probability), np.float32)


def _region(probability: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"] | None:
    """Around what the network marks. It has to be known without raters, for a small probability says another thing
    beside an outline than in plain background. None where nothing is marked."""
    marked = probability > 0.5
    return around(marked) if marked.any() else None


def read_calibration(run: Run) -> Calibration | None:
    """That of a run; None where it has none.

    Raises:
        InputError: It is damaged, or belongs to other weights or structures.
    """
    file = run.path / FILE
    if not file.is_file():
        return None
    found = read_model(file, Calibration)
    if found.weights_sha256 != sha256_of(run.weights_file):
        raise InputError(f"{file} belongs to other weights than {run.weights_file}: remove it, or train anew")
    if tuple(found.structures) != run.config.task.structures:
        raise InputError(
            f"{file} is of {', '.join(found.structures)}; the run outlines {', '.join(run.config.task.structures)}"
        )
    return found


def calibrate(run: Run, method: Method, cases: Cases) -> Calibration | None:
    """Learn from the validation cases, at training size, and keep it in the run.

    Of a planned run whole cases are predicted, and looked at slice by slice.

    Args:
        method: With the run's weights.

    Returns:
        None where the method reads masks, or there is no case.
    """
    if method.reads != "image" or not len(cases):
        return None
    method.eval()
    structures = len(method.task.structures)
    patients: dict[str, list[_Patient]] = {}
    for about, probability, masks in _predicted(method, cases):
        who = about.group or about.name.partition(", slice ")[0]  # slices of one volume are one patient's
        seen = patients.setdefault(who, [_Patient() for _ in range(structures)])
        for c, patient in enumerate(seen):
            if about.rated[:, c].any():
                patient.see(probability[c], masks[about.rated[:, c], c])
    found = Calibration(
        weights_sha256=sha256_of(run.weights_file),
        cases=len(cases.names),
        patients=len(patients),
        pixel=0.0 if isinstance(cases, PlannedCases) else 1 / max(cases[0].space),
        structures={
            name: _learned([patient[c] for patient in patients.values()])
            for c, name in enumerate(method.task.structures)
        },
    )
    write_file(run.path / FILE, found.model_dump_json(indent=1).encode() + b"\n")
    return found


def _predicted(
    method: Method, cases: Cases
) -> Iterator[tuple[MultiRaterSample, Float[np.ndarray, "C H W"], Bool[np.ndarray, "R C H W"]]]:
    """Each case, or each of its slices: what is known of it, what the network says, and the masks."""
    if isinstance(cases, PlannedCases):
        for number in range(len(cases.units)):
            about, image, masks = cases.whole(number)
            for at, plane in enumerate(Windows(method, Case(about.name, image), cases.plan).planes()):
                yield about, plane.probability.cpu().numpy(), masks[:, :, at]
        return
    for sample in cases:
        with torch.inference_mode():
            batch = collate([sample], device=method.device).only("image")
            probability = method.predict(batch).probability[0].float().cpu().numpy()
        yield sample, probability, sample.masks


class _Patient:
    """What the cases of one patient say of one structure."""

    def __init__(self) -> None:
        self.pixels, self.predicted, self.voted = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)
        self.cases = 0
        self.widened: list[float] = []
        self.narrowed: list[float] = []

    def see(self, probability: Float[np.ndarray, "H W"], masks: Bool[np.ndarray, "R H W"]) -> None:
        self.cases += 1
        inside = _region(probability)
        if inside is not None:
            p, share = probability[inside].astype(np.float64), masks.mean(axis=0)[inside]
            index = _bin(p)
            self.pixels += np.bincount(index, minlength=BINS)
            self.predicted += np.bincount(index, weights=p, minlength=BINS)
            self.voted += np.bincount(index, weights=share, minlength=BINS)
        marked = probability > 0.5
        self.widened.append(how_far(np.asarray(masks.any(axis=0)), marked))
        self.narrowed.append(how_far(~np.asarray(masks.all(axis=0)), ~marked))


def _bin(probability: Float[np.ndarray, " pixels"]) -> np.ndarray:
    edge = 1 / (1 + math.exp(FARTHEST))
    p = np.clip(probability, edge, 1 - edge)
    position = (np.log(p / (1 - p)) + FARTHEST) / (2 * FARTHEST)
    return np.asarray(np.clip((position * BINS).astype(np.int64), 0, BINS - 1))


def _learned(patients: Sequence[_Patient]) -> Learned:
    asked = [patient for patient in patients if patient.cases]
    seen = [patient for patient in asked if patient.pixels.sum() > 0]
    return Learned(
        curve=_curve(seen) if seen else None,
        widened=_ascending(max(patient.widened) for patient in asked),
        narrowed=_ascending(max(patient.narrowed) for patient in asked),
    )


def _curve(seen: Sequence[_Patient]) -> Curve:
    """The curve of patients of whom each has pixels in the region."""
    alike = [1 / patient.pixels.sum() for patient in seen]
    weight, predicted, voted = (
        np.sum([w * getattr(patient, name) for w, patient in zip(alike, seen, strict=True)], axis=0)
        for name in ("pixels", "predicted", "voted")
    )
    some = np.flatnonzero(weight > 0)
    return curve_of(predicted[some] / weight[some], voted[some] / weight[some], weight[some])


def curve_of(
    probability: Float[np.ndarray, " n"], share: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]
) -> Curve:
    """The monotone curve nearest to the shares, from points in ascending order of probability.

    What is impossible stays impossible: it begins at (0, 0).
    """
    level = isotonic(share, weight)
    # both ends of a level are knots: flat along it, straight to the next
    ends = np.flatnonzero(np.diff(level, prepend=-1) != 0), np.flatnonzero(np.diff(level, append=2) != 0)
    knots = np.unique(np.concatenate(ends))
    x = np.round(np.clip(probability[knots], 0, 1), 12)
    y = np.round(np.clip(level[knots], 0, 1), 12)
    x, first = np.unique(x, return_index=True)
    y = y[first]
    if x[0] > 0:
        x, y = np.concatenate([[0.0], x]), np.concatenate([[0.0], y])
    return Curve(probability=tuple(x.tolist()), share=tuple(y.tolist()))


def isotonic(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The never falling sequence that is nearest in weighted squares: neighbours that fall are pooled.

    Source: Ayer et al., "An empirical distribution function for sampling with incomplete information", Annals of
    Mathematical Statistics 26, 1955.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, length = value, weight, 1
        while pools and pools[-1][0] >= mean:
            before, its, many = pools.pop()
            mean = (before * its + mean * total) / (its + total)
            total, length = total + its, length + many
        pools.append((mean, total, length))
    return np.asarray(np.repeat([mean for mean, _, _ in pools], [length for _, _, length in pools]))


def how_far(wanted: Bool[np.ndarray, "H W"], marked: Bool[np.ndarray, "H W"]) -> float:
    """How far `marked` has to grow to hold all that is `wanted`, in shares of the image's side; infinite if empty."""
    outside = wanted & ~marked
    if not outside.any():
        return 0.0
    if not marked.any():
        return math.inf
    return float(_distance(marked)[outside].max())


def moved(marked: Bool[np.ndarray, "H W"], by: float) -> Bool[np.ndarray, "H W"]:
    """A mask grown by so many shares of the image's side, or shrunk, where `by` is negative."""
    if by < 0:
        grown: Bool[np.ndarray, "H W"] = ~moved(~marked, -by)
        return grown
    if not by or (not marked.any() and math.isfinite(by)):
        return marked.copy()
    if math.isinf(by):
        return np.ones_like(marked)
    # a pixel's rounding: what was measured at training size is applied at the case's own
    return np.asarray(_distance(marked) <= by + 0.5 / max(marked.shape))


def _distance(marked: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Of each pixel from the nearest that is marked; either side of the image has the length 1, so that stretching
    an image to the training size changes nothing."""
    return np.asarray(distance_transform_edt(~marked, sampling=[1 / side for side in marked.shape]))


def quantile(scores: Sequence[float | None], coverage: float) -> float | None:
    """The margin that holds for a new patient with at least this probability, whatever the distribution.

    Returns:
        None where there are too few patients: at least coverage / (1 - coverage) are needed.
    """
    place = math.ceil(round((len(scores) + 1) * coverage, 9))
    if place > len(scores):
        return None
    score = scores[place - 1]
    return math.inf if score is None else score


def _ascending(scores: Iterable[float]) -> tuple[float | None, ...]:
    return tuple(None if math.isinf(score) else round(score, 9) for score in sorted(scores))


def sha256_of(file: Path) -> str:
    """Of the numbers in a safetensors file; what is written beside them does not count, nor does another file name."""
    with file.open("rb") as stream:
        stream.seek(8 + int.from_bytes(stream.read(8), "little"))
        return hashlib.file_digest(stream, "sha256").hexdigest()
