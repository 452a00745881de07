"""The rules by which a plan is made from what a data set shows, each with its reason.

The yardstick are nnU-Net's published heuristics (Isensee et al., "nnU-Net: a self-configuring method for deep
learning-based biomedical image segmentation", Nature Methods 18, 2021, doi:10.1038/s41592-020-01008-z, online
methods): median spacing with an exception for thick slices, patches as large as memory allows in the shape of the
median case, intensities by percentiles of the foreground (CT) or case by case. Ours also look at raters: where they
disagree patches are laid, and pixels much finer than their outlines lie apart are not kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core import given
from mrprism.core.errors import InputError, unknown
from mrprism.datasets import Dataset, open_dataset
from mrprism.datasets.dataset import need_images
from mrprism.learn.budget import Machine, machine_for
from mrprism.learn.methods import METHODS
from mrprism.learn.plan import Channel, Normalise, Plan, Reasoned
from mrprism.learn.survey import DARK, Survey, survey
from mrprism.output.files import write_file

AUTO = "auto"
STEP = 16  # patches are multiples of it along rows and columns
SLICES = 8  # and of it along slices
THICK = 3.0  # slices so many times as thick as a pixel is wide are called thick, as in nnU-Net
FEWEST_SLICES = 12  # volumes with fewer are learned as images
APART = 6.0  # pixels that raters' outlines lie apart on average, at least, at the planned size
EXTENT = 64.0  # pixels across the median structure, at least
WORTH = 0.75  # coarser pixels are taken if no more than this share of them is left along a side
MOST_BATCH, LEAST_BATCH, SOME = 8, 2, 4  # cases a step; some, if they fit, whatever share of all they are
MOST_SHARE = 0.05  # of all training pixels that one batch sees at most, as in nnU-Net
MOST_PATCHES = 8  # of one case in an epoch
EPOCHS = 150
MOST_EPOCHS = 1000
MOST_SIDE = {2: 2048, 3: 256}
BASE = 1.0e9  # bytes of a process before the first batch: libraries, weights, optimiser

# bytes that a training step takes for each pixel of a batch: measured with MrPrism, which takes most of all
# methods, four raters and two structures, float32 (benchmarks/volume.md says how); linear in raters and structures
BYTES = {"small": 2400.0, "resnet18": 3400.0, "resnet34": 3400.0}
BYTES_A_MASK = 115.0  # of it, for each rater and structure beyond those
MEASURED_MASKS = 8


@dataclass
class _Notes:
    """What is settled so far, and why."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def settle(self, key: str, value: Any, why: str) -> None:
        self.values[key], self.reasons[key] = value, why


def plan(
    dataset: Dataset | str | Path,
    out: str | Path | None = None,
    *,
    memory: str | float | None = None,
    minutes: float | None = None,
    method: str = "mrprism",
    backbone: str = "resnet34",
    split_seed: int = 0,
    device: str | None = None,
    each: Callable[[int, int], None] | None = None,
) -> Reasoned:
    """Measure a data set's training cases and plan how to learn from them; `mrprism.train` takes the plan.

    Args:
        dataset: A data set, or its folder.
        out: A new TOML file to write, with the reason of every line.
        memory: What a training may take, such as "8GB", or bytes; None: the GPU's, or half of the machine's.
        minutes: How long a training may take here; one step of `method` is timed for it. None: 150 epochs.
        method, backbone: What will be trained; the encoder decides how much memory a pixel takes.
        split_seed: As for `mrprism.train`, so that no case is measured that is tested on.
        device: "cpu", "cuda"; None: a GPU if there is one.
        each: Called after each case with how many are measured, of how many.

    Raises:
        InputError: The data set cannot be read, holds images and volumes, or the budget is too small.
    """
    if out is not None and Path(out).exists():
        raise InputError(f"'{out}' is there already, perhaps with changes of yours; name another file")
    data = (
        dataset
        if isinstance(dataset, Dataset)
        else open_dataset(given.path(dataset, "a data set, or its path"))
    )
    need_images(data, "planning")
    for what, name, known in (("method", method, METHODS), ("backbone", backbone, BYTES)):
        if name not in known:
            raise unknown(what, name, known)
    machine = machine_for(data.task, memory, minutes, method, backbone, device)
    made = make_plan(survey(data, split_seed, each=each), machine)
    if out is not None:
        write_file(Path(out), made.to_toml().encode())
    return made


