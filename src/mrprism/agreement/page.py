"""The page of an agreement: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.agreement.bootstrap import Estimate
from mrprism.agreement.case import pairs
from mrprism.agreement.cases import Cases
from mrprism.agreement.charts import (
    VERDICTS,
    bias_plot,
    figure,
    heatmap,
    percent,
    spread_rows,
    words,
)
from mrprism.agreement.findings import answer, caution, finding, identical, rests
from mrprism.agreement.pictures import Panel, most_disputed, panel
from mrprism.agreement.rereading import GAP, OTHER, SAME, STATISTICS, Rereading, said
from mrprism.agreement.result import WITHOUT_PERSONS, Agreement
from mrprism.agreement.spread import NULL_MARGIN, Spread
from mrprism.agreement.structure import StructureAgreement
from mrprism.datasets import Dataset
from mrprism.datasets.outlined import outlined_files, slice_of
from mrprism.metrics.bootstrap import FEW
from mrprism.metrics.claims import ENOUGH
from mrprism.output.colours import rater_colour
from mrprism.output.templates import templates

LISTED = 30  # cases in the table before the fold
PANELS = 2  # structures shown of a case
MANY = 40  # raters from which lists of them are folded away
NAMED = 20  # raters up to which names are written out as a legend


def page(
    agreement: Agreement,
    dataset: Cases,
    *,
    candidates: Sequence[Spread] = (),
    pictures: int = 6,
    tables: Sequence[str] = (),
) -> str:
    """The HTML page.

    Args:
        agreement: What `agree` found.
        dataset: Read again for the pictures.
        candidates: Models tested with `within_spread`.
        pictures: How many of the cases people most disagree on are shown.
        tables: File names beside the page to link to.
    """
    environment = templates(Path(__file__).parent)
    environment.globals.update(words=words, percent=percent, colour=rater_colour)
    raters = agreement.task.raters
    hardest = agreement.hardest()
    rows = [_case_row(agreement, place) for place in hardest]
    return environment.get_template("page.html.jinja").render(
        agreement=agreement,
        raters=["a reader"] * len(raters) if agreement.task.anonymous else raters,
        many=len(raters) > MANY and not agreement.task.anonymous,
        legend=len(raters) <= NAMED and not agreement.task.anonymous,
        finding=finding(agreement),
        answer=answer(candidates),
        notes=notes(agreement),
        key_figures=[_key_figures(agreement, part) for part in agreement.structures],
        sections=[_section(agreement, part, candidates) for part in agreement.structures],
        margin_null=NULL_MARGIN.format(margin=candidates[0].margin if candidates else agreement.margin),
        few=FEW,
        enough=ENOUGH,
        verdicts=VERDICTS,
        again=[_again(agreement, found) for found in agreement.again],
        shown=[_shown(agreement, dataset, place) for place in hardest[:pictures]],
        rows=rows[:LISTED],
        more=rows[LISTED:],
        left_out=len(agreement.cases) - len(hardest),
        tables=tables,
    )


def notes(agreement: Agreement) -> list[str]:
    """What limits the statistics: few patients, few cases, copies, anonymous raters."""
    said = [caution(agreement), *rests(agreement)]
    said += [WITHOUT_PERSONS] if agreement.task.anonymous else [*identical(agreement), *agreement.copies]
    return [f"{sentence[0].upper()}{sentence[1:].rstrip('.')}." for sentence in said if sentence]


def _again(agreement: Agreement, found: Rereading) -> dict[str, Any]:
    """The same rater again: all of them, two raters on the same cases, and each rater."""
    rows = [
        (SAME, {key: found.same[key] for key in STATISTICS}),
        (OTHER, {key: found.other[key] for key in STATISTICS}),
        (GAP, {key: found.gap[key] for key in STATISTICS}),
    ]
    if found.raters:
        rows += [
            (rater, {key: found.raters[key][r] for key in STATISTICS})
            for r, rater in enumerate(agreement.task.raters)
            if found.raters["dice"].cases[r]
        ]
    return {
        "structure": found.structure,
        "said": said(found),
        "rows": [
            {
                "who": who,
                "cases": int(values["dice"].cases),
                "drawn": int(values["dice_where_drawn"].cases),
                "figures": [
                    figure(values["dice"]),
                    figure(replace(values["dice_where_drawn"], undefined=np.array(0))),
                ],
            }
            for who, values in rows
        ],
    }


def _pieces(row: Mapping[str, Any]) -> tuple[str, str]:
    """Shares of pieces missed and added, as the page says them."""
    missed, added = ("–" if share is None else percent(share) for share in (row["missed"], row["added"]))
    return missed, added


def _key_figures(agreement: Agreement, part: StructureAgreement) -> dict[str, Any]:
    overall = part.overall
    icc = "ICC1" if agreement.task.anonymous else "ICC2"
    total = len(agreement.cases)
    figures = [
        figure(overall["dice"], of=total),
        figure(overall["hd95"], unit=agreement.distance_unit, of=total),
        figure(overall["fleiss_kappa"]),
        figure(overall["gwet_ac1"]),
        figure(overall["krippendorff_alpha"]),
        figure(overall[icc], of=total),
        figure(overall["dissent_share"], share=True),
    ]
    rests_on = overall["gwet_ac1"]
    return {
        "structure": part.structure,
        "cases": int(rests_on.cases),
        "patients": int(rests_on.patients),
        "figures": figures,
    }


def _section(agreement: Agreement, part: StructureAgreement, candidates: Sequence[Spread]) -> dict[str, Any]:
    raters = agreement.task.raters
    section: dict[str, Any] = {"structure": part.structure, "unit": agreement.unit, "maps": [], "bias": None}
    overall = part.overall
    section["extent_cases"] = int(overall["any_rater"].cases)
    section["extents"] = [
        (label, figure(overall[key], unit=agreement.unit))
        for label, key in (
            ("drawn by anyone", "any_rater"),
            ("by the majority", "majority"),
            ("by everyone", "all_raters"),
            ("in dispute", "dissent"),
        )
    ]
    tests = [*(s for s in candidates if s.structure == part.structure), *part.spread]
    section["spread"], section["zero"], section["margin"] = (
        spread_rows(tests, raters, tests[0].margin) if tests else ((), 0.0, 0.0)
    )
    section["counted"] = "; ".join(
        f"{sum(s.verdict == verdict for s in tests)} {said}" for verdict, said in VERDICTS.items()
    )
    if agreement.task.anonymous:
        return section
    matrix = {key: agreement.matrix(part.structure, key) for key in ("dice", "hd95", "cohen_kappa")}
    section["maps"] = [
        heatmap(
            "Dice",
            f"mean over the cases two raters share ({_range(part.pairs['dice'].cases)}); dark is agreement",
            raters,
            matrix["dice"],
            best=1.0,
        ),
        heatmap(
            "HD95",
            f"mean over the cases in which two raters drew ({_range(part.pairs['hd95'].cases)}), "
            f"{agreement.distance_unit}; dark is agreement",
            raters,
            matrix["hd95"],
            best=0.0,
            unit=agreement.distance_unit,
        ),
        heatmap(
            "Cohen’s κ",
            f"over all pixels of the cases two raters share ({_range(part.pairs['cohen_kappa'].cases)}); "
            "dark is agreement",
            raters,
            matrix["cohen_kappa"],
            best=1.0,
        ),
    ]
    section["bias"] = bias_plot(raters, part.raters)
    section["bias_cases"] = _range(part.raters["bias"].cases)
    section["outlines"] = [
        {**row, "colour": rater_colour(raters.index(row["rater"])), "pieces": _pieces(row)}
        for row in agreement.outlines
        if row["structure"] == part.structure
    ]
    section["raters"] = [_rater_row(agreement, part, r) for r in range(len(raters))]
    section["shared"] = _range(part.pairs["size_difference"].cases)
    section["bland_altman"] = _bland_altman_rows(part, raters) if len(raters) <= NAMED else []
    return section


def _rater_row(agreement: Agreement, part: StructureAgreement, r: int) -> dict[str, Any]:
    def of(key: str, **how: Any) -> Any:
        return figure(part.raters[key][r], **how)

    return {
        "rater": agreement.task.raters[r],
        "colour": rater_colour(r),
        "cases": int(part.raters["dice_to_others"].cases[r]),
        "figures": [
            of("dice_to_others"),
            of("sensitivity_to_others"),
            of("precision_to_others"),
            of("hd95_to_others", unit=agreement.distance_unit),
            of("size", unit=agreement.unit),
        ],
    }


def _bland_altman_rows(part: StructureAgreement, raters: Sequence[str]) -> list[dict[str, Any]]:
    found = part.pairs
    return [
        {
            "first": raters[first],
            "second": raters[second],
            "cases": int(found["size_difference"].cases[place]),
            "colours": (rater_colour(int(first)), rater_colour(int(second))),
            "bias": figure(_at(found["size_difference"], place)),
            "lower": figure(_at(found["size_lower_limit"], place)),
            "upper": figure(_at(found["size_upper_limit"], place)),
        }
        for place, (first, second) in enumerate(zip(*pairs(len(raters)), strict=True))
    ]


def _range(counts: np.ndarray) -> str:
    low, high = int(counts.min(initial=10**9)), int(counts.max(initial=0))
    return f"{low}" if low == high else f"{low} to {high}"


def _at(found: Estimate, place: int) -> Estimate:
    return found[place]


def _case_row(agreement: Agreement, place: int) -> dict[str, Any]:
    return {
        "case": agreement.cases[place],
        "patient": agreement.patients[place],
        "structures": [
            {
                "raters": int(part.cases["raters"][place]),
                "dice": words(float(part.cases["dice"][place])),
                "lowest": words(float(part.cases["lowest_dice"][place])),
                "dispute": percent(float(part.cases["dissent_share"][place])),
                "ties": words(float(part.cases["ties"][place]), 0),
            }
            for part in agreement.structures
        ],
    }


def _shown(agreement: Agreement, dataset: Cases, place: int) -> dict[str, Any]:
    scores = [float(part.cases["dice"][place]) for part in agreement.structures]
    order = [int(c) for c in np.argsort(scores, kind="stable") if not np.isnan(scores[c])][:PANELS]
    panels = _panels(agreement, dataset, place, sorted(order))
    return {
        "case": agreement.cases[place],
        "patient": agreement.patients[place],
        "panels": [
            {
                "panel": one,
                "dice": words(scores[agreement.task.structures.index(one.structure)]),
                "dispute": percent(float(agreement[one.structure].cases["dissent_share"][place])),
                "empty": _empty(agreement, one),
            }
            for one in panels
        ],
    }


def _panels(agreement: Agreement, dataset: Cases, place: int, structures: Sequence[int]) -> list[Panel]:
    large = outlined_files(dataset, place) if isinstance(dataset, Dataset) else None
    names = agreement.task.structures
    if large is None or not isinstance(dataset, Dataset):
        sample = dataset[place]
        return [panel(sample, c, names[c]) for c in structures]
    panels = []
    for c in structures:
        masks, start = large.on_box(c)[0], large.box(c)[0].start
        where = start + most_disputed(masks, large.rated[:, c])
        shown = panel(slice_of(dataset, place, large, c, where), c, names[c])
        panels.append(replace(shown, slice=where))
    return panels


def _empty(agreement: Agreement, shown: Panel) -> str:
    """Who looked and drew nothing."""
    if agreement.task.anonymous:
        return f"{len(shown.empty)} of them" if shown.empty else ""
    return ", ".join(agreement.task.raters[r] for r in shown.empty)
