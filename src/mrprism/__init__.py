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

__version__ = "0.2.0"

if TYPE_CHECKING:
    from mrprism.cli.calls import agree as agree
    from mrprism.cli.calls import check_dataset as check_dataset
    from mrprism.cli.calls import export as export
    from mrprism.cli.calls import import_dataset as import_dataset
    from mrprism.cli.calls import view as view
    from mrprism.cli.demo import run as demo
    from mrprism.cli.fusing import fuse_dataset as fuse_dataset
    from mrprism.cli.fusing import fuse_masks as fuse_masks
    from mrprism.cli.study import study as study
    from mrprism.compare.build import compare as compare
    from mrprism.core.errors import InputError as InputError
    from mrprism.core.prediction import Prediction as Prediction
    from mrprism.core.sample import MultiRaterSample as MultiRaterSample
    from mrprism.core.sample import Task as Task
    from mrprism.datasets import Dataset as Dataset
    from mrprism.datasets import open_dataset as open_dataset
    from mrprism.datasets import write_dataset as write_dataset
    from mrprism.datasets.simulate import phantom_dataset as phantom
    from mrprism.fusion import FUSIONS as FUSIONS
    from mrprism.fusion.cases import fuse_cases as fuse
    from mrprism.fusion.one_case import fuse_case as fuse_case
    from mrprism.layouts import DATASETS as DATASETS
    from mrprism.learn.evaluate import evaluate as evaluate
    from mrprism.learn.methods import METHODS as METHODS
    from mrprism.learn.planning import plan as plan
    from mrprism.learn.predict import predict_files as predict
    from mrprism.learn.predictor import load as load_run
    from mrprism.learn.run import Run as Run
    from mrprism.learn.train import resume as resume
    from mrprism.learn.train import train as train
    from mrprism.metrics import METRICS as METRICS
    from mrprism.report import build_report as report
    from mrprism.report.plot_case import plot_case as plot_case
    from mrprism.report.plot_case import plot_confidence as plot_confidence
    from mrprism.report.plot_numbers import plot_agreement as plot_agreement
    from mrprism.report.plot_numbers import plot_bland_altman as plot_bland_altman
    from mrprism.report.plot_numbers import plot_recurrence as plot_recurrence
    from mrprism.report.study import build_study as report_study

API = {  # name here: where it lives, "module:name" or just the module
    "DATASETS": "layouts",
    "Dataset": "datasets",
    "FUSIONS": "fusion",
    "InputError": "core.errors",
    "METHODS": "learn.methods",
    "METRICS": "metrics",
    "MultiRaterSample": "core.sample",
    "Prediction": "core.prediction",
    "Run": "learn.run",
    "Task": "core.sample",
    "agree": "cli.calls",
    "check_dataset": "cli.calls",
    "compare": "compare.build",
    "demo": "cli.demo:run",
    "export": "cli.calls",
    "evaluate": "learn.evaluate",
    "fuse": "fusion.cases:fuse_cases",
    "fuse_case": "fusion.one_case",
    "fuse_dataset": "cli.fusing",
    "fuse_masks": "cli.fusing",
    "import_dataset": "cli.calls",
    "load_run": "learn.predictor:load",
    "open_dataset": "datasets",
    "phantom": "datasets.simulate:phantom_dataset",
    "plan": "learn.planning",
    "plot_agreement": "report.plot_numbers",
    "plot_bland_altman": "report.plot_numbers",
    "plot_case": "report.plot_case",
    "plot_confidence": "report.plot_case",
    "plot_recurrence": "report.plot_numbers",
    "predict": "learn.predict:predict_files",
    "report": "report:build_report",
    "report_study": "report.study:build_study",
    "resume": "learn.train",
    "study": "cli.study",
    "train": "learn.train",
    "view": "cli.calls",
    "write_dataset": "datasets",
}

__all__ = ["__version__", *API]


def __getattr__(name: str) -> object:
    if name not in API:
        raise AttributeError(f"module 'mrprism' has no attribute '{name}'")
    module, _, attribute = API[name].partition(":")
    return getattr(importlib.import_module(f"mrprism.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps `mrprism.train` the function: importing the file of that name would put itself in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in API and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
