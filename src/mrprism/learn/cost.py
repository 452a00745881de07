"""What a run costs: the time of one prediction, and the memory its training took."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from mrprism.core.sample import MultiRaterSample
from mrprism.learn.batches import collate
from mrprism.learn.patches import PlannedCases
from mrprism.learn.predictor import Predictor
from mrprism.learn.resize import resize_sample

TIMED = 20  # predictions whose median says how long one takes


def milliseconds(predictor: Predictor, cases: Sequence[MultiRaterSample]) -> float:
    """Median time of predicting one image at the training size, or one patch, the cases in turn."""
    device, config = predictor.method.device, predictor.run.config
    if config.plan is None:
        seen = [resize_sample(predictor.picture(case).seen, config.size) for case in cases]
    else:
        few = PlannedCases({case.name: case for case in cases}, [case.name for case in cases], config.plan)
        seen = [few[number] for number in range(min(TIMED, len(few)))]
    batches = [collate([sample], device=device) for sample in seen]
    took = []
    with torch.inference_mode():
        for number in range(TIMED + 3):
            batch = batches[number % len(batches)].only(predictor.method.reads)
            _wait(device)
            start = time.perf_counter()
            predictor.method.predict(batch)
            _wait(device)
            took.append(time.perf_counter() - start)
    return round(1000 * float(np.median(took[3:])), 3)  # the first ones warm up


def peak_memory_mib(device: str | None) -> float:
    """Of the GPU where there is one, else of the whole process; NaN where the system does not tell."""
    if device != "cpu" and torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        import resource
    except ImportError:  # not on Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def thread_count() -> int:
    """How many threads an operation on the CPU uses."""
    return torch.get_num_threads()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
