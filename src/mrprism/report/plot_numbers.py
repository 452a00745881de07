"""Figures for notebooks and papers: how raters agree, whether they measure the same size, and what recurrences bring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrprism.agreement import Agreement
from mrprism.agreement.charts import short
from mrprism.agreement.result import WITHOUT_PERSONS
from mrprism.agreement.volumes import bland_altman
from mrprism.core import given
from mrprism.core.errors import InputError, unknown
from mrprism.report import reading
from mrprism.report.plot_case import figure_of
from mrprism.report.plots import INK, draw_recurrences, method_colours, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERS = 12  # raters up to which every cell says its number
UNITS = {"dice": "Dice, 0 to 1", "hd95": "HD95", "cohen_kappa": "Cohen's kappa"}


def plot_agreement(agreement: Agreement, statistic: str = "dice", structure: str | None = None) -> Figure:
    """Every rater against every other: a square of numbers for each structure, dark where they differ.

    Args:
        agreement: From `mrprism.agree`.
        statistic: `dice`, `hd95` or `cohen_kappa`.
        structure: One alone; None: all.

    Returns:
        A figure; a notebook shows it, `savefig` writes it.

    Raises:
        InputError: The raters are anonymous, or there is no such statistic or structure.
    """
    given.one_of(agreement, Agreement, "what mrprism.agree found")
    _named(agreement)
    shown = [agreement[name] for name in ([structure] if structure else agreement.task.structures)]
    raters = [short(name) for name in agreement.task.raters]
    squares = [agreement.matrix(part.structure, statistic) for part in shown]
    side = max(2.4, 0.42 * len(raters) + 1.2)
    with styled():
        figure = figure_of(len(shown) * side + 0.6, side + 0.2)
        low, high = float(np.nanmin(squares)), float(np.nanmax(squares))
        bounded = statistic != "hd95"
        for number, (part, square) in enumerate(zip(shown, squares, strict=True), 1):
            axes = figure.add_subplot(1, len(shown), number)
            drawn = axes.imshow(
                square, cmap="Blues" if not bounded else "Blues_r",
                vmin=min(low, 0.5) if bounded else 0, vmax=1 if bounded else high,
            )  # fmt: skip
            axes.set_xticks(range(len(raters)), raters, rotation=90, fontsize=9)
            axes.set_yticks(range(len(raters)), raters if number == 1 else [""] * len(raters), fontsize=9)
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            axes.set_title(part.structure)
            if len(raters) <= MOST_NUMBERS:
                _numbers(axes, square, drawn)
        unit = f" in {agreement.distance_unit}" if statistic == "hd95" else ""
        figure.colorbar(drawn, ax=figure.axes, shrink=0.8, label=f"{UNITS[statistic]}{unit}")
    return figure


def _numbers(axes: Any, square: np.ndarray, drawn: Any) -> None:
    """Each cell's number, dark on a bright cell and bright on a dark one."""
    for row, column in np.argwhere(~np.isnan(square)):
        value = square[row, column]
        red, green, blue, _ = drawn.cmap(drawn.norm(value))
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        axes.text(
            column, row, f"{value:.2f}".removeprefix("0") if abs(value) < 10 else f"{value:.0f}",
            ha="center", va="center", fontsize=8, color=INK if bright else "white",
        )  # fmt: skip


