"""Real raters: does a fusion of the others predict what a rater drew? And crowd workers against a gold standard.

    MRPRISM_DATA=... python benchmarks/raters.py                      # all, about ten minutes of one core
    MRPRISM_DATA=... python benchmarks/raters.py qubiq dermxdb bu-bil # some of it

The data are not part of this package (docs/how-to/import-published.md says where they come from); a set that is not there
is skipped, in words. Skill is estimated on other cases (five folds over cases), and the rater is not shown to the fusion.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mrprism.core.sample import MultiRaterSample, Task
from mrprism.fusion.cases import shared
from mrprism.fusion.one_case import fuse_case
from mrprism.fusion.pooling import CaseObservers
from mrprism.metrics.overlap import dice

FOLDS, MOST, RESAMPLES = 5, 60, 5000
POOLED = ("staple", "band", "outline", "auto")
COLUMNS = ("vote", "STAPLE", "band", "outline", "auto", "outline, the rater's own bias added")
FINDINGS = ("plaque", "scale", "papule", "patch", "pustule", "comedo", "scar", "other")


def main(wanted: Sequence[str], data: Path) -> None:
    asked = [name for name in ("qubiq", "dermxdb") if not wanted or name in wanted]
    if asked:
        print(f"| data | {' | '.join(COLUMNS)} | outline over the vote | with the own bias, over the vote |")
        print("|---" * (len(COLUMNS) + 3) + "|", flush=True)
    for name in asked:
        for line in {"qubiq": qubiq, "dermxdb": dermxdb}[name](data):
            print(line, flush=True)
    if not wanted or "bu-bil" in wanted:
        for line in bu_bil(data):
            print(line, flush=True)


def left_out(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Dice in per cent (cases, COLUMNS) with what each rater drew, mean over raters; masks (R, H, W) of each case."""
    raters = len(masks[0])
    task = Task(1, ("structure",), tuple(f"rater{r}" for r in range(raters)))
    cases = [
        MultiRaterSample(
            str(n), np.zeros((1, *m.shape[1:]), np.float32), m[:, None], np.ones((raters, 1), bool)
        )
        for n, m in enumerate(masks)
    ]
    found = np.zeros((len(cases), len(COLUMNS)))
    for fold in range(FOLDS):
        train = [case for n, case in enumerate(cases) if n % FOLDS != fold]
        skill = {method: shared(train, method, task=task).of(None) for method in POOLED}
        model = skill["outline"]
        assert isinstance(model, CaseObservers)
        for n in range(fold, len(cases), FOLDS):
            scores = np.zeros((raters, len(COLUMNS)))
            for rater in range(raters):
                rated = cases[n].rated.copy()
                rated[rater] = False
                others, drew = replace(cases[n], rated=rated), cases[n].masks[rater, 0]
                (observers,) = model.observers
                own = replace(observers, bias=observers.bias - observers.bias[rater])
                fused = [
                    fuse_case(others, "majority"),
                    *(fuse_case(others, method, skill[method]) for method in POOLED),
                    fuse_case(others, "outline", replace(model, observers=(own,))),
                ]
                scores[rater] = [100 * dice(one.probability[0] > 0.5, drew) for one in fused]
            found[n] = scores.mean(axis=0)
    return found


def row(name: str, masks: Sequence[np.ndarray]) -> str:
    """A line of the table, with the gain over the vote paired over cases."""
    found = left_out(masks)
    cells = " | ".join(f"{mean:.2f}" for mean in found.mean(axis=0))
    gains = [interval(found[:, COLUMNS.index(of)] - found[:, 0]) for of in ("outline", COLUMNS[-1])]
    return f"| {name} ({len(masks)} × {len(masks[0])}) | {cells} | {' | '.join(gains)} |"


def interval(gain: np.ndarray) -> str:
    """Mean over cases, and 95 % by a bootstrap."""
    draws = np.random.default_rng(0).integers(len(gain), size=(RESAMPLES, len(gain)))
    low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
    return f"{gain.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def absent(name: str) -> str:
    return f"`{name}`: skipped, the data are not here (set MRPRISM_DATA to the folder that holds {name})"


def qubiq(data: Path) -> Iterator[str]:
    base = data / "qubiq_brain_growth"
    if not base.is_dir():
        yield absent("qubiq_brain_growth")
        return
    yield row(
        "`qubiq_brain_growth`",
        [
            np.stack([np.asarray(Image.open(base / f"rater{r}" / file.name)) > 0 for r in range(1, 8)])
            for file in sorted((base / "rater1").iterdir())
        ],
    )


def dermxdb(data: Path) -> Iterator[str]:
    base = data / "dermxdb"
    if not base.is_dir():
        yield absent("dermxdb")
        return
    files = [np.load(base / f"first_labeller{n}.npz") for n in range(1, 9)]
    masks: list[list[np.ndarray]] = [[] for _ in FINDINGS]
    for name in files[0].files:
        maps = np.stack([file[name][::2, ::2] for file in files])
        for bit, some in enumerate(masks):
            found = (maps >> bit & 1).astype(bool)
            if found.any((1, 2)).sum() >= 7:
                some.append(found)
    for finding, some in zip(FINDINGS, masks, strict=True):
        if len(some) < 20:
            yield f"`dermxdb` {finding}: skipped, at least seven drew it on {len(some)} images only"
        else:
            yield row(f"`dermxdb` {finding}, drawn by at least seven, half size", some[:MOST])


def bu_bil(data: Path) -> Iterator[str]:
    """Workers differ from image to image, so each image speaks for itself."""
    base = data / "bu_bil"
    if not base.is_dir():
        yield absent("bu_bil")
        return
    yield "| set | vote | shape average | outline | outline over the vote |"
    yield "|---|---|---|---|---|"
    gains = []
    for number in (1, 3, 4, 6):
        rows = []
        for path in sorted((base / f"set{number}" / "gold").iterdir()):
            gold = mask(path)
            crowd = sorted((base / f"set{number}" / "crowd").glob(f"{path.stem}_c*.png"))
            masks = np.stack([mask(p) for p in crowd])[:, None]
            case = MultiRaterSample(
                "", np.zeros((1, *gold.shape), np.float32), masks, np.ones((len(masks), 1), bool)
            )
            fused = [fuse_case(case, method) for method in ("majority", "shape-average", "outline")]
            rows.append([100 * dice(one.probability[0] > 0.5, gold) for one in fused])
        found = np.array(rows)
        gains.append(found[:, 2] - found[:, 0])
        means = " | ".join(f"{mean:.2f}" for mean in found.mean(0))
        yield f"| {number} ({len(rows)}) | {means} | {interval(gains[-1])} |"
    rng = np.random.default_rng(0)
    draws = np.mean([g[rng.integers(len(g), size=(RESAMPLES, len(g)))].mean(1) for g in gains], axis=0)
    low, high = np.percentile(draws, [2.5, 97.5])
    yield f"| mean of the four | | | | {np.mean([g.mean() for g in gains]):+.2f} ({low:+.2f} to {high:+.2f}) |"


def mask(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L")) > 127


if __name__ == "__main__":
    main(
        sys.argv[1:],
        Path(os.environ.get("MRPRISM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")),
    )
