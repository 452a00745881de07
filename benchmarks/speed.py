"""How much MrPrism costs beside the U-Net on the same encoder: one inference, one training step.

Both sides run in turn in one process, so that the ratio holds when the machine's speed drifts.

    python benchmarks/speed.py --backbone resnet34 --size 256
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.fused_label import FusedLabel
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.mrprism import MrPrism

TASK = Task(channels=3, structures=("disc", "cup"), raters=tuple("abcdefg"))


def batch_of(count: int, size: int) -> Batch:
    masks = (torch.rand(count, 7, 2, size, size) > 0.5).float()
    rated = torch.ones(count, 7, 2, dtype=torch.bool)
    return Batch(("case",) * count, torch.rand(count, 3, size, size), masks, rated)


def training_step(method: Method, batch: Batch) -> Callable[[], None]:
    optimiser = torch.optim.Adam(method.parameters(), 1e-4)

    def step() -> None:
        method.train()
        for terms in method.losses(batch):
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()

    return step


def prediction(method: Method, batch: Batch) -> Callable[[], None]:
    def predict() -> None:
        method.eval()
        with torch.inference_mode():
            method.predict(batch)

    return predict


def compare(name: str, ours: Callable[[], None], theirs: Callable[[], None], repeats: int) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(repeats + 1):
        for side, run in zip(times, (ours, theirs), strict=True):
            start = time.perf_counter()
            run()
            if number:  # the first is a warm-up
                side.append(time.perf_counter() - start)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    mine, other = (1000 * statistics.median(side) for side in times)
    print(
        f"{name}: MrPrism {mine:.0f} ms, U-Net {other:.0f} ms, ratio {ratio:.2f} (median of {repeats} pairs)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet34")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8, help="of the training step")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.manual_seed(0)
    ours = MrPrism(TASK, backbone=given.backbone, recurrences=3, predict_recurrences=3)
    theirs = FusedLabel(TASK, backbone=given.backbone, label="majority")
    print(f"{given.backbone}, {given.size} x {given.size}, 7 raters, {torch.get_num_threads()} threads")
    one, several = batch_of(1, given.size), batch_of(given.batch, given.size)
    compare(
        "inference, 3 recurrences, batch 1", prediction(ours, one), prediction(theirs, one), 4 * given.repeats
    )
    compare(
        f"training step, 3 recurrences, batch {given.batch}",
        training_step(ours, several),
        training_step(theirs, several),
        given.repeats,
    )


if __name__ == "__main__":
    main()
