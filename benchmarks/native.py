"""Volumes and photographs by a plan: memory and time of each command, and predicting by windows against by slices.

    python benchmarks/native.py volume       # 512 x 512 x 300 voxels, four raters, as benchmarks/volume.py draws them
    python benchmarks/native.py photograph   # 4000 x 3000 pixels, three raters
    python benchmarks/native.py speed        # one volume predicted by windows, and slice by slice with a batch of one

Each command runs as a process of its own; its peak memory is what the system counted as resident (`ru_maxrss`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import volume

PLAN = """dims = 3
spacing_mm = [2.0, 1.6, 1.6]
patch = [64, 96, 96]
batch_size = 2
patches_per_case = 8
drawn = 0.34
disputed = 0.33
normalise = "foreground"
epochs = 1
[[channels]]
low = 0.0
high = 1.0
mean = 0.5
deviation = 0.2
"""
TRAIN = "--method fused-label --backbone small --device cpu --no-evaluate --quiet"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("volume", "photograph", "speed"))
    parser.add_argument("--data", type=Path, help="a data set that was drawn before; unless told it is drawn")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=300)
    given = parser.parse_args()
    data = given.data and given.data.resolve()
    with tempfile.TemporaryDirectory(prefix="native-") as folder:
        os.chdir(folder)
        if data is None and given.what != "speed":
            data = Path("drawn").resolve()
            how = (data, given.width, given.depth) if given.what == "volume" else (data,)
            drawing = get_context("spawn").Process(
                target=volume.draw if given.what == "volume" else photographs, args=how
            )
            drawing.start()
            drawing.join()
        {"volume": volumes, "photograph": pictures, "speed": speed}[given.what](data)


def volumes(data: Path) -> None:
    Path("plan.toml").write_text(PLAN)
    commands = {
        "plan": f"plan {data} --memory 4GB --backbone small --out made.toml",
        "train": f"train {data} --out run --plan plan.toml {TRAIN}",
        "predict": f"predict run {data}/images/test.nii.gz --out outlines --device cpu",
        "evaluate": "evaluate run --device cpu --quiet",
    }
    for name, command in commands.items():
        print(volume.measure(name, command), flush=True)
    volume.check_result(Path("outlines/test"), data / "images/test.nii.gz")


def pictures(data: Path) -> None:
    commands = {
        "plan": f"plan {data} --memory 2.5GB --backbone small --out plan.toml",
        "train": f"train {data} --out run --plan plan.toml --epochs 1 {TRAIN.replace('fused-label', 'mrprism')}",
        "predict": f"predict run {data}/images/test.png --out outlines --device cpu",
    }
    for name, command in commands.items():
        print(volume.measure(name, command), flush=True)
    print(Path("plan.toml").read_text())


def photographs(folder: Path) -> None:
    """Three photographs with a patch that each rater outlines a little further out or in, to within a few pixels."""
    from PIL import Image

    cases = []
    for number, split in enumerate(("train", "val", "test")):
        random = np.random.default_rng(number)
        row, column = np.mgrid[0:3000, 0:4000].astype(np.float32)
        angle = np.arctan2(row - 1500, column - 2000)
        away = np.hypot(row - 1500, column - 2000) - 700 - 80 * np.sin(5 * angle + number)
        colour = np.stack([150 - 60 * (away < 0), 110 - 50 * (away < 0), np.full_like(away, 90)], -1)
        picture = (
            (colour + random.normal(0, 12, colour.shape).astype(np.float32)).clip(0, 255).astype(np.uint8)
        )
        (folder / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"images/{split}.png", compress_level=1)
        masks = {}
        for rater, further in {"ann": 0.0, "bob": 2.0, "cy": -2.0}.items():
            masks[rater] = {"lesion": f"masks/{rater}/{split}.png"}
            (folder / "masks" / rater).mkdir(parents=True, exist_ok=True)
            Image.fromarray(((away < further) * 255).astype(np.uint8)).save(folder / masks[rater]["lesion"])
        cases.append({"name": split, "image": f"images/{split}.png", "masks": masks, "split": split})
    about = {
        "format": "mrprism-dataset/1",
        "name": "photographs",
        "channels": ["red", "green", "blue"],
        "structures": ["lesion"],
        "raters": ["ann", "bob", "cy"],
        "cases": cases,
    }
    (folder / "dataset.json").write_text(json.dumps(about))


def speed(data: Path | None) -> None:
    """Fused labels, small encoder, one volume of 256 x 256 x 150 voxels, the same pixels in the plane for both."""
    import mrprism
    from mrprism.core.sample import MultiRaterSample
    from mrprism.learn.plan import Plan

    few = mrprism.phantom("crowd", size=32, cases=8, dims=3)
    task = few.task
    common = {"backbone": "small", "device": "cpu", "quiet": True}
    slices = mrprism.train(few, "fused-label", "slices", slices="z", size=128, epochs=1, **common)
    plan = Plan(
        dims=3, spacing_mm=(4.0, 2.0, 2.0), patch=(24, 128, 128), batch_size=2, overlap=0.25, epochs=1
    )
    native = mrprism.train(few, "fused-label", "native", plan=plan, **common)
    image = np.random.default_rng(0).random((1, 150, 256, 256), dtype=np.float32)
    masks = np.zeros((len(task.raters), len(task.structures), *image.shape[1:]), bool)
    case = MultiRaterSample(
        "volume", image, masks, np.zeros(masks.shape[:2], bool), spacing_mm=(2.0, 1.0, 1.0)
    )
    for name, run in (("slice by slice", slices), ("by windows", native)):
        predictor = mrprism.load_run(run, device="cpu")
        for _ in range(2):  # the first one warms up
            used, began = time.process_time(), time.perf_counter()
            predictor.predict(case, on_disk=True)
            used, took = time.process_time() - used, time.perf_counter() - began
        print(f"{name}: {used:.1f} processor seconds, {took:.1f} s", flush=True)


if __name__ == "__main__":
    main()
