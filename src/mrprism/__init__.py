"""mrprism: see, fuse, learn from and compare several raters' outlines of the same images.

Whatever a command does is one call here, and fits a notebook cell:

    import mrprism

    data = mrprism.phantom("crowd", cases=40)              # or mrprism.open_dataset("my-data")
    agreement = mrprism.agree(data)
    consensus = mrprism.fuse_case(data[0], "staple")
    run = mrprism.train(data, "mrprism", "run", backbone="small", size=128, epochs=20)
    rows = mrprism.evaluate(run, data)
    prediction = mrprism.load_run("run").predict(data[0].image)
    mrprism.plot_case(data[0], prediction)

Importing this package is quick: each name is fetched when it is first used, and torch only with what learns.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mrprism.agreement.agree import agree as agree
    from mrprism.compare.build import compare as compare
    from mrprism.datasets import DATASETS as DATASETS
    from mrprism.datasets import Dataset as Dataset
    from mrprism.datasets import open_dataset as open_dataset
    from mrprism.datasets import write_dataset as write_dataset
    from mrprism.datasets.check import check_dataset as check_dataset
    from mrprism.datasets.simulate import phantom_dataset as phantom
    from mrprism.errors import InputError as InputError
    from mrprism.fusion import FUSIONS as FUSIONS
    from mrprism.fusion.cases import fuse_case as fuse_case
    from mrprism.fusion.cases import fuse_cases as fuse
    from mrprism.methods import METHODS as METHODS
    from mrprism.metrics import METRICS as METRICS
    from mrprism.predict import evaluate as evaluate
    from mrprism.predict import load as load_run
    from mrprism.predict import predict_files as predict
    from mrprism.prediction import Prediction as Prediction
    from mrprism.report import build_report as report
    from mrprism.report.plot_case import plot_case as plot_case
    from mrprism.run import Run as Run
    from mrprism.sample import MultiRaterSample as MultiRaterSample
    from mrprism.sample import Task as Task
    from mrprism.train import resume as resume
    from mrprism.train import train as train

API = {  # name here: where it lives, "module:name" or just the module
    "DATASETS": "datasets",
    "Dataset": "datasets",
    "FUSIONS": "fusion",
    "InputError": "errors",
    "METHODS": "methods",
    "METRICS": "metrics",
    "MultiRaterSample": "sample",
    "Prediction": "prediction",
    "Run": "run",
    "Task": "sample",
    "agree": "agreement.agree",
    "check_dataset": "datasets.check",
    "compare": "compare.build",
    "evaluate": "predict",
    "fuse": "fusion.cases:fuse_cases",
    "fuse_case": "fusion.cases",
    "load_run": "predict:load",
    "open_dataset": "datasets",
    "phantom": "datasets.simulate:phantom_dataset",
    "plot_case": "report.plot_case",
    "predict": "predict:predict_files",
    "report": "report:build_report",
    "resume": "train",
    "train": "train",
    "write_dataset": "datasets",
}

__all__ = ["__version__", *API]


def __getattr__(name: str) -> object:
    if name not in API:
        raise AttributeError(f"module 'mrprism' has no attribute '{name}'")
    module, _, attribute = API[name].partition(":")
    return getattr(importlib.import_module(f"mrprism.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *API})


class _Package(ModuleType):
    """Keeps `mrprism.train` the function: importing the file of that name would put itself in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in API and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