def make_plan(found: Survey, machine: Machine) -> Reasoned:
    """Settle every line of a plan.

    Raises:
        InputError: There are images and volumes, or not even one patch fits into the memory.
    """
    notes = _Notes()
    dims = _dims(found, notes)
    factors = _grid(found, dims, notes)
    shapes = [_at(case.space[-dims:], f) for case, f in zip(found.cases, factors, strict=True)]
    most = _most_pixels(found, machine)
    slices = float(np.mean([math.prod(case.space[:-dims]) for case in found.cases]))  # of a case; else 1
    _patch(shapes, slices, most, dims, machine, notes)
    _places(found, shapes, notes)
    _intensities(found, notes)
    notes.settle(
        "augment",
        "full",
        "flips along every axis, turns of up to 15° and shifts in the plane, sizes 0.9 to 1.1, contrast and "
        'brightness; "light" has no flips: for structures of which left and right differ',
    )
    _epochs(round(found.there * slices), machine, notes)
    plan = Plan(**notes.values)
    about = (
        f"Plan of '{found.name}', from {len(found.cases)} of its {found.there} training cases "
        f"({machine.said}, encoder {machine.backbone}). Change what you like, then: mrprism train DATASET --plan "
        "THIS-FILE --out RUN"
    )
    return Reasoned(plan, notes.reasons, about)


def _dims(found: Survey, notes: _Notes) -> int:
    kinds = sorted(set(found.dims))
    if len(kinds) > 1:
        raise InputError(
            f"data set '{found.name}' holds images and volumes; expected one kind to plan for: put them into two "
            "data sets"
        )
    if kinds[0] == 2:
        notes.settle("dims", 2, "every case is an image")
        return 2
    slices = float(np.median([case.space[0] for case in found.cases]))
    spanned = [float(d.extent[0]) for case in found.cases for d in case.drawn if d is not None]
    through = float(np.median(spanned)) if spanned else slices
    if slices < FEWEST_SLICES or through < 3:
        notes.settle(
            "dims", 2, f"volumes of {slices:g} slices, structures through {through:g} of them: too few to learn from in "
            "three dimensions, so their slices are cases"
        )  # fmt: skip
        return 2
    notes.settle("dims", 3, f"volumes of {slices:g} slices, structures through {through:g} of them (medians)")
    return 3


def _grid(found: Survey, dims: int, notes: _Notes) -> list[tuple[float, ...]]:
    """How many new pixels an old one becomes along each axis, of each case."""
    spacings = [case.spacing_mm for case in found.cases]
    known = [np.asarray(s[-dims:], float) for s in spacings if s is not None]
    if len(known) == len(spacings):
        target, why = _spacing(np.stack(known), [case.space[-dims:] for case in found.cases])
        slack = _slack(found, [s / target for s in known]) if dims == 2 else 1.0
        if slack < 1:
            target = target / slack
            why += f"; {_why_coarser(slack)}"
        notes.settle("spacing_mm", tuple(_rounded(x) for x in target), why)
        target = np.asarray(notes.values.get("spacing_mm"))
        return [tuple((s / target).tolist()) for s in known]
    if dims == 3:
        notes.reasons["dims"] += "; not every case says how large a voxel is, so voxels stay as they are"
        return [(1.0,) * dims] * len(found.cases)
    longest = [max(case.space[-2:]) for case in found.cases]
    median = float(np.median(longest))
    slack = _slack(found, [np.full(2, median / side) for side in longest])
    side = max(8, round(median * slack))
    why = f"pixels have no millimetres, so images become equally long, their shape kept; the median is {median:g}"
    if slack < 1:
        why += f"; {_why_coarser(slack)}"
    notes.settle("long_side", side, why)
    return [(side / own, side / own) for own in longest]


def _spacing(known: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, str]:
    """nnU-Net's rule: the median; where slices are thick, the tenth percentile along that axis."""
    target = np.median(known, axis=0)
    why = "the median of the training cases"
    coarse = int(target.argmax())
    others = [axis for axis in range(len(target)) if axis != coarse]
    size = np.median(np.asarray(shapes), axis=0)
    thick = target[coarse] > THICK * target[others].max() and size[coarse] * THICK < size[others].min()
    if thick:
        tenth = float(np.percentile(known[:, coarse], 10))
        target[coarse] = max(tenth, float(target[others].max()))
        why += (
            f"; along axis {coarse} slices are thick ({known[:, coarse].min():g} to {known[:, coarse].max():g} mm), and "
            "their tenth percentile is taken, so that the finer volumes are not blurred"
        )
    return target, why


