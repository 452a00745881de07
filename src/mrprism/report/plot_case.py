"""One case as a figure for notebooks and papers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.core.types import Image
from mrprism.output.colours import BLANK, CONFIDENCE_COLOURS, rater_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = 2.6  # a panel's width
FOUND, REFERENCE = "#12e2f0", "white"  # seen on red fundus and on grey alike


def plot_case(
    sample: MultiRaterSample,
    prediction: Prediction | None = None,
    *,
    raters: Sequence[str] | None = None,
    columns: int = 7,
) -> Figure:
    """Draw the image, all raters' outlines, their majority, and the prediction, each recurrence by itself.

    Outlines of the prediction and the majority are solid, those of the reference dashed. Of a volume
    the slice is shown on which most was drawn.

    Args:
        prediction: From a fusion or a method, at the sample's size.
        raters: Their names, for a legend below.
        columns: Panels in a row, at most; more are spread evenly over rows.

    Returns:
        A figure; a notebook shows it, `savefig` writes it.
    """
    given.one_of(sample, MultiRaterSample, "one case, such as data[0]")
    if prediction is not None:
        given.one_of(prediction, Prediction, "what a fusion or a run made of it")
    flat = _slice(sample)
    image, masks, reference = flat(ground(sample)), flat(sample.masks), flat(sample.reference)
    voters = sample.rated.sum(axis=0)[:, None, None]
    title = "image" if sample.image is not None else "no image"
    panels: list[tuple[str, Any]] = [(title, None), (f"{int(voters.max())} raters", "raters")]
    panels.append(("majority of the raters", masks.sum(axis=0) > voters / 2))
    if prediction is not None and len(prediction.steps) > 1:
        panels += [(f"Rec{i}", flat(step)) for i, step in enumerate(prediction.steps)]
    elif prediction is not None:
        panels.append(("prediction", flat(prediction.probability)))

    rows = -(-len(panels) // columns)
    count = -(-len(panels) // rows)
    height, width = image.shape[1:]
    figure = figure_of(count * INCHES, rows * (INCHES * height / width + 0.35))
    shown = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    for number, (title, what) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, count, number)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
        if isinstance(what, str):
            for r in np.flatnonzero(sample.rated.any(axis=1)).tolist():
                for mask in masks[r]:
                    outline(axes, mask, rater_colour(r), 1.2)
                if raters is not None:
                    axes.plot([], [], color=rater_colour(r), label=raters[r])
        elif what is not None:
            for probability in what:
                outline(axes, probability, "black", 2.6)
                outline(axes, probability, FOUND, 1.6)
            for mask in reference if reference is not None else ():
                outline(axes, mask, REFERENCE, 1.3, dashed=True)
    if reference is not None:
        axes.plot([], [], color="grey", linestyle="dashed", linewidth=1.3, label="reference")
    if raters is not None or reference is not None:
        names = [*(raters or ()), *(["reference"] if reference is not None else [])]
        figure.legend(
            loc="outside lower left", ncols=_abreast(names, count * INCHES), frameon=False, fontsize=9
        )
    return figure


def plot_confidence(
    sample: MultiRaterSample,
    prediction: Prediction,
    *,
    raters: Sequence[str] | None = None,
    structure: int = 0,
    columns: int = 7,
) -> Figure:
    """Where each rater is trusted: a map for each, with what the rater drew, and the consensus dashed.

    Of a volume the slice is shown on which most was drawn.

    Args:
        prediction: From a method that says how far to trust raters, such as `mrprism`, or from a fusion that does.
        raters: Their names; None: numbers.
        structure: Which of the structures.
        columns: Panels in a row, at most.

    Returns:
        A figure; a notebook shows it, `savefig` writes it.

    Raises:
        InputError: The prediction says nothing of trust, or of other raters, or there is no such structure.
    """
    given.one_of(sample, MultiRaterSample, "one case, such as data[0]")
    given.one_of(prediction, Prediction, "what a fusion or a run made of it")
    count = sample.masks.shape[0]
    if prediction.confidence is None or len(prediction.confidence) != count:
        raise InputError(
            f"the prediction says nothing of how far to trust these {count} raters; expected one of mrprism, for instance"
        )
    if not 0 <= given.whole(structure, "structure") < sample.masks.shape[1]:
        raise InputError(f"there is no structure {structure}; expected 0 to {sample.masks.shape[1] - 1}")
    names = [f"rater {r + 1}" for r in range(count)] if raters is None else list(raters)
    if len(names) != count:
        raise InputError(f"expected the names of {count} raters, not {len(names)}")
    flat = _slice(sample)
    trust, masks, found = flat(prediction.confidence), flat(sample.masks), flat(prediction.probability)
    rows = -(-count // columns)
    across = -(-count // rows)
    height, width = found.shape[1:]
    figure = figure_of(across * INCHES + 0.6, rows * (INCHES * height / width + 0.35))
    for r, name in enumerate(names):
        axes = figure.add_subplot(rows, across, r + 1)
        shown = axes.imshow(trust[r, structure], cmap=CONFIDENCE_COLOURS, vmin=0.5, vmax=1)
        outline(axes, found[structure], "white", 1.2, dashed=True)
        if sample.rated[r, structure]:
            outline(axes, masks[r, structure], "black", 2.8)
            outline(axes, masks[r, structure], rater_colour(r), 1.8)
        axes.set_title(name if sample.rated[r, structure] else f"{name}, not done", fontsize=11)
        axes.set_axis_off()
    figure.colorbar(shown, ax=figure.axes, shrink=0.8, label="chance that the rater agrees")
    return figure


def _abreast(names: Sequence[str], width: float) -> int:
    """How many entries of a legend stand side by side in so many inches, in letters of 9 points."""
    longest = max(map(len, names))
    return max(1, int(width / (0.55 + 0.105 * longest)))


def ground(sample: MultiRaterSample) -> Image:
    """The image; of a case without one a light grey, on which outlines of every colour are seen."""
    return np.full((1, *sample.space), BLANK, np.float32) if sample.image is None else sample.image


def _slice(sample: MultiRaterSample) -> Any:
    """What takes an array to the plane that is shown."""
    if len(sample.space) == 2:
        return lambda array: array
    drawn = sample.masks.sum(axis=(0, 1, 3, 4))
    if sample.reference is not None:
        drawn = drawn + sample.reference.sum(axis=(0, 2, 3))
    cut = int(drawn.argmax())
    return lambda array: None if array is None else array[..., cut, :, :]


def outline(axes: Any, values: np.ndarray, colour: str, width: float, *, dashed: bool = False) -> None:
    """Where a mask or a probability passes one half."""
    if (values > 0.5).any() and not (values > 0.5).all():
        axes.contour(
            values.astype(np.float64),
            levels=[0.5],
            colors=[colour],
            linewidths=width,
            linestyles="dashed" if dashed else "solid",
        )


def figure_of(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    class Shown(Figure):
        """Shows itself in a notebook, without pyplot's state."""

        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png", dpi=110)
            return content.getvalue()

    return Shown(figsize=(width, height), layout="constrained")
