"""What is compared: methods with their options, and which of them stand in which table of the paper."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mrprism.core.errors import InputError
from mrprism.learn.methods import METHODS, method_class
from mrprism.learn.methods.options import parse_options
from mrprism.metrics.scores import FINAL
from mrprism.report.reading import LABELS, METHOD_NAMES

Given = Literal["image", "masks"]  # of a run's scores: those from images alone, or the others
OUTSIDE = "with"  # the method of a row that another tool's answers make; its name is an option


@dataclass(frozen=True)
class Candidate:
    """A method with options; trained once for each seed into the folder `key`."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of its folder: METHOD or METHOD-OPTION=VALUE."""
        options = (f"-{name}={_text(value)}" for name, value in sorted(self.options.items()))
        return "".join([self.method, *options]).replace("/", "_")

    @property
    def label(self) -> str:
        """What tables call it."""
        return _LABELS.get(self.key) or _label(self)

    @property
    def deterministic(self) -> bool:
        """Whether every seed would give the same."""
        return self.method in ("fuse", "control", OUTSIDE)  # the draws of controls are seeded by case

    @property
    def made_elsewhere(self) -> bool:
        """Whether it is no method of ours, but answers of another tool."""
        return self.method == OUTSIDE

    @property
    def ceiling(self) -> bool:
        """Whether it learns from the reference, which nobody has in earnest."""
        return self.options.get("label") == "reference"


@dataclass(frozen=True)
class Slot:
    """One line, or one line for each recurrence, of a table."""

    candidate: Candidate
    label: str
    recurrence: str = FINAL  # "each": a line for every recurrence
    given: Given = "image"
    control: bool = False  # beside methods that saw less: it competes with nobody


@dataclass(frozen=True)
class TableOfContents:
    """One table of the paper."""

    name: str  # "table1"
    title: str
    slots: tuple[Slot, ...]
    remark: str = ""
    beside: tuple[Candidate, ...] = ()  # controls, which stand in the table of several answers alone

    @property
    def number(self) -> str:
        """As in the paper, such as "Table 1"; empty for what it has not."""
        return f"Table {self.name.removeprefix('table')}" if self.name.startswith("table") else ""


def _slot(
    method: str, label: str = "", *, recurrence: str = FINAL, given: Given = "image", **options: Any
) -> Slot:
    candidate = Candidate(method, options)
    return Slot(candidate, label or candidate.label, recurrence, given)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _label(candidate: Candidate) -> str:
    options = dict(candidate.options)
    if candidate.method == OUTSIDE:
        return str(options["name"])
    if candidate.method == "fused-label" and "label" in options:
        label = str(options.pop("label"))
        name = LABELS.get(label, f"U-Net on {label.removeprefix('rater:')}")
    elif candidate.method == "fuse" and "fusion" in options:
        name = str(options.pop("fusion")).replace("-", " ").capitalize()
    else:
        name = METHOD_NAMES.get(candidate.method, candidate.method.replace("-", " ").capitalize())
    pairs = sorted(options.items())
    said = ", ".join(f"{option.replace('_', ' ')} {_text(value)}" for option, value in pairs)
    return f"{name} ({said})" if said else name


_LABELS = {
    "crowd-layer": "Crowd layer (MW)",
    "crowd-layer-kind=VW": "Crowd layer (VW)",
    "crowd-layer-kind=VW+B": "Crowd layer (VW+B)",
    "confusion-matrix": "Confusion matrix (global)",
    "confusion-matrix-kind=pixel": "Confusion matrix (pixel-wise)",
    "multiple-hypotheses": "LUW (multiple hypotheses)",
    "label-sampling": "UECNN (label sampling)",
    "fuse-fusion=majority": "Majority vote",
    "fuse-fusion=staple": "STAPLE",
    "max-mig-forecaster": "Max-MIG forecaster",
    "diagnosis-first-fusion": "Diagnosis-first fusion",
    "mc-dropout": "MC dropout",
    "control": "The raters themselves (a control)",
    "control-of=consensus": "One consensus, repeated (a control)",
    "control-of=noise": "Pixel noise of the soft vote (a control)",
    "prob-unet-hierarchical=true": "Hierarchical probabilistic U-Net",
    "beal": "BEAL",
    "agnet": "AGNet",
    "posal": "pOSAL",
}

