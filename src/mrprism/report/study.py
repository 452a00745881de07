"""A study on one page that a statistician can check: design, readers, missingness, agreement, bias, consensus, limits.

Nothing is computed here: the page is drawn from what `mrprism study` left in a folder.

    check.json, study.json       the data set, and what was said about it
    agreement/agreement.json     agreement, and readers and models held against the readers
    fused/, outline/             the consensus; bias and spread of each reader
    comparison/                  methods, where they were compared
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mrprism import __version__
from mrprism.core.errors import InputError
from mrprism.metrics.claims import ENOUGH
from mrprism.output.colours import rater_colour
from mrprism.output.files import write_file
from mrprism.output.lock import alone_in
from mrprism.output.templates import templates

HERE = Path(__file__).parent
DASH = "–"
MOST_BYTES = 256 << 20  # of a JSON file that is read
STATISTICS = {  # shown of the agreement, and how they are called
    "dice": "Dice",
    "hd95": "HD95",
    "fleiss_kappa": "Fleiss κ",
    "krippendorff_alpha": "Krippendorff α",
    "gwet_ac1": "Gwet AC1",
    "ICC2": "ICC(2,1) of size",
}
OF_RATERS = {
    "bias": "net bias",
    "over_drawn": "drawn in excess",
    "under_drawn": "left out",
    "dice_to_others": "Dice to the others",
}
ABOUT = {  # lines of [study.about] that have a place of their own, in this order
    "question": "Question",
    "images": "Images",
    "readers": "Readers",
    "masking": "Masking",
    "instructions": "Instructions",
    "reference": "Reference",
    "consensus": "How the consensus was settled",
    "ethics": "Ethics",
}


@dataclass(frozen=True)
class Bar:
    """One reader's bias on a chart, in its own coordinates from 0 to 100."""

    rater: str
    colour: str
    at: float
    low: float | None
    high: float | None
    cell: str
    spread: str
    cases: int


@alone_in("out")
def build_study(study: str | Path, out: str | Path) -> Path:
    """Write the page of a study.

    Args:
        study: The folder that `mrprism study` wrote.
        out: The HTML file; one that is there is replaced, a file of another kind is not.

    Raises:
        InputError: The folder holds no study, or a file in it is damaged.
    """
    folder, out = Path(study), Path(out)
    if out.is_dir():
        raise InputError(f"{out} is a folder: name the HTML file to write")
    if out.is_file() and not out.read_bytes()[:512].lstrip().lower().startswith(b"<!doctype html"):
        raise InputError(f"'{out}' exists already and is not an HTML page: name another file for the report")
    write_file(out, render(folder))
    return out


def render(folder: Path) -> str:
    """The page as text."""
    study = _read(folder / "study.json")
    check = _read(folder / "check.json")
    agreement = _read(folder / "agreement/agreement.json")
    try:
        summary: dict[str, Any] = check["summary"]
        tables: dict[str, list[dict[str, Any]]] = agreement["tables"]
        left_out: dict[str, str] = study["left_out"]
        outline = _read(folder / "outline/outline.json") if "outline" not in left_out else []
        fused = _fused(folder) if "fuse" not in left_out else None
        environment = templates(HERE)
        environment.filters["number"] = number
        environment.globals.update(dash=DASH)
        page = environment.get_template("study.html.jinja").render(
            style=Markup((HERE / "study.css").read_text(encoding="utf-8")),
            title=study["title"] or summary["name"],
            about=_about(study["about"]),
            summary=summary,
            agreement=agreement,
            findings=[fault["sentence"] for fault in check["faults"]][:20],
            found=len(check["faults"]),
            design=_design(summary),
            missing=_missing(summary),
            statistics=_statistics(tables["overall"], agreement["structures"], agreement["distance_unit"]),
            again=tables["again"],
            readers=_readers(tables["raters"], agreement),
            of_readers=OF_RATERS,
            bias=_bias(outline, agreement),
            why_no_bias=left_out.get("outline", ""),
            fused=fused,
            why_no_fusion=left_out.get("fuse", ""),
            spread=_spread(tables["spread"], agreement),
            compared=(folder / "comparison/compare.html").is_file() and "compare" not in left_out,
            why_not_compared=left_out.get("compare", ""),
            limits=list(_limits(summary, agreement, outline)),
            version=__version__,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"'{folder}' holds a study that this version cannot read: {error!r}") from error
    return page.strip() + "\n"


