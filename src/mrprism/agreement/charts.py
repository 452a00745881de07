"""Geometry of the page's charts: numbers in, places and words out; the template draws."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mrprism.agreement.bootstrap import Estimate
from mrprism.agreement.spread import Spread
from mrprism.output.colours import rater_colour

DASH = "–"
MOST_CELLS = 60  # raters up to which every cell of a map is drawn and can be pointed at
NAME_ENDS = 8  # letters kept at each end of a long name
PALE, DARK = np.array([240, 245, 249]), np.array([27, 73, 107])  # around the accent, #2a6f97


def words(value: float, digits: int = 2) -> str:
    """A number as the page shows it; a dash where it is undefined."""
    if math.isnan(value):
        return DASH
    magnitude = abs(value)
    if magnitude >= 1e7:
        return f"{value:.1e}".replace("-", "−")  # no page has room for all its digits
    if magnitude >= 1000:
        text = f"{value:,.0f}".replace(",", " ")  # a thin, unbreakable space
    elif magnitude >= 100:
        text = f"{value:.0f}"
    else:
        text = f"{value:z.{digits if magnitude < 10 else 1}f}"  # z: no −0
    return text.replace("-", "−")


def percent(value: float, sign: bool = False) -> str:
    """A share as per cent; a dash where it is undefined."""
    if math.isnan(value):
        return DASH
    whole = round(value * 100) + 0  # no −0
    return f"{whole:{'+' if sign and whole else ''}}\u202f%".replace("-", "−")


def short(name: str) -> str:
    """A rater's name beside a chart; a long one without its middle, for names often differ in their ends."""
    return name if len(name) <= 2 * NAME_ENDS + 1 else f"{name[:NAME_ENDS]}…{name[-NAME_ENDS:]}"


@dataclass(frozen=True)
class Figure:
    """A statistic in words."""

    value: str
    interval: str
    note: str = ""  # what was undefined


def figure(found: Estimate, *, share: bool = False, unit: str = "", of: int = 0) -> Figure:
    """A single estimate in words.

    Args:
        of: How many cases there are; where the estimate rests on fewer than half, it says so.
    """
    if not found.computed:
        return Figure("not computed", "")
    digits = 1 if unit else 2

    def write(number: float) -> str:
        return percent(number) if share else words(number, digits)

    value, low, high = (write(float(number)) for number in (found.value, found.low, found.high))
    if unit and value != DASH:
        value = f"{value} {unit}"
    undefined, cases = int(found.undefined), int(found.cases)
    notes = [f"on {cases} of {of} cases"] if cases < of / 2 else []
    notes += [f"{undefined} case{'s' if undefined > 1 else ''} undefined"] if undefined else []
    return Figure(value, f"{low} to {high}" if DASH not in (low, high) else "", ", ".join(notes))


@dataclass(frozen=True)
class Cell:
    """A square of a heat map."""

    x: float
    y: float
    text: str
    fill: str
    ink: str
    title: str


def cell_side(raters: int) -> float:
    """How large a cell of a heat map is, in CSS pixels."""
    return min(58.0, 400.0 / raters)


@dataclass(frozen=True)
class Heatmap:
    """Rater against rater."""

    title: str
    caption: str
    side: float  # of a cell
    left: float
    width: float
    height: float
    font: float
    cells: tuple[Cell, ...]
    picture: str  # data URI with a pixel a cell, in the place of cells where they are very many
    labels: tuple[str, ...]
    colours: tuple[str, ...]
    low: str
    high: str
    slant: bool
    picture_side: float  # of all cells together


