"""Every method by name; a method's file is imported only when the method is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mrprism.core.errors import InputError, unknown
from mrprism.core.registry import Registry
from mrprism.core.sample import Task

if TYPE_CHECKING:
    from mrprism.learn.methods.method import Method

# name: "file:class" in this folder; a class itself will do, too
_METHODS: dict[str, str | type[Method]] = {
    "mrprism": "mrprism:MrPrism",
    "mrprism-outline": "mrprism_outline:MrPrismOutline",
    "fused-label": "fused_label:FusedLabel",
    # learning from several raters (Table 1)
    "wdnet": "wdnet:WDNet",
    "crowd-layer": "crowd_layer:CrowdLayer",
    "aggnet": "aggnet:AggNet",
    "confusion-matrix": "confusion_matrix:ConfusionMatrix",
    "max-mig": "max_mig:MaxMIG",
    "mrnet": "mrnet:MRNet",
    "diagnosis-first": "diagnosis_first:DiagnosisFirst",
    # segmentation, calibrated or not (Table 2)
    "agnet": "agnet:AGNet",
    "posal": "posal:POSAL",
    "beal": "beal:BEAL",
    "multiple-hypotheses": "multiple_hypotheses:MultipleHypotheses",
    "label-sampling": "label_sampling:LabelSampling",
    "deep-ensemble": "deep_ensemble:DeepEnsemble",
    "mc-dropout": "mc_dropout:MCDropout",
    # several answers: outlines as raters might draw them
    "ssn": "ssn:SSN",
    "prob-unet": "prob_unet:ProbUNet",
    "phiseg": "phiseg:PHiSeg",
    "mose": "mose:MoSE",
    "ccdm": "ccdm:CCDM",
    "ssn-flow": "ssn_flow:SSNFlow",
    "pionono": "pionono:Pionono",
    "d-persona": "d_persona:DPersona",
    # fusion of the evaluated case's own masks (Table 3)
    "fuse": "fuse:Fuse",
    "control": "control:Control",
    "max-mig-forecaster": "max_mig:MaxMIGForecaster",
    "diagnosis-first-fusion": "diagnosis_first:DiagnosisFirstFusion",
}


def _offered(found: Any, who: str) -> type[Method]:
    from mrprism.learn.methods.offered import method_of  # which needs torch, as names do not

    return method_of(found, who)


METHODS = Registry("method", _METHODS, "mrprism.methods", _offered)


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        InputError: There is no such method.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    entry = METHODS[name]
    if isinstance(entry, type):
        return entry
    module, _, cls = entry.partition(":")
    found: type[Method] = getattr(importlib.import_module(f"mrprism.learn.methods.{module}"), cls)
    return found


def check_needs(method: type[Method] | Method, task: Task, has_diagnosis: bool, has_reference: bool) -> None:
    """Refuse a method that the data cannot serve, before anything is trained.

    Args:
        has_diagnosis, has_reference: Whether every training case has one.

    Raises:
        InputError: In one sentence, what the method needs and the data lack.
    """
    name = _name(method)
    if "named raters" in method.needs and task.anonymous:
        raise InputError(
            f"method '{name}' learns each rater as a person, but here the raters are anonymous: "
            f"'{task.raters[0]}' is not the same person in every case"
        )
    if "two raters" in method.needs and len(task.raters) < 2:
        raise InputError(
            f"method '{name}' learns from the differences between raters, but there is only one rater here"
        )
    if "diagnosis" in method.needs and not has_diagnosis:
        raise InputError(
            f"method '{name}' needs a diagnosis for every training case, and not all cases have one"
        )
    if "reference" in method.needs and not has_reference:
        raise InputError(
            f"method '{name}' needs a reference mask for every training case, and not all have one"
        )


def _name(method: type[Method] | Method) -> str:
    cls = method if isinstance(method, type) else type(method)
    for name, entry in METHODS.ready():
        if entry is cls or (isinstance(entry, str) and entry.endswith(f":{cls.__name__}")):
            return name
    return cls.__name__