def number(value: Any, digits: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return DASH
    text = f"{value:.{digits}f}"
    return (text if text.strip("-0.") else text.lstrip("-")).replace("-", "−")  # no minus before nothing


def interval(row: Mapping[str, Any], name: str = "", digits: int = 2) -> str:
    """The ends of an interval of a row; "" where there is none."""
    low, high = row.get(f"{name}low"), row.get(f"{name}high")
    if low is None or high is None:
        return ""
    return f"{number(low, digits)} to {number(high, digits)}"


def _read(file: Path) -> Any:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(f"'{file}' is larger than 256 MiB; expected what mrprism study writes")
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"'{file}' cannot be read: {error.strerror or error}; run mrprism study first"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{file}' is damaged: {error}") from error


def _about(told: Mapping[str, str]) -> list[tuple[str, str]]:
    """What people wrote about their study, in an order of its own."""
    known = [(label, told[name]) for name, label in ABOUT.items() if name in told]
    return known + [(name[:1].upper() + name[1:], text) for name, text in told.items() if name not in ABOUT]


def _design(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the files say of the design."""
    anonymous = bool(summary["anonymous"])
    kind = (
        "slots, not the same persons from case to case" if anonymous else "each the same person in every case"
    )
    facts = [
        ("Data set", str(summary["name"])),
        ("Cases", f"{summary['cases']}, of {summary['groups']} patients"),
        ("Readers", f"{len(summary['raters'])}, {kind}"),
        ("Outlined", ", ".join(summary["structures"])),
        ("Images", str(summary["images"]) if summary["images"] else "none: masks only"),
        ("Size, pixels", ", ".join(list(summary["sizes"])[:4])),
        ("Pixel size, mm", ", ".join(list(summary["spacing_mm"])[:4])),
        ("References apart from the readers", str(summary["references"])),
        ("Read twice", str(sum(summary["read_again"].values()) if summary["read_again"] else 0) + " masks"),
    ]
    return facts


def _missing(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each reader and structure how many masks there are, how many of them are empty, and how many are absent."""
    cases = int(summary["cases"])
    rows = []
    for rater, counts in summary["raters"].items():
        cells = [
            {"masks": count["masks"], "empty": count["empty"], "absent": cases - count["masks"]}
            for count in counts.values()
        ]
        rows.append({"rater": rater, "cells": cells})
    return rows


def _statistics(
    rows: Sequence[Mapping[str, Any]], structures: Sequence[str], unit: str
) -> list[dict[str, Any]]:
    """One line a structure and statistic."""
    found = []
    for structure in structures:
        for row in rows:
            if row["structure"] == structure and row["statistic"] in STATISTICS:
                label = STATISTICS[row["statistic"]]
                found.append(
                    {
                        "structure": structure,
                        "label": f"{label}, {unit}" if row["statistic"] == "hd95" else label,
                        "value": number(row["value"]),
                        "interval": interval(row),
                        "how": row["interval"],
                        "cases": row["cases"],
                        "patients": row["patients"],
                        "aside": row["undefined"] + row["left_out"],
                    }
                )
    return found


def _readers(rows: Sequence[Mapping[str, Any]], agreement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each structure each reader against the others' consensus."""
    parts = []
    for structure in agreement["structures"]:
        lines: dict[str, dict[str, tuple[str, str]]] = {}
        for row in rows:
            if row["structure"] == structure and row["statistic"] in OF_RATERS:
                share = row["statistic"] != "dice_to_others"
                scale = 100 if share and not row["unit"] else 1
                scaled = {
                    name: None if row[name] is None else scale * row[name]
                    for name in ("value", "low", "high")
                }
                digits = 1 if share else 2
                cell = number(scaled["value"], digits) + (
                    " %" if scale == 100 and row["value"] is not None else ""
                )
                lines.setdefault(row["rater"], {})[row["statistic"]] = cell, interval(scaled, digits=digits)
        parts.append({"structure": structure, "rows": lines})
    return [part for part in parts if part["rows"]]


def _bias(rows: Sequence[Mapping[str, Any]], agreement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each structure where each reader's outline lies, with its spread; and a scale for the chart."""
    parts = []
    order = list(agreement["raters"])
    for structure in dict.fromkeys(row["structure"] for row in rows):
        mine = [row for row in rows if row["structure"] == structure]
        ends = [
            abs(row[name])
            for row in mine
            for name in ("outside", "outside_low", "outside_high")
            if row[name] is not None
        ]
        reach = max([*ends, 1e-9])
        unit = mine[0]["unit"]

        def place(value: float | None, reach: float = reach) -> float | None:
            return None if value is None else 50 + 46 * value / reach

        bars = [
            Bar(
                rater=row["rater"],
                colour=rater_colour(order.index(row["rater"])) if row["rater"] in order else "#5d6778",
                at=place(row["outside"]) or 50.0,
                low=place(row["outside_low"]),
                high=place(row["outside_high"]),
                cell=f"{number(row['outside'])} ({interval(row, 'outside_')})"
                if interval(row, "outside_")
                else number(row["outside"]),
                spread=f"{number(row['spread'])} ({interval(row, 'spread_')})"
                if interval(row, "spread_")
                else number(row["spread"]),
                cases=row["cases"],
            )
            for row in mine
            if row["outside"] is not None
        ]
        parts.append({"structure": structure, "unit": unit, "bars": bars, "reach": number(reach)})
    return parts


def _fused(folder: Path) -> dict[str, Any]:
    """Which fusion made the consensus, and why."""
    about = _read(folder / "fused/fuse.json")
    choice = folder / "fused/choice.json"
    return {
        "method": about["method"],
        "pooled": bool(about["pooled"]),
        "cases": len(about["cases"]),
        "choices": _read(choice) if choice.is_file() else [],
        "skill": _read(folder / "fused/skill.json"),
    }


def _spread(rows: Sequence[Mapping[str, Any]], agreement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Readers and models held against the readers, models first."""
    people = set(agreement["raters"])
    found = [
        {
            "structure": row["structure"],
            "who": row["candidate"],
            "model": row["candidate"] not in people,
            "to": number(row["to_readers"]),
            "among": number(row["among_readers"]),
            "difference": number(row["difference"]),
            "interval": interval(row),
            "verdict": row["verdict"],
            "patients": row["patients"],
            "kept_out": row["trained_on"] + row["chosen_on"],
            "margin": row["margin"],
        }
        for row in rows
    ]
    return sorted(found, key=lambda row: not row["model"])


def _limits(
    summary: Mapping[str, Any], agreement: Mapping[str, Any], outline: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """What this study cannot say; first what is special to it."""
    patients = int(agreement["patients"])
    if patients < ENOUGH:
        yield f"There are {patients} patients. With fewer than {ENOUGH}, no difference is claimed and no verdict is given."
    elif patients < 20:
        yield f"There are {patients} patients. With so few, intervals are wide; they are computed with Student's t."
    if len(summary["raters"]) == 2:
        yield "There are two readers. Where they differ, nothing in the masks says who is right."
    if summary["anonymous"]:
        yield "Readers are anonymous slots, so nothing is said about single persons."
    if summary["missing_masks"]:
        yield (
            f"{summary['missing_masks']} of {summary['expected_masks']} masks are absent. Each statistic uses the cases "
            "that it can use; if cases were left out because they are difficult, agreement looks better than it is."
        )
    if summary["groups"] == summary["cases"]:
        yield "No patients are named in the data set, so each case counts as one. If a patient has several cases, intervals are too narrow."
    if any(row["unit"] == "px" for row in outline) or agreement["distance_unit"] == "px":
        yield "The pixel size is not known for all cases, so distances are in pixels and not in millimetres."
    for copy in agreement["copies"]:
        yield f"Some outlines are equal to the pixel and may have been copied: {_sentence(copy)}."
    yield "Agreement is not correctness: an error that all readers share cannot be seen in their masks."
    yield "Bias is measured against the outline of the other readers. It is zero where the steady readers agree."
    yield "Intervals are about other patients of this kind, not about other readers."


def _sentence(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
