"""One thing about MrPrism changed at a time: which choices make it better, on validation cases only.

    python benchmarks/questions.py --jobs 2          # three seeds of every variant; writes questions.md
    python benchmarks/questions.py "as it comes" "who is absent" --scenario missing     # some of them; prints only

64 x 64, `small` backbone, 10 epochs (300 steps of 8) on a phantom's training cases, scored on its 40 validation
cases against the truth. Most variants are options of `mrprism train`; those that are not are classes here. Stopped, the same
command goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import experiments
import numpy as np
import torch
from torch import Tensor, nn

import mrprism
from mrprism.learn.batch import Batch
from mrprism.learn.methods import METHODS
from mrprism.learn.methods.mrprism import MrPrism, Recurrence, Seen

SEEDS = (0, 1, 2)
STRUCTURES = ("disc", "cup")
SHOWN = {  # what is read, the recurrence, the metric
    "Rec0": ("image", "Rec0", "dice"),
    "last": ("image", "final", "dice"),
    "last, soft": ("image", "final", "soft_dice"),
    "fusion": ("both", "final", "dice"),
}


class SeesImage(MrPrism):
    """DivP looks at the image, too, as the released code's does."""

    def __init__(self, task: mrprism.Task, **options: Any) -> None:
        super().__init__(task, **options)
        self.look = nn.Conv2d(task.channels, 32, 5, stride=2, padding=2)
        self.divp.fine[0].register_forward_hook(lambda module, given, fine: fine + self.look(self.image))

    def _seen(self, image: Tensor) -> Seen:
        self.image = image
        return super()._seen(image)


class VotesFirst(MrPrism):
    """For the first third of the epochs ConP learns the plain vote."""

    voting = False

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.voting = epoch < epochs / 3

    def _fusion(self, step: Recurrence, masks: Tensor, rated: Tensor) -> Tensor:
        if self.voting and self.training:
            return self.fused_logits(masks, rated, self.equal_confidence(masks))
        return super()._fusion(step, masks, rated)


class GrowingBeta(MrPrism):
    """Each recurrence's L_rec weighs twice the one before, as half-quadratic optimisation lets β grow."""

    def __init__(self, task: mrprism.Task, **options: Any) -> None:
        super().__init__(task, **options)
        self.plain, self.done = self.reconstruction, 0
        self.reconstruction = self.weighted

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        self.done = 0
        return super().losses(batch)

    def weighted(self, logits: Tensor, target: Tensor) -> Tensor:
        weights = 2.0 ** torch.arange(self.recurrences)
        self.done += 1
        return weights[self.done - 1] / weights.mean() * self.plain(logits, target)


class Temperature(MrPrism):
    """The fusion's log-odds are multiplied: a surer or a less sure target."""

    def __init__(self, task: mrprism.Task, *, times: float = 1.0, **options: Any) -> None:
        super().__init__(task, **options)
        self.times = times

    def fused_logits(self, *given: Any) -> Tensor:
        return self.times * super().fused_logits(*given)


class LeftOut(MrPrism):
    """Who is absent is left out of the fusion; DivP does not stand in for them. For raters who are persons."""

    def _fusion(self, step: Recurrence, masks: Tensor, rated: Tensor) -> Tensor:
        return self.fused_logits(masks, rated, step.confidence, step.raters, step.segmentation)


METHODS |= {cls.__name__: cls for cls in (SeesImage, VotesFirst, GrowingBeta, Temperature, LeftOut)}