def heatmap(
    title: str,
    caption: str,
    raters: Sequence[str],
    matrix: np.ndarray,
    *,
    best: float,
    floor: float | None = None,
    unit: str = "",
) -> Heatmap:
    """A matrix of rater against rater; dark is agreement.

    Args:
        title, caption: What is shown, and how to read it.
        raters: Their names.
        matrix: NaN where undefined.
        best: The value of perfect agreement, which is darkest.
        floor: The palest value; None: the worst that occurs, rounded.
        unit: Appended to the numbers of the scale.
    """
    count = len(raters)
    known = matrix[~np.isnan(matrix)]
    worst = floor if floor is not None else _round_away(known, best)
    side = cell_side(count)
    font = max(min(13.5, side * 0.3), 5.0)
    names = tuple(short(name) for name in raters)
    longest = max(len(name) for name in names)
    left = 26 + longest * 8.2
    slant = longest * 8.2 > side
    cells = []
    depths = np.clip(np.nan_to_num((matrix - worst) / ((best - worst) or 1.0)), 0.0, 1.0)
    for row in range(count if count <= MOST_CELLS else 0):
        for column in range(count):
            if row == column:
                continue
            value, depth = float(matrix[row, column]), float(depths[row, column])
            shade = PALE + (DARK - PALE) * depth
            text = words(value, 2 if abs(best) == 1 else 1)
            cells.append(
                Cell(
                    x=left + column * side,
                    y=row * side,
                    text=text if side >= 24 else "",
                    fill="#f4f4f2" if math.isnan(value) else "rgb({:.0f},{:.0f},{:.0f})".format(*shade),
                    ink="#ffffff" if depth > 0.5 else "#1c2430",
                    title=f"{raters[row]} and {raters[column]}: {text}{f' {unit}' if unit else ''}",
                )
            )
    tail = 20 + longest * 5.8 if slant else 26.0
    labels = names if side >= 9 else ()
    return Heatmap(
        title=title,
        caption=caption,
        side=side,
        left=left,
        width=left + count * side + (tail * 0.9 - side / 2 if slant else 4),
        height=count * side + tail,
        font=font,
        cells=tuple(cells),
        picture="" if count <= MOST_CELLS else _picture(matrix, depths),
        labels=labels,
        colours=tuple(rater_colour(r) for r in range(count)),
        low=f"{words(worst, 1)}{f' {unit}' if unit else ''}",
        high=f"{words(best, 1)}{f' {unit}' if unit else ''}",
        slant=slant,
        picture_side=count * side,
    )


