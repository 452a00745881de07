"""Where the recurrence must earn its place: labels of the same U-Net, beside MrPrism at the outline.

    python benchmarks/sparse.py                                      # all: about two hours of one core
    python benchmarks/sparse.py forty-1 --seeds 0 --labels vote auto # some of it
    python benchmarks/sparse.py forty-1 --phantoms 2027              # other phantoms

Phantoms of 96 px, trained at 64 px for 300 steps, cosine, the last epoch
kept: no reference is used for anything but the score. 240 training cases, 60 test cases.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

import mrprism
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.phantom import fundus
from mrprism.datasets.raters import SCENARIOS, Scenario, draw_raters
from mrprism.learn.batches import collate
from mrprism.learn.resize import resize_sample

SEED, SIZE, TRAINED, CASES = 2026, 96, 64, {"train": 240, "val": 8, "test": 60}
KINDS = {  # the scenario, and how many of its raters outline each image; None: as the scenario has it
    "forty-1": ("forty", 1),
    "seven-1": ("crowd", 1),
    "forty-3": ("forty", 3),
    "by-image": ("by-image", None),
    "missing": ("missing", None),
    "two": ("two", None),
    "crowd": ("crowd", None),
}
LABELS = {
    "vote": ("fused-label", {"label": "majority"}),
    "pooled-staple": ("fused-label", {"label": "pooled-staple"}),
    "outline": ("fused-label", {"label": "outline"}),
    "auto": ("fused-label", {"label": "auto"}),
    "mrprism-outline": ("mrprism-outline", {}),
    "truth": ("fused-label", {"label": "reference"}),
}


def cases(
    kind: str, size: int = SIZE, counts: Mapping[str, int] = MappingProxyType(CASES), phantoms: int = SEED
) -> Iterator[MultiRaterSample]:
    """Each image outlined by some of the scenario's raters, drawn at random."""
    scenario, each = KINDS[kind]
    group = SCENARIOS[scenario]
    styles = group.styles
    splits = [split for split, count in counts.items() for _ in range(count)]
    for number, split in enumerate(splits):
        image, truth = fundus(np.random.default_rng((phantoms, number, 0)), size)
        if each is None:
            masks, rated = draw_raters(truth, group, np.random.default_rng((phantoms, number, 1)), image)
            yield MultiRaterSample(f"case{number:04d}", image, masks, rated, reference=truth, split=split)
            continue
        chosen = np.sort(np.random.default_rng((phantoms, number, 2)).permutation(len(styles))[:each])
        drawn = draw_raters(
            truth,
            Scenario(tuple(styles[rater] for rater in chosen)),
            np.random.default_rng((phantoms, number, 1)),
        )
        masks, rated = np.zeros((len(styles), *truth.shape), bool), np.zeros((len(styles), len(truth)), bool)
        masks[chosen], rated[chosen] = drawn
        yield MultiRaterSample(f"case{number:04d}", image, masks, rated, reference=truth, split=split)


def dice(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each structure, in per cent."""
    both, total = (one & other).sum((1, 2)), one.sum((1, 2)) + other.sum((1, 2))
    return np.where(total > 0, 200 * both / np.maximum(total, 1), 100.0)


def scores(
    run: Path, test: list[MultiRaterSample], size: int = TRAINED
) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean Dice at 0.5 with the truth: of the network, and of its fusion of the given masks with the image."""
    predictor = mrprism.load_run(run)
    seen = [dice(predictor.predict(case.image).probability > 0.5, case.reference) for case in test]
    if not hasattr(predictor.method, "fuse_given"):
        return np.mean(seen, 0), None
    fused = []
    for case in test:
        small = resize_sample(case, size)
        with torch.inference_mode():
            probability = predictor.method.fuse_given(collate([small]).only("both"))[0].numpy()
        fused.append(dice(probability > 0.5, small.reference))
    return np.mean(seen, 0), np.mean(fused, 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--labels", nargs="*", default=list(LABELS))
    parser.add_argument(
        "--phantoms", type=int, default=SEED, help=f"seed of images and raters; {SEED} by default"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for kind in chosen.kinds:
        samples = list(cases(kind, phantoms=chosen.phantoms))
        raters = tuple(f"rater{number + 1}" for number in range(samples[0].masks.shape[0]))
        data = mrprism.Dataset.from_samples(kind, Task(3, ("disc", "cup"), raters), samples)
        test = [sample for sample in samples if sample.split == "test"]
        for seed in chosen.seeds:
            for label in chosen.labels:
                method, options = LABELS[label]
                with tempfile.TemporaryDirectory() as folder:
                    began = time.process_time()
                    mrprism.train(
                        data, method, Path(folder) / "run", backbone="small", size=TRAINED, epochs=10,
                        batch_size=8, learning_rate=1e-3, schedule="cosine", select="last", seed=seed,
                        device="cpu", quiet=True, options=options,
                    )  # fmt: skip
                    took = time.process_time() - began
                    network, fused = scores(Path(folder) / "run", test)
                text = f"{kind} {label} seed {seed}: disc {network[0]:.2f}, cup {network[1]:.2f}"
                if fused is not None:
                    text += f"; fusion of the given masks {fused[0]:.2f}, {fused[1]:.2f}"
                print(f"{text}; {took:.0f} s of processor time", flush=True)


if __name__ == "__main__":
    main()
