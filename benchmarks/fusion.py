"""Fusion against SimpleITK and crowd-kit: speed, correctness, memory, and real masks against a gold standard.

    python benchmarks/fusion.py              all sections, about five minutes; writes benchmarks/fusion.md
    python benchmarks/fusion.py staple tie   some sections, printed only

Needs SimpleITK >= 2.5.7; crowd-kit, numba and the development data (MRPRISM_DATA) are used where they are.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.patterns import count_patterns, paint
from mrprism.fusion import FUSIONS, staple_labels
from mrprism.fusion.files import fuse_files

RATERS = 5
ROUNDS = 25


def timed(action: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """Best wall time of some runs, and the result."""
    best, result = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        result = action()
        best = min(best, time.perf_counter() - start)
    return best, result


def drawn_ball(shape: tuple[int, ...], raters: int, seed: int = 0) -> np.ndarray:
    """Balls drawn with differing centre, size and 1 % of stray pixels: masks (raters, *shape)."""
    rng = np.random.default_rng(seed)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    masks = np.empty((raters, *shape), bool)
    for mask in masks:
        scaled = [
            ((a - n / 2 - rng.normal(0, n / 50)) / (n * 0.3 * rng.normal(1, 0.06))) ** 2
            for a, n in zip(axes, shape, strict=True)
        ]
        mask[...] = sum(scaled) < 1
        mask ^= rng.random(shape, np.float32) < 0.01
    return masks


def staple() -> Iterator[str]:
    """STAPLE, 10.5 Mvoxel x 5 raters."""
    import SimpleITK

    masks = drawn_ball((10, 1024, 1024), RATERS)
    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    theirs, image = timed(lambda: SimpleITK.STAPLE(images, 1.0), 2)
    expected = SimpleITK.GetArrayFromImage(image)
    rated = np.ones((RATERS, 1), bool)
    ours, fused = timed(lambda: FUSIONS["staple"](masks[:, None], rated, margin=None), 5)
    far = np.abs(fused.probability[0] - expected).max()
    yield "| | seconds | against SimpleITK |"
    yield "|---|---|---|"
    yield f"| SimpleITK {SimpleITK.Version.VersionString()} `STAPLE` (all cores) | {theirs:.2f} | 1 |"
    yield f"| mrprism `staple`, whole field (one core) | {ours:.4f} | {theirs / ours:.0f} times faster |"
    yield ""
    yield f"Largest difference of posteriors: {far:.1e}."


def limit() -> Iterator[str]:
    """STAPLE beside the least it could take, 10.5 Mvoxel x 5 raters."""
    masks = drawn_ball((10, 1024, 1024), RATERS)
    rated = np.ones((RATERS, 1), bool)
    out = np.empty(masks.shape[1:], np.float32)
    sides: dict[str, tuple[Callable[[], Any], list[float]]] = {
        "read": (lambda: [mask.view(np.uint64).max() for mask in masks], []),
        "write": (lambda: out.fill(1.0), []),
        "staple": (lambda: FUSIONS["staple"](masks[:, None], rated, margin=None), []),
    }
    for _ in range(ROUNDS):
        for action, seconds in sides.values():
            start = time.process_time()
            action()
            seconds.append(time.process_time() - start)
    read, write, ours = (float(np.median(seconds)) for _, seconds in sides.values())
    yield "Both sides take turns, on one thread; seconds are medians of what each had of the processor, so that a busy"
    yield "machine changes little."
    yield ""
    yield "| | seconds |"
    yield "|---|---|"
    yield f"| read the masks once | {read:.4f} |"
    yield f"| write float32 once | {write:.4f} |"
    yield f"| `staple`, whole field | {ours:.4f} |"
    yield ""
    yield f"`staple` takes {ours / (read + write):.1f} times the limit, one read and one write ({ROUNDS} turns)."


def kernel() -> Iterator[str]:
    """The counting kernel, 10.5 Mvoxel x 5 raters."""
    masks = drawn_ball((10, 1024, 1024), RATERS)
    values = np.arange(2**RATERS, dtype=np.float32)
    count, table = timed(lambda: count_patterns(masks), 5)
    colour, _ = timed(lambda: paint(table, masks, None, values[: len(table.counts)]), 5)
    yield "| | seconds |"
    yield "|---|---|"
    yield f"| count all patterns, NumPy (used) | {count:.4f} |"
    try:
        import numba
    except ImportError:
        yield "| the same as a Numba loop | not installed |"
    else:

        @numba.njit
        def loop(flat: np.ndarray, counts: np.ndarray) -> None:
            for i in range(flat.shape[1]):
                code = 0
                for r in range(flat.shape[0]):
                    code |= flat[r, i] << r
                counts[code] += 1

        flat = masks.reshape(RATERS, -1).view(np.uint8)
        loop(flat[:, :10], np.zeros(32, np.int64))
        compiled, _ = timed(lambda: loop(flat, np.zeros(32, np.int64)), 5)
        yield f"| the same as a Numba loop | {compiled:.4f} |"
    yield f"| paint a value per pattern | {colour:.4f} |"


def labels() -> Iterator[str]:
    """STAPLE of 5 exclusive labels, 33.6 Mvoxel x 3 raters."""
    import SimpleITK

    shape, raters = (128, 512, 512), 3
    maps = np.zeros((raters, *shape), np.uint8)
    for label in range(1, 5):
        for r, mask in enumerate(drawn_ball((64, 256, 256), raters, seed=label)):
            z, y, x = 64 * (label % 2), 256 * (label // 2 % 2), 256 * (label // 3 % 2)
            maps[r, z : z + 64, y : y + 256, x : x + 256][mask] = label
    images = [SimpleITK.GetImageFromArray(one) for one in maps]
    theirs, image = timed(lambda: SimpleITK.MultiLabelSTAPLE(images), 1)
    expected = SimpleITK.GetArrayFromImage(image)
    ours, fused = timed(lambda: staple_labels(maps, margin=None, posterior=False))
    with_posterior, _ = timed(lambda: staple_labels(maps, margin=None), 2)
    differ = fused.labels != expected
    top = int(maps.max())
    yield "| | seconds | against SimpleITK |"
    yield "|---|---|---|"
    yield f"| SimpleITK `MultiLabelSTAPLE` (labels only) | {theirs:.2f} | 1 |"
    yield f"| mrprism `staple_labels`, labels only | {ours:.3f} | {theirs / ours:.0f} times faster |"
    yield (
        f"| mrprism `staple_labels` with all five posteriors | {with_posterior:.3f} | "
        f"{theirs / with_posterior:.0f} times faster |"
    )
    yield ""
    yield (
        f"Labels differ at {int(differ.sum())} of {differ.size} voxels; at {int((expected > top).sum())} of "
        f"them SimpleITK answers {top + 1}, a label nobody drew."
    )


def tie() -> Iterator[str]:
    """Ties worked by hand, and on random maps."""
    import SimpleITK

    a, b = np.array([[[1, 0, 0, 1, 1, 1]], [[0, 0, 1, 1, 1, 1]]], np.uint8)
    images = [SimpleITK.GetImageFromArray(one) for one in (a, b)]
    ours = staple_labels(np.stack([a, b]), margin=None)
    assert ours.posterior is not None
    yield "Raters A and B draw 1 0 0 1 1 1 and 0 0 1 1 1 1: three pixels both, one neither, one each alone."
    yield "The prior is the mean vote, 2/3. Both have the same skill, and EM rests at sensitivity 5/6 and"
    yield "specificity 2/3: the posteriors are then 25/27 (both), 5/9 (one alone), 1/9 (neither), inside is"
    yield "3 x 25/27 + 2 x 5/9 + 1/9 = 4 pixels, so sensitivity is (25/9 + 5/9) / 4 = 5/6, and specificity"
    yield "(8/9 + 4/9) / 2 = 2/3. Pixels drawn by one alone (5/9) therefore belong inside."
    yield ""
    yield "| | answer | posterior of a pixel drawn by one |"
    yield "|---|---|---|"
    yield "| by hand | 1 0 1 1 1 1 | 5/9 = 0.555556 |"
    binary = SimpleITK.GetArrayFromImage(SimpleITK.STAPLE(images, 1.0))[0]
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images))[0]
    yield f"| mrprism `staple_labels` | {_row(ours.labels[0])} | {ours.posterior[1, 0, 0]:.6f} |"
    yield f"| SimpleITK `STAPLE` | {_row(binary > 0.5)} | {binary[0]:.6f} |"
    yield f"| SimpleITK `MultiLabelSTAPLE` | {_row(theirs)} | not given |"
    yield ""
    rng = np.random.default_rng(1)
    invented, trials = 0, 1000
    for _ in range(trials):
        labels, pixels = int(rng.integers(2, 4)), int(rng.integers(6, 14))
        truth = np.sort(rng.integers(0, labels, pixels))
        drawn = np.where(rng.random((2, pixels)) < 0.25, rng.integers(0, labels, (2, pixels)), truth)
        one = [SimpleITK.GetImageFromArray(row[None].astype(np.uint8)) for row in drawn]
        invented += SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(one)).max() > drawn.max()
    yield f"On {trials} random pairs of maps of 6 to 13 pixels, `MultiLabelSTAPLE` answers with a label"
    yield f"nobody drew in {invented}; mrprism in none: a tie goes to the lowest label and is counted."


def _row(values: np.ndarray) -> str:
    return " ".join(str(int(value)) for value in values)


def crowdkit() -> Iterator[str]:
    """Ten images of 512 x 512 pixels x 5 raters, against crowd-kit."""
    try:
        import pandas as pd
        from crowdkit.aggregation import SegmentationEM, SegmentationMajorityVote
    except ImportError:
        yield "crowd-kit is not installed."
        return
    cases = [drawn_ball((512, 512), RATERS, seed=i) for i in range(10)]
    rows = [(i, r, mask) for i, case in enumerate(cases) for r, mask in enumerate(case)]
    frame = pd.DataFrame(rows, columns=["task", "worker", "segmentation"])
    rated = np.ones((RATERS, 1), bool)
    yield "| | crowd-kit, seconds | mrprism, seconds | | pixels that differ |"
    yield "|---|---|---|---|---|"
    for theirs, ours in (("MajorityVote", "majority"), ("EM", "staple"), ("EM", "dawid-skene")):
        kind = {"MajorityVote": SegmentationMajorityVote, "EM": SegmentationEM}[theirs]
        slow, expected = timed(lambda kind=kind: kind().fit_predict(frame), 1)
        quick, found = timed(
            lambda ours=ours: [FUSIONS[ours](case[:, None], rated, margin=None) for case in cases]
        )
        wrong = sum(
            int((np.asarray(expected[i]) != (one.probability[0] > 0.5)).sum()) for i, one in enumerate(found)
        )
        times = f"{slow / quick:.0f} times faster"
        yield f"| {theirs} / `{ours}` | {slow:.2f} | {quick:.4f} | {times} | {wrong} |"
    two = np.zeros((2, 4, 4), bool)
    two[0, :2] = True
    frame = pd.DataFrame(
        [(0, r, mask) for r, mask in enumerate(two)], columns=["task", "worker", "segmentation"]
    )
    vote = int(np.sum(SegmentationMajorityVote().fit_predict(frame)[0]))
    em = int(np.sum(SegmentationEM().fit_predict(frame)[0]))
    fused = FUSIONS["majority"](two[:, None], rated[:2])
    yield ""
    yield (
        f"Two raters, 16 pixels, one marks 8 and one none: crowd-kit's vote marks {vote}, its EM {em}; "
        f"`majority` marks {int(fused.probability.sum())} and declares {int(fused.ties.sum())} ties."
    )


def files() -> Iterator[str]:
    """A 512 x 512 x 1024 volume x 5 raters from .nii.gz files."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        _write_volumes(here)
        seconds, peak, inside = subprocess.run(
            [sys.executable, __file__, "--fuse-files", folder], check=True, capture_output=True, text=True
        ).stdout.split()
    yield "| | |"
    yield "|---|---|"
    yield "| voxels x raters | 268,435,456 x 5 |"
    yield f"| read, STAPLE, write mask and probability as .nii.gz | {float(seconds):.1f} s |"
    yield f"| peak memory of the whole process | {float(peak):.0f} MB |"
    yield f"| voxels in the consensus | {inside} |"


