"""Fusions of masks alone, beside each other, on phantoms with a truth. Real raters: raters.py.

    python benchmarks/outline.py                      # everything, about half an hour of one core
    python benchmarks/outline.py crowd sparse-40-3    # some of it

Skill over all cases is estimated from the masks of the cases that are fused. No truth is used for anything but scoring.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from mrprism.core.sample import MultiRaterSample
from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.fusion.auto import choose
from mrprism.fusion.cases import fuse_cases
from mrprism.fusion.one_case import fuse_case
from mrprism.metrics.overlap import dice

SCENARIOS = (
    "crowd",
    "symmetric",
    "majority",
    "missing",
    "two",
    "anonymous",
    "sparse-40-3",
    "by-image",
    "regional",
    "site",
    "correlated",
    "half",
    "threshold",
)
SEEDS, CASES, SIZE = (41, 42, 43), 40, 64
FUSIONS = {  # name: method, skill over all cases
    "vote": ("majority", False),
    "SIMPLE": ("simple", False),
    "STAPLE": ("staple", False),
    "shape average": ("shape-average", False),
    "outline, each image": ("outline", False),
    "STAPLE, pooled": ("staple", True),
    "band, pooled": ("band", True),
    "outline, pooled": ("outline", True),
}


def main(wanted: list[str]) -> None:
    for line in report(wanted):
        print(line, flush=True)


def report(wanted: list[str]) -> Iterator[str]:
    scenarios = [name for name in SCENARIOS if not wanted or name in wanted]
    if scenarios:
        yield "| | | " + " | ".join([*FUSIONS, "auto", "auto below the best"]) + " | auto took |"
        yield "|---" * (len(FUSIONS) + 5) + "|"
        for scenario in scenarios:
            yield from on_phantom(scenario)
        yield ""


def on_phantom(scenario: str) -> Iterator[str]:
    task = phantom_task(scenario)
    scores: dict[str, list[np.ndarray]] = {}
    taken: list[set[str]] = [set(), set()]
    for seed in SEEDS:
        cases = list(phantom(scenario, size=SIZE, cases=CASES, seed=seed))
        each: dict[str, np.ndarray] = {}
        for name, (method, pooled) in FUSIONS.items():
            if pooled and task.anonymous:
                continue
            each[name] = truth(fuse_cases(cases, method, pooled=pooled), cases)
        chosen = choose(cases, task.structures, anonymous=task.anonymous)
        fused = (fuse_case(case, "auto", chosen.of(number)) for number, case in enumerate(cases))
        each["auto"] = truth(fused, cases)
        for c, choice in enumerate(chosen.choices):
            taken[c].add(choice.method)
        for name, found in each.items():
            scores.setdefault(name, []).append(found)
    means = {name: 100 * np.mean(found, axis=0) for name, found in scores.items()}
    for c, structure in enumerate(task.structures):
        best = max(found[c] for name, found in means.items() if name != "auto")
        cells = [f"{means[name][c]:.1f}" if name in means else "-" for name in (*FUSIONS, "auto")]
        cells = [f"**{cell}**" if cell == f"{best:.1f}" else cell for cell in cells]
        below = best - means["auto"][c]
        yield (
            f"| `{scenario}` | {structure} | "
            + " | ".join(cells)
            + f" | {below:.2f} | {', '.join(sorted(taken[c]))} |"
        )


def truth(fused, cases: list[MultiRaterSample]) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Mean Dice with the truth of each structure."""
    found = [
        [dice(inside, true) for inside, true in zip(one.probability > 0.5, case.reference, strict=True)]
        for one, case in zip(fused, cases, strict=True)
    ]
    return np.mean(found, axis=0)


if __name__ == "__main__":
    main(sys.argv[1:])
