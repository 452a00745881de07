"""What mrprism costs beside named peers, as ratios, and beside the ratios that are stored.

    make bench                                   all races, under ten minutes on two cores
    OMP_NUM_THREADS=1 python benchmarks/bench.py hd95 start     some of them
    OMP_NUM_THREADS=1 python benchmarks/bench.py --store        takes what was measured as what is stored (benchmarks/bench.json)

A ratio is our time over the peer's: below 1 we are quicker. The two run in turn, so that a machine whose speed drifts
slows both; the median of the rounds counts. A ratio is called slower only beyond `NOISE` times what is stored. Where
both compute the same number, the numbers are compared first. Peers that are not installed are left out, which is said.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORED = Path(__file__).with_name("bench.json")
NOISE = (
    1.6  # how much slower than stored a ratio may come out by chance, on a machine that does other things too
)
PEERS = {
    "monai": "MONAI",
    "torchmetrics": "torchmetrics",
    "SimpleITK": "SimpleITK",
    "surface_distance": "surface-distance",
}
Run = Callable[[], Any]


class Race(NamedTuple):
    """Two ways to do one thing."""

    name: str
    peer: str
    ours: Run
    theirs: Run
    rounds: int
    at_most: float | None = None  # what the ratio should be
    same: float | None = None  # how far apart the two answers may be; None: they are not the same thing


class Missing(NamedTuple):
    """A peer that is not there."""

    peer: str


def installed(peer: str) -> bool:
    return importlib.util.find_spec(peer) is not None


def ratio(race: Race) -> float:
    """The median over rounds of our time over the peer's."""
    found = []
    for number in range(race.rounds + 1):
        times, answers = [], []
        for run in (race.ours, race.theirs):
            start = time.perf_counter()
            answers.append(run())
            times.append(time.perf_counter() - start)
        if number:  # the first warms up
            found.append(times[0] / times[1])
        elif race.same is not None:
            np.testing.assert_allclose(answers[0], answers[1], atol=race.same, err_msg=race.name)
    return statistics.median(found)


def disc(space: tuple[int, ...], shift: float, radius: float) -> np.ndarray:
    """A ball with a wavy surface."""
    axes = np.ogrid[tuple(slice(n) for n in space)]
    away = sum(((a - n / 2 - shift) / (n * radius)) ** 2 for a, n in zip(axes, space, strict=True))
    waves = sum(np.cos(a / 5 + shift) for a in axes)
    return np.asarray(away + 0.1 * waves / len(space) < 1)


# --- distances ----------------------------------------------------------------------------------


def hd95_races() -> Iterator[Race | Missing]:
    from mrprism.metrics import hd95

    for what, space, spacing, rounds in (
        ("a slice of 256 × 256", (256, 256), (0.7, 0.7), 15),
        ("a volume of 32 × 160 × 160", (32, 160, 160), (2.5, 0.8, 0.8), 5),
    ):
        one, other = disc(space, 0, 0.3), disc(space, 2.5, 0.31)
        for peer, theirs, same in (
            ("monai", _monai, 1e-4),
            ("SimpleITK", _itk, None),
            ("surface_distance", _deepmind, None),
        ):
            if not installed(peer):
                yield Missing(peer)
                continue
            yield Race(
                f"HD95 of {what}",
                PEERS[peer],
                lambda one=one, other=other, spacing=spacing: hd95(one, other, spacing),  # type: ignore[misc]
                lambda theirs=theirs, one=one, other=other, spacing=spacing: theirs(one, other, spacing),  # type: ignore[misc]
                rounds,
                1.0,
                same,
            )


