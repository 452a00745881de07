"""Fusions of masks alone, beside each other: phantoms with a truth, and raters left out where there is none.

    python benchmarks/outline.py                      # everything, about half an hour; writes outline.md
    python benchmarks/outline.py crowd sparse-40-3    # some phantoms, printed only
    MRPRISM_DATA=... python benchmarks/outline.py qubiq dermxdb bu-bil

Skill over all cases is estimated from the masks of the cases that are fused. No truth is used for anything but scoring.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.fusion.auto import choose
from mrprism.fusion.cases import fuse_cases, shared
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
    lines: list[str] = []
    for line in report(wanted):
        lines.append(line)
        print(line, flush=True)
    if not wanted:
        Path(__file__).with_suffix(".md").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def report(wanted: list[str]) -> Iterator[str]:
    scenarios = [name for name in SCENARIOS if not wanted or name in wanted]
    if scenarios:
        yield "## Phantoms"
        yield ""
        yield "| | | " + " | ".join([*FUSIONS, "auto", "auto below the best"]) + " | auto took |"
        yield "|---" * (len(FUSIONS) + 5) + "|"
        for scenario in scenarios:
            yield from on_phantom(scenario)
        yield ""
    data = Path(os.environ.get("MRPRISM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    sections = {"qubiq": qubiq, "dermxdb": dermxdb}
    asked = [name for name in sections if not wanted or name in wanted]
    if asked:
        yield "## A rater left out"
        yield ""
        yield "Dice with what the rater drew, mean over cases and raters; skill of five folds over cases, the others alone fused."
        yield ""
        yield "| data | vote | band | outline | outline, the rater's own bias added | outline over the vote |"
        yield "|---|---|---|---|---|---|"
        for name in asked:
            yield from sections[name](data)
        yield ""
    if not wanted or "bu-bil" in wanted:
        yield from bu_bil(data)


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


def left_out(name: str, masks: list[np.ndarray], folds: int = 5) -> Iterator[str]:
    """Masks (R, H, W) of each case: predict each rater from the others, skill from the other folds."""
    raters = len(masks[0])
    task = Task(1, ("structure",), tuple(str(r) for r in range(raters)))
    cases = [
        MultiRaterSample(
            str(n), np.zeros((1, *m.shape[1:]), np.float32), m[:, None], np.ones((raters, 1), bool)
        )
        for n, m in enumerate(masks)
    ]
    rows: list[list[float]] = []
    for fold in range(folds):
        train = [case for n, case in enumerate(cases) if n % folds != fold]
        skill = {method: shared(train, method, task=task) for method in ("band", "outline")}
        observers = skill["outline"].observers[0]  # type: ignore[attr-defined]
        for case in cases[fold::folds]:
            scores = np.zeros((raters, 4))
            for rater in range(raters):
                rated = case.rated.copy()
                rated[rater] = False
                others, drew = replace(case, rated=rated), case.masks[rater, 0]
                vote = fuse_case(others, "majority").probability[0] > 0.5
                band = fuse_case(others, "band", skill["band"].of(None)).probability[0] > 0.5
                outline = fuse_case(others, "outline", skill["outline"].of(None)).probability[0] > 0.5
                own = replace(observers, bias=observers.bias - observers.bias[rater])
                like = replace(skill["outline"].of(None), observers=(own,))  # type: ignore[type-var]
                styled = fuse_case(others, "outline", like).probability[0] > 0.5
                scores[rater] = [dice(one, drew) for one in (vote, band, outline, styled)]
            rows.append(list(100 * scores.mean(axis=0)))
    found = np.array(rows)
    gain = found[:, 3] - found[:, 0]
    draws = np.random.default_rng(0).integers(len(gain), size=(5000, len(gain)))
    low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
    cells = " | ".join(f"{mean:.2f}" for mean in found.mean(axis=0))
    yield f"| {name} ({len(masks)} × {raters}) | {cells} | {gain.mean():+.2f} ({low:+.2f} to {high:+.2f}) |"


def qubiq(data: Path) -> Iterator[str]:
    base = data / "qubiq_brain_growth"
    if not base.is_dir():
        yield "| `qubiq_brain_growth` | not here |"
        return
    names = sorted(path.name for path in (base / "rater1").iterdir())
    masks = [
        np.stack([np.asarray(Image.open(base / f"rater{r}" / name)) > 0 for r in range(1, 8)])
        for name in names
    ]
    yield from left_out("`qubiq_brain_growth`", masks)


def dermxdb(data: Path) -> Iterator[str]:
    base = data / "dermxdb"
    if not base.is_dir():
        yield "| `dermxdb` | not here |"
        return
    files = [np.load(base / f"first_labeller{n}.npz") for n in range(1, 9)]
    for bit, finding in enumerate(("plaque", "scale", "papule")):
        masks = []
        for name in files[0].files:
            found = np.stack([(file[name][::2, ::2] >> bit & 1).astype(bool) for file in files])
            if found.any((1, 2)).sum() >= 7:
                masks.append(found)
        if len(masks) >= 20:
            yield from left_out(f"`dermxdb` {finding}, drawn by at least seven, half size", masks[:60])


def bu_bil(data: Path) -> Iterator[str]:
    base = data / "bu_bil"
    if not base.is_dir():
        return
    yield "## Crowd workers against a gold standard (`bu_bil`)"
    yield ""
    yield "Workers differ from image to image, so each image speaks for itself."
    yield ""
    yield "| set | vote | shape average | outline | outline over the vote |"
    yield "|---|---|---|---|---|"
    gains = []
    for number in (1, 3, 4, 6):
        rows = []
        for path in sorted((base / f"set{number}" / "gold").iterdir()):
            gold = mask(path)
            masks = np.stack(
                [mask(p) for p in sorted((base / f"set{number}" / "crowd").glob(f"{path.stem}_c*.png"))]
            )
            case = MultiRaterSample(
                "", np.zeros((1, *gold.shape), np.float32), masks[:, None], np.ones((len(masks), 1), bool)
            )
            rows.append(
                [
                    dice(fuse_case(case, m).probability[0] > 0.5, gold)
                    for m in ("majority", "shape-average", "outline")
                ]
            )
        found = 100 * np.array(rows)
        gain = found[:, 2] - found[:, 0]
        gains.append(gain)
        yield (
            f"| {number} ({len(rows)}) | "
            + " | ".join(f"{m:.2f}" for m in found.mean(0))
            + f" | {gain.mean():+.2f} |"
        )
    rng = np.random.default_rng(0)
    draws = np.mean([g[rng.integers(len(g), size=(5000, len(g)))].mean(1) for g in gains], axis=0)
    low, high = np.percentile(draws, [2.5, 97.5])
    yield f"| mean of the four | | | | {np.mean([g.mean() for g in gains]):+.2f} ({low:+.2f} to {high:+.2f}) |"


def mask(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L")) > 127


HEAD = f"""# Fusions of masks alone

`python benchmarks/outline.py` writes this page. Phantoms of seeds {", ".join(map(str, SEEDS))}, {CASES} cases each of {SIZE} × {SIZE} pixels, Dice with the
truth in per cent, mean of the seeds; nothing was tuned on these seeds. What `auto` does: [how to fuse](../docs/how-to/fuse.md).

"""

if __name__ == "__main__":
    main(sys.argv[1:])