def _slack(found: Survey, factors: Sequence[np.ndarray]) -> float:
    """The smallest further factor at which outlines still lie `APART`, and structures still are `EXTENT` across."""
    apart, extent = [], []
    for case, factor in zip(found.cases, factors, strict=True):
        here = float(np.mean(factor[-2:]))
        for drawn in case.drawn:
            if drawn is not None:
                extent.append(here * max(drawn.extent[-2:]))
                if drawn.raters > 1 and drawn.apart > 0:
                    apart.append(here * drawn.apart)
    if not extent or not apart:
        return 1.0
    slack = max(APART / float(np.median(apart)), EXTENT / float(np.median(extent)))
    return slack if slack < WORTH else 1.0


def _why_coarser(slack: float) -> str:
    return (
        f"taken {1 / slack:.1f} times coarser, for raters' outlines still lie {APART:g} pixels apart and structures are "
        f"{EXTENT:g} pixels across or more, and what is finer than people agree on cannot be learned from them"
    )


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")


def _at(space: Sequence[int], factors: Sequence[float]) -> tuple[int, ...]:
    return tuple(max(1, round(n * f)) for n, f in zip(space, factors, strict=True))


def _most_pixels(found: Survey, machine: Machine) -> float:
    """How many pixels one batch may have."""
    masks = found.raters * len(found.structures)
    each = BYTES.get(machine.backbone, max(BYTES.values())) + BYTES_A_MASK * max(0, masks - MEASURED_MASKS)
    return (machine.memory - BASE) / each


