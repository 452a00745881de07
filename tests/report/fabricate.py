"""Run folders as a training and an evaluation would leave them, without either."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.metrics.examples import write_example
from mrprism.metrics.scores import pick_examples, score, write_table

STRUCTURES = ("disc", "cup")
RATERS = ("Abe", "Barnes", "Castillo", "Diaz", "Eriksen", "Fofana", "Grimm")
# how far each rater draws outside the truth, and how much the hand wobbles, in pixels
HANDS = ((0.2, 0.5), (-0.3, 0.6), (2.5, 1.5), (-2.5, 1.5), (1.0, 3.0), (-1.5, 2.5), (3.0, 2.0))


def fabricate_run(
    folder: Path,
    *,
    method: str = "mrprism",
    options: dict[str, Any] | None = None,
    sharpness: float = 1.2,
    error: float = 0.9,
    seed: int = 0,
    cases: int = 24,
    size: int = 128,
    recurrences: int = 4,
    confidence: bool = True,
    reference: bool = True,
    raters: Sequence[str] = RATERS,
    anonymous: bool = False,
    spacing: bool = False,
    missing: bool = False,
    fusion: bool = False,
    log: bool = True,
    examples: bool = True,
) -> Path:
    """A run folder of round discs with cups; `error` is how far the method's outline errs, in pixels."""
    folder.mkdir(parents=True)
    task = Task(channels=3, structures=STRUCTURES, raters=tuple(raters), anonymous=anonymous)
    kept, rows = {}, []
    for i in range(cases):
        sample, away = _sample(i, size, len(raters), reference, spacing, missing)
        prediction = _prediction(sample, away, i, seed, sharpness, error, recurrences, confidence)
        rows += score(prediction, sample, task)
        if fusion:
            votes = sample.masks.sum(0) / np.maximum(sample.rated.sum(0), 1)[:, None, None]
            rows += score(Prediction(votes.astype(np.float32)), sample, task, reads="masks")
        kept[sample.name] = (sample, prediction)
    write_table(rows, folder / "table.csv")
    if examples:
        for i, name in enumerate(pick_examples([row for row in rows if row.reads == "image"]).values()):
            write_example(folder / "examples" / f"{i}.npz", *kept[name])
    _settings(folder, method, options or {}, task, seed, size, cases)
    if log:
        _log(folder / "log.jsonl", method, error)
    return folder


def _sample(
    i: int, size: int, raters: int, reference: bool, spacing: bool, missing: bool
) -> tuple[MultiRaterSample, np.ndarray]:
    rng = np.random.default_rng(i)
    rows, columns = np.mgrid[:size, :size]
    row, column = size * rng.uniform(0.42, 0.58, 2)
    angle = np.arctan2(rows - row, columns - column)
    away = np.hypot((rows - row) * rng.uniform(0.9, 1.1), columns - column)
    away += sum(rng.normal(0, size * 0.008) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 4))
    radii = size * np.array([rng.uniform(0.19, 0.25), rng.uniform(0.09, 0.13)])
    signed = np.stack([away - radius for radius in radii])  # negative inside
    masks = np.stack([_drawn(signed, rng, size, *HANDS[r % len(HANDS)]) for r in range(raters)])
    rated = np.ones((raters, 2), bool)
    if missing:
        rated &= rng.random((raters, 2)) > 0.3
        rated[0] = True
    sample = MultiRaterSample(
        name=f"fundus_{i:03d}",
        image=_image(signed, rows - row, columns - column, rng, size),
        masks=masks & rated[..., None, None],
        rated=rated,
        reference=signed < 0 if reference else None,
        group=f"patient {i // 2}",
        spacing_mm=(0.05, 0.05) if spacing else None,
    )
    return sample, signed


def _drawn(signed: np.ndarray, rng: np.random.Generator, size: int, bias: float, wobble: float) -> np.ndarray:
    scale = size / 128
    waves = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), 8 * scale)
    return signed < scale * (bias + wobble * waves / waves.std())