def _monai(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> float:
    import torch
    from monai.metrics import compute_hausdorff_distance

    first, second = (torch.from_numpy(mask)[None, None] for mask in (one, other))
    return float(
        compute_hausdorff_distance(
            first, second, include_background=True, percentile=95, spacing=list(spacing)
        )
    )


def _itk(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Its outlines leave out the image's border, and its distances are kept in single precision."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    lines, maps = [], []
    for mask in (one, other):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        line = SimpleITK.LabelContour(image)
        lines.append(SimpleITK.GetArrayViewFromImage(line) > 0)
        reach = SimpleITK.SignedMaurerDistanceMap(line, squaredDistance=False, useImageSpacing=True)
        maps.append(np.abs(SimpleITK.GetArrayViewFromImage(reach)))
    return max(float(np.percentile(maps[1 - n][lines[n]], 95)) for n in (0, 1))


def _deepmind(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> float:
    """It weighs each piece of surface by its size, so that the number is a little another one."""
    import surface_distance

    return float(
        surface_distance.compute_robust_hausdorff(
            surface_distance.compute_surface_distances(one, other, spacing), 95
        )
    )


# --- scores -------------------------------------------------------------------------------------


def evaluation_races() -> Iterator[Race | Missing]:
    """256 × 256, 7 raters, 2 structures: Dice at six thresholds against the reference, the mean of raters, each rater."""
    from mrprism.core.prediction import Prediction
    from mrprism.core.sample import MultiRaterSample
    from mrprism.metrics import METRICS, THRESHOLDS
    from mrprism.metrics.scores import score

    rng = np.random.default_rng(0)
    masks = np.stack(
        [
            [disc((256, 256), shift, radius + 0.01 * shift) for radius in (0.3, 0.18)]
            for shift in rng.normal(0, 3, 7)
        ]
    )
    rows, columns = np.mgrid[:256, :256]
    away = np.hypot(rows - 128, columns - 128)
    probability = np.stack([1 / (1 + np.exp((away - radius) / 4)) for radius in (77, 46)]).astype(np.float32)
    sample = MultiRaterSample("case", None, masks, np.ones((7, 2), bool), reference=masks[0])
    prediction = Prediction(probability=probability)
    all_but_distances = [name for name in METRICS if name != "hd95"]

    def dices() -> list[float]:
        return [row.value for row in score(prediction, sample, metrics=["soft_dice", "dice"])]

    for peer, one in (("monai", _monai_dice), ("torchmetrics", _torchmetrics_dice)):
        if not installed(peer):
            yield Missing(peer)
            continue

        def loops(one: Callable[[Any, Any], float] = one) -> list[float]:
            import torch

            found = []
            shown, drawn = torch.from_numpy(probability), torch.from_numpy(masks)
            for c in range(2):
                for target in (drawn[0, c].float(), drawn[:, c].float().mean(dim=0), *drawn[:, c].float()):
                    found.append(float(np.mean([one(shown[c] > t, target > t) for t in THRESHOLDS])))
                    found.append(one(shown[c] > 0.5, target > 0.5))
            return found

        yield Race("evaluation, Dice by thresholds", PEERS[peer], dices, loops, 7, 0.1, 1e-5)
        yield Race(
            "evaluation, all metrics but distances, beside their Dice alone",
            PEERS[peer],
            lambda: score(prediction, sample, metrics=all_but_distances),
            loops,
            7,
        )


def _monai_dice(one: Any, other: Any) -> float:
    from monai.metrics import compute_dice

    return float(compute_dice(one[None, None].float(), other[None, None].float(), ignore_empty=False))


def _torchmetrics_dice(one: Any, other: Any) -> float:
    from torchmetrics.functional.classification import binary_f1_score

    return float(binary_f1_score(one.long(), other.long(), zero_division=1))


# --- fusion -------------------------------------------------------------------------------------


def fusion_races() -> Iterator[Race | Missing]:
    if not installed("SimpleITK"):
        yield Missing("SimpleITK")
        return
    import SimpleITK

    from mrprism.fusion import FUSIONS

    rng = np.random.default_rng(0)
    truth = disc((16, 128, 128), 0, 0.3)
    masks = np.stack([truth ^ (rng.random(truth.shape) < 0.03) for _ in range(5)])
    rated = np.ones((5, 1), bool)

    def theirs() -> Any:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
        return SimpleITK.GetArrayFromImage(SimpleITK.STAPLE(images, 1.0))

    yield Race(
        "STAPLE of 5 raters, 16 × 128 × 128",
        PEERS["SimpleITK"],
        lambda: FUSIONS["staple"](masks[:, None], rated),
        theirs,
        5,
        1.0,
    )


# --- MrPrism beside the U-Net -------------------------------------------------------------------


def training_races() -> Iterator[Race | Missing]:
    if not installed("torch"):
        yield Missing("torch")
        return
    import torch
    from speed import TASK, batch_of, prediction, training_step

    from mrprism.learn.methods.fused_label import FusedLabel
    from mrprism.learn.methods.mrprism import MrPrism

    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = MrPrism(TASK, backbone="small", recurrences=3, predict_recurrences=3)
    theirs = FusedLabel(TASK, backbone="small", label="majority")
    one, several = batch_of(1, 128), batch_of(4, 128)
    yield Race(
        "MrPrism: inference, small, 128 px", "U-Net", prediction(ours, one), prediction(theirs, one), 9, 1.4
    )
    yield Race(
        "MrPrism: training step, small, 128 px",
        "U-Net",
        training_step(ours, several),
        training_step(theirs, several),
        3,
        2.0,
    )


# --- the program --------------------------------------------------------------------------------


def start_races() -> Iterator[Race | Missing]:
    """A start beside that of Python with NumPy and SciPy: 0.15 s and 1 s where that takes about 0.25 s."""
    peer = "python -c 'import numpy, scipy'"
    program = [sys.executable, "-m", "mrprism"]

    def process(*command: str) -> Run:
        return lambda: subprocess.run(command, check=True, capture_output=True)

    yardstick = process(sys.executable, "-c", "import numpy, scipy")
    yield Race("mrprism --help", peer, process(*program, "--help"), yardstick, 9)
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/data"
        subprocess.run(
            [*program, "phantom", data, "--cases", "10", "--size", "64"], check=True, capture_output=True
        )
        names = itertools.count()
        yield Race(
            "mrprism fuse, ten cases of 64 × 64",
            peer,
            lambda: process(
                *program, "fuse", data, "--method", "majority", "--out", f"{folder}/{next(names)}"
            )(),
            yardstick,
            5,
        )


RACES: dict[str, Callable[[], Iterator[Race | Missing]]] = {
    "start": start_races,
    "hd95": hd95_races,
    "evaluation": evaluation_races,
    "fusion": fusion_races,
    "training": training_races,
}


def verdict(found: float, stored: float | None, at_most: float | None) -> str:
    """What a ratio is beside the stored one, in a word or two."""
    words = []
    if stored is not None and found > NOISE * stored:
        words.append("SLOWER")
    elif stored is not None and found * NOISE < stored:
        words.append("quicker")
    if at_most is not None and found > at_most:
        words.append(f"asked: {at_most:g}")
    return ", ".join(words)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("races", nargs="*", help=f"of {', '.join(RACES)}; all unless named")
    parser.add_argument("--store", action="store_true", help="what is measured becomes what is stored")
    options = parser.parse_args(given)
    if unknown := [name for name in options.races if name not in RACES]:
        parser.error(f"no race is called {unknown[0]}; expected some of {', '.join(RACES)}")
    warnings.simplefilter("ignore")  # of peers, about themselves
    stored: dict[str, float] = json.loads(STORED.read_text()) if STORED.is_file() else {}
    missing: set[str] = set()
    slower = 0
    print(f"{'our time / the time of the peer':66} {'peer':34} {'now':>7} {'stored':>7}")
    for name in options.races or RACES:
        for race in RACES[name]():
            if isinstance(race, Missing):
                missing.add(race.peer)
                continue
            key, found = f"{race.name} / {race.peer}", ratio(race)
            before = stored.get(key)
            said = verdict(found, before, race.at_most)
            slower += "SLOWER" in said
            shown = "-" if before is None else f"{before:.3g}"
            print(f"{race.name:66} {race.peer:34} {found:7.3g} {shown:>7} {said}", flush=True)
            if options.store:
                stored[key] = float(f"{found:.3g}")
    for peer in sorted(missing):
        print(f"{PEERS.get(peer, peer)} is not installed and was left out")
    if options.store:
        STORED.write_text(json.dumps(stored, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