def _patch(
    shapes: list[tuple[int, ...]], slices: float, most: float, dims: int, machine: Machine, notes: _Notes
) -> None:
    """Whole cases where two of them fit into memory, else patches in the shape of the median case."""
    largest = _rounded_up([float(max(shape[axis] for shape in shapes)) for axis in range(dims)])
    fits = math.prod(largest) * LEAST_BATCH <= most and max(largest) <= MOST_SIDE[dims]
    total = slices * sum(math.prod(shape) for shape in shapes)
    if fits:
        patch, why = (
            largest,
            "whole cases: the largest has "
            + " × ".join(str(max(shape[axis] for shape in shapes)) for axis in range(dims))
            + " pixels at this size, and smaller ones are padded",
        )
    else:
        patch = _largest_patch(tuple(np.median(np.asarray(shapes), axis=0).tolist()), most, dims)
        share = 100 * math.prod(patch) / float(np.median([math.prod(shape) for shape in shapes]))
        why = (
            f"patches, in the shape of the median case: a step with two whole cases does not fit into memory; one patch "
            f"covers {share:.0f} % of a median case"
        )
    if math.prod(patch) * LEAST_BATCH > most:
        need = BASE + (machine.memory - BASE) * math.prod(patch) * LEAST_BATCH / max(most, 1)
        raise InputError(
            f"{machine.memory / 1e9:.1f} GB of memory ({machine.said}) is too little for the smallest patch, "
            f"{' × '.join(map(str, patch))} with two a step"
            + (f", which takes {need / 1e9:.1f} GB" if most > 1 else "")
            + ": give more by --memory, or a smaller --backbone"
        )
    notes.settle("patch", patch, why)
    batch = int(min(MOST_BATCH, most // math.prod(patch)))
    few = int(MOST_SHARE * total // math.prod(patch))
    batch = max(LEAST_BATCH, min(batch, max(few, SOME)))
    notes.settle(
        "batch_size",
        batch,
        f"as many as fit into memory ({machine.said}), {MOST_BATCH} at most, and where that is more than "
        f"{100 * MOST_SHARE:g} % of all training pixels {SOME}",
    )


def _largest_patch(median: Sequence[float], most: float, dims: int) -> tuple[int, ...]:
    """As nnU-Net finds it: the median case, its relatively longest side shortened until two fit."""
    step = _steps(dims)
    patch = [min(n, MOST_SIDE[dims]) for n in _rounded_up(median)]
    while math.prod(patch) * LEAST_BATCH > most:
        able = [axis for axis in range(dims) if patch[axis] > step[axis]]
        if not able:
            break
        longest = max(able, key=lambda axis: (patch[axis] / median[axis], patch[axis]))
        patch[longest] -= step[longest]
    return tuple(patch)


def _steps(dims: int) -> tuple[int, ...]:
    return (STEP, STEP) if dims == 2 else (SLICES, STEP, STEP)


def _rounded_up(shape: Sequence[float]) -> tuple[int, ...]:
    return tuple(step * math.ceil(n / step) for n, step in zip(shape, _steps(len(shape)), strict=True))


def _places(found: Survey, shapes: Sequence[tuple[int, ...]], notes: _Notes) -> None:
    """How many patches of each case, and where."""
    patch = notes.values["patch"]
    if all(n <= p for shape in shapes for n, p in zip(shape, patch, strict=True)):
        notes.settle("patches_per_case", 1, "each case is seen whole")
        return
    covering = float(np.median([math.prod(shape) for shape in shapes])) / math.prod(patch)
    count = max(1, min(MOST_PATCHES, math.ceil(covering)))
    notes.settle(
        "patches_per_case", count, f"of the {covering:.1f} that would cover a median case, {MOST_PATCHES} at most"
    )  # fmt: skip
    disputed = [d.disputed for case in found.cases for d in case.drawn if d is not None and d.raters > 1]
    if disputed and float(np.median(disputed)) > 0:
        share = 100 * float(np.median(disputed))
        notes.settle(
            "drawn", 1 / 3, "of the patches: laid on a structure, each structure as often as the others"
        )
        notes.settle(
            "disputed", 1 / 3, f"of the patches: laid where raters disagree, which is {share:.0f} % of what any of them "
            "marked (median); the other third lies anywhere"
        )  # fmt: skip
    else:
        notes.settle(
            "drawn", 2 / 3, "of the patches: laid on a structure; nobody disagrees, so nothing is laid there"
        )


def _intensities(found: Survey, notes: _Notes) -> None:
    kind, why = _normalise(found)
    notes.settle("normalise", kind, why)
    if kind != "foreground":
        return
    channels = []
    for number in range(len(found.cases[0].foreground)):
        values = np.concatenate([case.foreground[number] for case in found.cases])
        low, high = (float(x) for x in np.percentile(values, (0.5, 99.5)))
        high = max(high, low + 1e-3)
        inside = np.clip(values, low, high)
        channels.append(
            Channel(
                low=_rounded(low),
                high=_rounded(high),
                mean=_rounded(float(inside.mean())),
                deviation=_rounded(max(float(inside.std()), 1e-3)),
            )
        )
    assert found.window is not None
    below, above = found.window
    file = [f"{below + (above - below) * x:.0f}" for x in (channels[0].low, channels[0].high)]
    notes.settle(
        "channels",
        tuple(channels),
        f"the 0.5 and 99.5 percentile of what raters marked ({file[0]} to {file[1]} in values of the files), and mean and "
        "deviation between them; in intensities, 0 and 1 being the ends of the data set's window "
        f"({below:g} to {above:g})",
    )


def _normalise(found: Survey) -> tuple[Normalise, str]:
    count = len(found.cases[0].foreground)
    names = ", ".join(found.channels) or f"{count} channel{'s' if count > 1 else ''}"
    scanned = any(re.search(r"\b(ct|cbct|hu|hounsfield)\b", name.lower()) for name in found.channels)
    if scanned or (found.window is not None and found.window[0] < 0):
        if found.window is not None:
            return "foreground", (
                f"values mean the same in every case ({names}, with a window): cut to percentiles of what raters marked "
                "and z-scored"
            )
        return "case", (
            f"the channel is {names}, but the data set has no window, so each case was stretched by its own extremes; "
            "say -o window=LOW:HIGH when importing, and values of CT are kept comparable"
        )
    if count >= 3 and set(found.dims) == {2}:
        return "none", f"colours ({names}) are taken as they are"
    outside = float(np.median([case.dark for case in found.cases]))
    rest = f"; the {100 * outside:.0f} % at the lowest value are left out of both" if outside > DARK else ""
    return "case", f"grey values ({names}) whose scale differs from case to case: z-score of each case{rest}"


def _epochs(units: int, machine: Machine, notes: _Notes) -> None:
    patch, batch = notes.values["patch"], notes.values["batch_size"]
    steps = max(1, units * notes.values["patches_per_case"] // batch)
    if machine.minutes is None or machine.seconds is None:
        notes.settle(
            "epochs", EPOCHS, f"the paper's number, of {steps} steps each; --minutes plans for a time"
        )
        return
    took = machine.seconds(patch, batch, notes.values.get("spacing_mm"))
    epoch = 1.15 * steps * took  # validating costs a tenth, reading the rest
    epochs = int(60 * machine.minutes / epoch)
    if not epochs:
        raise InputError(
            f"one epoch takes {epoch / 60:.1f} minutes here, more than the {machine.minutes:g} that are given: give more "
            "--minutes, a smaller --backbone, or a machine with a GPU"
        )
    notes.settle(
        "epochs",
        min(MOST_EPOCHS, epochs),
        f"{machine.minutes:g} minutes: a step took {took:.2f} s here, and an epoch has {steps} of them",
    )