PLAIN = (
    Candidate("fused-label", {"label": "soft-vote"}),
    Candidate("fused-label", {"label": "majority"}),
)  # in every comparison: without them no other number means much
FUSIONS = (
    Candidate("fuse", {"fusion": "majority"}),
    Candidate("fuse", {"fusion": "staple"}),
)  # beside everything that is given the raters' masks
# beside MrPrism: skill estimated once without any network, then a plain U-Net
CONTROL = Candidate("fused-label", {"label": "outline"})
CEILING = Candidate("fused-label", {"label": "reference"})
MRPRISM = Candidate("mrprism")

_INTEGRATIONS = {"concat": "Concat", "convlstm": "ConvLSTM", "attention": "Attention"}
_LOSSES: dict[str, dict[str, Any]] = {
    "shuffle loss": {"multi_head": 0.0, "shuffle": 0.3},
    "multi-head loss": {},
    "both": {"shuffle": 0.3},
}
_EACH_PIXEL = {"trust": "pixel"}  # where confidence is counted, the shuffle loss alone does not reach DivP


def _ablation() -> tuple[Slot, ...]:
    slots = []
    for integration, shown in _INTEGRATIONS.items():
        for losses, weights in _LOSSES.items():
            options = {} if integration == "attention" else {"integration": integration}
            cell = Candidate("mrprism", {**options, **weights, **_EACH_PIXEL})
            slots.append(Slot(cell, f"{shown} ({losses})"))
    return (*slots, Slot(MRPRISM, "MrPrism as it comes"))


TABLES = {
    table.name: table
    for table in (
        TableOfContents(
            "table1",
            "Learning from several raters",
            (
                _slot("wdnet"),
                _slot("crowd-layer"),
                _slot("crowd-layer", kind="VW"),
                _slot("crowd-layer", kind="VW+B"),
                _slot("aggnet"),
                _slot("confusion-matrix"),
                _slot("confusion-matrix", kind="pixel"),
                _slot("max-mig"),
                _slot("mrnet"),
                _slot("diagnosis-first"),
                Slot(CONTROL, CONTROL.label),
                _slot("mrprism", recurrence="each"),
            ),
            "The recurrences of MrPrism are steps of one run. Only the last one is ranked: to pick the best of "
            "them here would be to choose on the test cases.",
        ),
        TableOfContents(
            "table2",
            "Segmentation under equal confidence",
            (
                _slot("agnet"),
                _slot("posal"),
                _slot("beal"),
                _slot("multiple-hypotheses"),
                _slot("label-sampling"),
                _slot("mrnet"),
                _slot("mrprism", "ConP, equal confidence (MrPrism Rec0)", recurrence="Rec0"),
            ),
            "ConP under equal confidence is Rec0 of MrPrism: its first round, in which every rater is "
            "trusted alike. MRNet is told the same.",
        ),
        TableOfContents(
            "table3",
            "Fusing the raters' masks",
            (
                _slot("fuse", given="masks", fusion="majority"),
                _slot("fuse", given="masks", fusion="staple"),
                _slot("max-mig-forecaster", given="masks"),
                _slot("diagnosis-first-fusion", given="masks"),
                _slot("mrprism", "DivP (MrPrism's confidence)", given="masks"),
            ),
            "Every line was given the raters' masks of the cases it is scored on, so do not compare it with a line of "
            "another table. Against the mean of raters it is scored on what it has seen. DivP fuses them with MrPrism's "
            "confidence; the paper's DivP fuses masks that it drew itself.",
        ),
        TableOfContents(
            "table4",
            "MrPrism's parts",
            _ablation(),
            "How confidence enters ConP, and which losses DivP has, with confidence read at each pixel as in the "
            "paper. MrPrism as it comes has attention and the multi-head loss, and counts its confidence.",
        ),
        TableOfContents(
            "distributions",
            "Methods that give several answers",
            (
                _slot("deep-ensemble"),
                _slot("mc-dropout"),
                _slot("label-sampling"),
                _slot("multiple-hypotheses"),
                _slot("ssn"),
                _slot("ssn", "SSN, rank 0 (a control)", rank=0),
                _slot("ssn-flow"),
                _slot("prob-unet"),
                _slot("prob-unet", hierarchical=True),
                _slot("phiseg"),
                _slot("mose"),
                _slot("ccdm"),
                _slot("pionono"),
                _slot("d-persona"),
            ),
            "Their mean answer, beside networks that give one. How their answers spread is in the table of several "
            "answers. SSN of rank 0 lets each pixel vary by itself: a control that has to lose there.",
            (
                Candidate("control"),
                Candidate("control", {"of": "consensus"}),
                Candidate("control", {"of": "noise"}),
            ),
        ),
    )
}  # fmt: skip


