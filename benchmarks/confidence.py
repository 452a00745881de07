"""Which rule for confidence finds whom to trust, whatever it starts from?

MrPrism's recurrence without the networks' imperfections: ConP is replaced by the best that could be learned from
these images, the mean of the target at each signed distance from the true outline. DivP's reading is replaced by
counting over all cases. What is left is the rule by which agreement becomes confidence, in turn with fusion.

Three rules, on four crowds, from a consensus that starts too small, right and too large by a tenth of the radius:

- one coin: the share of disputed pixels on which a rater is right;
- two coins: sensitivity and specificity, fused as Bayes has it (Dawid and Skene; STAPLE);
- MrPrism: two coins without the constant that is the same at every pixel (`mrprism.learn.confidence.skill`).

    python benchmarks/confidence.py          # about a minute; writes confidence.md beside itself
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mrprism.datasets.phantom import phantom
from mrprism.learn.confidence import EQUAL, skill, tally
from mrprism.learn.soft_fusion import fuse_log_odds, log_odds

SCENARIOS = ("crowd", "majority", "symmetric", "missing")
STRUCTURES = ("disc", "cup")
CASES, SIZE, ROUNDS, FLOOR = 120, 64, 25, 0.55
EDGES = np.arange(-0.6, 0.605, 0.01)  # of distance over radius

# from hits and chances to the weight of a rater's vote, and a constant at every pixel they rated
Rule = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def one_coin(hits: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
    weight = log_odds((hits.sum(-1) / chances.sum(-1)).clamp(min=FLOOR))
    return weight, torch.zeros_like(weight)


def two_coins(hits: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
    sensitivity, specificity = ((hits + 1) / (chances + 2)).clamp(0.02, 0.98).unbind(-1)
    least = log_odds(torch.tensor(FLOOR))
    marked = (sensitivity / (1 - specificity)).log().clamp(min=least)
    unmarked = ((1 - sensitivity) / specificity).log().clamp(max=-least)
    return (marked - unmarked) / 2, (marked + unmarked) / 2


def mrprism(hits: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
    weight = skill(hits, chances, EQUAL).clamp(min=log_odds(torch.tensor(FLOOR)))
    return weight, torch.zeros_like(weight)


RULES: dict[str, Rule] = {"one coin": one_coin, "two coins": two_coins, "MrPrism": mrprism}


def main() -> None:
    lines = [
        "| crowd | structure | majority vote | " + " | ".join(RULES) + " |",
        "|---|---|---|" + "---|" * len(RULES),
    ]
    for scenario in SCENARIOS:
        for structure, name in enumerate(STRUCTURES):
            masks, rated, truth, distance = read(scenario, structure)
            there = rated[..., None, None].float()
            votes = (masks * there).sum(1) / there.sum(1)
            cells = [f"{100 * dice(votes > 0.5, truth):.1f}"]
            for rule in RULES.values():
                ends = [turns(rule, masks, rated, votes, truth, distance, start) for start in (-0.1, 0, 0.1)]
                outlines = " ".join(f"{100 * place:+.0f}" for place, _ in ends)
                cells.append(f"{100 * np.mean([score for _, score in ends]):.1f} ({outlines})")
            lines.append(f"| `{scenario}` | {name} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text(PAGE.format(table="\n".join(lines)), encoding="utf-8")


def read(scenario: str, structure: int) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    """Masks (case, rater, 1, H, W), rated, truth, and the distance to its outline over its radius."""
    samples = list(phantom(scenario, size=SIZE, cases=CASES, seed=0))
    masks = torch.from_numpy(np.stack([s.masks[:, structure] for s in samples])).float()[:, :, None]
    rated = torch.from_numpy(np.stack([s.rated[:, structure] for s in samples]))[:, :, None]
    truth = np.stack([s.reference[structure] for s in samples if s.reference is not None])
    return masks, rated, torch.from_numpy(truth)[:, None], np.stack([relative(mask) for mask in truth])


def relative(mask: np.ndarray) -> np.ndarray:
    """Signed distance of each pixel to the outline, in radii; negative inside."""
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    signed: np.ndarray = np.where(mask, 0.5 - inside, outside - 0.5) / np.sqrt(mask.sum() / np.pi)
    return signed


def turns(
    rule: Rule, masks: Tensor, rated: Tensor, votes: Tensor, truth: Tensor, distance: np.ndarray, start: float
) -> tuple[float, float]:
    """Fusion and ideal segmentation in turn; where the outline comes to lie, in radii, and the fusion's Dice."""
    segmentation = torch.from_numpy(distance < start).float()[:, None]
    there = rated[..., None].float()
    profile = np.zeros(len(EDGES) + 1)
    fused = votes
    for _ in range(ROUNDS):
        hits, chances = tally(masks, (segmentation > 0.5).float(), votes)
        weight, constant = rule((hits * there).sum(0), (chances * there).sum(0))
        logits = fuse_log_odds(masks, rated, weight[None, ..., None, None])
        fused = (logits + (constant * there[..., 0]).sum(1)[..., None, None]).sigmoid()
        profile, learned = ideal(fused[:, 0].numpy(), distance)
        segmentation = torch.from_numpy(learned).float()[:, None]
    return float(EDGES[np.argmax(profile[1:-1] < 0.5)]), dice(fused > 0.5, truth)


def ideal(target: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean target at each distance from the outline, as a profile and at every pixel."""
    bins = np.digitize(distance, EDGES)
    count = np.bincount(bins.ravel(), minlength=len(EDGES) + 1)
    mean = np.bincount(bins.ravel(), target.ravel(), len(EDGES) + 1) / np.maximum(count, 1)
    profile = ndimage.gaussian_filter1d(mean, 2, mode="nearest")
    return profile, profile[bins]


def dice(one: Tensor, other: Tensor) -> float:
    both, total = (one & other).sum((-2, -1)), one.sum((-2, -1)) + other.sum((-2, -1))
    return float((2 * both / total.clamp(min=1)).mean())


PAGE = """# Which rule finds whom to trust

`python benchmarks/confidence.py`: MrPrism's turns of segmentation and fusion with an ideal network in ConP's place (see
its docstring), NUMBER phantoms of each kind. Dice of the fused masks against the truth, mean over three starts; in brackets
where the consensus outline ends when it starts 10 per cent of the radius too small, right and too large, in per cent of
the radius. Pixels limit that to about -3; what matters is that the three agree.

{table}

One coin drifts where biases should cancel: once the consensus is a little too small, those who draw small agree with it on
more pixels, and gain weight. Two coins take a bias that most raters share for the truth. Without the constant neither
happens. This decided the default; the networks' own figures are in [README.md](README.md).
""".replace("NUMBER", str(CASES))

if __name__ == "__main__":
    main()
