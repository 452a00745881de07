"""What it would take to beat the vote of anonymous crowd workers: BU-BIL sets 1, 3, 4 and 6 against their gold.

Nothing that is fused sees the gold, but for the lines that say so: they are limits, what a perfect rule of their kind
would reach. MrPrism is trained on the workers' masks of each set (all images, 300 steps, 64 x 64, three seeds) and
fuses the same masks, without and with its own view of the image in the fusion (`prior`, p of eq. 1).

    MRPRISM_DATA=... python benchmarks/workers.py      # a quarter of an hour; writes workers.md; stopped, it goes on
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from mrprism.batch import Batch
from mrprism.datasets import Dataset, open_dataset
from mrprism.loading import Cases, collate, resize_sample, training_batches
from mrprism.methods.mrprism import MrPrism, fuse_share, log_odds, read_masks
from mrprism.sample import MultiRaterSample

SETS = (1, 3, 4, 6)
SEEDS = (0, 1, 2)
SIZE, STEPS, BATCH, RATE = 64, 300, 8, 1e-3
PRIORS = (0.0, 0.5, 1.0)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    total = one.sum() + other.sum()
    return float(2 * (one & other).sum() / total) if total else 1.0


def rules(sample: MultiRaterSample) -> dict[str, float]:
    """Dice with the gold, by rules that look at one image's masks and at most at its gold."""
    assert sample.reference is not None
    masks, gold = sample.masks[:, 0], sample.reference[0]
    votes, count = masks.sum(0), len(masks)
    found = {"majority vote": dice(2 * votes > count, gold)}
    alike = np.array([[dice(a, b) for b in masks] for a in masks])
    for most in (5, 3):
        best = max(
            itertools.combinations(range(count), most), key=lambda those: alike[np.ix_(those, those)].sum()
        )
        found[f"majority of the {most} most alike"] = dice(2 * masks[list(best)].sum(0) > most, gold)
    given = torch.from_numpy(sample.masks).float()[None]
    rated = torch.ones(given.shape[:3], dtype=torch.bool)
    trust = read_masks(given, rated, torch.from_numpy(sample.reference).float()[None])
    fused = fuse_share(given, rated, log_odds(trust.clamp(min=0.55)))[0, 0] > 0
    found["*limit:* each mask weighed by its agreement with the gold"] = dice(fused.numpy(), gold)
    found["*limit:* the best single mask of each image"] = max(dice(mask, gold) for mask in masks)
    found["*limit:* the best number of votes for each image"] = max(
        dice(votes >= least, gold) for least in range(1, count + 1)
    )
    return found


def trained(data: Dataset, seed: int) -> MrPrism:
    torch.manual_seed(seed)
    cases = Cases(data, data.names, SIZE)
    method = MrPrism(data.task, backbone="small")
    method.prepare(cases)
    method.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(method.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    epochs = (
        training_batches(cases, batch_size=BATCH, seed=seed, epoch=epoch) for epoch in itertools.count()
    )
    for batch in itertools.islice(itertools.chain.from_iterable(epochs), STEPS):
        for terms in method.losses(batch):
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()
        schedule.step()
    return method.eval()


@torch.inference_mode()
def fusions(method: MrPrism, sample: MultiRaterSample) -> dict[str, float]:
    """Dice with the gold of ConP's own answer and of the fusion of the given masks, at their full size."""
    assert sample.reference is not None
    gold = sample.reference[0]
    small: Batch = collate([resize_sample(sample, SIZE)]).only("image")
    conp = log_odds(method.predict(small).probability)
    conp = torch.nn.functional.interpolate(conp, gold.shape, mode="bilinear", align_corners=False)
    found = {"ConP, from the image alone": dice((conp[0, 0] > 0).numpy(), gold)}
    masks = torch.from_numpy(sample.masks).float()[None]
    rated = torch.ones(masks.shape[:3], dtype=torch.bool)
    weights = log_odds(read_masks(masks, rated, conp.sigmoid()).clamp(min=method.floor))
    votes = (weights * (2 * masks - 1)).sum(1)
    for prior in PRIORS:
        found[f"MrPrism's fusion, p = {prior:g}"] = dice((votes + prior * conp)[0, 0].numpy() > 0, gold)
    return found


def imported(number: int, work: Path) -> Dataset:
    folder = work / f"set{number}"
    if not folder.exists():
        source = Path(os.environ["MRPRISM_DATA"]) / "bu_bil"
        options = ["--set", str(number), "--raters", "crowd"]
        command = [sys.executable, "-m", "mrprism", "import", "bu-bil", str(source), str(folder), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return open_dataset(folder)


def mean(each: Iterable[dict[str, float]]) -> dict[str, float]:
    rows = list(each)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def table(measured: dict[str, dict[str, dict[str, float]]]) -> str:
    """Rows of rules, columns of sets; over seeds mean and, of the gain, standard deviation."""
    lines = ["| | " + " | ".join(f"set {number}" for number in SETS) + " | mean | gain |", "|---" * 7 + "|"]
    vote = np.array([measured[f"{number}"]["rules"]["majority vote"] for number in SETS])
    for name in measured["1"]["rules"]:
        row = np.array([measured[f"{number}"]["rules"][name] for number in SETS])
        lines.append(_line(name, row[None] * 100, vote * 100))
    for name in measured["1"]["0"]:
        rows = np.array([[measured[f"{number}"][f"{seed}"][name] for number in SETS] for seed in SEEDS])
        lines.append(_line(name, rows * 100, vote * 100))
    return "\n".join(lines)


def _line(name: str, rows: np.ndarray, vote: np.ndarray) -> str:
    cells = [f"{value:.2f}" for value in (*rows.mean(0), rows.mean())]
    gains = (rows - vote).mean(1)
    spread = f" ± {gains.std(ddof=1):.2f}" if len(gains) > 1 else ""
    return f"| {name} | " + " | ".join(cells) + f" | {gains.mean():+.2f}{spread} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("experiments"), help="data sets and results")
    work: Path = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "workers.json"
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    for number in SETS:
        data = imported(number, work)
        of_set = measured.setdefault(f"{number}", {})
        if "rules" not in of_set:
            of_set["rules"] = mean(rules(sample) for sample in data)
        for seed in SEEDS:
            if f"{seed}" not in of_set:
                method = trained(data, seed)
                of_set[f"{seed}"] = mean(fusions(method, sample) for sample in data)
                kept.write_text(json.dumps(measured, indent=1))
            print("set", number, "seed", seed, of_set[f"{seed}"], flush=True)
    head = "# Beating the vote of crowd workers\n\n`python benchmarks/workers.py` writes this page. "
    what = (
        "Mean Dice with the gold in per cent; the gain is over the majority vote, mean of the four sets.\n\n"
    )
    Path(__file__).with_suffix(".md").write_text(head + what + table(measured) + "\n")


if __name__ == "__main__":
    main()