SPREAD = "spread"  # the table of methods that give several answers


@dataclass(frozen=True)
class Choice:
    """What `--methods` asks for."""

    tables: tuple[str, ...]
    others: tuple[Candidate, ...]  # those that stand in none of the tables

    def candidates(self, has_reference: bool) -> list[Candidate]:
        """Everything to train, each once, what is always there first."""
        always = [*PLAIN, *([CEILING] if has_reference else [])]
        if any(fuses(candidate) for candidate in self.others):
            always += FUSIONS
        listed = [slot.candidate for name in self.tables for slot in TABLES[name].slots]
        listed += [candidate for name in self.tables for candidate in TABLES[name].beside]
        found = {candidate.key: candidate for candidate in [*always, *listed]}
        there = {_whole(candidate) for candidate in found.values()}
        return [*found.values(), *(other for other in self.others if _whole(other) not in there)]


def _whole(candidate: Candidate) -> str:
    """A candidate with every option there is: one by its defaults and one that is told them are the same."""
    if candidate.made_elsewhere:
        return candidate.key
    parameters = inspect.signature(method_class(candidate.method)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return Candidate(candidate.method, {**defaults, **candidate.options}).key


def fuses(candidate: Candidate) -> bool:
    """Whether it is also scored with the masks of the cases at hand."""
    if candidate.made_elsewhere:
        return False
    method = method_class(candidate.method)
    return method.reads == "masks" or hasattr(method, "fuse_given")


def choose(methods: str) -> Choice:
    """Read `--methods`: tables, methods, and METHOD:OPTION=VALUE, with commas between; or "all".

    Raises:
        InputError: A name is neither a table nor a method.
    """
    words = [word.strip() for word in methods.split(",") if word.strip()]
    if not words:
        raise InputError("--methods names nothing: give a table, or methods with commas between")
    tables: list[str] = []
    others: list[Candidate] = []
    for word in words:
        if word == "all":
            tables += TABLES
            listed = {slot.candidate.method for table in TABLES.values() for slot in table.slots} | {
                "control"
            }
            others += [Candidate(name) for name in METHODS if name not in {*listed, "fused-label", "fuse"}]
        elif word in TABLES:
            tables.append(word)
        else:
            others.append(_candidate(word))
    return Choice(tuple(dict.fromkeys(tables)), tuple(_unlike(others, tables)))


def _unlike(others: Sequence[Candidate], tables: Iterable[str]) -> list[Candidate]:
    """Those that no table has, and that are not there anyway, each once."""
    if not others:
        return []  # looking at the options of tables' methods would import torch
    seen = {_whole(slot.candidate) for name in tables for slot in TABLES[name].slots}
    seen |= {_whole(candidate) for name in tables for candidate in TABLES[name].beside}
    seen |= {_whole(candidate) for candidate in (*PLAIN, CEILING)}
    found = []
    for candidate in others:
        if (whole := _whole(candidate)) not in seen:
            seen.add(whole)
            found.append(candidate)
    return found


def _candidate(word: str) -> Candidate:
    method, *pairs = word.split(":")
    if method not in METHODS:
        raise InputError(
            f"--methods: '{method}' is neither a table nor a method; tables: {', '.join(TABLES)}, all; "
            f"methods: {', '.join(METHODS)}"
        )
    try:
        options = parse_options(pairs)
    except ValueError:
        raise InputError(f"--methods: '{word}' should look like METHOD:OPTION=VALUE") from None
    return Candidate(method, options)