def plot_bland_altman(
    agreement: Agreement, structure: str, raters: tuple[str, str] | Sequence[str] | None = None
) -> Figure:
    """Do two raters measure the same size? The difference of their sizes against the mean, case by case.

    The solid line is the mean difference, the dashed ones the limits of agreement (mean ± 1.96 standard deviations).

    Args:
        agreement: From `mrprism.agree`.
        structure: One of its structures.
        raters: Two names; None: the two with the largest mean difference.

    Returns:
        A figure; a notebook shows it, `savefig` writes it.

    Raises:
        InputError: The raters are anonymous, these are not two of them, or no two measured two cases both.

    Source: Bland, Altman, "Statistical methods for assessing agreement between two methods of clinical measurement",
    Lancet 327, 1986.
    """
    given.one_of(agreement, Agreement, "what mrprism.agree found")
    _named(agreement)
    sizes, names = agreement[structure].sizes, agreement.task.raters
    first, second = _two(sizes, names, raters, structure)
    one, other = sizes[:, first], sizes[:, second]
    found = bland_altman(one, other)
    if math.isnan(found["lower"]):
        raise InputError(
            f"{names[first]} and {names[second]} did not both measure two cases of the {structure}: there are no limits "
            "to draw; name two others"
        )
    with styled():
        figure = figure_of(6.4, 4.2)
        axes = figure.add_subplot()
        axes.axhline(0, color="#9aa4b2", lw=1)
        axes.scatter(
            (one + other) / 2,
            one - other,
            s=28,
            color="#30638e",
            edgecolors="white",
            linewidths=0.8,
            zorder=3,
        )
        for key, dash in (("bias", "solid"), ("lower", (0, (5, 3))), ("upper", (0, (5, 3)))):
            axes.axhline(found[key], color="#c0392b", lw=1.6, ls=dash)
            axes.annotate(
                f"{found[key]:.3g}", (1, found[key]), xycoords=("axes fraction", "data"), xytext=(6, 0),
                textcoords="offset points", va="center", color="#c0392b",
            )  # fmt: skip
        axes.set_title(f"{structure}: {short(names[first])} minus {short(names[second])}")
        axes.set_xlabel(f"mean of both, {agreement.unit}")
        axes.set_ylabel(f"difference, {agreement.unit}")
    return figure


def _two(
    sizes: np.ndarray, names: Sequence[str], raters: Sequence[str] | None, structure: str
) -> tuple[int, int]:
    """Places of the two raters that are compared."""
    if raters is not None:
        if isinstance(raters, str) or len(raters) != 2 or raters[0] == raters[1]:
            raise InputError(f"expected two different raters, such as ('{names[0]}', '{names[-1]}')")
        for name in raters:
            if name not in names:
                raise unknown("rater", name, names)
        return names.index(raters[0]), names.index(raters[1])
    pairs = [(a, b) for a in range(len(names)) for b in range(a + 1, len(names))]
    biases = [abs(bland_altman(sizes[:, a], sizes[:, b])["bias"]) for a, b in pairs]
    known = [(bias, pair) for bias, pair in zip(biases, pairs, strict=True) if not math.isnan(bias)]
    if not known:
        raise InputError(f"no two raters measured the same case of the {structure}")
    return max(known, key=lambda one: one[0])[1]


def _named(agreement: Agreement) -> None:
    if agreement.task.anonymous:
        raise InputError(WITHOUT_PERSONS)


def plot_recurrence(run: str | Path, *others: str | Path) -> Figure:
    """What recurrences bring: Dice at the threshold of one half of each of them, on the run's test cases.

    Args:
        run: The folder of an evaluated run whose method answers several times, such as `mrprism`.
        others: Further runs of the same data set and task; their answers are levels to compare with.

    Returns:
        A figure; a notebook shows it, `savefig` writes it.

    Raises:
        InputError: A folder is no evaluated run, the runs are of different tasks, or the run's method answers once.
    """
    folders = reading.read_runs([given.path(one, "the folder of a run") for one in (run, *others)])
    entries = reading.entries_of(folders)
    main = next(entry for entry in entries if folders[0] in entry.runs)
    with styled():
        figure = figure_of(1100 / 72, 300 / 72)  # as on the page
        if not draw_recurrences(
            figure, main, entries, reading.structures_of(folders), method_colours(entries, main)
        ):
            raise InputError(
                f"{folders[0].path} has one answer for each case and no recurrences; expected a run of mrprism"
            )
    return figure
