"""A case larger than what a network sees at once: windows that overlap, their answers joined with Gaussian weights.

Windows lie and weigh as in MONAI's `sliding_window_inference`, and the answer is the same; but a volume is answered
slice by slice, from front to back, and never lies in memory as a whole. What is kept are the slices that one row of
windows reaches through, and of those a band of rows where even that would be too much.

What a method says of a case as a whole (`weights`, a rater's confidence; `draw_weights`) it says of each window. The case's
is one: the mean over its windows, of confidences in log-odds, each window weighing by how many pixels it has on which the
masks that it predicts for the raters differ; where none has any, all weigh alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrprism.core.prediction import Prediction
from mrprism.images.planes import PlaneFile
from mrprism.learn.batch import Batch
from mrprism.learn.methods.method import Method
from mrprism.learn.patches import Space, patch_of
from mrprism.learn.plan import Plan
from mrprism.learn.resize import shares, sized

MEMORY = 1 << 30  # bytes of answers that are added up at a time
MAPS = (
    "probability",
    "raters",
    "confidence",
    "draws",
    "steps",
    "at_least",
)  # what networks give with pixel axes
POOLED = ("weights", "draw_weights")  # what they say of a case: (R, C) and (S, C)
STEPS = 8  # recurrences that memory is planned for
EPS = 1e-4  # confidences nearer to 0 and 1 count as this

Start = tuple[int, int, int]


@dataclass(frozen=True)
class Case:
    """A case at the planned spacing, an image as a volume of one slice."""

    name: str
    image: np.ndarray  # (channel, D, H, W), normalised
    masks: np.ndarray | None = None  # (R, C, D, H, W), for methods that read them
    rated: np.ndarray | None = None  # (R, C)

    @property
    def space(self) -> Space:
        depth, height, width = self.image.shape[1:]
        return depth, height, width


class Windows:
    """One case, answered window by window."""

    def __init__(self, method: Method, case: Case, plan: Plan) -> None:
        from monai.data.utils import compute_importance_map  # imported late: it takes seconds

        self.method, self.case, self.plan = method, case, plan
        self.patch = patch_of(plan)
        self.device = method.device
        # an axis shorter than the patch is padded evenly, as patches of a training are
        self.padded: Space = tuple(map(max, zip(case.space, self.patch, strict=True)))  # type: ignore[assignment]
        self.before = [(n - m) // 2 for n, m in zip(self.padded, case.space, strict=True)]
        self.starts = [starts(n, p, plan.overlap) for n, p in zip(self.padded, self.patch, strict=True)]
        flat = plan.patch if plan.dims == 2 else self.patch
        weight: Tensor = compute_importance_map(flat, mode="gaussian", sigma_scale=0.125, device=self.device)
        self.weight = weight.float().reshape(self.patch)
        self.pools: dict[str, _Pool] = {}

    def planes(self, wanted: range | None = None) -> Iterator[Prediction]:
        """What is said of each slice of the case, from front to back, as tensors (*lead, H, W).

        Args:
            wanted: Only these slices; windows that do not reach any of them are left out.
        """
        depth = self.case.space[0]
        wanted = range(depth) if wanted is None else wanted
        tops = self._tops(wanted)
        rows = self._rows()
        if len(rows) == 1:
            yield from (self._whole(plane) for plane in self._band(rows[0], tops, wanted))
            return
        bands = []
        for band in rows:
            kept: dict[str, PlaneFile] = {}
            for plane in self._band(band, tops, wanted):
                for name, maps in plane.items():
                    array = maps.cpu().numpy()
                    kept.setdefault(name, PlaneFile(array.shape, array.dtype)).append(array)
            bands.append(kept)
        for place in range(len(wanted)):
            yield self._whole(
                {
                    name: torch.from_numpy(np.concatenate([b[name][place] for b in bands], -2))
                    for name in bands[0]
                }
            )

    def pooled(self) -> dict[str, Any]:
        """What is said of the case as a whole by the windows answered so far."""
        return {name: pool.mean() for name, pool in self.pools.items()}

    def _tops(self, wanted: range) -> list[int]:
        """Where windows begin along the slices, those that reach a wanted one."""
        low, high = wanted[0] + self.before[0], wanted[-1] + self.before[0]
        return [top for top in self.starts[0] if top <= high and top + self.patch[0] > low]

    def _rows(self) -> list[range]:
        """Bands of rows of which all answers, as deep as a window, fit into `MEMORY`."""
        task = self.method.task
        each = 1 + 2 * len(task.raters) + (self.method.draws or 0) + STEPS
        row = 4 * (each * len(task.structures) + 1) * self.patch[0] * self.padded[2]
        most = max(self.patch[1], MEMORY // row)
        height = self.padded[1]
        count = -(-height // most)
        edges = [round(i * height / count) for i in range(count + 1)]
        return [range(a, b) for a, b in itertools.pairwise(edges)]

    def _band(self, rows: range, tops: Sequence[int], wanted: range) -> Iterator[dict[str, Tensor]]:
        """The wanted slices of a band of rows, one after the other."""
        deep, high, wide = self.patch
        sums: dict[str, Tensor] = {}
        total = torch.zeros((deep, len(rows), self.padded[2]), device=self.device)
        across = [at for at in self.starts[1] if at < rows.stop and at + high > rows.start]
        for top, following in zip(tops, [*tops[1:], tops[-1] + deep], strict=True):
            places = [(top, y, x) for y, x in itertools.product(across, self.starts[2])]
            for some in _chunks(places, 1 if self.method.draws is not None else self.plan.batch_size):
                answer = self._answer(some)
                for number, (_, y, x) in enumerate(some):
                    low, up = max(y, rows.start), min(y + high, rows.stop)
                    here = (slice(None), slice(low - rows.start, up - rows.start), slice(x, x + wide))
                    weight = self.weight[:, low - y : up - y]
                    if y >= rows.start:  # a window that reaches into two bands counts once
                        self._pool(answer, number)
                    for name, maps in answer.items():
                        if name in POOLED:
                            continue
                        lead = maps.shape[1:-3]
                        if name not in sums:
                            sums[name] = torch.zeros((*lead, *total.shape), device=self.device)
                        sums[name][(..., *here)] += maps[number][..., low - y : up - y, :] * weight
                    total[here] += weight
            for at in range(following - top):
                if top + at - self.before[0] in wanted:
                    yield {name: (maps[..., at, :, :] / total[at]).clamp(0, 1) for name, maps in sums.items()}
            total = _moved(total, following - top)
            sums = {name: _moved(maps, following - top) for name, maps in sums.items()}

    def _answer(self, some: Sequence[Start]) -> dict[str, Tensor]:
        """What the method says of some windows: maps (window, *lead, d, h, w), and numbers of whole windows."""
        torch.manual_seed(0)  # methods that draw take the same noise in every window
        batch = Batch(
            names=(self.case.name,) * len(some),
            image=torch.stack([self._window(self.case.image, at) for at in some]).to(self.device),
        )
        if self.method.reads != "image":
            assert self.case.masks is not None and self.case.rated is not None
            rated = torch.from_numpy(self.case.rated)
            masks = torch.stack([self._window(self.case.masks, at) for at in some])
            masks = masks * rated.reshape(*rated.shape, *(1,) * (masks.ndim - 3))
            batch = replace(
                batch,
                masks=masks.to(self.device),
                rated=rated[None].expand(len(some), *rated.shape).to(self.device),
            )
        with torch.inference_mode():
            said = self.method.predict(batch.only(self.method.reads))
        found = {name: value for name, value in _named(said) if value is not None}
        if self.plan.dims == 2:
            found = {n: v if n in POOLED else v.unsqueeze(-3) for n, v in found.items()}
        return {name: value.float() for name, value in found.items()}

    def _window(self, array: np.ndarray, at: Start) -> Tensor:
        """A part of an array (*lead, D, H, W) as the network takes it; what lies outside the case is 0."""
        box, around = [], []
        for start, size, before, n in zip(at, self.patch, self.before, self.case.space, strict=True):
            low = start - before
            box.append(slice(max(0, low), min(n, low + size)))
            around.append((max(0, -low), max(0, low + size - n)))
        part = np.asarray(array[..., box[0], box[1], box[2]], np.float32)
        part = np.pad(part, [(0, 0)] * (part.ndim - 3) + around)
        return torch.from_numpy(part[..., 0, :, :] if self.plan.dims == 2 else part)

    def _whole(self, plane: Mapping[str, Tensor]) -> Prediction:
        """A slice without what was padded."""
        _, top, left = self.before
        _, height, width = self.case.space
        cut = {n: maps[..., top : top + height, left : left + width] for n, maps in plane.items()}
        steps = tuple(maps for name, maps in cut.items() if name.startswith("steps"))
        return Prediction(**{n: cut.get(n) for n in MAPS if n != "steps"}, steps=steps)

    def _pool(self, answer: Mapping[str, Tensor], number: int) -> None:
        for name in POOLED:
            if name in answer:
                value = answer[name][number].cpu().numpy()
                pixels = np.ones(value.shape[-1])
                if "raters" in answer:
                    marked = answer["raters"][number] > 0.5  # (R, C, *patch)
                    differ = marked.any(0) & ~marked.all(0)
                    pixels = differ.flatten(1).sum(1).cpu().numpy().astype(np.float64)
                self.pools.setdefault(name, _Pool(name == "weights")).add(value, pixels)


class _Pool:
    """A mean over windows."""

    def __init__(self, chances: bool) -> None:
        self.chances = chances  # pooled in log-odds
        self.values: list[np.ndarray] = []
        self.pixels: list[np.ndarray] = []

    def add(self, value: np.ndarray, pixels: np.ndarray) -> None:
        self.values.append(value.astype(np.float64))
        self.pixels.append(pixels)

    def mean(self) -> np.ndarray:
        values, pixels = np.stack(self.values), np.stack(self.pixels)  # (window, R, C) and (window, C)
        pixels = np.where(pixels.sum(0) > 0, pixels, 1.0)
        share = (pixels / pixels.sum(0))[:, None]
        if not self.chances:
            return np.asarray((values * share).sum(0))
        chance = np.clip(values, EPS, 1 - EPS)
        return np.asarray(1 / (1 + np.exp(-(np.log(chance / (1 - chance)) * share).sum(0))))


def at_own_size(windows: Windows, own: Space, only: int | None = None) -> Iterator[Prediction]:
    """What windows say at the planned spacing, as slices of the case's own grid, one after the other.

    Args:
        own: Voxels of the case's own grid.
        only: One slice of it alone.
    """
    planned = windows.case.space
    along = shares(planned[0], own[0])
    rows = list(along) if only is None else [along[only]]
    first = int(rows[0].nonzero()[0])
    last = int(rows[-1].nonzero()[-1])
    planes = windows.planes(range(first, last + 1))
    held: dict[int, Prediction] = {}
    read = first
    for row in rows:
        places = row.nonzero()[:, 0].tolist()
        while read <= places[-1]:
            held[read] = next(planes)
            read += 1
        held = {at: plane for at, plane in held.items() if at >= places[0]}
        mixed = _mixed([held[at] for at in places], row[places])
        yield replace(mixed, **{name: sized(getattr(mixed, name), own[1], own[2]) for name in MAPS})


def _mixed(planes: Sequence[Prediction], parts: Tensor) -> Prediction:
    if len(planes) == 1:
        return planes[0]

    def mean(values: Sequence[Any]) -> Any:
        if values[0] is None:
            return None
        if isinstance(values[0], tuple):
            return tuple(mean(each) for each in zip(*values, strict=True))
        return sum(part * value for part, value in zip(parts.tolist(), values, strict=True))

    return Prediction(**{name: mean([getattr(plane, name) for plane in planes]) for name in MAPS})


def starts(size: int, patch: int, overlap: float) -> list[int]:
    """Where windows begin along an axis that is as long as the patch, or longer; the last ends with it."""
    step = max(1, int(patch * (1 - overlap)))
    count = -(-(size - patch) // step) + 1
    return [min(i * step, size - patch) for i in range(count)]


def _moved(maps: Tensor, by: int) -> Tensor:
    """Slices moved up by so many, and nothing after them."""
    rest = maps[..., by:, :, :]
    return torch.cat([rest, torch.zeros_like(maps[..., : maps.shape[-3] - rest.shape[-3], :, :])], -3)


def _chunks(places: Sequence[Start], size: int) -> Iterator[Sequence[Start]]:
    for first in range(0, len(places), size):
        yield places[first : first + size]


def _named(said: Prediction) -> Iterator[tuple[str, Any]]:
    for name in (*MAPS, *POOLED):
        value = getattr(said, name)
        if isinstance(value, tuple):
            yield from ((f"{name}{number}", step) for number, step in enumerate(value))
        else:
            yield name, value