def _image(
    signed: np.ndarray, rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator, size: int
) -> np.ndarray:
    glow = np.exp(-(rows**2 + columns**2) / (size * 0.8) ** 2)
    disc, cup = (1 / (1 + np.exp(part / (size * 0.012))) for part in signed)
    base = 0.30 + 0.30 * glow + 0.22 * disc + 0.13 * cup
    vessels = np.zeros_like(base)
    for _ in range(7):
        bend, slope, shift = rng.normal(0, 0.006), rng.normal(0, 0.9), rng.normal(0, 0.06 * size)
        path = columns - shift - slope * rows - bend * rows**2
        vessels += np.exp(-((path / (0.012 * size * np.sqrt(1 + slope**2))) ** 2)) * rng.uniform(0.4, 1)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), size * 0.01) * 0.25
    grey = base * (1 - 0.28 * np.clip(vessels, 0, 1)) + texture * 0.1
    tint = np.array([1.0, 0.56, 0.30])[:, None, None] + np.array([0.0, 0.2, 0.18])[:, None, None] * disc
    return np.clip(grey * tint, 0, 1).astype(np.float32)


def _prediction(
    sample: MultiRaterSample,
    signed: np.ndarray,
    i: int,
    seed: int,
    sharpness: float,
    error: float,
    recurrences: int,
    confidence: bool,
) -> Prediction:
    rng = np.random.default_rng([i, seed, 1])
    size = signed.shape[-1]
    waves = ndimage.gaussian_filter(rng.normal(0, 1, signed.shape), (0, size / 14, size / 14))
    waves = waves / waves.std() * error * rng.uniform(0.5, 1.8) * size / 128

    def outlined(scale: float) -> np.ndarray:
        return (1 / (1 + np.exp((signed + scale * waves) * sharpness))).astype(np.float32)

    steps = tuple(outlined(1 + 1.2 * np.exp(-1.1 * k)) for k in range(recurrences))
    probability = steps[-1] if steps else outlined(1.0)
    if not confidence:
        return Prediction(probability, steps=steps)
    blur = ndimage.gaussian_filter(sample.masks.astype(np.float32), (0, 0, size / 40, size / 40))
    agreement = probability * blur + (1 - probability) * (1 - blur)
    return Prediction(probability, raters=blur, confidence=np.clip(agreement, 0.02, 0.98), steps=steps)


def _settings(
    folder: Path, method: str, options: dict[str, Any], task: Task, seed: int, size: int, cases: int
) -> None:
    config = {
        "mrprism": "0.1.0",
        "method": method,
        "options": options,
        "backbone": "small",
        "task": {
            "channels": task.channels,
            "structures": task.structures,
            "raters": task.raters,
            "anonymous": task.anonymous,
        },
        "dataset": "phantom crowd",
        "train": [f"t{i}" for i in range(160)],
        "val": [f"v{i}" for i in range(20)],
        "test": [f"fundus_{i:03d}" for i in range(cases)],
        "seed": seed,
        "size": size,
        "epochs": 30,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "augment": "light",
        "precision": "float32",
    }
    result = {
        "epochs": 30,
        "chosen_epoch": 28,
        "collapsed": False,
        "parameters": 1_034_882 if method == "mrprism" else 812_354,
        "seconds": 214.2,
        "device": "cpu",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps(result))


def _log(path: Path, method: str, error: float) -> None:
    rng = np.random.default_rng(3)
    terms = ("rec", "multi-head", "divp-rec", "shuffle") if method == "mrprism" else ("bce",)
    lines = []
    for step in range(600):
        epoch = step // 20 + 1
        values = {
            name: float(0.7 / (k + 1) * np.exp(-step / 150) + 0.05 + 0.02 * rng.random())
            for k, name in enumerate(terms)
        }
        lines.append(
            {
                "step": step + 1,
                "epoch": epoch,
                "loss": sum(values.values()),
                "terms": values,
                "seconds": step / 3,
            }
        )
        if (step + 1) % 20 == 0:
            found = {
                "target": "reference",
                "score": float(0.96 - 0.03 * error - 0.5 * np.exp(-epoch / 4) + 0.004 * rng.normal()),
            }
            lines.append(
                {"step": step + 1, "epoch": epoch, "validation": found, "collapse": [], "seconds": step / 3}
            )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 601, "ep')


def fabricate_comparison(root: Path, **settings: Any) -> list[Path]:
    """MrPrism beside four baselines, one of them trained on the truth."""
    plain = {"recurrences": 0, "confidence": False, "method": "fused-label"} | settings
    return [
        fabricate_run(root / "mrprism", fusion=True, **settings),
        fabricate_run(root / "soft-vote", options={"label": "soft-vote"}, sharpness=0.35, error=1.2, **plain),
        fabricate_run(root / "hard-vote", options={"label": "majority"}, error=1.15, **plain),
        fabricate_run(root / "staple", options={"label": "staple"}, error=2.4, **plain),
        fabricate_run(root / "truth", options={"label": "reference"}, error=0.8, **plain),
    ]
