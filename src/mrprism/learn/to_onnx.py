"""A trained run's network as ONNX: from an image to probabilities, without mrprism and without torch.

    OUT/model.onnx    the network; one image at a time
    OUT/model.json    what it takes and gives, and where it comes from

Before the folder gets its name, ONNX Runtime has answered as PyTorch does.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import onnxscript
import torch
from torch import Tensor, nn

from mrprism import __version__
from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.learn.batch import Batch
from mrprism.learn.methods.method import Method
from mrprism.learn.run import Run
from mrprism.learn.settings import RunConfig
from mrprism.learn.weights import load_method
from mrprism.output.files import write_file
from mrprism.output.folders import complete_folder

MODEL, ABOUT = "model.onnx", "model.json"
OPSET = 18
EXACT = 1e-4  # how far an exported network may be from PyTorch's answer
TRIED = 3  # images on which both are compared

AXES = {  # what a method may give, its axes and meaning
    "probability": (
        ["batch", "structure", "row", "column"],
        "chance that the pixel belongs to the structure",
    ),
    "raters": (
        ["batch", "rater", "structure", "row", "column"],
        "chance that the rater would mark the pixel",
    ),
    "confidence": (
        ["batch", "rater", "structure", "row", "column"],
        "chance that the rater is right; one number for the image where row and column have length 1",
    ),
}


@dataclass(frozen=True)
class ExportedNetwork:
    """What an export left behind."""

    folder: Path
    outputs: tuple[str, ...]
    difference: float  # the largest from PyTorch's answer


class Network(nn.Module):
    """A method as a function of the image alone; of MrPrism the last recurrence."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        self.outputs: tuple[str, ...] = ("probability",)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        prediction = self.method.predict(Batch(names=(), image=image))
        return tuple(getattr(prediction, name) for name in self.outputs)


def export_network(run: str | Path | Run, out: str | Path) -> ExportedNetwork:
    """Write a run's network as ONNX, with a description of what it takes and gives.

    Images are resized to the run's size by whoever uses it, and the maps back; the description says how.

    Args:
        out: A folder that does not exist or is empty.

    Raises:
        InputError: No run or no weights, a method that reads masks or cannot be written as ONNX, a network whose
            answers differ, or a folder that holds something.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    config, out = run.config, Path(out)
    method = load_method(run)
    if method.reads != "image":
        raise InputError(
            f"method '{config.method}' reads the raters' masks, not the image: there is no network to export"
        )
    if config.plan is not None:
        raise InputError(
            f"{run.path} was trained by a plan and predicts by windows, which ONNX cannot say; export it with --to hf, or "
            "train with --size"
        )
    network = Network(method).eval()
    shape = (config.network_task.channels, config.size, config.size)
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        prediction = method.predict(Batch(names=(), image=image))
    network.outputs = tuple(
        name for name in AXES if name in method.portable and getattr(prediction, name) is not None
    )
    with complete_folder(out) as unfinished:
        _write(network, image, unfinished / MODEL, config.method)
        difference = _difference(network, unfinished / MODEL, shape, config.method)
        about = _about(run, network, unfinished / MODEL, difference)
        write_file(unfinished / ABOUT, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return ExportedNetwork(out, network.outputs, difference)


def _write(network: Network, image: Tensor, file: Path, method: str) -> None:
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                network,
                (image,),
                input_names=["image"],
                output_names=list(network.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # torch's exporter raises errors of many kinds
            said = (str(error) or type(error).__name__).strip().splitlines()[0]
            raise InputError(f"method '{method}' cannot be written as ONNX: {said}") from error
        assert program is not None
        program.save(str(file), external_data=False)


def _difference(network: Network, file: Path, shape: tuple[int, ...], method: str) -> float:
    """The largest difference between PyTorch's answers and ONNX Runtime's."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    largest = 0.0
    for seed in range(1, TRIED + 1):
        image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            expected = network(image)
        found = session.run(list(network.outputs), {"image": image.numpy()})
        for name, one, other in zip(network.outputs, expected, found, strict=True):
            if tuple(one.shape) != other.shape:
                raise InputError(
                    f"method '{method}' as ONNX gives '{name}' another shape than PyTorch; not written"
                )
            difference = float((one - torch.from_numpy(other)).abs().max())
            if not math.isfinite(difference):  # of which max and <= would say nothing
                raise InputError(
                    f"method '{method}' gives NaN or infinite values in '{name}'; expected numbers, so nothing is "
                    "written"
                )
            largest = max(largest, difference)
    if not largest <= EXACT:
        raise InputError(
            f"method '{method}' as ONNX differs from PyTorch by {largest:.2g}, more than {EXACT:g}; not written "
            "(methods that draw samples cannot be written as ONNX)"
        )
    return largest


def _about(run: Run, network: Network, file: Path, difference: float) -> dict[str, Any]:
    config = run.config
    model = onnx.load(str(file), load_external_data=False)
    sizes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output}
    recurrences = getattr(network.method, "predict_recurrences", None)
    return {
        "format": "mrprism-onnx/1",
        "mrprism": __version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
        "opset": OPSET,
        "run": config.model_dump(
            mode="json", include={"method", "options", "backbone", "dataset", "dataset_hash", "seed"}
        ),
        "model": MODEL,
        "model_sha256": _sha256(file),
        "weights_sha256": _sha256(run.weights_file),
        "structures": config.task.structures,
        "raters": config.task.raters,
        "input": {
            "name": "image",
            "type": "float32",
            "axes": ["batch", "channel", "row", "column"],
            "shape": [1, config.network_task.channels, config.size, config.size],
            **_preparation(config),
        },
        "outputs": {
            name: {"type": "float32", "axes": AXES[name][0], "shape": sizes[name], "meaning": AXES[name][1]}
            for name in network.outputs
        },
        "recurrences": recurrences,
        "threshold": 0.5,
        "afterwards": "resize the maps to the image's own size, bilinear, pixel centres kept; inside is above the threshold",
        "checked": {
            "against": "PyTorch",
            "runtime": onnxruntime.__version__,
            "largest_difference": difference,
        },
        "purpose": "research; not a medical device and not for clinical decisions",
    }


def _preparation(config: RunConfig) -> dict[str, Any]:
    """How an image becomes the network's input."""
    if config.window is not None:
        low, high = config.window
        scaling = f"(value - {low:g}) / {high - low:g}, clipped to 0 and 1"
    else:
        scaling = (
            "8 and 16 bit pixels of PNG, JPEG and TIFF, and 8 bit NIfTI and NRRD, divided by the largest value of "
            "their type; others, channel by channel, from the smallest value of the image or volume (0) to its largest (1)"
        )
    found: dict[str, Any] = {
        "intensities": [0, 1],
        "scaling": scaling,
        "window": config.window,
        "size": [config.size, config.size],
        "resize": "stretched to this size: bilinear, pixel centres kept, antialiased where it shrinks",
    }
    if config.slicing is not None:
        found["slices"] = {
            "plane": config.slicing.plane,
            "neighbours": config.slicing.neighbours,
            "channels": "the slice and its neighbours in their order, all channels of each; beyond an end its last slice",
        }
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about packages that are not needed here."""
    import logging

    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _sha256(file: Path) -> str:
    with plain_file(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