def _write_volumes(folder: Path) -> None:
    import nibabel

    rng = np.random.default_rng(0)
    x, y = np.ogrid[:512, :512]
    for r in range(RATERS):
        volume = np.zeros((512, 512, 1024), np.uint8, order="F")
        centre, radius = rng.normal(256, 6, 2), rng.normal(110, 8)
        for z in range(100, 900):
            volume[:, :, z] = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2 * (
                1 - ((z - 500) / 450) ** 2
            )
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.7, 0.7, 1, 1])), folder / f"r{r}.nii.gz")


def _fuse_files(folder: Path) -> None:
    start = time.perf_counter()
    fused = fuse_files([folder / f"r{r}.nii.gz" for r in range(RATERS)], "staple", folder / "out")
    print(time.perf_counter() - start, _peak_mb(), fused.inside)


def _peak_mb() -> float:
    """Peak memory of this program; unlike ``ru_maxrss`` it leaves out what the parent process held."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gold() -> Iterator[str]:
    """Seven crowd masks against an expert gold standard (BU-BIL sets 1, 3, 4 and 6)."""
    from PIL import Image

    data = Path(os.environ.get("MRPRISM_DATA", Path(__file__).parents[2] / "shared" / "data")) / "bu_bil"
    if not data.is_dir():
        yield "The development data are not here (set MRPRISM_DATA)."
        return

    def mask(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path).convert("L")) > 127

    sets: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for number in (1, 3, 4, 6):
        folder = data / f"set{number}"
        sets[number] = [
            (np.stack([mask(p) for p in sorted((folder / "crowd").glob(f"{path.stem}_c*.png"))]), mask(path))
            for path in sorted((folder / "gold").iterdir())
        ]
    methods: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in FUSIONS}
    methods["staple, whole field (as ITK)"] = ("staple", {"margin": None})
    methods["simple, alpha 1"] = ("simple", {"alpha": 1.0})
    rng = np.random.default_rng(0)
    draws = {n: rng.integers(0, len(cases), (5000, len(cases))) for n, cases in sets.items()}
    scores: dict[str, dict[int, np.ndarray]] = {}
    for name, (method, options) in methods.items():
        scores[name] = {
            n: np.array([_gold_dice(method, options, masks, gold) for masks, gold in cases])
            for n, cases in sets.items()
        }
    yield "Mean Dice with gold; the last column is the gain over majority vote, mean of the four sets, with a"
    yield "95 % bootstrap interval over images. Every method with its default options but where named."
    yield ""
    yield "| fusion | " + " | ".join(f"set {n} ({len(c)})" for n, c in sets.items()) + " | mean | gain |"
    yield "|---|" + "---|" * (len(sets) + 2)
    for name, found in scores.items():
        means = [found[n].mean() for n in sets]
        gains = {n: found[n] - scores["majority"][n] for n in sets}
        resampled = np.mean([gains[n][draws[n]].mean(axis=1) for n in sets], axis=0)
        low, high = np.percentile(resampled, [2.5, 97.5])
        gain = np.mean([g.mean() for g in gains.values()])
        cells = " | ".join(f"{m:.4f}" for m in means)
        yield f"| {name} | {cells} | {np.mean(means):.4f} | {gain:+.4f} ({low:+.4f} to {high:+.4f}) |"


def _gold_dice(method: str, options: dict[str, Any], masks: np.ndarray, gold: np.ndarray) -> float:
    fused = FUSIONS[method](masks[:, None], np.ones((len(masks), 1), bool), **options).probability[0] > 0.5
    size = fused.sum() + gold.sum()
    return float(2 * (fused & gold).sum() / size) if size else 1.0


SECTIONS = {
    "staple": staple,
    "limit": limit,
    "kernel": kernel,
    "labels": labels,
    "tie": tie,
    "crowdkit": crowdkit,
    "files": files,
    "gold": gold,
}


def main(wanted: list[str]) -> None:
    lines = [
        "# Fusion",
        "",
        "`python benchmarks/fusion.py` prints and writes this page. "
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}.",
    ]
    for name in wanted or SECTIONS:
        section = SECTIONS[name]
        lines += ["", f"## {section.__doc__.rstrip('.')}", ""]
        for line in section():
            lines.append(line)
            print(line, flush=True)
    if not wanted:
        (Path(__file__).parent / "fusion.md").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fuse-files"]:
        _fuse_files(Path(sys.argv[2]))
    else:
        main(sys.argv[1:])