# what is asked: {shown: (method, options)}
QUESTIONS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "as it comes": {"": ("mrprism", {})},
    "how many recurrences in training": {
        f"{count}": ("mrprism", {"recurrences": count}) for count in (1, 2, 5)
    },
    "confidence before the first": {"random (eq. 14)": ("mrprism", {"initial": "random"})},
    "where confidence is read": {
        "each given mask": ("mrprism", {"trust": "mask"}),
    },
    "floor of confidence": {f"{floor}": ("mrprism", {"floor": floor}) for floor in (0.5, 0.65)},
    "temperature of the fusion": {
        f"{times}": ("Temperature", {"times": times}) for times in (0.5, 2.0)
    },
    "ConP's own log-odds in the fusion (p of eq. 1)": {
        f"{prior}": ("mrprism", {"prior": prior}) for prior in (0.5, 1.0)
    },
    "form of the fusion": {
        "share": ("mrprism", {"fusion": "share"}),
        "ratio": ("mrprism", {"fusion": "ratio"}),
    },
    "whose masks ConP's target fuses": {"DivP's (eq. 8)": ("mrprism", {"target": "self"})},
    "schedule": {"votes first": ("VotesFirst", {}), "β grows": ("GrowingBeta", {})},
    "who is absent": {"left out": ("LeftOut", {})},
    "what DivP sees": {"the image, too": ("SeesImage", {})},
    "L_rec": {name: ("mrprism", {"reconstruction": name}) for name in ("bce", "dice", "ssim")},
    "DivP's terms": {
        "L_sff, ζ = 0.3": ("mrprism", {"shuffle": 0.3}),
        "L_rec of DivP, 0.3": ("mrprism", {"divp_reconstruction": 0.3}),
    },
}  # fmt: skip


def scores(method: str, options: dict[str, Any], data: Path, folder: Path, seed: int) -> dict[str, float]:
    """Dice against the truth over the validation cases: {"cup last": 0.93}."""
    torch.set_num_threads(1)
    dataset = mrprism.open_dataset(data)
    budget: dict[str, Any] = {"backbone": "small", "size": 64, "epochs": 10, "learning_rate": 1e-3}
    run = mrprism.train(
        dataset,
        method,
        folder,
        seed=seed,
        options=options,
        schedule="cosine",
        select="last",
        device="cpu",
        quiet=True,
        **budget,
    )
    rows = mrprism.evaluate(
        run, dataset, split="val", metrics=("dice", "soft_dice"), examples=0, device="cpu"
    )
    found = {}
    for structure in STRUCTURES:
        for name, shown in SHOWN.items():
            values = [
                row.value
                for row in rows
                if (row.structure, row.target) == (structure, "reference")
                and (row.reads, row.recurrence, row.metric) == shown
            ]
            found[f"{structure} {name}"] = float(np.mean(values))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"one of {', '.join(QUESTIONS)}")
    parser.add_argument("--work", type=Path, default=Path("experiments"), help="data sets and runs")
    phantoms = [name for name, made in experiments.DATA.items() if made.startswith("phantom")]
    parser.add_argument("--scenario", default="crowd", choices=phantoms, help="the phantom's raters")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    given = parser.parse_args()
    unknown = sorted(set(given.questions) - set(QUESTIONS))
    if unknown:
        parser.error(f"no question '{unknown[0]}'; known: {', '.join(QUESTIONS)}")
    data = experiments.dataset(given.scenario, given.work)
    columns = [f"{structure} {name}" for structure in STRUCTURES for name in SHOWN]
    lines = [f"| question | answer | {' | '.join(columns)} |", "|---|---|" + "---:|" * len(columns)]
    print("\n".join(lines), flush=True)
    runs = given.work / f"questions-{given.scenario}"
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        asked = []
        everybody_there = given.scenario != "missing"
        every = [name for name in QUESTIONS if not (name == "who is absent" and everybody_there)]
        for question in given.questions or every:
            for answer, (method, options) in QUESTIONS[question].items():
                folder = runs / f"{question}-{answer}".replace(" ", "_").replace("/", "_")
                futures = [
                    pool.submit(scores, method, options, data, folder / f"seed{seed}", seed) for seed in SEEDS
                ]
                asked.append((question, answer, futures))
        for question, answer, futures in asked:
            found = [future.result() for future in futures]
            cells = []
            for column in columns:
                values = 100 * np.array([one[column] for one in found])
                cells.append(f"{values.mean():.1f} ± {values.std(ddof=1):.1f}")
            lines.append(f"| {question} | {answer} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if given.questions:
        return
    page = Path(__file__).with_suffix(".md")
    head = (
        f"# What makes MrPrism work\n\n{(__doc__ or '').strip()}\n\nPhantom `{given.scenario}`; mean ± standard deviation over "
        "three seeds. Dice at 0.5; soft: soft Dice; fusion: of the cases' own masks by the confidence that was learned.\n\n"
    )
    page.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
