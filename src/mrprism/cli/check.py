"""mrprism check"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mrprism.cli.many import Jobs, On
from mrprism.output.counter import Counter


def run(
    dataset: Annotated[Path, typer.Argument(help="A data set's folder, or its dataset.json.")],
    out: Annotated[
        Path | None, typer.Option(help="Also write everything as a page; an older page is replaced.")
    ] = None,
    jobs: Jobs = None,
    on: On = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """List everything that is wrong with a data set, and show what is in it.

    Every file is read. Errors would stop training, fusing or measuring. Warnings are things you should look at:
    raters who never differ; masks that look like corrections of another rater's masks; masks that are all shifted,
    inverted, empty, nothing but the image's border, or the same on many images; a patient or an image in two splits.

    Exit code 0: nothing found; 1: warnings only; 2: errors.

    Examples:

        mrprism check cells/

        mrprism check cells/ --out cells.html
    """
    from mrprism.cli.calls import check_dataset

    with Counter() as counter:
        check = check_dataset(dataset, out, jobs=jobs, on=on, each=counter)
    if as_json:
        print(json.dumps(check.as_json(), indent=1))
    else:
        _show(check)
    return check.exit_code


def _show(check: Any) -> None:
    from rich.text import Text

    from mrprism.output.console import console
    from mrprism.output.terminal import one_line

    out = console(soft_wrap=True)
    if check.summary:
        _show_summary(out, check.summary)
    for finding in check.findings:
        severity = finding.fault.severity
        colour = "red" if severity == "error" else "yellow"
        out.print(Text.assemble((severity, colour), f": {one_line(finding.sentence)}"))
    out.print(check.verdict)


def _show_summary(console: Any, summary: dict[str, Any]) -> None:
    from rich.table import Table

    def many(counts: dict[str, int]) -> str:
        parts = [f"{key} ({count})" for key, count in list(counts.items())[:5]]
        return ", ".join(parts) + (f" and {len(counts) - 5} more" if len(counts) > 5 else "")

    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("data set", summary["name"])
    facts.add_row("cases", f"{summary['cases']}, of {summary['groups']} patients or single cases")
    facts.add_row("splits", many(summary["splits"]))
    if summary["images"] < summary["cases"]:
        some = f"{summary['images']} of {summary['cases']} cases; the others have masks only"
        facts.add_row("images", some if summary["images"] else "none, masks only")
    facts.add_row("image sizes" if summary["images"] else "mask sizes", many(summary["sizes"]))
    facts.add_row("spacing, mm", many(summary["spacing_mm"]))
    facts.add_row("channels", ", ".join(summary["channels"]) or "none")
    kind = "anonymous slots" if summary["anonymous"] else "named"
    facts.add_row("raters", f"{len(summary['raters'])}, {kind}" if summary["raters"] else "none")
    facts.add_row("missing masks", f"{summary['missing_masks']} of {summary['expected_masks']}")
    facts.add_row("references", str(summary["references"]))
    if summary["read_again"]:
        facts.add_row("masks drawn again", many(summary["read_again"]))
    for key in ("votes", "diagnoses"):
        if summary[key]:
            facts.add_row(key, many(summary[key]) if isinstance(summary[key], dict) else str(summary[key]))
    console.print(facts)
    if not summary["raters"]:
        return

    masks = Table(title="masks (of them empty), and cases shared with the rater of that number", box=None)
    masks.add_column("", justify="right")
    masks.add_column("rater")
    for structure in summary["structures"]:
        masks.add_column(structure, justify="right")
    few = len(summary["raters"]) <= 12
    for number in range(1, len(summary["raters"]) + 1) if few else []:
        masks.add_column(str(number), justify="right", style="dim")
    for number, (rater, counts) in enumerate(summary["raters"].items(), 1):
        cells = [f"{c['masks']} ({c['empty']})" if c["empty"] else str(c["masks"]) for c in counts.values()]
        shared = [str(n) for n in summary["overlap"][rater].values()] if few else []
        masks.add_row(str(number), rater, *cells, *shared)
    console.print(masks)