def _picture(matrix: np.ndarray, depths: np.ndarray) -> str:
    """A pixel a cell; what is unknown is as grey as the page's empty cells."""
    shade = PALE + (DARK - PALE) * depths[..., None]
    shade[np.isnan(matrix)] = 244
    data = io.BytesIO()
    Image.fromarray(np.rint(shade).astype(np.uint8)).save(data, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


@dataclass(frozen=True)
class BiasRow:
    """One rater's under-drawing (left of 0), over-drawing (right) and net bias with its interval."""

    rater: str
    colour: str
    y: float
    under: float
    over: float
    net: float | None  # as are the interval's ends: None where undefined
    low: float | None
    high: float | None
    text: str
    title: str


@dataclass(frozen=True)
class BiasPlot:
    """All raters beside the vote of the others."""

    width: float
    height: float
    zero: float
    rows: tuple[BiasRow, ...]
    ticks: tuple[tuple[float, str], ...]


def bias_plot(raters: Sequence[str], found: dict[str, Estimate]) -> BiasPlot:
    """Place the raters' bias on one axis, 0 where a rater draws as much as the others' vote."""
    over, under, net = found["over_drawn"], found["under_drawn"], found["bias"]
    longest = max(len(short(name)) for name in raters)
    left, right, step = 14 + longest * 8.2, 64.0, min(max(cell_side(len(raters)), 18.0), 46.0)
    width = 520.0
    ends = [0.05, *(_known(over.value)), *(_known(net.high))]
    starts = [0.05, *(_known(under.value)), *(-v for v in _known(net.low))]
    high, low = min(max(ends), 3.0) * 1.05, min(max(starts), 3.0) * 1.05
    scale = (width - left - right) / (high + low)
    zero = left + low * scale

    def place(value: float) -> float:
        return zero + min(max(value, -low), high) * scale

    rows = []
    for r, name in enumerate(raters):
        values = [float(e.value[r]) for e in (under, over, net)]
        if any(math.isnan(v) for v in values):
            values = [0.0, 0.0, 0.0]
        ci = (float(net.low[r]), float(net.high[r]))
        interval = (
            "" if math.isnan(ci[0]) else f", 95 % interval {percent(ci[0], True)} to {percent(ci[1], True)}"
        )
        text = percent(float(net.value[r]), True)
        rows.append(
            BiasRow(
                rater=short(name),
                colour=rater_colour(r),
                y=step * (r + 0.5),
                under=place(-values[0]),
                over=place(values[1]),
                net=None if text == DASH else place(values[2]),
                low=None if math.isnan(ci[0]) else place(ci[0]),
                high=None if math.isnan(ci[1]) else place(ci[1]),
                text=text,
                title=(
                    f"{name}: {percent(float(over.value[r]))} over-drawn, {percent(float(under.value[r]))} "
                    f"under-drawn, net {text}{interval}"
                ),
            )
        )
    interval_of_ticks = _nice((high + low) / 5)
    first = math.ceil(-low / interval_of_ticks)
    count = math.floor(high / interval_of_ticks) - first + 1
    marks = [(first + i) * interval_of_ticks for i in range(count)]
    return BiasPlot(
        width=width,
        height=step * len(raters) + 26,
        zero=zero,
        rows=tuple(rows),
        ticks=tuple((place(mark), percent(mark, True) if mark else "0") for mark in marks),
    )


@dataclass(frozen=True)
class SpreadRow:
    """One test of `within_spread` as a line of the table, its interval placed on a strip of 0 to 100."""

    candidate: str
    colour: str
    verdict: str
    to_readers: str
    among_readers: str
    difference: str
    interval: str
    cases: int
    low: float
    high: float
    value: float
    known: bool


VERDICTS = {"within": "within", "outside": "outside", "undecided": "cannot tell"}


def spread_rows(
    spreads: Sequence[Spread], raters: Sequence[str], margin: float
) -> tuple[tuple[SpreadRow, ...], float, float]:
    """The tests as table lines, and where 0 and −margin lie on their common strip."""
    known = [s for s in spreads if not math.isnan(float(s.difference.value))]
    low = min([-2 * margin, *(float(np.nanmin([s.difference.low, s.difference.value])) for s in known)])
    high = max([margin, *(float(np.nanmax([s.difference.high, s.difference.value])) for s in known)])
    pad = 0.04 * (high - low)
    low, high = low - pad, high + pad

    def place(value: float) -> float:
        return 0.0 if math.isnan(value) else 100 * (value - low) / (high - low)

    rows = []
    for spread in spreads:
        found = spread.difference
        interval = figure(found).interval
        rows.append(
            SpreadRow(
                candidate=spread.candidate,
                colour=rater_colour(list(raters).index(spread.candidate))
                if spread.candidate in raters
                else "#1c2430",
                verdict=spread.verdict,
                to_readers=words(spread.to_readers),
                among_readers=words(spread.among_readers),
                difference=("+" if float(found.value) > 0 else "") + words(float(found.value), 3),
                interval=interval,
                cases=int(found.cases),
                low=place(float(found.low)),
                high=place(float(found.high)),
                value=place(float(found.value)),
                known=bool(interval),
            )
        )
    return tuple(rows), place(0.0), place(-margin)


def _known(values: np.ndarray) -> list[float]:
    return [float(v) for v in values if not math.isnan(v)]


def _round_away(known: np.ndarray, best: float) -> float:
    """A round number no better than the worst value, so that a scale starts there."""
    if not len(known):
        return best - 1 if best else 1.0
    worst = float(known.min() if best else known.max())
    step = 0.1 if best else _nice(worst / 5 or 1.0)
    return math.floor(worst / step) * step if best else math.ceil(worst / step) * step


def _nice(step: float) -> float:
    """1, 2 or 5 times a power of ten, near `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return float(next(power * m for m in (1, 2, 5, 10) if power * m >= step * 0.999))
